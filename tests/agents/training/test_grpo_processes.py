"""GRPO in several processes, on the CPU by gloo, as torchrun starts them."""

import itertools
import json
import os
import re
import shlex
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from accelerate import PartialState
from paths import ROOT
from qwen3_vl import register, save_qwen3_vl
from ranks import Job
from wandb_lines import wandb_lines

import dig_env
import dig_env.agents.training.monitor
from dig_env.agents import GRPORun, load_tiny, train_grpo
from dig_env.agents.evaluation.episodes import mean_metrics
from dig_env.agents.evaluation.pairs import play_pairs
from dig_env.agents.training.grpo_trainer import FilteringGRPOTrainer
from dig_env.scenes import PAPER_STAGES, PairDataset

TORCHRUN = (sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node=2")


def documented_command():
    """What docs/training.md says to run on two processors, without its launcher."""
    page = (ROOT / "docs/training.md").read_text()
    (line,) = re.findall("^torchrun --nproc_per_node 2 (.*?)(?: *#.*)?$", page, flags=re.MULTILINE)
    return shlex.split(line)


def test_the_documented_command_trains_with_wandb_and_evaluates_as_one_process_does(
    stored, tmp_path
):
    """Five held-out pairs, so that one process plays three and the other two."""
    out = tmp_path / "run"
    changes = f"--out {out} --dataset {stored} --pairs-per-step 3 --rollouts 4 --steps 3"
    evaluation = "--eval-pairs 5 --eval-every 2 --minutes None --wandb offline"
    command = [*TORCHRUN, *documented_command(), *f"{changes} {evaluation}".split()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=400)
    assert ran.returncode == 0, ran.stderr
    assert "2 processes" in ran.stderr
    steps = json.loads((out / "history.json").read_text())
    assert [step["step"] for step in steps] == [1, 2, 3]
    (folder,) = out.glob("wandb/offline-run-*")
    lines = [line for line in wandb_lines(folder) if "train/loss" in line]
    assert [line["train/dig/f1"] for line in lines] == pytest.approx([s["f1"] for s in steps])
    assert lines[1]["train/dig/validation_f1/dual"] == pytest.approx(steps[1]["held_out"]["dual"])
    assert "train/dig/validation_f1/dual" not in lines[2]
    assert "dig/pairs" in lines[0]

    dataset, policy = PairDataset(stored), load_tiny("tiny-start")
    held_out = json.loads((out / "result.json").read_text())["held_out"]
    for stage in PAPER_STAGES:
        pairs = [dataset.pair(seed) for seed in dataset.pair_seeds(stage, "test")]
        alone = mean_metrics(play_pairs(policy, pairs))
        assert {name: held_out[stage]["before"][name] for name in alone} == pytest.approx(alone)


def record(settings, kind, arguments, out):
    """Train, and write what this process's curriculum came to and what it learned from."""
    batches, inner = [], FilteringGRPOTrainer._generate_and_score_completions

    def recorded(self, inputs):
        batch = inner(self, inputs)
        rewards = [answered.reward for answered in self.reward_funcs[0].answered]
        seeds = [row["pair_seed"] for row in inputs]
        shown = [row["asked"] is not None for row in inputs]
        tokens = batch["completion_mask"].sum(dim=1).tolist()
        batches.append([seeds, shown, rewards, tokens, batch["advantages"].tolist()])
        return batch

    FilteringGRPOTrainer._generate_and_score_completions = recorded
    curriculum = getattr(dig_env, kind)(**arguments)
    settings |= {"stages": curriculum.stages, "reward": "f1"}
    result = train_grpo(GRPORun(**settings), curriculum=curriculum)
    rank = PartialState().process_index
    assert (result is None) == (rank > 0)
    ends = [curriculum.state_dict(), curriculum.choose(), batches]
    Path(out, f"{rank}.json").write_text(json.dumps(ends))


@pytest.mark.parametrize(
    ("processes", "pairs", "kind", "arguments"),
    [
        (2, 3, "Curriculum", {"promote_at": 0.01, "window": 4}),
        (3, 1, "RandomCurriculum", {"seed": 1}),
        (2, 3, "RandomCurriculum", {"seed": 1, "stages": ["dual", "crop_to_box@single"]}),
    ],
)
def test_groups_that_lie_on_two_processes_are_compared_and_left_out_as_wholes(
    processes, pairs, kind, arguments, stored, tmp_path
):
    """All processes choose the same stages, too."""
    run = {
        "out": str(tmp_path / "run"),
        "dataset": stored,
        "pairs_per_step": pairs,
        "rollouts": 6,
        "steps": 3,
        "minutes": None,
        "eval_pairs": 0,
        "temperature": 0.15,  # nearly greedy: some groups are of one mind
    }
    Job(tmp_path / "output", processes, record, run, kind, arguments, tmp_path).wait()
    ends = [json.loads((tmp_path / f"{rank}.json").read_text()) for rank in range(processes)]
    assert all(end[:2] == ends[0][:2] for end in ends)
    assert ends[0][0]["episodes"] > 0
    assert bool(ends[0][0]["history"]) == (kind == "Curriculum")
    for shares in zip(*(end[2] for end in ends), strict=True):
        # Of each quantity, those of the first process's rollouts, then those of the next.
        seeds, shown, rewards, tokens, advantages = (
            list(itertools.chain(*of)) for of in zip(*shares, strict=True)
        )
        assert all(shown)
        groups = [slice(start, start + 6) for start in range(0, 6 * pairs, 6)]
        kept = [group for group in groups if max(rewards[group]) > min(rewards[group])]
        share = sum(sum(tokens[group]) for group in kept) / sum(tokens)
        for group in groups:
            assert len(set(seeds[group])) == 1
            earned = np.array(rewards[group])
            apart = (earned - earned.mean()) / (earned.std(ddof=1) + 1e-4)
            expected = apart / share if group in kept else np.zeros(6)
            assert advantages[group] == pytest.approx(expected, rel=1e-4)


class FastClock:
    @staticmethod
    def monotonic():
        return time.monotonic() * 1000


def train_by_another_clock(settings):
    """The second process's runs a thousand times as fast."""
    if os.environ["RANK"] == "1":
        dig_env.agents.training.monitor.time = FastClock
    train_grpo(GRPORun(**settings))


def test_all_processes_stop_at_the_step_that_the_firsts_clock_says(stored, tmp_path):
    """By its own clock the second would stop at once, and the first wait for it for ever."""
    run = {"out": str(tmp_path / "run"), "dataset": stored, "minutes": 0.05, "steps": 10000}
    rest = {"pairs_per_step": 2, "rollouts": 4, "eval_pairs": 0, "save_every": 0}
    Job(tmp_path / "output", 2, train_by_another_clock, run | rest).wait()
    steps = json.loads((tmp_path / "run/history.json").read_text())
    assert 1 <= len(steps) < 10_000
    assert sum(step["seconds"] for step in steps[:-1]) < 3.5


def train(settings):
    register()
    train_grpo(GRPORun(**settings))


def test_two_processes_that_were_killed_resume_to_the_same_run(stored, tmp_path):
    """An adapter with dropout, after a change of stage. Bit for bit.

    benchmarks/grpo_processes.py does it for all weights, and in 1 and 3 processes.
    """
    model = save_qwen3_vl(tmp_path / "model")
    ends = []
    for name in ("straight", "broken"):
        out = tmp_path / name
        run = {
            "out": str(out),
            "model": str(model),
            "dataset": stored,
            "lora": {"r": 4, "lora_dropout": 0.1, "target_modules": ["q_proj"]},
            "pairs_per_step": 3,
            "rollouts": 4,
            "steps": 5,
            "minutes": None,
            "eval_pairs": 0,
            "window": 3,
            "promote_at": 0.01,
            "max_completion_length": 8,
            "temperature": 1.0,
            "learning_rate": 1e-3,
            "save_every": 1,
        }
        job = Job(tmp_path / "output", 2, train, run)
        if name == "broken":
            job.kill_when(out / "trainer/checkpoint-2/progress.json")
            assert not (out / "checkpoint").exists()
            job = Job(tmp_path / "output", 2, train, run)
        job.wait()
        steps = json.loads((out / "history.json").read_text())
        curriculum = json.loads((out / "checkpoint/curriculum.json").read_text())
        weights = (out / "checkpoint/model.safetensors").read_bytes()
        ends.append(([(s["step"], s["stage"], s["reward"]) for s in steps], curriculum, weights))
    assert ends[0] == ends[1]
    assert len({stage for _, stage, _ in ends[0][0]}) > 1
