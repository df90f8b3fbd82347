"""What the GRPO experiments share: starts, pairs they have not seen, arms, runs, and a table.

An arm differs from the others of its experiment in one thing, and all take the same number of pairs
and rollouts. Each run is a process of its own and leaves a file in `runs`; a script that was
stopped resumes with what is missing, and the experiments share the runs of arms that are the same.
"""

from __future__ import annotations

import json
import math
import multiprocessing
import shlex
import shutil
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from dig_env import REWARDS, Curriculum, RewardConfig, score
from dig_env.agents import GRPORun, train_grpo
from dig_env.agents.evaluation.episodes import Episode
from dig_env.agents.evaluation.intervals import runs_interval
from dig_env.agents.reporting.report import machine
from dig_env.curricula.adaptive import AdaptiveDifficulty
from dig_env.curricula.schedules import EasyToHard, RandomCurriculum, ScheduledCurriculum
from dig_env.scenes import PAPER_STAGES, RenderSettings, available_cores, render_dataset
from dig_env.scenes.files import write_whole

FIRST_PAIR = 9600
"""Of those that no warm-up saw, by its place among a stage's pairs."""

FIRST_STEPS = 10
"""Of a run, by which it is told whether its start earns anything to learn from."""

METRICS = ("f1", "reward", "iou", "format")


@dataclass(frozen=True)
class Settings:
    """Settings of an experiment.

    Attributes:
        seeds: of the pair stream, the rollouts and the optimiser; one run of each arm a seed.
        steps: optimiser steps of a run, of 16 pairs and 8 rollouts each.
        learning_rate: at first; it falls linearly to 0.
        temperature: of the rollouts.
        promote_at: mean reward of 128 pairs at which the automatic curriculum moves on, and which
            the adaptive one keeps.
        train_pairs: of each stage to draw from, with replacement; even.
        test_pairs: held-out pairs of each stage.
        pairs: dataset of 128x96 pairs; missing ones are rendered.
        runs: folder for the runs.
        processes: runs side by side, which share the cores.
        minutes: no run begins later than this; None: all are run.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 120
    learning_rate: float = 1e-4
    temperature: float = 0.3
    promote_at: float = 0.55
    train_pairs: int = 3200
    test_pairs: int = 200
    pairs: Path = Path("runs/reproduce/pairs")
    runs: Path = Path("runs/reproduce")
    processes: int = 2
    minutes: float | None = None


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        curriculum: "automatic", "single only", "mixed only", "schedule", "random", "adaptive" or
            "easy to hard".
        reward: a name of `dig_env.REWARDS`.
        start: the model to train, as ``GRPORun.model``.
        scale: what advantages are divided by, as TRL's ``scale_rewards``.
    """

    curriculum: str = "automatic"
    reward: str = "full"
    start: str = "tiny-start"
    scale: str = "group"

    @property
    def name(self) -> str:
        """Of its folder: arms of the same name are the same."""
        words = [self.curriculum, self.reward]
        words += [Path(self.start).name] if self.start != "tiny-start" else []
        words += [self.scale] if self.scale != "group" else []
        return "-".join(words).replace(" ", "_")

    def make_curriculum(self, settings: Settings, seed: int) -> Any:
        """The curriculum of one run."""
        stages = tuple(PAPER_STAGES)
        pairs = 16 * settings.steps
        third = pairs // 3
        return {
            "automatic": lambda: Curriculum(stages, settings.promote_at, window=128),
            "single only": lambda: Curriculum(("single",), window=128),
            "mixed only": lambda: Curriculum(("mixed",), window=128),
            "schedule": lambda: ScheduledCurriculum(stages, (third, third)),
            "random": lambda: RandomCurriculum(stages, seed),
            "adaptive": lambda: AdaptiveDifficulty(
                stages, target_reward=settings.promote_at, seed=seed, window=128
            ),
            "easy to hard": lambda: EasyToHard(stages, pairs, seed=seed),
        }[self.curriculum]()


def unseen_pairs(settings: Settings) -> None:
    """Render the experiments' pairs, unless they are there.

    Those to train on begin at the 9,601st of a stage; the warm-up took the first 8,000 at most.
    """
    size = RenderSettings(width=128, height=96, quality="draft")
    in_file = settings.train_pairs // 2
    shards = FIRST_PAIR // in_file + 2
    train, test = (
        dict.fromkeys(PAPER_STAGES, count) for count in (shards * in_file, settings.test_pairs)
    )
    for shard in (shards - 1, shards):
        render_dataset(
            settings.pairs, train, "train", size, shard=(shard, shards), pairs_per_file=in_file
        )
    render_dataset(settings.pairs, test, "test", size, pairs_per_file=in_file)


def run_arms(settings: Settings, arms: Sequence[Arm]) -> dict[str, list[dict[str, Any]]]:
    """Train what is not trained yet; the outcomes of each arm, one a seed, by its name.

    What ``settings.minutes`` left out is missing there.
    """
    unseen_pairs(settings)
    jobs = [(settings, arm, seed) for seed in settings.seeds for arm in arms]
    missing = [job for job in jobs if not outcome_path(*job).exists()]
    end = math.inf if settings.minutes is None else time.time() + 60 * settings.minutes
    # A process a run: what a run leaves in memory must not reach the next.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["dig_env.agents.training.grpo"])
    with ProcessPoolExecutor(settings.processes, context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(_train, *job, end) for job in missing]):
            print(future.result(), flush=True)
    outcomes = {arm.name: [] for arm in arms}
    for job in jobs:
        if outcome_path(*job).exists():
            outcomes[job[1].name].append(json.loads(outcome_path(*job).read_text()))
    return outcomes


def outcome_path(settings: Settings, arm: Arm, seed: int) -> Path:
    """Where a run leaves what it gave."""
    return settings.runs / arm.name / f"seed{seed}" / "outcome.json"


def _train(settings: Settings, arm: Arm, seed: int, end: float) -> str:
    """One run, unless it is later than ``end``; its outcome goes into a file."""
    if time.time() > end:
        return f"{arm.name}, seed {seed}: left for the next time"
    torch.set_num_threads(max(1, available_cores() // settings.processes))
    path = outcome_path(settings, arm, seed)
    if path.with_name("result.json").exists():  # stopped between its end and its outcome
        shutil.rmtree(path.parent)
    run = GRPORun(
        out=str(path.parent),
        model=arm.start,
        dataset=str(settings.pairs),
        steps=settings.steps,
        learning_rate=settings.learning_rate,
        temperature=settings.temperature,
        minutes=None,
        eval_pairs=settings.test_pairs,
        save_every=60,
        seed=seed,
        reward=REWARDS[arm.reward],
        trl={"scale_rewards": arm.scale},
    )
    print_every = 20
    result = train_grpo(
        run,
        lambda step: step.step % print_every or print(arm.name, seed, step.step, step),
        arm.make_curriculum(settings, seed),
    )
    steps = result.steps
    outcome = {
        "settings": asdict(run) | {"reward": arm.reward},
        "machine": machine(),
        "training_s": round(result.seconds, 1),
        "waiting_s": round(sum(step.pair_wait_s for step in steps), 3),
        "zero_variance_groups": round(
            float(np.mean([step.zero_variance_groups for step in steps])), 4
        ),
        "zero_variance_at_first": round(
            float(np.mean([step.zero_variance_groups for step in steps[:FIRST_STEPS]])), 4
        ),
        "promotions": result.promotions,
        "held_out": {
            when: {stage: _answers(episodes) for stage, episodes in played.items()}
            for when, played in (("before", result.before), ("after", result.after))
        },
    }
    write_whole(path, json.dumps(outcome).encode() + b"\n")
    return f"{arm.name}, seed {seed}: {result.seconds:.0f} s"


def _answers(episodes: Iterable[Episode]) -> list[dict[str, Any]]:
    """What each answer earns under the full reward, and which changes it finds.

    Scored again: a run scores its held-out answers by the reward that it trains on.
    """
    answers = []
    for episode in episodes:
        result = score(episode.answer, episode.pair.boxes_unit)
        found = {true for _, true, iou in result.matches if iou >= RewardConfig().iou_threshold}
        changes: dict[str, list[bool]] = {}
        for index, difference in enumerate(episode.pair.differences):
            changes.setdefault(difference.change, []).append(index in found)
        earned = {"f1": result.f1, "reward": result.total, "iou": result.iou}
        answers.append(earned | {"format": result.format, "changes": changes})
    return answers


def values(outcomes: Sequence[dict[str, Any]], when: str, stage: str, metric: str) -> np.ndarray:
    """(runs, pairs) of what each run's policy earned on each held-out pair."""
    return np.array([[a[metric] for a in run["held_out"][when][stage]] for run in outcomes])


def compare(
    outcomes: dict[str, list[dict[str, Any]]], reference: str | None = None
) -> dict[str, Any]:
    """What each arm's policies earn on the held-out pairs, with intervals.

    Args:
        outcomes: of `run_arms`.
        reference: arm that the others are compared with, pair by pair; None: the start.

    Returns:
        By arm and stage: each of `METRICS`, and "f1_gain", the F1 less the reference's.
    """
    start = next(iter(outcomes.values()))
    table: dict[str, Any] = {"start": {}}
    for stage in PAPER_STAGES:
        before = {metric: values(start, "before", stage, metric)[:1] for metric in METRICS}
        table["start"][stage] = {name: runs_interval(sample) for name, sample in before.items()}
    for arm, runs in outcomes.items():
        table[arm] = {}
        for stage in PAPER_STAGES:
            if reference is None:
                base = values(runs, "before", stage, "f1")
            else:
                base = values(outcomes[reference], "after", stage, "f1")
            after = {metric: values(runs, "after", stage, metric) for metric in METRICS}
            row = {name: runs_interval(sample) for name, sample in after.items()}
            table[arm][stage] = row | {"f1_gain": runs_interval(after["f1"] - base)}
    return table


def write_results(
    path: Path, settings: Settings, outcomes: dict[str, list[dict[str, Any]]], table: Any
) -> None:
    """The experiment's results as JSON, and the F1 of its table on the terminal."""
    runs = {
        arm: [
            {k: run[k] for k in ("training_s", "waiting_s", "zero_variance_groups", "promotions")}
            for run in of_arm
        ]
        for arm, of_arm in outcomes.items()
    }
    first = next(iter(outcomes.values()))[0]
    results = {
        "command": f"python {shlex.join(sys.argv)}",
        "machine": first["machine"],
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "pairs_a_run": 16 * settings.steps,
        "table": table,
        "runs": runs,
    }
    write_whole(path, json.dumps(results, indent=1).encode() + b"\n")
    print(f"| F1 | {' | '.join(PAPER_STAGES)} |\n|---|{'---|' * len(PAPER_STAGES)}")
    for arm, stages in table.items():
        cells = ("{:.2f} [{:.2f}, {:.2f}]".format(*row["f1"]) for row in stages.values())
        print(f"| {arm} | {' | '.join(cells)} |")
    print(f"results: {path}")
