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
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from rendering import timed

from dig_env.agents.reporting.report import write_results
from dig_env.scenes import QUALITIES, STAGES, PairPlan, RenderSettings, available_cores, plan_pair
from dig_env.scenes.color import to_srgb8
from dig_env.scenes.files import write_whole
from dig_env.scenes.measure.pair import PairImages
from dig_env.scenes.render.imaging import render_pair
from dig_env.scenes.render.passes import Denoiser
from dig_env.scenes.render.process import RenderRequest, WorkerProcess

SETTINGS = RenderSettings(device="cpu")
REFERENCE = {"samples": 1024}


@dataclass(frozen=True)
class Contender:
    """A way to render: properties of Cycles (None: our preset of that name), whether it denoises,
    and on how many plans."""

    name: str
    cycles: dict[str, Any] | None
    denoise: bool
    plans: int


def contenders(plans: int, slow_plans: int) -> list[Contender]:
    """Our presets, and the settings that other generators document."""
    return [
        *(Contender(name, None, True, plans) for name in QUALITIES),
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
    threads = available_cores()
    denoiser = Denoiser(threads)
    quality = contender.name if contender.cycles is None else "standard"
    worker = WorkerProcess(
        dataclasses.replace(SETTINGS, quality=quality), threads, contender.cycles
    )
    decibels: list[float] = []
    seconds: dict[str, list[float]] = {"image": [], "pair": []}
    try:
        _render_passes(worker, scenes[0])
        for plan, reference in list(zip(scenes, truth, strict=True))[: contender.plans]:
            if contender.cycles is None:
                without_b = dataclasses.replace(plan, changes=())
                timed(seconds["image"], lambda: _pair(without_b, worker, denoiser))  # noqa: B023
                image, *_ = timed(
                    seconds["pair"],
                    lambda: _pair(plan, worker, denoiser),  # noqa: B023
                )
            else:
                image = timed(
                    seconds["image"],
                    lambda: _image(contender, plan, worker, denoiser),  # noqa: B023
                )
            decibels.append(psnr(image, reference))
    finally:
        worker.kill()
    an_image = float(np.median(seconds["image"]))
    a_pair = float(np.median(seconds["pair"])) if seconds["pair"] else 2 * an_image
    return {
        "name": contender.name,
        "cycles": contender.cycles or QUALITIES[contender.name]._asdict(),
        "denoiser": contender.denoise,
        "images": contender.plans,
        "seconds_an_image": round(an_image, 4),
        "seconds_a_pair": round(a_pair, 4),
        "psnr_mean_db": round(float(np.mean(decibels)), 2),
        "psnr_least_db": round(float(np.min(decibels)), 2),
    }


def _pair(plan: PairPlan, worker: WorkerProcess, denoiser: Denoiser) -> PairImages:
    return render_pair(plan, worker, denoiser, timeout_s=3600)


def _image(
    contender: Contender, plan: PairPlan, worker: WorkerProcess, denoiser: Denoiser
) -> np.ndarray:
    passes = _render_passes(worker, plan)
    return denoiser.denoise(passes) if contender.denoise else to_srgb8(passes.color)


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
