"""What each family's pairs cost, and how close image B, rendered in part, comes to a full render.

The families take turns pair by pair, so that a noisy machine is equally noisy for each. The pairs
have one to four differences of every kind that the family allows. A worker takes its pictures with
all cores. Also draws a sheet of pairs.

    python benchmarks/worlds.py --out docs/results/worlds.json
"""

from __future__ import annotations

import dataclasses
import io
import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import tyro
from image_quality import psnr
from PIL import Image, ImageDraw

import scenes.imaging as imaging
from scenes import (
    CHANGES,
    PAPER_CHANGES,
    Difficulty,
    Renderer,
    RenderSettings,
    available_cores,
    plan_pair,
)
from scenes.files import write_whole
from scenes.film import Darkroom
from scenes.influence import influence_mask
from scenes.process import WorkerProcess

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
    with Renderer(settings) as renderer:
        _draw(renderer, picture)
        cost = _cost(renderer, pairs)
    worker, darkroom = WorkerProcess(settings, threads), Darkroom(threads)
    try:
        rows = [cost[name] | _likeness(name, pairs, worker, darkroom) for name in FAMILIES]
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
    write_whole(out, json.dumps(table, indent=2).encode() + b"\n")
    print(f"results: {out}")
    print(f"picture: {picture}")


def _cost(renderer: Renderer, pairs: int) -> dict[str, dict[str, Any]]:
    """Wall and processor time of a certified pair, plans that were drawn again included."""
    for difficulty in FAMILIES.values():
        renderer.render(plan_pair(0, difficulty))
    wall = dict.fromkeys(FAMILIES, 0.0)
    cpu, plans = dict(wall), dict(wall)
    for seed in range(pairs):
        for name, difficulty in FAMILIES.items():
            begun, spent = time.perf_counter(), _cpu_s(renderer)
            pair = renderer.render(plan_pair(seed, difficulty))
            wall[name] += time.perf_counter() - begun
            cpu[name] += _cpu_s(renderer) - spent
            plans[name] += pair.plan.attempt + 1
    return {
        name: {
            "family": name,
            "pairs_per_s": round(pairs / wall[name], 2),
            "time_over_clevr": round(wall[name] / wall["clevr"], 2),
            "cpu_s_a_pair": round(cpu[name] / pairs, 3),
            "cpu_over_clevr": round(cpu[name] / cpu["clevr"], 2),
            "plans_a_pair": round(plans[name] / pairs, 2),
        }
        for name in FAMILIES
    }


def _cpu_s(renderer: Renderer) -> float:
    """Processor time of this process and its workers so far, which other programs do not lengthen
    as much as wall time."""
    processes = [psutil.Process(), *map(psutil.Process, renderer.worker_pids)]
    times = [process.cpu_times() for process in processes]
    return sum(one.user + one.system for one in times)


def _likeness(name: str, pairs: int, worker: WorkerProcess, darkroom: Darkroom) -> dict[str, Any]:
    """Image B rendered in part against all of it."""
    decibels, largest, shares, after_all = [], [], [], 0
    for seed in range(pairs):
        plan = plan_pair(seed, FAMILIES[name])
        image_a, _, image_b, ids_b = imaging.photograph(plan, worker, darkroom, TIMEOUT_S)
        full_a, _, full_b, full_ids_b = imaging.photograph_fully(plan, worker, darkroom, TIMEOUT_S)
        assert (image_a == full_a).all() and (ids_b == full_ids_b).all()
        decibels.append(min(psnr(image_b, full_b), 99.0))
        largest.append(int(np.abs(image_b.astype(int) - full_b).max()))
        mask = influence_mask(plan, worker.width, worker.height)
        shares.append(float(mask.mean()))
        after_all += bool((image_b == full_b).all() and not mask.all())
    return {
        "part_rendered": round(float(np.mean(shares)), 3),
        "psnr_mean_db": round(float(np.mean(decibels)), 1),
        "psnr_least_db": round(float(np.min(decibels)), 1),
        "error_largest_levels": max(largest),
        "full_renders_after_all": after_all,
    }


def _draw(renderer: Renderer, path: Path) -> None:
    """Two pairs of each family, differences in boxes: with the paper's changes, with the others."""
    rows = []
    for family in FAMILIES:
        own = [change for change in CHANGES if change not in PAPER_CHANGES]
        if family == "clevr":
            own.remove("texture")
        images = []
        for changes, seed in ((PAPER_CHANGES, 11), (own, 3)):
            difficulty = Difficulty((3, 3), (7, 8), changes, family)
            pair = renderer.render(plan_pair(seed, difficulty))
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
