"""Does a plan that is rendered again give the same bytes? Each is rendered three times.

Twice with image B in part, as pairs are made, and once as a whole. What must be equal: the
denoised images and the ids, and before them every float of Cycles' passes, which would betray a
difference too small for 8 bits. Each round has a fresh worker, of two threads or of one, and plans
of its own; the size of the pictures alternates. Run it again to add rounds to the same file.

    nice python benchmarks/repeats.py --out docs/results/repeats.json
"""

from __future__ import annotations

import json
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from worlds import FAMILIES

from dig_env.agents.reporting.report import write_results
from dig_env.scenes import (
    STAGES,
    Difficulty,
    DifficultyError,
    RenderSettings,
    available_cores,
    plan_pair,
)
from dig_env.scenes.plans.plan import PairPlan
from dig_env.scenes.render.imaging import TILE_PX, render_pair, render_pair_whole
from dig_env.scenes.render.influence import influence_mask
from dig_env.scenes.render.passes import Denoiser, RenderPasses, Window
from dig_env.scenes.render.process import WorkerProcess

SETTINGS = (
    RenderSettings(64, 48, "draft", "cpu"),
    RenderSettings(96, 72, "draft", "cpu"),
    RenderSettings(64, 48, "draft", "cpu"),
    RenderSettings(320, 240, "standard", "cpu"),
)
THREADS = (2, 2, 1)
"""The one unexplained difference came from a worker with two threads."""
TIMEOUT_S = 600.0
PASSES = ("color", "albedo", "normal", "ids")
STAGES_SEEN: dict[str, Difficulty] = FAMILIES | {"cluttered": STAGES["cluttered"]}


def main(
    minutes: float = 60.0, plans: int = 25, out: Path = Path("docs/results/repeats.json")
) -> None:
    """Render rounds until the time is over, adding to what the file holds.

    Args:
        minutes: how long to run; the current round is finished.
        plans: of each family in a round of small pictures; an eighth in one of larger pictures.
        out: file for the results.
    """
    table: dict[str, Any] = {"rounds": 0, "pairs": {}, "differences": []}
    if out.exists():
        table |= json.loads(out.read_text())
    table |= {
        "command": "python benchmarks/repeats.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
    }
    end = time.monotonic() + 60 * minutes
    while time.monotonic() < end:
        number = table["rounds"]
        settings = SETTINGS[number % len(SETTINGS)]
        threads = THREADS[number // len(SETTINGS) % len(THREADS)]
        count = plans if settings.quality == "draft" else -(-plans // 8)
        seeds = range(number * plans, number * plans + count)
        for kind, found in _round(seeds, settings, threads).items():
            table["pairs"][kind] = table["pairs"].get(kind, 0) + len(found)
            table["differences"] += [one for pair in found for one in pair]
        table["rounds"] = number + 1
        pairs = sum(table["pairs"].values())
        table["pairs_in_all"] = pairs
        # The rule of three: without any event in n trials, its rate is below 3/n with 95 %.
        table["rate_below_95"] = None if table["differences"] else round(3 / pairs, 6)
        write_results(out, table, "pairs compared", table["pairs"])
        print(f"{number + 1} rounds, {pairs} pairs, {len(table['differences'])} differences")


def _round(
    seeds: range, settings: RenderSettings, threads: int
) -> dict[str, list[list[dict[str, Any]]]]:
    """By kind of pair: for each pair, its differences."""
    size = f"{settings.width}x{settings.height} {settings.quality}, {threads} thread(s)"
    found: dict[str, list[list[dict[str, Any]]]] = {}
    worker, denoiser = _Watched(settings, threads), Denoiser(threads)
    try:
        for seed in seeds:
            for name, difficulty in STAGES_SEEN.items():
                try:
                    plan = plan_pair(seed, difficulty)
                except DifficultyError:
                    continue  # no layout for this seed
                differences = [
                    {"pair": f"{name} {seed}", "settings": size, **one}
                    for one in _compare(plan, worker, denoiser)
                ]
                for one in differences:
                    print(one)
                found.setdefault(f"{name}, {size}", []).append(differences)
    finally:
        worker.kill()
    return found


def _compare(plan: PairPlan, worker: _Watched, denoiser: Denoiser) -> list[dict[str, Any]]:
    """What differs between three renders of a plan; nothing should."""
    takes = []
    for take in (render_pair, render_pair, render_pair_whole):
        worker.exposures.clear()
        takes.append((take(plan, worker, denoiser, TIMEOUT_S), list(worker.exposures)))
    (first, passes), (again, passes_again), (full, passes_full) = takes
    mask = influence_mask(plan, worker.width, worker.height)
    window = _window(mask)
    part, part_again = passes[1], passes_again[1]
    full_part = passes_full[1].crop(window)
    within = mask[window.slices]
    pairs = [
        ("image A again", first[0], again[0]),
        ("image A fully", first[0], full[0]),
        ("ids of A again", first[1], again[1]),
        ("ids of A fully", first[1], full[1]),
        ("image B again", first[2], again[2]),
        ("ids of B again", first[3], again[3]),
        ("ids of B fully", first[3], full[3]),
        *_passes("A again", passes[0], passes_again[0]),
        *_passes("A fully", passes[0], passes_full[0]),
        *_passes("part of B again", part, part_again, within),
        *_passes("part of B fully", part, full_part, within),
    ]
    return [
        {"what": what, **_difference(one, other)}
        for what, one, other in pairs
        if one.tobytes() != other.tobytes()
    ]


class _Watched(WorkerProcess):
    """A worker that keeps what it hands over."""

    def __init__(self, settings: RenderSettings, threads: int) -> None:
        super().__init__(settings, threads)
        self.exposures: list[RenderPasses] = []

    def receive(self, number: int, timeout_s: float) -> RenderPasses:
        self.exposures.append(super().receive(number, timeout_s))
        return self.exposures[-1]


def _window(mask: np.ndarray) -> Window:
    """The region of image B, which is rendered in whole tiles."""
    height, width = mask.shape
    tight = Window.around(mask if mask.any() else ~mask)
    return tight.widened(0, TILE_PX, width, height)


def _passes(
    what: str, one: RenderPasses, other: RenderPasses, within: np.ndarray | None = None
) -> list[tuple[str, np.ndarray, np.ndarray]]:
    chosen = ... if within is None else within
    return [
        (f"{name} of {what}", getattr(one, name)[chosen], getattr(other, name)[chosen])
        for name in PASSES
    ]


def _difference(one: np.ndarray, other: np.ndarray) -> dict[str, Any]:
    """How many values differ, where first and by how much at most."""
    unequal = np.argwhere(one != other)
    error = np.abs(one.astype(float) - other.astype(float))
    return {
        "values": len(unequal),
        "first": unequal[:5].tolist(),
        "largest": float(np.nanmax(error)) if len(unequal) else 0.0,
    }


if __name__ == "__main__":
    tyro.cli(main)
