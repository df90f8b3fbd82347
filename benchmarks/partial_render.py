"""What rendering image B only where it can differ costs, and how close it comes to a full render.

For each stage, fresh pairs are photographed twice by the same worker, B in part and in full. Prints
the time of a pair against that of two full renders, PSNR and largest error of B, the step at the
part's rim, and how often the check of the rim asked for a full render.

    python benchmarks/partial_render.py --out docs/results/partial_render.json
"""

from __future__ import annotations

import dataclasses
import io
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from image_quality import psnr
from PIL import Image
from scipy import ndimage

import dig_env.scenes.render.imaging as imaging
from dig_env.agents.reporting.report import write_results
from dig_env.scenes import PAPER_STAGES, STAGES, RenderSettings, available_cores, plan_pair
from dig_env.scenes.files import write_whole
from dig_env.scenes.render.influence import influence_mask
from dig_env.scenes.render.passes import Denoiser
from dig_env.scenes.render.process import WorkerProcess

TIMEOUT_S = 600.0


def main(
    pairs: int = 60,
    settings: RenderSettings = RenderSettings(device="cpu"),
    out: Path = Path("docs/results/partial_render.json"),
    picture: Path = Path("docs/partial_render.png"),
) -> None:
    """Render, compare, print a table, draw a few.

    Args:
        pairs: plans of each stage, from pair seed 0 on.
        settings: image size and quality.
        out: file for the results.
        picture: file for a drawing: image A, image B with the part outlined, image B, a full
            render of B, and twenty times their difference.
    """
    threads = available_cores()
    print(f"{threads} cores, {settings.width}x{settings.height}, {settings.quality}")
    worker, denoiser = WorkerProcess(settings, threads), Denoiser(threads)
    try:
        imaging.render_pair_whole(plan_pair(0, STAGES["single"]), worker, denoiser, TIMEOUT_S)
        rows = [_row(stage, pairs, worker, denoiser) for stage in PAPER_STAGES]
        _draw(picture, worker, denoiser)
    finally:
        worker.kill()
    table = {
        "command": "python benchmarks/partial_render.py",
        "machine": f"{threads} cores, {platform.machine()}",
        "settings": dataclasses.asdict(settings),
        "pairs": pairs,
        "stages": rows,
    }
    bars = {row["stage"]: row["time_over_two_full_renders"] for row in rows}
    write_results(out, table, "time over two full renders", bars)
    print(f"picture: {picture}")


def _draw(path: Path, worker: WorkerProcess, denoiser: Denoiser) -> None:
    rows = []
    for stage, seed in (("single", 1), ("mixed", 5), ("dual", 16)):
        plan = plan_pair(seed, STAGES[stage])
        image_a, _, image_b, _ = imaging.render_pair(plan, worker, denoiser, TIMEOUT_S)
        _, _, full_b, _ = imaging.render_pair_whole(plan, worker, denoiser, TIMEOUT_S)
        mask = influence_mask(plan, worker.width, worker.height)
        outlined = image_b.copy()
        outlined[mask & ~ndimage.binary_erosion(mask)] = (255, 0, 0)
        error = np.abs(image_b.astype(int) - full_b)
        amplified = np.clip(20 * error, 0, 255).astype(np.uint8)
        rows.append(np.concatenate([image_a, outlined, image_b, full_b, amplified], axis=1))
    content = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(content, "PNG", optimize=True)
    write_whole(path, content.getvalue())


def _row(stage: str, pairs: int, worker: WorkerProcess, denoiser: Denoiser) -> dict[str, Any]:
    seconds: dict[str, list[float]] = {"part": [], "full": []}
    decibels, largest, seams, shares = [], [], [], []
    for seed in range(pairs):
        plan = plan_pair(seed, STAGES[stage])
        begun = time.perf_counter()
        image_a, _, image_b, ids_b = imaging.render_pair(plan, worker, denoiser, TIMEOUT_S)
        between = time.perf_counter()
        full_a, _, full_b, full_ids_b = imaging.render_pair_whole(plan, worker, denoiser, TIMEOUT_S)
        seconds["part"].append(between - begun)
        seconds["full"].append(time.perf_counter() - between)
        assert (image_a == full_a).all() and (ids_b == full_ids_b).all()
        decibels.append(min(psnr(image_b, full_b), 99.0))
        largest.append(int(np.abs(image_b.astype(int) - full_b).max()))
        mask = influence_mask(plan, worker.width, worker.height)
        shares.append(float(mask.mean()))
        seams.append(bool((image_b == full_b).all() and not mask.all()))
    row = {
        "stage": stage,
        "time_over_two_full_renders": round(sum(seconds["part"]) / sum(seconds["full"]), 3),
        "ms_a_pair": round(1e3 * float(np.mean(seconds["part"])), 1),
        "ms_of_two_full_renders": round(1e3 * float(np.mean(seconds["full"])), 1),
        "part_rendered": round(float(np.mean(shares)), 3),
        "psnr_mean_db": round(float(np.mean(decibels)), 1),
        "psnr_least_db": round(float(np.min(decibels)), 1),
        "error_largest_median_levels": float(np.median(largest)),
        "error_largest_levels": max(largest),
        "full_renders_after_all": sum(seams),
    }
    print(row)
    return row


if __name__ == "__main__":
    tyro.cli(main)
