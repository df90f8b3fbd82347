"""The calibration card as Markdown tables, as a plot, and as a page with both."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from dig_env.agents.evaluation.calibration.reference_answers import HUMAN, RANKS
from dig_env.agents.reporting.plots import dots, figure_png
from dig_env.agents.reporting.report import Section, write_report
from dig_env.agents.reporting.table import Table, fill_tables
from dig_env.scenes import PAPER_STAGES
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole

with extra("eval"):
    from matplotlib.figure import Figure

SHOWN_PRESETS = ("full", "paper", "dense", "strict")
IMAGE_POLICIES = ("pixel difference", "pixel difference at its best", "embedded policy", HUMAN)
REFERENCE_ANSWERS = tuple(name for rank in RANKS for name in rank)

NOT_PLAYED = {"f1": [math.nan] * 3}


def stages_table(card: dict[str, Any]) -> Table:
    """F1 and reward ("full") of every policy on the paper's stages."""
    stages = list(PAPER_STAGES)
    header = ["policy", *(f"{stage}: {what}" for stage in stages for what in ("F1", "reward"))]
    rows = []
    for policy in _policies(card):
        cells = [_row(card, stage, policy) for stage in stages]
        rows.append([policy, *(text for row in cells for text in (_f1(row), _reward(row, "full")))])
    return Table(header, rows)


def presets_table(card: dict[str, Any], condition: str = "mixed") -> Table:
    """Reward of every policy under the presets on one stage."""
    rows = [
        [policy, *(_reward(_row(card, condition, policy), preset) for preset in SHOWN_PRESETS)]
        for policy in _policies(card)
    ]
    return Table([f"reward on {condition}", *SHOWN_PRESETS], rows)


def order_table(card: dict[str, Any]) -> Table:
    """Where the reward orders the reference answers, and the smallest rise between ranks."""
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
    return Table(["preset", "in order on", "smallest rise", "where"], rows)


def looking_table(card: dict[str, Any]) -> Table:
    """F1 of the policies that use the images, on every difficulty."""
    policies = [policy for policy in IMAGE_POLICIES if policy in _policies(card)]
    rows = []
    for condition in list(card["difficulties"]):
        cells = []
        for policy in policies:
            row = _row(card, condition, policy)
            note = row.get("note", "").replace("threshold", "at") if row else ""
            cells.append(" ".join(filter(None, (_f1(row), note))))
        rows.append([condition, *cells])
    return Table(["F1", *policies], rows)


TABLES: dict[str, Callable[[dict[str, Any]], Table]] = {
    "stages": stages_table,
    "presets": presets_table,
    "order": order_table,
    "looking": looking_table,
}
"""What a page may hold between ``<!-- table: NAME -->`` and ``<!-- end -->``."""


def fill_page(page: str, card: dict[str, Any]) -> str:
    """The page with its tables updated from the card; see ``fill_tables``."""
    return fill_tables(page, {name: partial(table, card) for name, table in TABLES.items()})


def write_page(card: dict[str, Any], page: Path) -> Path:
    """Bring a page's tables up to date and draw the plot beside it, as .png.

    Returns:
        The plot's path.

    Raises:
        FileNotFoundError: there is no such page; its text is written by people.
    """
    text = fill_page(page.read_text(encoding="utf-8"), card)
    beside = page.with_suffix(".png")
    write_whole(beside, figure_png(plot(card)))
    write_whole(page, text.encode())
    return beside


def plot(card: dict[str, Any]) -> Figure:
    """Left: the reward of answers of known quality. Right: F1 of policies that use the images."""
    # A figure of its own, not pyplot's: no global state and no display.
    figure = Figure(figsize=(12, 6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1, 1.15))
    rewards = {
        preset: [_row(card, "mixed", policy)["reward"][preset] for policy in REFERENCE_ANSWERS]
        for preset in SHOWN_PRESETS
    }
    dots(left, REFERENCE_ANSWERS, rewards)
    left.set_title("Reward of answers of known worth, stage mixed")
    left.set_xlabel("mean reward under each preset")
    conditions = list(card["difficulties"])
    f1 = {
        policy: [(_row(card, condition, policy) or NOT_PLAYED)["f1"] for condition in conditions]
        for policy in IMAGE_POLICIES
        if policy in _policies(card)
    }
    dots(right, conditions, f1)
    right.set_title("F1 of policies that look at the images")
    right.set_xlabel("mean F1 (IoU 0.5)")
    return figure


def write_card_report(card: dict[str, Any], path: Path) -> None:
    """Write the card as a report: an HTML file, and its plot beside it."""
    titles = {
        "stages": "The paper's stages",
        "presets": "Rewards of the presets",
        "order": "Where the reward orders the reference answers",
        "looking": "Policies that look at the images",
    }
    sections = [Section("Rewards of known answers, and who finds what", figure=plot(card))]
    sections += [Section(titles[name], tables=[table(card)]) for name, table in TABLES.items()]
    made = {name: card[name] for name in ("command", "settings", "machine", "versions")}
    lead = (
        f"{card['settings']['pairs']} test pairs of each of {len(card['difficulties'])} "
        "difficulties; means with 95 % intervals of a bootstrap over the pairs."
    )
    write_report(path, "Calibration of the reward", lead, sections, made)


def _policies(card: dict[str, Any]) -> list[str]:
    """As they are shown: reference answers, with the image policies before the oracle."""
    played = {row["policy"] for row in card["rows"]}
    names = (*REFERENCE_ANSWERS[:-1], *IMAGE_POLICIES, REFERENCE_ANSWERS[-1])
    return [name for name in names if name in played]


def _row(card: dict[str, Any], condition: str, policy: str) -> dict[str, Any]:
    """Empty where it did not play: a human need not answer everywhere."""
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
