"""The report of a GRPO run, unfinished or finished."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dig_env.agents.evaluation.asked import Answered
from dig_env.agents.reporting.plots import Panel, curves
from dig_env.agents.reporting.report import (
    Section,
    machine,
    versions,
    worst_and_best_sections,
    write_report,
)
from dig_env.agents.reporting.table import Table
from dig_env.agents.training.monitor import GRPOResult, Step, answer_picture
from dig_env.agents.training.settings import measure_of
from dig_env.drawing import png
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole

with extra("eval"):
    from matplotlib.figure import Figure

RESULT = "result.json"
PAIRS_IN_PICTURE = 4


def write_run(result: GRPOResult) -> None:
    """Write report.html and its main plot, report.png, into the run's folder.

    At the end of a run also result.json, which holds ``summarize(result)``, and, with held-out
    pairs, pairs.png: the first pairs or questions of each stage with their answers.
    """
    out = Path(result.run.out)
    write_report(
        out / "report.html",
        f"GRPO run {out.name}",
        _lead(result),
        _sections(result),
        {
            "seed": result.run.seed,
            "settings": asdict(result.run),
            "versions": versions() | result.renderer_versions,
        },
    )
    if result.after:
        write_whole(out / "pairs.png", png(_first_pairs(result)))
    if result.finished:
        write_whole(out / RESULT, json.dumps(summarize(result), indent=2).encode() + b"\n")


def summarize(result: GRPOResult) -> dict[str, Any]:
    """Settings, versions, machine, held-out means before and after, and promotions, as JSON."""
    return {
        "settings": asdict(result.run),
        "versions": versions() | result.renderer_versions,
        "machine": machine(),
        "steps": len(result.steps),
        "pairs": result.steps[-1].pairs if result.steps else 0,
        "training_s": result.seconds,
        "promotions": result.promotions,
        "held_out": {
            stage: {when: result.metrics(when, stage) for when in ("before", "after")}
            for stage in (result.stages if result.evaluated_after else ())
        },
    }


def held_out_table(result: GRPOResult) -> Table:
    """Means on the held-out pairs or questions of each stage: before, or before and after."""
    stages = result.stages
    whens = ("before", "after") if result.evaluated_after else ("before",)
    measured = [result.metrics(when, stage) for stage in stages for when in whens]
    names = dict.fromkeys(name for numbers in measured for name in numbers)
    rows = [(name, *(_change(result, stage, name) for stage in stages)) for name in names]
    return Table(("held-out mean", *stages), rows)


def _change(result: GRPOResult, stage: str, name: str) -> str:
    whens = ("before", "after") if result.evaluated_after else ("before",)
    numbers = [result.metrics(when, stage).get(name) for when in whens]
    if set(numbers) == {None}:  # of a task that has no such number
        return ""
    return " → ".join("-" if number is None else f"{number:.2f}" for number in numbers)


def _lead(result: GRPOResult) -> str:
    steps = len(result.steps)
    if result.finished:
        began = f"{steps} steps"
    else:
        began = f"Not finished: {steps} of {result.run.steps} steps so far"
    pairs = result.steps[-1].pairs if result.steps else 0
    moves = [
        f"After {count} pairs the curriculum went from {left} to {entered}."
        for count, left, entered in result.promotions
    ]
    if len(moves) > 6:
        moves = [f"The curriculum changed the stage {len(moves)} times."]
    held_out = []
    for measure, word in (("f1", "F1"), ("accuracy", "accuracy")):
        of = [stage for stage in result.stages if measure_of(stage) == measure]
        if of:
            shown = ", ".join(f"{_change(result, stage, measure)} on {stage}" for stage in of)
            held_out.append(f"Held-out {word}: {shown}.")
    return " ".join([f"{began} over {pairs} pairs in {result.seconds:.0f} s.", *held_out, *moves])


def _sections(result: GRPOResult) -> list[Section]:
    run = result.run
    text = (
        f"Means over each step's rollouts, sampled at temperature {run.temperature:g}, thin, and "
        "over the last ten steps, bold. A zero-variance group, whose rollouts all earned the same, "
        "teaches nothing."
    )
    sections = [Section("Training", text, figure=_figure(result))] if result.steps else []
    if not result.before:
        return sections
    when = "before and after training" if result.after else "before training"
    text = (
        f"{run.eval_pairs} pairs of each stage from the test split, or questions about them, "
        f"{when}, answered greedily; sampled: at temperature {run.temperature:g}."
    )
    sections.append(Section("Held-out pairs", text, tables=[held_out_table(result)]))
    played = [episode for of in (result.after or result.before).values() for episode in of]
    return sections + worst_and_best_sections(
        played, lambda episode: episode.reward, answer_picture
    )


def _figure(result: GRPOResult) -> Figure:
    steps = result.steps

    def line(name: str) -> tuple[list[int], list[float]]:
        return _line((step.step, getattr(step, name)) for step in steps)

    parts = {name: line(name) for name in ("reward", "f1", "iou", "format")}
    parts = {name: of for name, of in parts.items() if of[0]}
    panels = [Panel("mean of the rollouts", parts, noisy=True, limits=(0, 1.02))]
    tasks = dict.fromkeys(
        stage for step in steps for stage in step.stages if measure_of(stage) == "accuracy"
    )
    if tasks:
        panels += [_tasks_panel(steps, tasks, name) for name in ("reward", "accuracy")]
    watched = {step.step: step.held_out for step in steps if step.held_out}
    if watched:
        lines = {
            stage: (list(watched), [held_out[stage] for held_out in watched.values()])
            for stage in next(iter(watched.values()))
        }
        panels.append(Panel("validation" if tasks else "validation F1", lines, limits=(0, 1.02)))
    panels.append(
        Panel(
            "zero-variance groups",
            {"share": line("zero_variance_groups")},
            noisy=True,
            limits=(0, 1.02),
        )
    )
    panels.append(Panel("tokens/answer", {"tokens": line("completion_length")}, noisy=True))
    return curves(panels, "optimiser step", [(step.step, step.stage) for step in steps])


def _tasks_panel(steps: Sequence[Step], tasks: Iterable[str], name: str) -> Panel:
    """A mean of each task's answers."""
    lines = {
        task: _line((step.step, step.stages.get(task, {}).get(name)) for step in steps)
        for task in tasks
    }
    return Panel(f"{name} of tasks", lines, noisy=True, limits=(0, 1.02))


def _line(points: Iterable[tuple[int, float | None]]) -> tuple[list[int], list[float]]:
    """A curve over the steps that have a value."""
    there = [(step, value) for step, value in points if value is not None]
    return [step for step, _ in there], [value for _, value in there]


def _first_pairs(result: GRPOResult) -> np.ndarray:
    """The first of each stage, neither the best nor the worst; (H, W, 3) uint8."""
    share = max(1, PAIRS_IN_PICTURE // len(result.after))
    first: list[Answered] = [e for episodes in result.after.values() for e in episodes[:share]]
    images = [answer_picture(episode).image for episode in first]
    width = max(image.shape[1] for image in images)
    rows = [
        np.pad(image, ((0, 4), (0, width - image.shape[1]), (0, 0)), constant_values=255)
        for image in images
    ]
    return np.concatenate(rows)[:-4]
