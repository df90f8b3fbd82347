"""The report of a GRPO run, unfinished or finished."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np

from dig_env.agents.evaluation.episodes import METRICS
from dig_env.agents.reporting.evaluation import episode_picture
from dig_env.agents.reporting.plots import Panel, curves
from dig_env.agents.reporting.report import (
    Section,
    machine,
    versions,
    worst_and_best_sections,
    write_report,
)
from dig_env.agents.reporting.table import Table
from dig_env.agents.training.monitor import GRPOResult
from dig_env.drawing import png
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole

with extra("eval"):
    from matplotlib.figure import Figure

RESULT = "result.json"
PAIRS_IN_PICTURE = 4
SHOWN = (*METRICS, "sampled_reward", "sampled_f1")


def write_run(result: GRPOResult) -> None:
    """Write report.html and its main plot, report.png, into the run's folder.

    At the end of a run also result.json, which holds ``summarize(result)``, and, with held-out
    pairs, pairs.png: the first of each stage with their answers.
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
    """Means on the held-out pairs of each stage: before, or before and after."""
    stages = result.stages
    rows = [(name, *(_change(result, stage, name) for stage in stages)) for name in SHOWN]
    return Table(("held-out mean", *stages), rows)


def _change(result: GRPOResult, stage: str, name: str) -> str:
    before = f"{result.metrics('before', stage)[name]:.2f}"
    return (
        f"{before} → {result.metrics('after', stage)[name]:.2f}"
        if result.evaluated_after
        else before
    )


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
    f1 = ", ".join(f"{_change(result, stage, 'f1')} on {stage}" for stage in result.stages)
    held_out = [f"Held-out F1: {f1}."] if f1 else []
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
        f"{run.eval_pairs} pairs of each stage from the test split, {when}, answered greedily; "
        f"sampled: at temperature {run.temperature:g}."
    )
    sections.append(Section("Held-out pairs", text, tables=[held_out_table(result)]))
    played = [episode for of in (result.after or result.before).values() for episode in of]
    return sections + worst_and_best_sections(
        played, lambda episode: episode.score.total, episode_picture
    )


def _figure(result: GRPOResult) -> Figure:
    steps = result.steps
    at = [step.step for step in steps]

    def line(name: str) -> tuple[list[int], list[float]]:
        return at, [getattr(step, name) for step in steps]

    parts = {name: line(name) for name in ("reward", "f1", "iou", "format")}
    panels = [Panel("mean of the rollouts", parts, noisy=True, limits=(0, 1.02))]
    watched = {step.step: step.held_out for step in steps if step.held_out}
    if watched:
        lines = {
            stage: (list(watched), [held_out[stage] for held_out in watched.values()])
            for stage in next(iter(watched.values()))
        }
        panels.append(Panel("validation F1", lines, limits=(0, 1.02)))
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


def _first_pairs(result: GRPOResult) -> np.ndarray:
    """The first pairs of each stage, neither the best nor the worst; (H, W, 3) uint8."""
    share = max(1, PAIRS_IN_PICTURE // len(result.after))
    rows: list[np.ndarray] = []
    for episodes in result.after.values():
        for episode in episodes[:share]:
            rows.append(episode_picture(episode).image)
            rows.append(np.full((4, rows[0].shape[1], 3), 255, dtype=np.uint8))
    return np.concatenate(rows[:-1])
