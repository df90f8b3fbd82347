"""What each family's pairs cost, and how close image B, rendered in part, comes to a full render.

The families take turns pair by pair, so that a noisy machine is equally noisy for each. The pairs
have one to four differences, as those of the stage mixed. A worker takes its pictures with
all cores. Also draws a sheet of pairs.

    python benchmarks/worlds.py --out docs/results/worlds.json
"""

from __future__ import annotations

import collections
import dataclasses
import io
import itertools
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro
from image_quality import psnr
from PIL import Image, ImageDraw

import dig_env.scenes.render.imaging as imaging
from dig_env.agents.reporting.report import write_results
from dig_env.scenes import (
    PAPER_CHANGES,
    Difficulty,
    Pair,
    RenderSettings,
    available_cores,
    plan_pair,
)
from dig_env.scenes.files import write_whole
from dig_env.scenes.measure.labels import label_pair
from dig_env.scenes.render.influence import influence_mask
from dig_env.scenes.render.passes import Denoiser
from dig_env.scenes.render.process import WorkerProcess

FAMILIES = {
    "clevr": Difficulty(differences=(1, 4)),
    "tabletop": Difficulty(differences=(1, 4), family="tabletop"),
    "shelf": Difficulty(differences=(1, 4), family="shelf"),
}
TIMEOUT_S = 600.0
GREEN = (0, 200, 60)


def main(
    pairs: int = 60,
    settings: RenderSettings = RenderSettings(device="cpu"),
    out: Path = Path("docs/results/worlds.json"),
    picture: Path = Path("docs/worlds.webp"),
) -> None:
    """Measure, print a table, draw a sheet.

    Args:
        pairs: of each family, from pair seed 0 on.
        settings: image size and quality.
        out: file for the results.
        picture: file for the sheet.
    """
    threads = available_cores()
    print(f"{threads} cores, {settings.width}x{settings.height}, {settings.quality}")
    worker, denoiser = WorkerProcess(settings, threads), Denoiser(threads)
    try:
        _draw(worker, denoiser, picture)
        rows = _measure(pairs, worker, denoiser)
    finally:
        worker.kill()
    for row in rows:
        print(row)
    table = {
        "command": "python benchmarks/worlds.py",
        "machine": f"{threads} cores, {platform.machine()}",
        "settings": dataclasses.asdict(settings),
        "pairs": pairs,
        "families": rows,
    }
    bars = {row["family"]: row["cpu_s_a_pair"] for row in rows}
    write_results(out, table, "processor seconds a pair", bars)
    print(f"picture: {picture}")


def _measure(pairs: int, worker: WorkerProcess, denoiser: Denoiser) -> list[dict[str, Any]]:
    """Of each family: the time of a certified pair, and image B in part against all of it."""
    found = {name: collections.defaultdict(list) for name in FAMILIES}
    for seed in range(pairs):
        for name, difficulty in FAMILIES.items():
            begun, spent = time.perf_counter(), cpu_s(worker)
            pair = _certified(seed, difficulty, worker, denoiser)
            values = found[name]
            values["wall"].append(time.perf_counter() - begun)
            values["cpu"].append(cpu_s(worker) - spent)
            plan = pair.plan
            values["plans"].append(plan.attempt + 1)
            full = imaging.render_pair_whole(plan, worker, denoiser, TIMEOUT_S)
            for what, one, other in (
                ("image A", pair.image_a, full[0]),
                ("ids of A", pair.ids_a, full[1]),
                ("ids of B", pair.ids_b, full[3]),
            ):
                unequal = np.argwhere(one != other)
                assert not len(unequal), f"{name}, seed {seed}: {what} at {unequal[:5].tolist()}"
            values["psnr"].append(min(psnr(pair.image_b, full[2]), 99.0))
            values["error"].append(int(np.abs(pair.image_b.astype(int) - full[2]).max()))
            mask = influence_mask(plan, worker.width, worker.height)
            values["part"].append(float(mask.mean()))
            values["full"].append(bool((pair.image_b == full[2]).all() and not mask.all()))
    clevr = found["clevr"]
    return [
        {
            "family": name,
            "pairs_per_s": round(1 / float(np.mean(values["wall"])), 2),
            "time_over_clevr": round(sum(values["wall"]) / sum(clevr["wall"]), 2),
            "cpu_s_a_pair": round(float(np.mean(values["cpu"])), 3),
            "cpu_over_clevr": round(sum(values["cpu"]) / sum(clevr["cpu"]), 2),
            "plans_a_pair": round(float(np.mean(values["plans"])), 2),
            "part_rendered": round(float(np.mean(values["part"])), 3),
            "psnr_mean_db": round(float(np.mean(values["psnr"])), 1),
            "psnr_least_db": round(float(np.min(values["psnr"])), 1),
            "error_largest_levels": max(values["error"]),
            "full_renders_after_all": sum(values["full"]),
        }
        for name, values in found.items()
    ]


def _certified(
    seed: int, difficulty: Difficulty, worker: WorkerProcess, denoiser: Denoiser
) -> Pair:
    """What ``Renderer`` hands out, by a worker that is never replaced."""
    for attempt in itertools.count():
        plan = plan_pair(seed, difficulty, attempt)
        pair, _ = label_pair(plan, *imaging.render_pair(plan, worker, denoiser, TIMEOUT_S))
        if pair is not None:
            return pair
    raise AssertionError("unreachable")


def cpu_s(worker: WorkerProcess) -> float:
    """Processor time of this process and the worker so far, which other programs do not lengthen
    as much as wall time."""
    times = [process.cpu_times() for process in (psutil.Process(), psutil.Process(worker.pid))]
    return sum(one.user + one.system for one in times)


def _draw(worker: WorkerProcess, denoiser: Denoiser, path: Path) -> None:
    """Two pairs of each family, differences in boxes: with the paper's changes, with the others."""
    rows = []
    for family in FAMILIES:
        own = ["move", "rotate"] if family == "clevr" else ["move", "rotate", "texture"]
        images = []
        for changes, seed in ((PAPER_CHANGES, 11), (own, 3)):
            difficulty = Difficulty((3, 3), (7, 8), changes, family)
            pair = _certified(seed, difficulty, worker, denoiser)
            for image, side in ((pair.image_a, "box_a"), (pair.image_b, "box_b")):
                shown = Image.fromarray(image)
                for diff in pair.differences:
                    if getattr(diff, side):
                        ImageDraw.Draw(shown).rectangle(getattr(diff, side), outline=GREEN)
                images.append(np.asarray(shown))
        rows.append(np.concatenate(images, axis=1))
    content = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).save(content, "WEBP", quality=85, method=6)
    write_whole(path, content.getvalue())


if __name__ == "__main__":
    tyro.cli(main)
