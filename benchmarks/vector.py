"""Throughput of vectors of environments: Gymnasium's two and our own, live and from a dataset.

Also of the two ways in which Stable-Baselines3 plays live pairs in numbers.

python benchmarks/vector.py --out docs/results/vector.json
"""

from __future__ import annotations

import os
import platform
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import psutil
import tyro

from dig_env import NumericVectorView, NumericView
from dig_env.agents.reporting.report import write_results
from dig_env.scenes import RenderSettings, available_cores, render_dataset

MODES = ("sync", "async", "vector_entry_point")
PPO_MODES = ("DummyVecEnv", "SB3Vector")
ANSWER = "[[0, 0, 500, 500], [500, 500, 1000, 1000]]"


def main(
    environments: tuple[int, ...] = (1, 2, 4, 8, 16),
    seconds: float = 8.0,
    width: int = 320,
    height: int = 240,
    quality: str = "standard",
    stored: int = 100,
    out: Path = Path("docs/results/vector.json"),
) -> None:
    """Time episodes of the mixed stage, with a policy that answers at once.

    Args:
        environments: how many are in the vector.
        seconds: least time that each case is timed for, after a first batch that starts it.
        width: of the images in pixels.
        height: of the images in pixels.
        quality: of the images.
        stored: pairs in the dataset, which are drawn with replacement.
        out: file for the results.
    """
    settings = RenderSettings(width=width, height=height, quality=quality)
    image = {"width": width, "height": height, "quality": quality}
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        render_dataset(folder, {"mixed": stored}, "train", settings)
        for pairs, kwargs in (("live", image), ("dataset", {"dataset": folder})):
            for num_envs in environments:
                for mode in MODES:
                    row = {"pairs": pairs, "environments": num_envs, "mode": mode}
                    # A process for each, so that none is charged with what another has left.
                    with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                        timed = fresh.submit(_timed, mode, num_envs, seconds, kwargs).result()
                    rows.append(row | timed)
                    print(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
        for num_envs in environments:
            for mode in PPO_MODES:
                row = {"pairs": "live, in numbers", "environments": num_envs, "mode": mode}
                with ProcessPoolExecutor(1, get_context("spawn")) as fresh:
                    timed = fresh.submit(_timed_in_numbers, mode, num_envs, seconds, image).result()
                rows.append(row | timed)
                print(", ".join(f"{name} {value}" for name, value in rows[-1].items()))
    results = {
        "command": "python benchmarks/vector.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "image": image,
        "rows": rows,
    }
    bars = {
        f"{row['pairs']}, {row['mode']}, {row['environments']}": row["episodes_per_second"]
        for row in rows
    }
    write_results(out, results, "episodes a second", bars)


def _timed(mode: str, num_envs: int, seconds: float, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Episodes a second, and what it takes: processes beside this one, and memory of them all.

    Our own vector has a Blender process a core; the others one for each environment.
    """
    if mode == "vector_entry_point" and "dataset" not in kwargs:
        kwargs = kwargs | {"workers": available_cores()}
    begun = time.perf_counter()
    vector = gym.make_vec("DiG-Mixed-v0", num_envs, vectorization_mode=mode, **kwargs)
    try:
        vector.reset(seed=0)
        started = time.perf_counter()
        episodes = 0
        while time.perf_counter() - started < seconds:
            *_, terminations, _, _ = vector.step((ANSWER,) * num_envs)
            vector.step((ANSWER,) * num_envs)  # Gymnasium's autoreset
            episodes += int(terminations.sum())
        return _measured(episodes, begun, started)
    finally:
        vector.close()


def _timed_in_numbers(
    mode: str, num_envs: int, seconds: float, image: dict[str, Any]
) -> dict[str, Any]:
    """The same of environments as Stable-Baselines3's PPO plays them."""
    from stable_baselines3.common.vec_env import DummyVecEnv, VecEnv  # here: it imports torch

    from dig_env.agents.integrations.sb3 import SB3Vector

    begun = time.perf_counter()
    if mode == "SB3Vector":
        options = image | {"workers": available_cores(), "autoreset_mode": "Disabled"}
        vector = gym.make_vec("DiG-Mixed-v0", num_envs, **options)
        envs: VecEnv = SB3Vector(NumericVectorView(vector))
    else:
        envs = DummyVecEnv([lambda: NumericView(gym.make("DiG-Mixed-v0", **image))] * num_envs)
    try:
        envs.reset()
        started = time.perf_counter()
        episodes = 0
        while time.perf_counter() - started < seconds:
            episodes += int(envs.step(np.zeros((num_envs, 4), np.float32))[2].sum())
        return _measured(episodes, begun, started)
    finally:
        envs.close()


def _measured(episodes: int, begun: float, started: float) -> dict[str, Any]:
    elapsed = time.perf_counter() - started
    here = psutil.Process(os.getpid())
    family = [here, *here.children(recursive=True)]
    return {
        "episodes_per_second": round(episodes / elapsed, 2),
        "seconds_to_first_batch": round(started - begun, 2),
        "processes": len(family) - 1,
        "megabytes": round(sum(_bytes(process) for process in family) / 1e6),
    }


def _bytes(process: psutil.Process) -> int:
    """Memory in use, each shared page counted once in all (Linux's PSS); 0 if it has just ended."""
    try:
        return process.memory_full_info().pss
    except psutil.NoSuchProcess:
        return 0


if __name__ == "__main__":
    tyro.cli(main)
