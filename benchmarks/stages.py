"""What a pair of each stage costs: processor time of Blender, denoiser and labels, and plans.

Processor time, not the clock's, so that other work on the machine does not count.

    python benchmarks/stages.py --out docs/results/stages.json
"""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro

from dig_env.agents.reporting.report import write_results
from dig_env.scenes import (
    STAGES,
    Difficulty,
    PairPlan,
    Renderer,
    RenderSettings,
    available_cores,
    plan_pair,
)

REFERENCE = "mixed"
SIZES = (RenderSettings(320, 240, "standard", "cpu"), RenderSettings(128, 96, "draft", "cpu"))
ADDED: dict[str, Difficulty] = {
    "nuisance, of pixels alone": dataclasses.replace(
        STAGES["nuisance"], camera_shift=0.0, light_shift=0.0
    )
}
"""Measured beside the ``STAGES`` of the default family: without a further render of image B."""


def main(pairs: int = 20, out: Path = Path("docs/results/stages.json")) -> None:
    """Measure and print a table.

    Args:
        pairs: of each stage (small images: twice as many).
        out: file for the results.
    """
    table = {
        "command": "python benchmarks/stages.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "pairs": pairs,
        "rows": [
            row for turn, size in enumerate(SIZES, start=1) for row in measured(size, turn * pairs)
        ],
    }
    bars = {f"{row['stage']}, {row['size']}": row["pairs_per_s"] for row in table["rows"]}
    write_results(out, table, "pairs a second", bars)


def measured(settings: RenderSettings, pairs: int) -> list[dict[str, Any]]:
    """A row for each stage, all in turns."""
    stages = {name: one for name, one in STAGES.items() if one.family == "clevr"} | ADDED
    spent: dict[str, list[float]] = {name: [] for name in stages}
    plans: dict[str, list[int]] = {name: [] for name in stages}
    with Renderer(settings) as renderer:
        renderer.render(plan_pair(0, STAGES[REFERENCE]))
        for seed in range(pairs):
            for name, difficulty in stages.items():
                seconds, attempts = _cost(renderer, plan_pair(seed, difficulty))
                spent[name].append(seconds)
                plans[name].append(attempts)
    rows = []
    for name in stages:
        row = {
            "stage": name,
            "size": f"{settings.width}x{settings.height} {settings.quality}",
            "pairs_per_s": round(1 / float(np.mean(spent[name])), 2),
            "times_mixed": round(float(np.mean(spent[name]) / np.mean(spent[REFERENCE])), 2),
            "plans": round(float(np.mean(plans[name])), 2),
        }
        rows.append(row)
        print("| " + " | ".join(map(str, row.values())) + " |", flush=True)
    return rows


def _cost(renderer: Renderer, plan: PairPlan) -> tuple[float, int]:
    """Processor seconds of a pair, and plans that it took; again if a worker was replaced."""
    while True:
        workers, before = renderer.worker_pids, _processor_s(renderer)
        pair = renderer.render(plan)
        if renderer.worker_pids == workers:
            return _processor_s(renderer) - before, pair.plan.attempt + 1


def _processor_s(renderer: Renderer) -> float:
    """Processor time of this process and of the renderer's workers, in seconds."""
    processes = [psutil.Process(), *map(psutil.Process, renderer.worker_pids)]
    return sum(sum(process.cpu_times()[:2]) for process in processes)


if __name__ == "__main__":
    tyro.cli(main)
