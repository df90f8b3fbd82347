"""Runs that are killed at random moments and resumed, against runs that are left alone.

    python benchmarks/grpo_processes.py

A small Qwen3-VL learns from stored pairs in 1, 2 and 3 processes on the CPU, all of its weights or
an adapter with dropout, with wandb offline. The pairs of a step do not divide evenly, so rollouts
of one pair are on two processes. Each run is done twice: once left alone, and once with all of its
processes killed at random moments, each time followed by the same command. Rewards, stages,
promotions and weights must be the same, to the last bit.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import tyro

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests/helpers"))  # the small Qwen3-VL is the tests'

from qwen3_vl import register, save_qwen3_vl  # noqa: E402

from dig_env.agents import GRPORun, train_grpo  # noqa: E402
from dig_env.agents.reporting.report import machine, write_results  # noqa: E402
from dig_env.scenes import PAPER_STAGES, RenderSettings, render_dataset  # noqa: E402

ADAPTER = {"r": 4, "lora_dropout": 0.1, "target_modules": ["q_proj", "v_proj"]}


@dataclass(frozen=True)
class Settings:
    """Settings of the benchmark.

    Attributes:
        steps: of each run.
        kills: of each run that is not left alone.
        seed: of the moments.
        runs: folder for the runs; an old one is deleted.
        out: the results.
    """

    steps: int = 30
    kills: int = 3
    seed: int = 0
    runs: Path = Path("runs/grpo_processes")
    out: Path = Path("docs/results/grpo_processes.json")


def main(settings: Settings) -> None:
    """Do all runs, print a line for each pair of them, and write the results."""
    shutil.rmtree(settings.runs, ignore_errors=True)
    model = save_qwen3_vl(settings.runs / "model")
    size = RenderSettings(width=64, height=48, quality="draft")
    render_dataset(settings.runs / "pairs", dict.fromkeys(PAPER_STAGES, 40), "train", size)
    moments = random.Random(settings.seed)
    rows = []
    for processes in (1, 2, 3):
        for lora in (None, ADAPTER):
            run = settings_of_run(settings, model, processes, lora)
            row = compare(run, processes, settings.kills, moments)
            print(json.dumps(row), flush=True)
            rows.append(row)
    results = {
        "command": "python benchmarks/grpo_processes.py",
        "machine": machine(),
        "steps": settings.steps,
        "runs": rows,
    }
    agree = {f"{row['processes']} {row['trained']}": float(row["weights"]) for row in rows}
    write_results(settings.out, results, "resumed to the same weights", agree)


def settings_of_run(
    settings: Settings, model: Path, processes: int, lora: dict[str, Any] | None
) -> dict[str, Any]:
    """Fields of ``GRPORun``: three pairs of four rollouts a step, and a stage every few steps."""
    return {
        "out": str(settings.runs / f"{processes}-{'lora' if lora else 'full'}"),
        "model": str(model),
        "dataset": str(settings.runs / "pairs"),
        "lora": lora,
        "pairs_per_step": 3,
        "rollouts": 4,
        "steps": settings.steps,
        "minutes": None,
        "eval_pairs": 0,
        "window": 24,
        "promote_at": 0.01,
        "max_completion_length": 8,
        "temperature": 1.0,
        "learning_rate": 1e-3,
        "save_every": 4,
        "wandb": "offline",
    }


def compare(
    run: dict[str, Any], processes: int, kills: int, moments: random.Random
) -> dict[str, Any]:
    """One run left alone and one that is killed: what they have in common."""
    alone, killed = (run | {"out": f"{run['out']}-{name}"} for name in ("alone", "killed"))
    begun = time.monotonic()
    assert start(alone, processes).wait() == 0
    seconds = time.monotonic() - begun
    done = 0
    for _ in range(kills):
        job = start(killed, processes)
        time.sleep(seconds * moments.uniform(0.3, 0.9))
        done += job.poll() is None
        kill(job)
    assert start(killed, processes).wait() == 0
    first, second = left(alone), left(killed)
    return {
        "processes": processes,
        "trained": "adapter" if run["lora"] else "all weights",
        "killed": done,
        "seconds_alone": round(seconds, 1),
        **{name: first[name] == second[name] for name in first},
        "stages_seen": len(set(first["stages"])),
        "last_reward": first["rewards"][-1],
    }


def start(run: dict[str, Any], processes: int) -> subprocess.Popen[bytes]:
    """Start the processes of a run, as its user would."""
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
    Path(run["out"]).mkdir(parents=True, exist_ok=True)
    with Path(run["out"], "log.txt").open("ab") as log:
        return subprocess.Popen(
            [*launcher, f"--nproc-per-node={processes}", __file__, "--train", json.dumps(run)],
            env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
            stdout=log,
            stderr=log,
        )


def kill(job: subprocess.Popen[bytes]) -> None:
    """Kill all processes of a run at once, without a warning."""
    if job.poll() is None:
        launcher = psutil.Process(job.pid)
        processes = [*launcher.children(recursive=True), launcher]
        for process in processes:
            process.kill()
        psutil.wait_procs(processes)


def left(run: dict[str, Any]) -> dict[str, Any]:
    """What a run left."""
    out = Path(run["out"])
    steps = json.loads((out / "history.json").read_text())
    curriculum = json.loads((out / "checkpoint/curriculum.json").read_text())
    return {
        "rewards": [step["reward"] for step in steps],
        "stages": [step["stage"] for step in steps],
        "promotions": curriculum,
        "weights": (out / "checkpoint/model.safetensors").read_bytes(),
    }


if __name__ == "__main__":
    if sys.argv[1:2] == ["--train"]:
        register()
        train_grpo(GRPORun(**json.loads(sys.argv[2])))
    else:
        main(tyro.cli(Settings))
