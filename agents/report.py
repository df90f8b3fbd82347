"""What a training run leaves for people: curves, drawn pairs, and one page that holds it all."""

from __future__ import annotations

import importlib.metadata
import io
import json
import platform
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np

from agents.episodes import METRICS, Episode
from agents.grpo import GRPOResult
from agents.images import png_url
from agents.monitor import Step
from agents.pages import draw_episodes, render_page
from dig_env.drawing import png
from scenes import available_cores
from scenes.files import write_whole

PAIRS_IN_PICTURE = 4
SMOOTHING_STEPS = 10
LIBRARIES = ("dig-env", "gymnasium", "numpy", "torch", "transformers", "trl")


def write_report(result: GRPOResult) -> dict[str, Path]:
    """Write curves.png, pairs.png, result.json and report.html into the run's folder.

    Returns:
        The paths, by "report", "curves", "pairs" and "result".
    """
    out = Path(result.run.out)
    paths = {
        "report": out / "report.html",
        "curves": out / "curves.png",
        "pairs": out / "pairs.png",
        "result": out / "result.json",
    }
    curves, pairs = _curves_png(result), png(draw_episodes(_picked(result.after)))
    summary = summarize(result)
    page = render_page(
        "report.html",
        summary=summary,
        metrics=(*METRICS, "sampled_reward", "sampled_f1"),
        curves=png_url(curves),
        pairs=png_url(pairs),
    )
    write_whole(paths["curves"], curves)
    write_whole(paths["pairs"], pairs)
    write_whole(paths["result"], json.dumps(summary, indent=2).encode() + b"\n")
    write_whole(paths["report"], page)
    return paths


def summarize(result: GRPOResult) -> dict[str, Any]:
    """Settings, versions, machine, held-out means before and after, and promotions, as JSON."""
    return {
        "settings": asdict(result.run),
        "versions": {name: importlib.metadata.version(name) for name in LIBRARIES}
        | result.renderer_versions,
        "machine": f"{available_cores()} cores, {platform.machine()}, {platform.system()}",
        "steps": len(result.steps),
        "pairs": result.steps[-1].pairs if result.steps else 0,
        "training_s": result.seconds,
        "promotions": result.promotions,
        "held_out": {
            stage: {when: result.metrics(when, stage) for when in ("before", "after")}
            for stage in result.run.stages
        },
    }


def _picked(episodes_by_stage: dict[str, list[Episode]]) -> list[Episode]:
    """The first pairs of each stage: neither the best nor the worst."""
    share = max(1, PAIRS_IN_PICTURE // len(episodes_by_stage))
    return [ep for episodes in episodes_by_stage.values() for ep in episodes[:share]]


def _curves_png(result: GRPOResult) -> bytes:
    # A figure of its own, not pyplot's: no global state and no display.
    figure = matplotlib.figure.Figure(figsize=(9, 4.5), layout="constrained")
    axes = figure.subplots()
    steps = [step.step for step in result.steps]
    for name, color in (("reward", "C0"), ("f1", "C1"), ("iou", "C2")):
        values = [getattr(step, name) for step in result.steps]
        axes.plot(steps, values, color=color, alpha=0.25, linewidth=0.8)
        axes.plot(steps, _smooth(values), color=color, label=name)
    for step, previous in zip(result.steps[1:], result.steps, strict=False):
        if result.promotions and step.stage != previous.stage:
            axes.axvline(step.step, color="gray", linestyle=":")
            axes.text(
                step.step, 1.01, step.stage, ha="center", transform=axes.get_xaxis_transform()
            )
    axes.set(xlabel="optimiser step", ylabel="mean over the step's rollouts", ylim=(0, 1))
    axes.legend(loc="lower right")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=120)
    return buffer.getvalue()


def _smooth(values: Sequence[float]) -> list[float]:
    """Mean of the last ``SMOOTHING_STEPS`` values at each point."""
    return [
        float(np.mean(values[max(0, end - SMOOTHING_STEPS) : end]))
        for end in range(1, len(values) + 1)
    ]


def step_line(step: Step) -> str:
    """One step in a line, for logs and progress bars."""
    return (
        f"{step.stage:6} reward {step.reward:.2f}  F1 {step.f1:.2f}  IoU {step.iou:.2f}  "
        f"{step.pairs_per_s:.1f} pairs/s"
    )
