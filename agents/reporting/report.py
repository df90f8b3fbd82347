"""Reports: one self-contained HTML file, with its main plot as a PNG beside it."""

from __future__ import annotations

import contextlib
import importlib.metadata
import json
import platform
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from dig_env.agents.policies.messages import png_url
from dig_env.agents.reporting.pages import render_page
from dig_env.agents.reporting.plots import bars_figure, figure_png, figure_svg
from dig_env.agents.reporting.table import Table
from dig_env.drawing import png
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole
from dig_env.scenes.machine import cores
from dig_env.scenes.version import __version__

with extra("eval"):
    from markupsafe import Markup
    from matplotlib.figure import Figure

Item = TypeVar("Item")
DRAWN = 6
"""Pairs shown of the worst, and of the best."""
LIBRARIES = ("gymnasium", "numpy", "torch", "transformers", "trl")
SHOWN_CHARACTERS = 600
"""Of an answer; of a longer one its end, where the boxes are."""


@dataclass(frozen=True, eq=False)
class Picture:
    """A drawn pair or question.

    Attributes:
        image: (H, W, 3) uint8.
        caption: what is seen and what it earned.
        answer: the policy's text.
    """

    image: np.ndarray
    caption: str
    answer: str = ""

    @property
    def url(self) -> str:
        """The image as part of the page."""
        return png_url(png(self.image))

    @property
    def shown_answer(self) -> str:
        """The answer, or its end."""
        cut = len(self.answer) > SHOWN_CHARACTERS
        return "... " + self.answer[-SHOWN_CHARACTERS:] if cut else self.answer


@dataclass(frozen=True, eq=False)
class Section:
    """A part of a report: a heading, a paragraph, and what is shown under it.

    Attributes:
        title: its heading.
        text: its paragraph.
        figure: a plot; the first of a report is its main one.
        tables, pictures: further contents, in this order.
    """

    title: str
    text: str = ""
    figure: Figure | None = None
    tables: Sequence[Table] = ()
    pictures: Sequence[Picture] = ()

    @property
    def svg(self) -> Markup:
        """The plot as part of the page."""
        return Markup(figure_svg(self.figure) if self.figure is not None else "")


def write_report(
    path: Path, title: str, lead: str, sections: Sequence[Section], made: dict[str, Any]
) -> None:
    """Write a report, and its main plot beside it with the ending .png.

    Args:
        path: of the HTML file; its folder is made if absent.
        title: what was run.
        lead: what came out, in a paragraph.
        sections: the contents.
        made: how it was made: "command", "seed", "settings", "versions" and so on; JSON values.
    """
    made = {"machine": machine()} | made
    page = render_page("report.html", title=title, lead=lead, sections=sections, made=made)
    path.parent.mkdir(parents=True, exist_ok=True)
    figures = (section.figure for section in sections if section.figure is not None)
    if (main := next(figures, None)) is not None:
        write_whole(path.with_suffix(".png"), figure_png(main))
    write_whole(path, page)


def write_results(
    out: Path, results: dict[str, Any], measure: str, values: Mapping[str, float]
) -> None:
    """Write a benchmark's results to the JSON file ``out``, and as a report beside it.

    Args:
        out: a path that ends in .json; the report ends in .html, its plot in .png.
        results: JSON values, with the "command" that makes them.
        measure: what the plot shows, with its unit.
        values: the plot's bars, by name.
    """
    write_whole(out, json.dumps(results, indent=1).encode() + b"\n")
    sections = [Section(measure, figure=bars_figure(values, measure))]
    write_report(out.with_suffix(".html"), out.stem, results["command"], sections, results)
    print(f"results: {out}, {out.with_suffix('.html')}")


def worst_and_best_sections(
    items: Sequence[Item],
    reward: Callable[[Item], float],
    picture: Callable[[Item], Picture],
    what: str = "pairs",
) -> list[Section]:
    """The sections that show what earned least and what earned most."""
    text = (
        "By reward. True boxes are green; answered ones are red, and hide a green one they equal."
    )
    worst, best = worst_and_best(items, reward)
    return [
        Section(f"{title} {what}", text, pictures=[picture(item) for item in chosen])
        for title, chosen in (("Worst", worst), ("Best", best))
        if chosen
    ]


def worst_and_best(
    items: Sequence[Item], reward: Callable[[Item], float], count: int = DRAWN
) -> tuple[list[Item], list[Item]]:
    """What earned least, worst first, and what earned most, best first.

    Nothing is in both; among equals the order of play decides.
    """
    order = sorted(range(len(items)), key=lambda index: (reward(items[index]), index))
    count = min(count, (len(order) + 1) // 2)
    best = sorted(order[count:], key=lambda index: (-reward(items[index]), index))[:count]
    return [items[i] for i in order[:count]], [items[i] for i in best]


def throttled(
    write: Callable[..., None], first_s: float = 10.0, every_s: float = 60.0
) -> Callable[..., None]:
    """``write``, called at most once in so many seconds.

    A run's report is written this way while it trains, so that a killed run leaves a recent one.
    """
    due = time.monotonic() + first_s

    def call(*arguments: Any) -> None:
        nonlocal due
        if time.monotonic() >= due:
            write(*arguments)
            due = time.monotonic() + every_s

    return call


def machine() -> str:
    """The machine in a few words."""
    return f"{cores()}, {platform.machine()}, {platform.system()}"


def versions() -> dict[str, str]:
    """Of this package, Python and those libraries that results depend on and that are installed."""
    found = {"dig-env": __version__, "python": platform.python_version()}
    for name in LIBRARIES:
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            found[name] = importlib.metadata.version(name)
    return found
