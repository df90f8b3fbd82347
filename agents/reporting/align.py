"""Reports of evaluations on the alignment tasks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from dig_env import parse_boxes
from dig_env.agents.evaluation.align import AlignEpisode
from dig_env.agents.reporting.plots import dots_figure
from dig_env.agents.reporting.report import (
    Picture,
    Section,
    versions,
    worst_and_best_sections,
    write_report,
)
from dig_env.agents.reporting.table import Table, interval_cells
from dig_env.align.questions import BoxTruth, write_answer
from dig_env.drawing import draw_image


def tasks_table(tasks: dict[str, dict[str, Any]]) -> Table:
    """What was right in each task; ``tasks`` holds ``align_metrics`` by task."""
    rows = [
        (name, str(numbers["episodes"]), f"{numbers['reward'][0]:.3f}", *interval_cells(right))
        for name, numbers in tasks.items()
        for right in [numbers["accuracy"]]
    ]
    return Table(("task", "questions", "reward", "right", "95 % interval"), rows)


def write_tasks_report(
    path: Path, played: dict[str, list[AlignEpisode]], result: dict[str, Any], coordinates: str
) -> None:
    """Write the report of an evaluation.

    Args:
        path: of the HTML file.
        played: the episodes of each task.
        result: "policy", "command", and "tasks", what ``tasks_table`` takes.
        coordinates: frame of the answered boxes.
    """
    tasks = result["tasks"]
    right = [tasks[name]["accuracy"] for name in tasks]
    groups = [
        (f"{task}, {axis}", value, str(entry["episodes"]), *interval_cells(entry["accuracy"]))
        for task, numbers in tasks.items()
        for axis, values in numbers["by"].items()
        for value, entry in values.items()
    ]
    sections = [
        Section(
            "Right answers by task",
            "With 95 % intervals of a bootstrap over the pairs.",
            figure=dots_figure(tasks, {"right": right}, "share of answers that were right"),
            tables=[tasks_table(tasks)],
        )
    ]
    if groups:
        header = ("task", "group", "questions", "right", "95 % interval")
        sections.append(Section("Where", tables=[Table(header, groups)]))
    episodes = [episode for of in played.values() for episode in of]
    sections += worst_and_best_sections(
        episodes,
        lambda episode: episode.reward,
        lambda episode: question_picture(episode, coordinates),
        "answers",
    )
    write_report(
        path,
        f"{result['policy']} on the alignment tasks",
        f"{np.mean([interval[0] for interval in right]):.1%} right in the mean over "
        f"{len(tasks)} tasks, {len(episodes)} questions in all.",
        sections,
        {"command": result["command"], "seed": result["seed"], "versions": versions()},
    )


def question_picture(episode: AlignEpisode, coordinates: str) -> Picture:
    """The first turn: the image with boxes, the question, what was right and what was said."""
    question, turn, graded = episode.question, episode.question.turns[0], episode.grades[0]
    true = answered = np.zeros((0, 4))
    if isinstance(turn.truth, BoxTruth):
        true = turn.truth.box[None]
        answered = parse_boxes(episode.texts[0], coordinates, question.size).boxes
    asked = " ".join(turn.prompt.replace("<image>", "").split())
    right = write_answer(turn.truth, coordinates, question.size)
    return Picture(
        draw_image(question.image, true, answered),
        f"{question.task}, reward {graded.reward:.3f}: {asked} Right: {right}",
        episode.texts[0],
    )
