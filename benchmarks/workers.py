"""What to plan with: pairs a second by size and workers, memory, time to the first pair.

1. Pairs a second of 1 to W workers with one thread each on W cores, from 128x96 to 1024x768.
2. Memory of a worker before its first picture, which is Blender's own, and after some pairs.
3. Time from ``gym.make`` to the first pair in a fresh process, and its parts.

    python benchmarks/workers.py --out docs/results/workers.json --picture docs/workers.png
"""

from __future__ import annotations

import dataclasses
import json
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro
from matplotlib.figure import Figure

from dig_env.agents.reporting.plots import figure_png
from dig_env.agents.reporting.report import write_results
from dig_env.scenes import STAGES, RenderSettings, available_cores, plan_pair
from dig_env.scenes.files import write_whole
from dig_env.scenes.render.imaging import render_pair
from dig_env.scenes.render.passes import Denoiser
from dig_env.scenes.render.process import WorkerProcess

PLOTTED = ("draft", "standard")
SIZES = ((128, 96), (320, 240), (640, 480), (1024, 768))
TIMEOUT_S = 600.0
MB = 2**20


def main(
    seconds: float = 4.0,
    starts: int = 5,
    out: Path = Path("docs/results/workers.json"),
    picture: Path = Path("docs/workers.png"),
) -> None:
    """Measure, print three tables, draw the first.

    Args:
        seconds: least time that each size, quality and number of workers is timed for.
        starts: fresh processes.
        out: file for the results.
        picture: file for the plot.
    """
    cores = available_cores()
    print(f"{cores} cores, {platform.machine()}")
    rates = [
        _rates(RenderSettings(width, height, quality, "cpu"), seconds)
        for quality in PLOTTED
        for width, height in SIZES
    ]
    table = {
        "command": "python benchmarks/workers.py",
        "machine": f"{cores} cores, {platform.machine()}",
        "pairs_per_s": rates,
        "memory": [_memory(*size) for size in SIZES],
        "first_pair": _starts(starts),
    }
    write_whole(picture, figure_png(_figure(rates)))
    bars = {
        f"{row['width']}x{row['height']} {row['quality']}": row["by_workers"][cores]
        for row in rates
    }
    write_results(out, table, f"pairs a second, {cores} workers", bars)
    print(f"picture: {picture}")


ONE_RATE = """
import json, os, sys, time
settings, workers, seconds = json.loads(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3])
os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:workers])
from dig_env.scenes import STAGES, Renderer, RenderSettings, plan_pair
with Renderer(RenderSettings(**settings), workers) as renderer:
    assert renderer.threads == 1
    pairs = renderer.imap(plan_pair(seed, STAGES["mixed"]) for seed in range(10**6))
    for _ in range(2 * workers):
        next(pairs)
    begun, count = time.perf_counter(), 0
    while count < 4 or time.perf_counter() - begun < seconds:
        next(pairs)
        count += 1
    print(count / (time.perf_counter() - begun))
    pairs.close()
"""


def _rates(settings: RenderSettings, seconds: float) -> dict[str, Any]:
    """In processes of their own, whose cores can be limited."""
    by_workers = {}
    for workers in range(1, available_cores() + 1):
        arguments = [json.dumps(dataclasses.asdict(settings)), str(workers), str(seconds)]
        by_workers[workers] = round(float(_fresh(ONE_RATE, *arguments)), 3)
    row = {
        "width": settings.width,
        "height": settings.height,
        "quality": settings.quality,
        "by_workers": by_workers,
    }
    print(row, flush=True)
    return row


def _memory(width: int, height: int, pairs: int = 4) -> dict[str, Any]:
    """Megabytes that a worker shares with no other process (USS), the median of the pairs."""
    worker = WorkerProcess(RenderSettings(width, height, device="cpu"), threads=1)
    try:
        assert worker.versions
        process = psutil.Process(worker.pid)
        before = process.memory_full_info().uss
        denoiser, after = Denoiser(1), []
        for seed in range(pairs):
            render_pair(plan_pair(seed, STAGES["mixed"]), worker, denoiser, TIMEOUT_S)
            after.append(process.memory_full_info().uss)
    finally:
        worker.kill()
    row = {
        "width": width,
        "height": height,
        "started_mb": round(before / MB, 1),
        "rendering_mb": round(float(np.median(after)) / MB, 1),
    }
    print(row, flush=True)
    return row


ONE_START = """
import json, sys, time
begun = time.perf_counter()
import gymnasium as gym
import dig_env
imported = time.perf_counter()
env = gym.make("DiG-v0", **json.loads(sys.argv[1]))
env.reset(seed=0)
print(json.dumps({"import_s": imported - begun, "first_reset_s": time.perf_counter() - imported}))
env.close()
"""
ONE_BLENDER = """
import json, sys, time
from dig_env.scenes import STAGES, RenderSettings, plan_pair
from dig_env.scenes.render.process import RenderRequest, WorkerProcess
plan = plan_pair(0, STAGES["single"])
view = (plan.camera, plan.lights, plan.scenery, [RenderRequest(plan.scene_a)], 600.0)
begun = time.perf_counter()
worker = WorkerProcess(RenderSettings(**json.loads(sys.argv[1])), threads=int(sys.argv[2]))
worker.versions
started = time.perf_counter()
worker.render(*view)
first = time.perf_counter()
worker.render(*view)
later = time.perf_counter() - first
found = {"blender_start_s": started - begun, "first_image_s": first - started, "image_s": later}
print(json.dumps(found))
worker.kill()
"""


def _starts(starts: int) -> list[dict[str, Any]]:
    """Medians over fresh processes: our import and first reset; Blender's start and images."""
    rows = []
    for width, height, quality in ((128, 96, "draft"), (320, 240, "standard")):
        settings = json.dumps({"width": width, "height": height, "quality": quality})
        threads = str(available_cores())
        runs = [
            json.loads(_fresh(ONE_START, settings))
            | json.loads(_fresh(ONE_BLENDER, settings, threads))
            for _ in range(starts)
        ]
        medians = {
            name: round(float(np.median([run[name] for run in runs])), 3) for name in runs[0]
        }
        rows.append({"width": width, "height": height, "quality": quality} | medians)
        print(rows[-1], flush=True)
    return rows


def _fresh(code: str, *arguments: str) -> str:
    """What a fresh Python process prints."""
    command = [sys.executable, "-c", code, *arguments]
    return subprocess.run(
        command, capture_output=True, text=True, check=True, env=os.environ
    ).stdout


def _figure(rates: list[dict[str, Any]]) -> Figure:
    figure = Figure(figsize=(6.4, 4), layout="constrained")
    axes = figure.add_subplot()
    for color, quality in enumerate(PLOTTED):
        rows = [row for row in rates if row["quality"] == quality]
        for workers in rows[0]["by_workers"]:
            axes.plot(
                [row["width"] * row["height"] for row in rows],
                [row["by_workers"][workers] for row in rows],
                color=f"C{color}",
                marker="o",
                linestyle="-" if workers == available_cores() else ":",
                label=f"{quality}, {workers} worker{'s' * (workers > 1)}",
            )
    axes.set(xscale="log", yscale="log", ylabel="pairs a second, one thread a worker")
    axes.set_xticks([width * height for width, height in SIZES])
    axes.set_xticklabels([f"{width}x{height}" for width, height in SIZES])
    axes.minorticks_off()
    axes.grid(alpha=0.3)
    axes.legend(fontsize="small")
    return figure


if __name__ == "__main__":
    tyro.cli(main)
