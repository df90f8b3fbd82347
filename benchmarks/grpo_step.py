"""What makes a GRPO step cheap: each pair is seen once, and completions alone are scored.

The same steps are trained twice in turn: as they are, and with the compact model and its image
processor told not to look for rows and images that repeat, and the head applied to the prompts'
tokens too, as TRL does on a CPU. Rewards must be the same.

    python benchmarks/grpo_step.py --out docs/results/grpo_step.json
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import torch
import tyro
from transformers.image_processing_backends import PilBackend

from dig_env.agents.models.modeling import CompactModel
from dig_env.agents.models.processing import CompactImageProcessor
from dig_env.agents.reporting.report import write_results
from dig_env.agents.training import grpo_trainer
from dig_env.agents.training.grpo import train_grpo
from dig_env.agents.training.settings import GRPORun
from dig_env.scenes import PAPER_STAGES, RenderSettings, render_dataset


def main(steps: int = 12, turns: int = 3, out: Path = Path("docs/results/grpo_step.json")) -> None:
    """Train, compare, print.

    Args:
        steps: of each run; the first, which warms up, is not timed.
        turns: runs of each kind.
        out: file for the results.
    """
    torch.set_num_threads(1)
    seconds: dict[bool, list[float]] = {True: [], False: []}
    rewards = []
    with tempfile.TemporaryDirectory() as folder:
        pairs = Path(folder, "pairs")
        small = RenderSettings(128, 96, "draft", "cpu")
        render_dataset(pairs, dict.fromkeys(PAPER_STAGES, 100), settings=small)
        for turn in range(turns):
            for shared in seconds:
                run = GRPORun(
                    out=f"{folder}/{turn}{shared}", dataset=str(pairs), steps=steps, eval_pairs=0
                )
                with contextlib.nullcontext() if shared else _apart():
                    found, earned = _train(run)
                seconds[shared] += found
                rewards.append(earned)
    assert all(earned == rewards[0] for earned in rewards), rewards
    shared, apart = (float(np.median(seconds[kind])) for kind in (True, False))
    row = {
        "cpu_s_a_step": round(shared, 3),
        "cpu_s_a_step_apart": round(apart, 3),
        "pairs_per_cpu_s": round(run.pairs_per_step / shared, 1),
        "pairs_per_cpu_s_apart": round(run.pairs_per_step / apart, 1),
        "times_as_fast": round(apart / shared, 2),
        "rewards": rewards[0],
    }
    print(row)
    table = {
        "command": "python benchmarks/grpo_step.py",
        "machine": f"1 thread, {platform.machine()}",
        "pairs_per_step": run.pairs_per_step,
        "rollouts": run.rollouts,
    } | row
    write_results(
        out, table, "processor seconds a step", {"shared": shared, "each row apart": apart}
    )


@contextlib.contextmanager
def _apart() -> Iterator[None]:
    """Every row goes through the decoder and the head, every image through its processor."""
    with (
        mock.patch.object(grpo_trainer, "_cut", lambda *_: contextlib.nullcontext()),
        mock.patch.object(CompactModel, "_shared_start", lambda *_: None),
        mock.patch.object(CompactImageProcessor, "preprocess", PilBackend.preprocess),
    ):
        yield


def _train(run: GRPORun) -> tuple[list[float], list[float]]:
    """Processor seconds of each step but the first, and each step's mean reward."""
    times, rewards = [], []

    def on_step(step: Any) -> None:
        times.append(time.process_time())
        rewards.append(round(step.reward, 9))

    train_grpo(run, on_step)
    return np.diff(times).tolist(), rewards


if __name__ == "__main__":
    tyro.cli(main)
