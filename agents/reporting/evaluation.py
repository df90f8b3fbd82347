"""The output of an evaluation on pairs: JSON, tables and a report."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dig_env import draw_pair
from dig_env.agents.evaluation.breakdown import AXES
from dig_env.agents.evaluation.episodes import METRICS, Episode
from dig_env.agents.evaluation.external import ExternalPair
from dig_env.agents.evaluation.pairs import EvaluationResult
from dig_env.agents.reporting.plots import dots
from dig_env.agents.reporting.report import (
    Picture,
    Section,
    versions,
    worst_and_best_sections,
    write_report,
)
from dig_env.agents.reporting.table import Table, interval_cells
from dig_env.drawing import draw_answer, draw_image
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole

with extra("eval"):
    from matplotlib.figure import Figure

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
INTERVALS = "Intervals are 95 % of a bootstrap over the pairs."


def write_evaluation(out: Path, report: EvaluationResult, result: dict[str, Any]) -> None:
    """Write ``result`` with all answers to the JSON file ``out``, and its report beside it.

    Args:
        out: a path that ends in .json; the report ends in .html, its plot in .png.
        report: what was played.
        result: ``report.to_json()`` and more for the report: "policy", "command",
            "reward_name", "dialect", "coordinates", "prompt", "assumed", and "usage" of an
            endpoint or None.
    """
    made_of = (
        *("command", "split", "seed", "source", "reward_name", "dialect", "coordinates"),
        *("prompt", "assumed", "usage"),
    )
    where = "freshly rendered" if result["source"] == "fresh" else "stored"
    answers = [episode.to_json() for episode in report.episodes]
    write_whole(out, json.dumps(result | {"answers": answers}, indent=1).encode() + b"\n")
    write_report(
        out.with_suffix(".html"),
        f"{result['policy']} on {result['stage']}",
        f"F1 {result['f1']:.3f} and reward {result['reward']:.3f} on {result['episodes']} "
        f"{where} pairs of {'x'.join(map(str, result['size']))} pixels. {INTERVALS}",
        [
            *_sections(result),
            *worst_and_best_sections(
                report.episodes, lambda episode: episode.score.total, episode_picture
            ),
        ],
        {name: result[name] for name in made_of if result[name] not in (None, {})}
        | {"versions": versions()},
    )


def result_tables(result: dict[str, Any]) -> list[Table]:
    """The tables of an evaluation's JSON."""
    means = [
        (name, *interval_cells(interval), EXPLAINED[name])
        for name, interval in result["intervals"].items()
    ]
    tables = [Table(("mean over pairs", "", "95 % interval", ""), means)]
    for axis, groups in result["recall_by"].items():
        rows = [
            (group, str(entry["differences"]), *interval_cells(entry["recall"]))
            for group, entry in groups.items()
        ]
        header = (axis, "differences", "recall", "95 % interval")
        tables.append(Table(header, rows, AXES[axis].meaning))
    shown = ("f1", "iou", "precision", "recall", "count_accuracy")
    rows = [
        (count, str(entry["pairs"]), *(f"{entry[name][0]:.3f}" for name in shown))
        for count, entry in result["by_differences"].items()
    ]
    return [*tables, Table(("differences", "pairs", *shown), rows, "By the differences in a pair.")]


def episode_picture(episode: Episode) -> Picture:
    """A pair with its boxes, and what the answer earned."""
    pair, score = episode.pair, episode.score
    found = [
        f"{change} {'found' if index in episode.found else 'missed'}"
        for index, change in enumerate(episode.changes)
    ]
    answered = len(score.answer.boxes)
    caption = (
        f"Pair {episode.name}: reward {score.total:.3f}, F1 {score.f1:.3f}, IoU {score.iou:.3f}; "
        f"{answered} {'box' if answered == 1 else 'boxes'}; {', '.join(found) or 'no difference'}."
    )
    if score.answer.error:
        caption += f" The answer: {score.answer.error}."
    if isinstance(pair, ExternalPair):
        image_b, boxes = pair.image_b, (pair.boxes_unit, score.answer.boxes)
        if image_b is None:
            image = draw_image(pair.image_a, *boxes)
        else:
            image = draw_pair(pair.image_a, image_b, *boxes)
    else:
        image = draw_answer(pair, score.answer.boxes)
    return Picture(image, caption, episode.answer)


def _sections(result: dict[str, Any]) -> list[Section]:
    """The plot, and the tables that it shows."""
    means, *groups = result_tables(result)
    text = "Recall is the share of the differences of each group that were found."
    return [
        Section("Results", figure=_figure(result), tables=[means]),
        Section("Which differences were found", text, tables=groups),
    ]


def _figure(result: dict[str, Any]) -> Figure:
    """The means, and the recall of each group of differences, with their intervals."""
    groups = {
        f"{axis}: {group}": entry["recall"]
        for axis, of in result["recall_by"].items()
        for group, entry in of.items()
    }
    heights = [len(METRICS), max(1, len(groups))]
    figure = Figure(figsize=(9, 1.6 + 0.24 * sum(heights)), layout="constrained")
    means, recalls = figure.subplots(2, 1, height_ratios=heights, sharex=True)
    dots(means, METRICS, {"mean": list(result["intervals"].values())})
    dots(recalls, groups, {"recall": list(groups.values())})
    means.set_title("Means over the pairs")
    recalls.set_title("Recall: the share of the differences of each group that were found")
    return figure
