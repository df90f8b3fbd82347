"""PPO (Stable-Baselines3) on the numeric view: one box around the one difference of a pair.

    python examples/reproduce/sb3_ppo.py  # three seeds, 10 minutes on one core, then the table
    tensorboard --logdir runs/sb3_ppo

1. Pairs with one difference are rendered once into a dataset, unless they are there.
2. Each seed trains on the training pairs through `NumericVectorView`: images at half size with
   their difference channel, four numbers a box. Episodes have one step, so PPO is a contextual
   bandit here: discount and GAE have nothing to do, and the advantage is the reward less the value.
3. The held-out test pairs are answered greedily before and after, and scored as any policy's
   answers are: in text, F1 at IoU 0.5.

Training earns the reward "dense", which counts an overlap below IoU 0.5 in part. A box of usual
size at a random place touches the difference often enough to begin with.

A seed that has an `outcome.json` is not run again, so the script can be stopped. The curves go to
TensorBoard (`--no-tensorboard` where it is not installed), and with `--wandb offline` or `online`
to Weights & Biases.
"""

from __future__ import annotations

import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import gymnasium as gym
import matplotlib.figure
import numpy as np
import torch
import tyro
import wandb
from sb3_logging import LearningCurve, WandbWriter
from stable_baselines3 import PPO
from stable_baselines3.common.logger import KVWriter, Logger, make_output_format

from dig_env import NumericVectorView
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.evaluation.intervals import CONFIDENCE, mean_intervals
from dig_env.agents.evaluation.pairs import evaluate_stored
from dig_env.agents.integrations.sb3 import PairsInMemory, SB3Policy, SB3Vector, SpatialMoments
from dig_env.agents.reporting.report import machine
from dig_env.scenes import Pair, PairDataset, RenderSettings, render_dataset
from dig_env.scenes.files import write_whole

METRICS = ("f1", "iou", "reward")


@dataclass(frozen=True)
class Settings:
    """Settings of the experiment.

    Attributes:
        seeds: of the stream of pairs, the weights and the sampling; one run each.
        steps: answers that a run learns from; PPO rounds up to whole rollouts.
        train_pairs: training pairs to render if fewer are there; all are drawn from, with
            replacement.
        validation_pairs: pairs for the learning curve.
        test_pairs: held-out pairs, answered before and after.
        shape: (height, width) of the observation.
        difference: whether it has the difference channel.
        reward: a name of `dig_env.REWARDS`, for training; results are scored by the default one.
        envs: environments in a rollout.
        envs_steps: answers of each environment in a rollout.
        batch_size: answers in an optimiser step.
        epochs: passes over a rollout.
        learning_rate: of Adam at first; it falls linearly to 0.
        log_std: of the Gaussian policy's four numbers at first.
        curve_every: rollouts between two points of the curve.
        threads: of PyTorch.
        pairs: dataset of 128x96 pairs; missing ones are rendered.
        runs: folder for the runs and the picture of the curve.
        out: file for the results.
        tensorboard: whether to log into the run's folder for TensorBoard.
        wandb: where Weights & Biases logs to, if at all.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    steps: int = 80_000
    train_pairs: int = 6000
    validation_pairs: int = 200
    test_pairs: int = 400
    shape: tuple[int, int] = (48, 64)
    difference: bool = True
    reward: str = "dense"
    envs: int = 64
    envs_steps: int = 16
    batch_size: int = 128
    epochs: int = 4
    learning_rate: float = 3e-3
    log_std: float = -1.0
    curve_every: int = 8
    threads: int = 1
    pairs: Path = Path("runs/sb3_ppo/pairs")
    runs: Path = Path("runs/sb3_ppo")
    out: Path = Path("docs/results/ppo.json")
    tensorboard: bool = True
    wandb: Literal["disabled", "offline", "online"] = "disabled"


def main(settings: Settings) -> None:
    """Run what is missing of the experiment and write the table and the curve."""
    render_missing(settings)
    outcomes = [outcome_of(settings, seed) for seed in settings.seeds]
    table = summary(settings, outcomes)
    write_whole(settings.out, json.dumps(table, indent=1).encode() + b"\n")
    draw_curve(outcomes, settings.runs / "curve.png")
    for when, metrics in table["held_out"].items():
        f1 = metrics["f1"]
        print(f"{when:17} F1 {f1['mean']:.3f}, {f1['low']:.3f} to {f1['high']:.3f} {f1['seeds']}")
    print(f"results: {settings.out}\ncurve: {settings.runs / 'curve.png'}")


def render_missing(settings: Settings) -> None:
    """Render the missing pairs; a complete dataset is not touched."""
    counts = {
        "train": settings.train_pairs,
        "validation": settings.validation_pairs,
        "test": settings.test_pairs,
    }
    for split, count in counts.items():
        try:
            there = len(PairDataset(settings.pairs).pair_seeds("single", split))
        except (FileNotFoundError, ValueError):
            there = 0
        if there < count:
            size = RenderSettings(width=128, height=96, quality="draft")
            render_dataset(settings.pairs, {"single": count}, split, size)


def outcome_of(settings: Settings, seed: int) -> dict[str, Any]:
    """What a seed's run gave, training it unless it is there."""
    path = settings.runs / f"seed{seed}" / "outcome.json"
    if not path.exists():
        write_whole(path, json.dumps(train(settings, seed, path.parent)).encode() + b"\n")
    return json.loads(path.read_text())


def train(settings: Settings, seed: int, folder: Path) -> dict[str, Any]:
    """One run: the curve, and F1, IoU and reward of each test pair before and after."""
    torch.set_num_threads(settings.threads)
    folder.mkdir(parents=True, exist_ok=True)
    pairs = PairsInMemory(settings.pairs, "train")
    view = make_view(settings, pairs)
    envs = SB3Vector(view)
    model = make_model(settings, seed, envs)
    model.set_logger(make_logger(settings, seed, folder))
    before = test(settings, SB3Policy(model, view))
    curve = LearningCurve(view, {"validation": validation_pairs(settings)}, settings.curve_every)
    began, began_cpu = time.perf_counter(), time.process_time()
    model.learn(settings.steps, callback=curve)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - began_cpu
    model.logger.close()
    model.save(folder / "model")
    after = test(settings, SB3Policy(model, view))
    envs.close()
    pairs.close()
    return {
        "seed": seed,
        "steps": model.num_timesteps,
        "training_s": round(seconds, 1),
        "training_cpu_s": round(cpu_seconds, 1),
        "curve": curve.points,
        "before": before,
        "after": after,
    }


def validation_pairs(settings: Settings) -> list[Pair]:
    """The pairs of the learning curve."""
    dataset = PairDataset(settings.pairs)
    seeds = dataset.pair_seeds("single", "validation")[: settings.validation_pairs]
    return [dataset.pair(seed) for seed in seeds]


def make_view(settings: Settings, pairs: PairsInMemory) -> NumericVectorView:
    """The environments, on the pairs that all share; without `dataset` they would be fresh ones."""
    options = {"dataset": pairs, "reward": settings.reward, "autoreset_mode": "Disabled"}
    envs = gym.make_vec("DiG-v0", settings.envs, **options)
    return NumericVectorView(envs, shape=settings.shape, difference=settings.difference)


def make_model(settings: Settings, seed: int, envs: SB3Vector) -> PPO:
    """PPO with its defaults except for what the settings say.

    The share of steps that is left falls below 0 where the last rollout goes beyond `steps`. A
    negative learning rate would climb the loss.
    """
    rate = settings.learning_rate  # a number, so that the model loads without this script
    return PPO(
        "CnnPolicy",
        envs,
        learning_rate=lambda left: rate * max(left, 0.0),
        n_steps=settings.envs_steps,
        batch_size=settings.batch_size,
        n_epochs=settings.epochs,
        policy_kwargs={
            "features_extractor_class": SpatialMoments,
            "net_arch": [64],
            "log_std_init": settings.log_std,
        },
        seed=seed,
        device="cpu",
    )


def make_logger(settings: Settings, seed: int, folder: Path) -> Logger:
    """Where Stable-Baselines3 logs to: TensorBoard and Weights & Biases, if asked for."""
    outputs: list[KVWriter] = []
    if settings.tensorboard:
        outputs.append(make_output_format("tensorboard", str(folder)))
    if settings.wandb != "disabled":
        config = json.loads(json.dumps(asdict(settings), default=str))
        wandb.init(
            project="dig-env",
            name=f"ppo-seed{seed}",
            mode=settings.wandb,
            config=config,
            dir=str(folder),
        )
        outputs.append(WandbWriter())
    return Logger(str(folder), outputs)


def test(settings: Settings, policy: Any) -> list[list[float]]:
    """`METRICS` of the policy's answer to each test pair, under the default reward."""
    report = evaluate_stored(
        policy, settings.pairs, stage="single", episodes=settings.test_pairs, batch_size=64
    )
    scores = [episode.score for episode in report.episodes]
    return [[score.f1, score.iou, score.total] for score in scores]


def summary(settings: Settings, outcomes: list[dict[str, Any]]) -> dict[str, Any]:
    """The results as they are committed."""
    pixels = [test(settings, PixelDiffPolicy())]
    runs = {when: [outcome[when] for outcome in outcomes] for when in ("before", "after")}
    return {
        "command": "python examples/reproduce/sb3_ppo.py",
        "machine": machine(),
        "settings": json.loads(json.dumps(asdict(settings), default=str)),
        "confidence": CONFIDENCE,
        "intervals": "bootstrap over test pairs, of the mean over seeds",
        "steps": [outcome["steps"] for outcome in outcomes],
        "training_s": [outcome["training_s"] for outcome in outcomes],
        "training_cpu_s": [outcome["training_cpu_s"] for outcome in outcomes],
        "held_out": {
            name: intervals(np.array(results))
            for name, results in {**runs, "pixel difference": pixels}.items()
        },
        "curves": {outcome["seed"]: outcome["curve"] for outcome in outcomes},
    }


def intervals(results: np.ndarray) -> dict[str, dict[str, Any]]:
    """(seeds, pairs, metrics) to each metric's mean, interval, and mean of each seed."""
    ends = mean_intervals(results.mean(axis=0))
    return {
        name: {
            "mean": round(float(mean), 4),
            "low": round(float(low), 4),
            "high": round(float(high), 4),
            "seeds": np.round(results[:, :, column].mean(axis=1), 4).tolist(),
        }
        for column, (name, (mean, low, high)) in enumerate(zip(METRICS, ends, strict=True))
    }


def draw_curve(outcomes: list[dict[str, Any]], path: Path) -> None:
    """F1 and reward against answers that were learned from, one colour a seed."""
    figure = matplotlib.figure.Figure(figsize=(6, 3.5), layout="constrained")
    axes = figure.subplots()
    for outcome in outcomes:
        steps = [point["steps"] for point in outcome["curve"]]
        for name, style in (("validation_f1", "-"), ("train_reward", ":")):
            values = [point[name] for point in outcome["curve"]]
            label = f"seed {outcome['seed']}" if style == "-" else None
            axes.plot(steps, values, style, color=f"C{outcome['seed'] % 10}", label=label)
    axes.axhline(0.8, color="gray", linewidth=0.5)
    axes.set(
        xlabel="answers learned from",
        ylim=(0, 1),
        title="F1 at IoU 0.5, greedy, validation pairs (solid); reward in training (dotted)",
    )
    axes.title.set_fontsize("small")
    axes.legend()
    figure.savefig(path, dpi=120)


if __name__ == "__main__":
    main(tyro.cli(Settings))
