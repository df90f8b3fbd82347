"""An evaluation for people: one HTML page with tables, and the worst and the best pairs drawn."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from agents.breakdown import AXES
from agents.episodes import METRICS, Episode
from agents.evaluation import Report
from agents.images import png_url
from agents.pages import draw_episode, render_page
from dig_env.drawing import png
from scenes.files import write_whole

DRAWN = 6
"""Pairs shown of the worst, and of the best."""
SHOWN_CHARACTERS = 600
"""Of an answer; of a longer one its end, where the boxes are."""

EXPLAINED = {
    "reward": "total of dig_env.score",
    "format": "share of answers that are a valid, non-empty list of boxes",
    "f1": "harmonic mean of precision and recall",
    "iou": "mean overlap of matched boxes",
    "precision": "share of an answer's boxes that found a difference",
    "recall": "share of a pair's differences that were found",
    "count_accuracy": "share of answers with as many boxes as differences",
}
"""What each of ``METRICS`` means; all are means over the pairs."""


def write_page(path: Path, report: Report, result: dict[str, Any]) -> None:
    """Write the page of an evaluation.

    Args:
        path: of the HTML file; pictures are within it.
        report: what was played.
        result: ``report.to_json()`` and what else the page is to tell: "policy", "reward_name",
            "coordinates", and "usage" of an endpoint or None.
    """
    worst, best = worst_and_best(report.episodes)
    page = render_page(
        "evaluation.html",
        result=result,
        metrics=METRICS,
        explained=EXPLAINED,
        axes=AXES,
        shown={"Worst": map(_shown, worst), "Best": map(_shown, best)},
    )
    write_whole(path, page)


def worst_and_best(
    episodes: Sequence[Episode], count: int = DRAWN
) -> tuple[list[Episode], list[Episode]]:
    """The episodes of least reward, worst first, and of most reward, best first.

    No episode is in both; among equal ones the order of play decides.
    """
    order = sorted(range(len(episodes)), key=lambda index: (episodes[index].score.total, index))
    count = min(count, (len(order) + 1) // 2)
    worst = order[:count]
    best = sorted(order[count:], key=lambda index: (-episodes[index].score.total, index))[:count]
    return [episodes[i] for i in worst], [episodes[i] for i in best]


def _shown(episode: Episode) -> dict[str, Any]:
    """What the page tells of one pair."""
    text = episode.answer
    if len(text) > SHOWN_CHARACTERS:
        text = "... " + text[-SHOWN_CHARACTERS:]
    differences = episode.pair.differences
    return {
        "picture": png_url(png(draw_episode(episode))),
        "seed": episode.pair.plan.seed,
        "score": episode.score,
        "boxes": len(episode.score.answer.boxes),
        "differences": [(diff.change, diff.object_id in episode.found) for diff in differences],
        "answer": text,
    }
