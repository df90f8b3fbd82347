"""Seven curricula and one learner: PPO, from scratch, on pairs with one to four differences.

    python examples/reproduce/curriculum_research.py

1. Pairs of each stage are rendered once into a dataset, unless they are there.
2. Each curriculum trains each seed's PPO through `NumericView`: up to three boxes, each with a
   presence. All learn from the same number of answers, and nothing else is different.
3. Held-out test pairs of each stage are answered greedily, in text, and scored by the default
   reward: F1 at IoU 0.5, with intervals over runs and pairs.

A run that has an `outcome.json` is not run again, so the script can be stopped. Beside it are the
model and the curriculum's state, `curriculum.json`.
"""

from __future__ import annotations

import json
import multiprocessing
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import gymnasium as gym
import matplotlib.figure
import numpy as np
import torch
import tyro
from sb3_logging import LearningCurve
from stable_baselines3 import PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.vec_env import DummyVecEnv

from dig_env import (
    AdaptiveDifficulty,
    Curriculum,
    CurriculumWrapper,
    LearningProgress,
    NumericView,
    PrioritizedStageReplay,
    RandomCurriculum,
    ScheduledCurriculum,
    StageCurriculum,
)
from dig_env.agents.evaluation.intervals import runs_interval
from dig_env.agents.evaluation.pairs import evaluate_stored
from dig_env.agents.integrations.sb3 import PairsInMemory, SB3Policy, SpatialMoments
from dig_env.agents.reporting.report import machine
from dig_env.scenes import (
    PAPER_STAGES,
    Pair,
    PairDataset,
    RenderSettings,
    render_dataset,
)
from dig_env.scenes.files import write_whole

REFERENCE = "mixed only"


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        curricula: names of `CURRICULA`.
        seeds: of the stream of pairs, the weights, the sampling and the curriculum; one run each.
        steps: answers that a run learns from; PPO rounds up to whole rollouts.
        reward: a name of `dig_env.REWARDS`, for training; results are scored by the default one.
        target_reward: mean reward at which the threshold curriculum moves on, and which adaptive
            difficulty keeps.
        window: episodes that curricula judge by.
        max_boxes: of an answer; with three, no policy's F1 on mixed pairs is above 0.964.
        learning_rate: of Adam at first; it falls linearly to 0.
        clip_range: of PPO's ratio, which is that of all numbers of an answer together.
        train_pairs: of each stage, drawn from with replacement.
        validation_pairs: of each stage, for the learning curve.
        test_pairs: of each stage, held out.
        curve_every: rollouts of 1,024 answers between two points of the curve.
        processes: runs side by side, one thread each.
        pairs: dataset of 64x48 pairs; missing ones are rendered.
        runs: folder for the runs.
        out: file for the results.
        plot: file for the learning curves and what was played.
    """

    curricula: tuple[str, ...] = (
        REFERENCE,
        "threshold",
        "schedule",
        "random",
        "adaptive difficulty",
        "learning progress",
        "stage replay",
    )
    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 80_000
    reward: str = "dense"
    target_reward: float = 0.25
    window: int = 512
    max_boxes: int = 3
    learning_rate: float = 3e-3
    clip_range: float = 0.4
    train_pairs: int = 3000
    validation_pairs: int = 100
    test_pairs: int = 200
    curve_every: int = 5
    processes: int = 2
    pairs: Path = Path("runs/curriculum_research/pairs")
    runs: Path = Path("runs/curriculum_research")
    out: Path = Path("docs/results/curriculum_research.json")
    plot: Path = Path("docs/curricula.png")


def _third(settings: Settings) -> tuple[int, int]:
    return settings.steps // 3, settings.steps // 3


CURRICULA: dict[str, Callable[[Settings, int], StageCurriculum]] = {
    REFERENCE: lambda s, seed: Curriculum(("mixed",), window=s.window),
    "threshold": lambda s, seed: Curriculum(promote_at=s.target_reward, window=s.window),
    "schedule": lambda s, seed: ScheduledCurriculum(episodes=_third(s), window=s.window),
    "random": lambda s, seed: RandomCurriculum(seed=seed, window=s.window),
    "adaptive difficulty": lambda s, seed: AdaptiveDifficulty(
        target_reward=s.target_reward, seed=seed, window=s.window
    ),
    "learning progress": lambda s, seed: LearningProgress(seed=seed, window=s.window),
    "stage replay": lambda s, seed: PrioritizedStageReplay(seed=seed, window=s.window),
}
"""How each is made, of the settings and a run's seed."""


def main(settings: Settings) -> None:
    """Run what is missing of the experiment, and write its table and its plot."""
    unknown = [name for name in settings.curricula if name not in CURRICULA]
    if unknown:
        raise SystemExit(f"unknown curriculum {unknown[0]!r}; give some of {', '.join(CURRICULA)}")
    render_missing(settings)
    outcomes = run_missing(settings)
    results = summary(settings, outcomes)
    write_whole(settings.out, json.dumps(results, indent=1).encode() + b"\n")
    draw(outcomes, settings.plot)
    print(f"| F1 | {' | '.join(PAPER_STAGES)} | mixed, less {REFERENCE} |\n|---|{'---|' * 4}")
    for name, row in results["table"].items():
        cells = [row[stage]["f1"] for stage in PAPER_STAGES] + [row.get("gain_on_mixed")]
        texts = ("{:.2f} [{:.2f}, {:.2f}]".format(*cell) if cell else "" for cell in cells)
        print(f"| {name} | {' | '.join(texts)} |")
    print(f"results: {settings.out}\nplot: {settings.plot}")


def render_missing(settings: Settings) -> None:
    """Render the missing pairs; those that are there are not touched."""
    counts = {
        "train": settings.train_pairs,
        "validation": settings.validation_pairs,
        "test": settings.test_pairs,
    }
    size = RenderSettings(width=64, height=48, quality="draft")
    for split, count in counts.items():
        wanted = dict.fromkeys(PAPER_STAGES, count)
        render_dataset(settings.pairs, wanted, split, size, pairs_per_file=500)


def run_missing(settings: Settings) -> dict[str, list[dict[str, Any]]]:
    """Train what is not trained yet; the outcomes of each curriculum, one a seed."""
    jobs = [(name, seed) for seed in settings.seeds for name in settings.curricula]
    missing = [job for job in jobs if not outcome_path(settings, *job).exists()]
    # A process a run: what a run leaves in memory must not reach the next.
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(settings.processes, context, max_tasks_per_child=1) as pool:
        for future in as_completed([pool.submit(train, settings, *job) for job in missing]):
            print(future.result(), flush=True)
    outcomes: dict[str, list[dict[str, Any]]] = {name: [] for name in settings.curricula}
    for name, seed in jobs:
        outcomes[name].append(json.loads(outcome_path(settings, name, seed).read_text()))
    return outcomes


def outcome_path(settings: Settings, name: str, seed: int) -> Path:
    """Where a run leaves what it gave."""
    return settings.runs / name.replace(" ", "_") / f"seed{seed}" / "outcome.json"


def train(settings: Settings, name: str, seed: int) -> str:
    """One run; its outcome goes into a file, and a line about it is returned."""
    torch.set_num_threads(1)
    curriculum = CURRICULA[name](settings, seed)
    pairs = PairsInMemory(settings.pairs, "train")
    envs = DummyVecEnv([lambda: make_env(settings, pairs, curriculum)] * 64)
    view = envs.envs[0].env
    model = make_model(settings, seed, envs)
    curve = LearningCurve(view, validation_pairs(settings), settings.curve_every)
    began = time.perf_counter()
    model.learn(settings.steps, callback=curve)
    seconds = time.perf_counter() - began
    envs.close()
    pairs.close()
    path = outcome_path(settings, name, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    model.save(path.parent / "model")
    state = curriculum.state_dict()
    write_whole(path.parent / "curriculum.json", json.dumps(state).encode() + b"\n")
    outcome = {
        "steps": model.num_timesteps,
        "training_s": round(seconds, 1),
        "curve": curve.points,
        "changes": curriculum.history,
        "held_out": test(settings, SB3Policy(model, view)),
    }
    write_whole(path, json.dumps(outcome).encode() + b"\n")
    f1 = [f"{stage} {curve.points[-1][f'{stage}_f1']:.2f}" for stage in PAPER_STAGES]
    return f"{name}, seed {seed}: {seconds:.0f} s, validation F1 {', '.join(f1)}"


def make_env(settings: Settings, pairs: PairsInMemory, curriculum: StageCurriculum) -> gym.Env:
    """One environment; pairs and curriculum are those of all."""
    env = gym.make("DiG-v0", dataset=pairs, reward=settings.reward, disable_env_checker=True)
    return CurriculumWrapper(NumericView(env, max_boxes=settings.max_boxes), curriculum)


def make_model(settings: Settings, seed: int, envs: DummyVecEnv) -> PPO:
    """PPO with its defaults except for what is said here. At first its boxes are around the centre.

    The share of steps that is left falls below 0 where the last rollout goes beyond `steps`. A
    negative learning rate would climb the loss.
    """
    rate = settings.learning_rate  # a number, so that the model loads without this script
    model = PPO(
        "CnnPolicy",
        envs,
        learning_rate=lambda left: rate * max(left, 0.0),
        n_steps=16,
        batch_size=128,
        n_epochs=4,
        clip_range=settings.clip_range,
        policy_kwargs={
            "features_extractor_class": SpatialMoments,
            "features_extractor_kwargs": {"stride": 4, "slope": 3.0},
            "net_arch": [64],
            "log_std_init": -1.0,
        },
        seed=seed,
        device="cpu",
    )
    model.set_logger(Logger(None, []))  # the curve is kept in the outcome
    with torch.no_grad():
        boxes = model.policy.action_net.bias.view(settings.max_boxes, 5)
        angles = 2 * torch.pi * torch.arange(settings.max_boxes) / settings.max_boxes
        boxes[:, :2] = 0.5 * torch.stack([angles.cos(), angles.sin()], dim=1)
    return model


def validation_pairs(settings: Settings) -> dict[str, list[Pair]]:
    """The pairs of the learning curve, by stage."""
    dataset = PairDataset(settings.pairs)
    count = settings.validation_pairs
    seeds = {stage: dataset.pair_seeds(stage, "validation")[:count] for stage in PAPER_STAGES}
    return {stage: [dataset.pair(seed) for seed in of_stage] for stage, of_stage in seeds.items()}


def test(settings: Settings, policy: SB3Policy) -> dict[str, list[list[float]]]:
    """[F1, reward] of the policy's answer to each test pair, under the default reward."""
    answered = {}
    for stage in PAPER_STAGES:
        report = evaluate_stored(
            policy, settings.pairs, stage=stage, episodes=settings.test_pairs, batch_size=64
        )
        answered[stage] = [[ep.score.f1, ep.score.total] for ep in report.episodes]
    return answered


def summary(settings: Settings, outcomes: dict[str, list[dict[str, Any]]]) -> dict[str, Any]:
    """The results as they are committed."""

    def values(name: str, stage: str) -> np.ndarray:
        """(runs, pairs, 2) F1 and reward."""
        return np.array([outcome["held_out"][stage] for outcome in outcomes[name]])

    table: dict[str, dict[str, Any]] = {}
    for name in outcomes:
        table[name] = {
            stage: {
                "f1": runs_interval(values(name, stage)[..., 0]),
                "reward": runs_interval(values(name, stage)[..., 1]),
                "f1_of_seeds": values(name, stage)[..., 0].mean(axis=1).round(4).tolist(),
            }
            for stage in PAPER_STAGES
        }
        if name != REFERENCE and REFERENCE in outcomes:
            more = values(name, "mixed")[..., 0] - values(REFERENCE, "mixed")[..., 0]
            table[name]["gain_on_mixed"] = runs_interval(more)
    kept = ("steps", "training_s", "changes")
    curve = (
        "steps",
        *(f"{stage}_f1" for stage in PAPER_STAGES),
        *(f"played_{s}" for s in PAPER_STAGES),
    )
    return {
        "command": "python examples/reproduce/curriculum_research.py",
        "machine": machine(),
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "intervals": "mean, and ends of the 95 % bootstrap interval over runs and pairs",
        "table": table,
        "runs": {
            name: [{key: outcome[key] for key in kept} for outcome in runs]
            for name, runs in outcomes.items()
        },
        "curves": {
            name: {metric: curves(runs, metric).round(3).tolist() for metric in curve}
            for name, runs in outcomes.items()
        },
    }


def draw(outcomes: dict[str, list[dict[str, Any]]], path: Path) -> None:
    """F1 on held-out mixed pairs over answers learned from, and the stages that were played."""
    figure = matplotlib.figure.Figure(figsize=(10, 6), layout="constrained")
    mosaic = [["f1"] * len(outcomes), list(outcomes)]
    axes = figure.subplot_mosaic(mosaic, height_ratios=[4, 1])
    for number, (name, runs) in enumerate(outcomes.items()):
        steps = [point["steps"] for point in runs[0]["curve"]]
        f1 = curves(runs, "mixed_f1")
        axes["f1"].plot(steps, f1.T, color=f"C{number}", linewidth=0.5, alpha=0.6)
        axes["f1"].plot(steps, f1.mean(axis=0), color=f"C{number}", linewidth=2, label=name)
        shares = [curves(runs, f"played_{stage}").mean(axis=0) for stage in PAPER_STAGES]
        grays = [str(shade) for shade in np.linspace(0.9, 0.3, len(PAPER_STAGES))]
        axes[name].stackplot(steps, shares, labels=list(PAPER_STAGES), colors=grays)
        axes[name].set_title(name, fontsize="small", color=f"C{number}")
        axes[name].set(xlim=(0, steps[-1]), ylim=(0, 1), xticks=[], yticks=[])
    axes["f1"].set(ylabel="F1, mixed validation pairs", xlabel="answers learned from")
    axes["f1"].set(xlim=(0, steps[-1]), ylim=(0, None))
    axes["f1"].legend(fontsize="small")
    axes["f1"].grid(linewidth=0.3)
    handles, labels = axes[name].get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=3, fontsize="small")
    figure.savefig(path, dpi=80)


def curves(runs: list[dict[str, Any]], name: str) -> np.ndarray:
    """(runs, points) of one number of the learning curves; 0 where a stage was not played.

    The last point is of the update after the last rollout, and repeats what was played before.
    """
    rows = [[point.get(name, 0.0) for point in run["curve"]] for run in runs]
    return np.array(rows)


if __name__ == "__main__":
    main(tyro.cli(Settings))
