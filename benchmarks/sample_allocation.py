"""What samples on objects are worth, against as many everywhere: image A's error, a pair's time.

Plans are others than those that ``image_quality.py`` judges the presets by. The reference is 256
denoised samples with another seed. An allocation is (samples of the ground, samples of objects and
a ring around them). All take turns pair by pair, so that a noisy machine is equally noisy for each;
time is processor time.

    python benchmarks/sample_allocation.py --out docs/results/sample_allocation.json
"""

from __future__ import annotations

import collections
import dataclasses
import platform
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from image_quality import psnr
from worlds import FAMILIES, cpu_s

from dig_env.agents.reporting.report import write_results
from dig_env.scenes import RenderSettings, available_cores, plan_pair
from dig_env.scenes.families.scenery import Scenery
from dig_env.scenes.render.imaging import render_pair
from dig_env.scenes.render.passes import Denoiser
from dig_env.scenes.render.process import RenderRequest, WorkerProcess
from dig_env.scenes.render.settings import Samples

SETTINGS = RenderSettings(device="cpu")
ALLOCATIONS = [(1, 1), (2, 4), (2, 6), (2, 8), (4, 4), (6, 6), (4, 24), (16, 16)]
BASE = (4, 4)
TIMEOUT_S = 600.0


class _Everywhere(Samples):
    """An allocation for textured ground too."""

    def on(self, scenery: Scenery) -> tuple[int, int]:
        return self.few, self.many


def main(plans: int = 6, out: Path = Path("docs/results/sample_allocation.json")) -> None:
    """Render, compare, print a table.

    Args:
        plans: of each family, with one to four differences, from pair seed 1000 on.
        out: file for the results.
    """
    threads = available_cores()
    print(f"{threads} cores, {SETTINGS.width}x{SETTINGS.height}")
    workers = {
        (few, many): WorkerProcess(SETTINGS, threads, {"samples": many})
        for few, many in ALLOCATIONS
    }
    for (few, many), worker in workers.items():
        worker.samples = _Everywhere(few, many, few)
    reference = WorkerProcess(SETTINGS, threads, {"samples": 256, "seed": 1})
    try:
        rows = [row for name in FAMILIES for row in _rows(name, plans, workers, reference)]
    finally:
        for worker in (*workers.values(), reference):
            worker.kill()
    table = {
        "command": "python benchmarks/sample_allocation.py",
        "machine": f"{threads} cores, {platform.machine()}",
        "settings": dataclasses.asdict(SETTINGS),
        "plans": plans,
        "rows": rows,
    }
    bars = {f"{row['family']} {row['samples']}": row["psnr_mean_db"] for row in rows}
    write_results(out, table, "PSNR in dB", bars)


def _rows(
    family: str,
    plans: int,
    workers: dict[tuple[int, int], WorkerProcess],
    reference: WorkerProcess,
) -> list[dict[str, Any]]:
    denoiser = Denoiser(available_cores())
    decibels, seconds = collections.defaultdict(list), collections.defaultdict(list)
    for seed in range(1000, 1000 + plans):
        plan = plan_pair(seed, FAMILIES[family])
        view = (plan.camera, plan.lights, plan.scenery)
        (passes,) = reference.render(*view, [RenderRequest(plan.scene_a)], TIMEOUT_S)
        truth = denoiser.denoise(passes)
        for samples, worker in workers.items():
            if seed == 1000:  # a worker's first picture takes longer
                render_pair(plan, worker, denoiser, TIMEOUT_S)
            begun = cpu_s(worker)
            image_a, *_ = render_pair(plan, worker, denoiser, TIMEOUT_S)
            seconds[samples].append(cpu_s(worker) - begun)
            decibels[samples].append(psnr(image_a, truth))
    rows = [
        {
            "family": family,
            "samples": samples,
            "cpu_s_a_pair": round(float(np.mean(seconds[samples])), 3),
            "cpu_over_4": round(sum(seconds[samples]) / sum(seconds[BASE]), 2),
            "psnr_mean_db": round(float(np.mean(found)), 2),
            "psnr_least_db": round(float(np.min(found)), 2),
        }
        for samples, found in decibels.items()
    ]
    for row in rows:
        print(row, flush=True)
    return rows


if __name__ == "__main__":
    tyro.cli(main)
