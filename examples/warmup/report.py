"""The report of a warm-up, under way or at its end."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from stored_pairs import PairArrays

from dig_env import Score, draw_pair
from dig_env.agents.reporting.plots import Panel, curves
from dig_env.agents.reporting.report import (
    Picture,
    Section,
    versions,
    worst_and_best_sections,
    write_report,
)


def mean_scores(scores: Sequence[Score], stages: Sequence[str] | np.ndarray) -> dict[str, float]:
    """Mean scores: format; F1 and reward of each stage."""
    means = {"format": float(np.mean([score.format for score in scores]))}
    for stage in dict.fromkeys(map(str, stages)):
        chosen = [score for score, of in zip(scores, stages, strict=True) if of == stage]
        means[f"f1_{stage}"] = float(np.mean([score.f1 for score in chosen]))
        means[f"reward_{stage}"] = float(np.mean([score.total for score in chosen]))
    return means


def write_warmup_report(
    out: Path, settings: dict[str, Any], pairs: PairArrays, scores: Sequence[Score]
) -> None:
    """Write report.html and its plot, report.png, from log.jsonl and the last evaluation.

    Args:
        out: the run's folder.
        settings: of the run, with "samples" and "seed".
        pairs: that were held out.
        scores: of the answers to them.
    """
    log = [json.loads(line) for line in (out / "log.jsonl").read_text().splitlines()]

    def line(name: str) -> tuple[list[int], list[float]]:
        logged = [entry for entry in log if entry[name] is not None]
        return [entry["samples"] for entry in logged], [entry[name] for entry in logged]

    f1 = {name.removeprefix("f1_"): line(name) for name in log[-1] if name.startswith("f1_")}
    panels = [Panel("held-out F1", f1, limits=(0, 1.02)), Panel("loss", {"loss": line("loss")})]

    def picture(index: int) -> Picture:
        image_a, image_b = pairs.images[index]
        score = scores[index]
        drawn = draw_pair(image_a, image_b, pairs.boxes_of(index), score.answer.boxes)
        caption = f"{pairs.stages[index]}: reward {score.total:.3f}, F1 {score.f1:.3f}"
        return Picture(drawn, caption)

    last = log[-1]
    means = ", ".join(f"{last[f'f1_{stage}']:.3f} on {stage}" for stage in f1)
    write_report(
        out / "report.html",
        f"Warm-up {out.name}",
        f"{last['samples']} of at most {settings['samples']} samples in {last['minutes']} minutes. "
        f"Held-out F1: {means}.",
        [
            Section("Training", figure=curves(panels, "samples")),
            *worst_and_best_sections(
                range(len(scores)), lambda index: scores[index].total, picture
            ),
        ],
        {"seed": settings["seed"], "settings": settings, "versions": versions()},
    )
