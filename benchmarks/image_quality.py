"""How close each quality preset comes to a converged picture, and what others' settings cost.

Every picture is image A of a plan, 320x240, rendered by the same Blender from the same scene with
the same bounces: samples, threshold and denoiser are the others', light transport is ours. The
reference is 1,024 samples a pixel without a denoiser. References are kept in ``--references``, so
that the script can be stopped and started again. A pair takes the others two images' time; ours
renders image B in part, and is timed as a pair.

python benchmarks/image_quality.py --out docs/results/image_quality.json
"""

from __future__ import annotations

import dataclasses
import io
import math
import platform
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from dig_env.agents.reporting.report import write_results
from dig_env.scenes import QUALITIES, STAGES, PairPlan, RenderSettings, available_cores, plan_pair
from dig_env.scenes.color import to_srgb8
from dig_env.scenes.files import write_whole
from dig_env.scenes.render.imaging import render_pair
from dig_env.scenes.render.passes import Denoiser
from dig_env.scenes.render.process import RenderRequest, WorkerProcess

SETTINGS = RenderSettings(device="cpu")
REFERENCE = {"samples": 1024}


@dataclass(frozen=True)
class Contender:
    """A way to render: properties of Cycles, whether it denoises, and on how many plans."""

    name: str
    cycles: dict[str, Any]
    denoise: bool
    plans: int


def contenders(plans: int, slow_plans: int) -> list[Contender]:
    """Our presets, and the settings that other generators document."""
    ours = [
        Contender(name, {"samples": samples}, True, plans) for name, samples in QUALITIES.items()
    ]
    return [
        *ours,
        # CLEVR, render_images.py: 512 samples, no denoiser.
        Contender("CLEVR's settings", {"samples": 512}, False, slow_plans),
        # Kubric, kubric/renderer/blender.py: 64 samples, denoiser.
        Contender("Kubric's settings", {"samples": 64}, True, slow_plans),
        # BlenderProc, DefaultConfig: up to 1,024 adaptive samples, noise threshold 0.01, denoiser.
        Contender("BlenderProc's settings", BLENDERPROC, True, slow_plans),
    ]


BLENDERPROC = {"samples": 1024, "use_adaptive_sampling": True, "adaptive_threshold": 0.01}


def main(
    plans: int = 20,
    slow_plans: int = 3,
    references: Path = Path("runs/references"),
    out: Path = Path("docs/results/image_quality.json"),
) -> None:
    """Render, compare, print a table.

    Args:
        plans: mixed plans, from pair seed 0 on.
        slow_plans: how many of them the other generators' settings render.
        references: folder that keeps the converged pictures.
        out: file for the results.
    """
    print(f"{available_cores()} cores, {SETTINGS.width}x{SETTINGS.height}")
    scenes = [plan_pair(seed, STAGES["mixed"]) for seed in range(plans)]
    truth = _references(scenes, references)
    rows = []
    for contender in contenders(plans, slow_plans):
        rows.append(_row(contender, scenes, truth))
        print(_line(rows[-1]))
    standard = next(row for row in rows if row["name"] == "standard")
    for row in rows:
        row["times_standard"] = round(row["seconds_a_pair"] / standard["seconds_a_pair"], 1)
        print(f"{row['name']:24} {row['times_standard']} times the time of a standard pair")
    table = {
        "command": "python benchmarks/image_quality.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "settings": dataclasses.asdict(SETTINGS),
        "reference": f"{REFERENCE['samples']} samples, no denoiser, the presets' bounces",
        "rows": rows,
    }
    bars = {row["name"]: row["times_standard"] for row in rows}
    write_results(out, table, "times the time of a standard pair", bars)


def _row(contender: Contender, scenes: list[PairPlan], truth: list[np.ndarray]) -> dict[str, Any]:
    denoiser = Denoiser(available_cores())
    decibels, seconds = [], []
    worker = WorkerProcess(SETTINGS, available_cores(), contender.cycles)
    try:
        _render_passes(worker, scenes[0])
        for plan, reference in list(zip(scenes, truth, strict=True))[: contender.plans]:
            begun = time.monotonic()
            passes = _render_passes(worker, plan)
            image = denoiser.denoise(passes) if contender.denoise else to_srgb8(passes.color)
            seconds.append(time.monotonic() - begun)
            decibels.append(psnr(image, reference))
        a_pair = 2 * float(np.median(seconds))
        if contender.name in QUALITIES:
            a_pair = _seconds_a_pair(worker, denoiser, scenes)
    finally:
        worker.kill()
    return {
        "name": contender.name,
        "cycles": contender.cycles,
        "denoiser": contender.denoise,
        "images": contender.plans,
        "seconds_an_image": round(float(np.median(seconds)), 4),
        "seconds_a_pair": round(a_pair, 4),
        "psnr_mean_db": round(float(np.mean(decibels)), 2),
        "psnr_least_db": round(float(np.min(decibels)), 2),
    }


def _seconds_a_pair(worker: WorkerProcess, denoiser: Denoiser, scenes: list[PairPlan]) -> float:
    seconds = []
    for plan in scenes:
        begun = time.monotonic()
        render_pair(plan, worker, denoiser, timeout_s=3600)
        seconds.append(time.monotonic() - begun)
    return float(np.median(seconds))


def _line(row: dict[str, Any]) -> str:
    return (
        f"{row['name']:24} {row['seconds_an_image']:8.3f} s an image, "
        f"{row['seconds_a_pair']:8.3f} s a pair   "
        f"PSNR mean {row['psnr_mean_db']:.1f}, least {row['psnr_least_db']:.1f} dB "
        f"({row['images']} images)"
    )


def _references(scenes: list[PairPlan], folder: Path) -> list[np.ndarray]:
    folder.mkdir(parents=True, exist_ok=True)
    images = []
    worker = None
    for plan in scenes:
        path = folder / f"{plan.seed}.npy"
        if not path.exists():
            worker = worker or WorkerProcess(SETTINGS, available_cores(), REFERENCE)
            print(f"reference {plan.seed} ...", flush=True)
            content = io.BytesIO()
            np.save(content, to_srgb8(_render_passes(worker, plan).color))
            write_whole(path, content.getvalue())
        images.append(np.load(path))
    if worker is not None:
        worker.kill()
    return images


def _render_passes(worker: WorkerProcess, plan: PairPlan) -> Any:
    (passes,) = worker.render(
        plan.camera, plan.lights, plan.scenery, [RenderRequest(plan.scene_a)], timeout_s=3600
    )
    return passes


def psnr(image: np.ndarray, reference: np.ndarray) -> float:
    """Peak signal-to-noise ratio of two 8-bit images in decibels; inf when they are equal."""
    error = np.mean((image.astype(float) - reference) ** 2)
    return math.inf if error == 0 else 10 * math.log10(255**2 / error)


if __name__ == "__main__":
    tyro.cli(main)
