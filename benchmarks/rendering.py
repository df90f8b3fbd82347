"""Where a pair's time goes, and how long a reset takes.

1. Wall time of a pair over the bare Cycles time of its two images: path tracing (what a further
   pass of the preset's samples for textured ground costs) and OpenImageDenoise's own execution,
   both at full size.
2. Time of ``env.reset()`` when the consumer is slower than the renderer, and from a dataset.

    python benchmarks/rendering.py --out docs/results/rendering.json
"""

from __future__ import annotations

import dataclasses
import platform
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pyoidn
import tyro

import dig_env  # noqa: F401 - registers the environments
from dig_env.agents.reporting.report import write_results
from dig_env.scenes import (
    STAGES,
    PairPlan,
    Renderer,
    RenderSettings,
    available_cores,
    plan_pair,
    render_dataset,
)
from dig_env.scenes.measure.labels import label_pair
from dig_env.scenes.render.imaging import render_pair_whole
from dig_env.scenes.render.passes import Denoiser, RenderPasses
from dig_env.scenes.render.process import RenderRequest, WorkerProcess

LARGE = RenderSettings(320, 240, "standard", "cpu")
SMALL = RenderSettings(128, 96, "draft", "cpu")
MORE = 5
"""Path tracing is timed as (time of MORE times the samples - time of the samples) / (MORE - 1)."""
TIMEOUT_S = 600.0


def main(
    pairs: int = 24, resets: int = 40, out: Path = Path("docs/results/rendering.json")
) -> None:
    """Measure and print two tables.

    Args:
        pairs: mixed plans of each measurement (small images: four times as many).
        resets: of each environment.
        out: file for the results.
    """
    cores = available_cores()
    print(f"{cores} cores, {platform.machine()}")
    table = {
        "command": "python benchmarks/rendering.py",
        "machine": f"{cores} cores, {platform.machine()}",
        "overhead": [_overhead(LARGE, pairs), _overhead(SMALL, 4 * pairs)],
        "resets": _resets(resets),
    }
    over_bare = {
        f"{row['settings']['width']}x{row['settings']['height']}": row["pair_over_bare"]
        for row in table["overhead"]
    }
    write_results(out, table, "time of a pair over the bare time of two images", over_bare)


def _overhead(settings: RenderSettings, pairs: int) -> dict[str, Any]:
    threads = available_cores()
    plans = [plan_pair(seed, STAGES["mixed"]) for seed in range(pairs)]
    workers = [
        WorkerProcess(settings, threads, {"samples": times * settings.samples.textured})
        for times in (1, MORE)
    ]
    denoiser, timed_denoiser = Denoiser(threads), _TimedDenoiser(threads)
    seconds: dict[str, list[float]] = {name: [] for name in ("once", "more", "denoise", "full")}
    try:
        for worker in workers:
            _expose(worker, plans[0])
        for plan in plans:
            # All in turns, so that a noisy machine is equally noisy for each.
            all_passes = timed(seconds["once"], lambda: _expose(workers[0], plan))  # noqa: B023
            timed(seconds["more"], lambda: _expose(workers[1], plan))  # noqa: B023
            seconds["denoise"].append(sum(timed_denoiser.time(one) for one in all_passes))
            timed(
                seconds["full"],
                lambda: label_pair(
                    plan,  # noqa: B023
                    *render_pair_whole(plan, workers[0], denoiser, TIMEOUT_S),  # noqa: B023
                ),
            )
    finally:
        for worker in workers:
            worker.kill()
    with Renderer(settings) as renderer:
        renderer.render(plans[0])
        certified = [_seconds(lambda: renderer.render(plan)) for plan in plans]  # noqa: B023
    total = {name: float(np.median(values)) for name, values in seconds.items()}
    tracing = (total["more"] - total["once"]) / (MORE - 1)
    bare = tracing + total["denoise"]
    row = {
        "settings": dataclasses.asdict(settings),
        "threads": threads,
        "path_tracing_ms": round(1e3 * tracing, 1),
        "denoising_ms": round(1e3 * total["denoise"], 1),
        "two_full_renders_ms": round(1e3 * total["full"], 1),
        "two_full_renders_over_bare": round(total["full"] / bare, 3),
        "pair_ms": round(1e3 * float(np.median(certified)), 1),
        "pair_over_bare": round(float(np.median(certified)) / bare, 3),
    }
    print(row)
    return row


class _TimedDenoiser:
    """OpenImageDenoise alone, timed."""

    def __init__(self, threads: int) -> None:
        self._device = pyoidn.Device()
        self._device.set_int("numThreads", threads)
        self._device.set_bool("setAffinity", False)
        self._device.commit()
        self._filter = pyoidn.Filter(self._device)
        self._filter.set_bool("hdr", True)

    def time(self, passes: RenderPasses) -> float:
        """Seconds of one execution."""
        images = {"color": passes.color, "albedo": passes.albedo, "normal": passes.normal}
        images["output"] = np.empty_like(passes.color)
        for name, image in images.items():
            self._filter.set_image(name, image, pyoidn.OIDN_FORMAT_FLOAT3)
        self._filter.commit()
        return _seconds(self._filter.execute)


def _expose(worker: WorkerProcess, plan: PairPlan) -> list[RenderPasses]:
    requests = (RenderRequest(plan.scene_a), RenderRequest(plan.scene_b))
    return worker.render(plan.camera, plan.lights, plan.scenery, requests, TIMEOUT_S)


def timed(seconds: list[float], work: Callable[[], Any]) -> Any:
    """What the work gives; its wall time is appended to the seconds."""
    begun = time.perf_counter()
    result = work()
    seconds.append(time.perf_counter() - begun)
    return result


def _seconds(work: Callable[[], Any]) -> float:
    seconds: list[float] = []
    timed(seconds, work)
    return seconds[0]


def _resets(resets: int) -> list[dict[str, Any]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        render_dataset(folder, {"single": 50}, settings=LARGE, workers=available_cores())
        for name, arguments, thinking_s in (
            ("rendered ahead, 320x240 standard", dataclasses.asdict(LARGE), 1.0),
            ("rendered ahead, 128x96 draft", dataclasses.asdict(SMALL), 0.25),
            ("dataset, 320x240", {"dataset": folder}, 0.05),
        ):
            env = gym.make("DiG-v0", **arguments)
            env.reset(seed=0)
            milliseconds = []
            for _ in range(resets):
                env.step("[]")
                time.sleep(thinking_s)
                milliseconds.append(1e3 * _seconds(env.reset))
            env.close()
            rows.append(
                {
                    "pairs": name,
                    "consumer_thinks_s": thinking_s,
                    "reset_median_ms": round(float(np.median(milliseconds)), 2),
                    "reset_p95_ms": round(float(np.percentile(milliseconds, 95)), 2),
                }
            )
            print(rows[-1])
    return rows


if __name__ == "__main__":
    tyro.cli(main)
