"""The calibration card for people: its tables in Markdown, its plot, and the page that has both."""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import matplotlib.figure
from matplotlib.axes import Axes

from agents.calibration.yardsticks import PERSON, RANKS
from scenes import PAPER_STAGES
from scenes.files import write_whole

SHOWN_PRESETS = ("full", "paper", "dense", "strict")
LOOKERS = ("pixel difference", "pixel difference at its best", "embedded policy", PERSON)
YARDSTICKS = tuple(name for rank in RANKS for name in rank)

NOT_PLAYED = {"f1": [math.nan] * 3}

_COLORS = dict(zip(SHOWN_PRESETS, ("C0", "C1", "C2", "C3"), strict=True))
_LOOKER_COLORS = dict(zip(LOOKERS, ("C0", "C4", "C1", "C2"), strict=True))


def stages_table(card: dict[str, Any]) -> str:
    """F1 and reward ("full") of every policy on the paper's stages."""
    stages = list(PAPER_STAGES)
    header = ["policy", *(f"{stage}: {what}" for stage in stages for what in ("F1", "reward"))]
    rows = []
    for policy in _policies(card):
        cells = [_row(card, stage, policy) for stage in stages]
        rows.append([policy, *(text for row in cells for text in (_f1(row), _reward(row, "full")))])
    return _markdown(header, rows)


def presets_table(card: dict[str, Any], condition: str = "mixed") -> str:
    """Reward of every policy under the presets on one stage."""
    rows = [
        [policy, *(_reward(_row(card, condition, policy), preset) for preset in SHOWN_PRESETS)]
        for policy in _policies(card)
    ]
    return _markdown([f"reward on {condition}", *SHOWN_PRESETS], rows)


def order_table(card: dict[str, Any]) -> str:
    """Where the reward orders the yardsticks, and the smallest rise from a rank to the next."""
    rows = []
    for preset in card["presets"]:
        by_condition = {name: entry[preset] for name, entry in card["order"].items()}
        held = sum(entry["holds"] for entry in by_condition.values())
        tightest = min(by_condition, key=lambda name: by_condition[name]["gap"][0])
        entry = by_condition[tightest]
        rows.append(
            [
                preset,
                f"{held} of {len(by_condition)}",
                _ci(entry["gap"]),
                f"{entry['between'][0]} → {entry['between'][1]}, {tightest}",
            ]
        )
    return _markdown(["preset", "in order on", "smallest rise", "where"], rows)


def looking_table(card: dict[str, Any]) -> str:
    """F1 of the policies that look at the images, on every difficulty."""
    lookers = [policy for policy in LOOKERS if policy in _policies(card)]
    rows = []
    for condition in list(card["difficulties"]):
        cells = []
        for policy in lookers:
            row = _row(card, condition, policy)
            note = row.get("note", "").replace("threshold", "at") if row else ""
            cells.append(" ".join(filter(None, (_f1(row), note))))
        rows.append([condition, *cells])
    return _markdown(["F1", *lookers], rows)


TABLES: dict[str, Callable[[dict[str, Any]], str]] = {
    "stages": stages_table,
    "presets": presets_table,
    "order": order_table,
    "looking": looking_table,
}
"""What a page may hold between ``<!-- table: NAME -->`` and ``<!-- end -->``."""


def filled(page: str, card: dict[str, Any]) -> str:
    """The page with its tables made anew from the card.

    Raises:
        ValueError: the page asks for a table that there is not.
    """

    def table(match: re.Match[str]) -> str:
        if match[1] not in TABLES:
            raise ValueError(f"no table {match[1]!r}; the tables are {', '.join(TABLES)}")
        return f"<!-- table: {match[1]} -->\n{TABLES[match[1]](card)}\n<!-- end -->"

    return re.sub(r"<!-- table: (\w+) -->.*?<!-- end -->", table, page, flags=re.DOTALL)


def write_page(card: dict[str, Any], page: Path) -> Path:
    """Bring a page's tables up to date and draw the plot beside it, as .png.

    Returns:
        The plot's path.

    Raises:
        FileNotFoundError: there is no such page; its text is written by people.
    """
    text = filled(page.read_text(encoding="utf-8"), card)
    plot = page.with_suffix(".png")
    write_whole(plot, plot_png(card))
    write_whole(page, text.encode())
    return plot


def plot_png(card: dict[str, Any]) -> bytes:
    """Left: the reward of answers of known worth. Right: F1 of those who look at the images."""
    # A figure of its own, not pyplot's: no global state and no display.
    figure = matplotlib.figure.Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    _dots(
        left,
        YARDSTICKS,
        {
            preset: [_row(card, "mixed", policy)["reward"][preset] for policy in YARDSTICKS]
            for preset in SHOWN_PRESETS
        },
        _COLORS,
    )
    left.set_title("Reward of answers of known worth, stage mixed")
    left.set_xlabel("mean reward under each preset")
    conditions = list(card["difficulties"])
    _dots(
        right,
        conditions,
        {
            policy: [
                (_row(card, condition, policy) or NOT_PLAYED)["f1"] for condition in conditions
            ]
            for policy in LOOKERS
            if policy in _policies(card)
        },
        _LOOKER_COLORS,
    )
    right.set_title("F1 of policies that look at the images")
    right.set_xlabel("mean F1 (IoU 0.5)")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def _dots(
    axes: Axes, names: Iterable[str], series: dict[str, list[list[float]]], colors: dict[str, str]
) -> None:
    """A line of the plot for each name, on it a dot with its interval for each series."""
    names = list(names)
    for place in range(0, len(names), 2):
        axes.axhspan(place - 0.5, place + 0.5, color="black", alpha=0.04, linewidth=0)
    for index, (label, values) in enumerate(series.items()):
        offset = 0.6 * ((index + 0.5) / len(series) - 0.5)
        means = [mean for mean, _, _ in values]
        errors = [
            [max(0.0, mean - low) for mean, low, _ in values],
            [max(0.0, high - mean) for mean, _, high in values],
        ]
        places = [place + offset for place in range(len(names))]
        axes.errorbar(
            means, places, xerr=errors, fmt="o", markersize=4, color=colors[label], label=label
        )
    axes.set_yticks(range(len(names)), names)
    axes.set(xlim=(-0.03, 1.03), ylim=(len(names) - 0.5, -0.5))
    axes.grid(axis="x", alpha=0.3)
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.08), ncols=len(series), frameon=False)


def _policies(card: dict[str, Any]) -> list[str]:
    """In the order in which they are shown: yardsticks, with those that look before the oracle."""
    played = {row["policy"] for row in card["rows"]}
    names = (*YARDSTICKS[:-1], *LOOKERS, YARDSTICKS[-1])
    return [name for name in names if name in played]


def _row(card: dict[str, Any], condition: str, policy: str) -> dict[str, Any]:
    """Empty where it did not play: a person need not answer everywhere."""
    for row in card["rows"]:
        if (row["condition"], row["policy"]) == (condition, policy):
            return row
    return {}


def _f1(row: dict[str, Any]) -> str:
    return _ci(row["f1"]) if row else ""


def _reward(row: dict[str, Any], preset: str) -> str:
    return _ci(row["reward"][preset]) if row else ""


def _ci(interval: list[float]) -> str:
    """Mean and interval; no interval where all pairs agree."""
    # Card values have 4 decimals: a hair more, and all halves are rounded up alike.
    mean, low, high = (f"{number + 1e-9:.2f}".replace("-0.00", "0.00") for number in interval)
    return mean if low == high else f"{mean} ({low}, {high})"


def _markdown(header: list[str], rows: list[list[str]]) -> str:
    lines = [header, ["---"] * len(header), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)
