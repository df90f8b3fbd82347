"""Where a curriculum pays: GRPO from starts of several strengths, under several rewards.

    python examples/reproduce/regimes.py --minutes 150

1. One warm-up is stopped at each of ``starts``, F1 on single differences; "tiny-start" ships.
2. Each curriculum and reward trains each start, one run a seed, on as many pairs.
3. Held-out pairs are answered greedily. The table and the figure compare each curriculum with
   mixed pairs only, and say which share of the first steps' groups taught nothing.

What every run gave goes into ``out``, and what is there is not run again: the experiment can be
spread over several days and machines. It is of one set of settings, and refuses others.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib.figure
import numpy as np
import tyro
from arms import Arm, Settings, outcome_path, run_arms

from dig_env.agents.evaluation.calibration.card import write_card
from dig_env.agents.evaluation.intervals import runs_interval
from dig_env.agents.reporting.report import machine
from dig_env.scenes import PAPER_STAGES
from dig_env.scenes.files import write_whole

WARM_UP = Path(__file__).parents[1] / "warmup" / "warmup.py"
REFERENCE = "mixed only"
KEPT = ("training_s", "zero_variance_at_first", "zero_variance_groups", "promotions")
"""Of a run, beside the F1 of its held-out answers."""


@dataclass(frozen=True)
class Regimes(Settings):
    """Settings of this experiment.

    Attributes:
        starts: "tiny-start", or F1 on single differences at which a warm-up is stopped; rising.
        rewards: names of `dig_env.REWARDS` to train on.
        curricula: see `Arm`; "mixed only" is what the others are compared with.
        scales: what advantages are divided by; see `Arm`.
        warm_up: folder of the warm-up, its pairs and its starts.
        out: file of the results, those of earlier calls included.
        plot: file of the figure.
    """

    steps: int = 600
    train_pairs: int = 1200
    promote_at: float = 0.5
    starts: tuple[str, ...] = ("0.1", "0.35", "tiny-start")
    rewards: tuple[str, ...] = ("f1", "exact", "full")
    curricula: tuple[str, ...] = (REFERENCE, "automatic", "easy to hard")
    scales: tuple[str, ...] = ("group",)
    runs: Path = Path("runs/regimes")
    warm_up: Path = Path("runs/regimes/warm_up")
    out: Path = Path("docs/results/regimes.json")
    plot: Path = Path("docs/regimes.png")


def main(settings: Regimes) -> None:
    """Run what is missing, and write the table and the figure."""
    results = load(settings)
    folders = make_starts(settings)
    arms = {
        (start, reward, scale, curriculum): Arm(curriculum, reward, folders[start], scale)
        for start in settings.starts
        for reward in settings.rewards
        for scale in settings.scales
        for curriculum in settings.curricula
    }
    unpack(settings, results, arms)
    run_arms(settings, list(arms.values()))
    pack(settings, results, arms)
    if not results["runs"]:
        raise SystemExit(f"no run has ended within --minutes {settings.minutes}: give more")
    results["table"] = table(results)
    write_card(results, settings.out)
    draw(results, settings.plot)
    for row in results["table"]:
        print(", ".join(f"{key} {value}" for key, value in row.items()))
    print(f"results: {settings.out}\nplot: {settings.plot}")


def load(settings: Regimes) -> dict[str, Any]:
    """What earlier calls left in the file of results.

    Raises:
        SystemExit: they had other settings.
    """
    kept = ("steps", "learning_rate", "temperature", "promote_at", "train_pairs", "test_pairs")
    asked = {name: getattr(settings, name) for name in kept}
    if not settings.out.exists():
        return {
            "command": "python examples/reproduce/regimes.py",
            "machine": machine(),
            "settings": asked,
            "intervals": "mean, and ends of the 95 % bootstrap interval over runs and pairs",
            "runs": [],
        }
    results = json.loads(settings.out.read_text())
    if results["settings"] != asked:
        raise SystemExit(f"{settings.out} has runs of {results['settings']}: give another --out")
    return results


def make_starts(settings: Regimes) -> dict[str, str]:
    """The model of each start, by its name; the warm-up resumes from one to the next."""
    folders = {}
    for start in settings.starts:
        folder = settings.warm_up / f"start-{start}"
        folders[start] = start if start == "tiny-start" else str(folder)
        if start == "tiny-start" or folder.exists():
            continue
        run = settings.warm_up / "run"
        command = [sys.executable, str(WARM_UP), f"--target-f1={start}", f"--out={run}"]
        command += [f"--pairs={settings.warm_up / 'pairs'}", "--evaluate-every=500"]
        command += [
            "--validation=100",
            "--stages",
            "single",
            "1000",
            "dual",
            "700",
            "mixed",
            "1300",
        ]
        subprocess.run(command, check=True)
        shutil.copytree(run / "model", folder)
    return folders


def unpack(settings: Regimes, results: dict[str, Any], arms: dict[tuple[str, ...], Arm]) -> None:
    """Put the runs of earlier calls where `run_arms` looks for them."""
    for run in results["runs"]:
        arm = arms.get((run["start"], run["reward"], run["scale"], run["curriculum"]))
        if arm is not None and run["seed"] in settings.seeds:
            path = outcome_path(settings, arm, run["seed"])
            if not path.exists():
                path.parent.mkdir(parents=True, exist_ok=True)
                write_whole(path, json.dumps(run).encode())


def pack(settings: Regimes, results: dict[str, Any], arms: dict[tuple[str, ...], Arm]) -> None:
    """Add the runs that are new to the results."""
    names = ("start", "reward", "scale", "curriculum")
    there = {(*(run[name] for name in names), run["seed"]) for run in results["runs"]}
    for key, arm in arms.items():
        for seed in settings.seeds:
            path = outcome_path(settings, arm, seed)
            if (*key, seed) in there or not path.exists():
                continue
            outcome = json.loads(path.read_text())
            run = dict(zip(names, key, strict=True)) | {"seed": seed}
            run |= {name: outcome[name] for name in KEPT}
            for when, played in outcome["held_out"].items():
                run[when] = {
                    stage: [round(answer["f1"], 3) for answer in answers]
                    for stage, answers in played.items()
                }
            results["runs"].append(run)


def groups(results: dict[str, Any]) -> Iterator[tuple[dict[str, str], dict[str, list[Any]]]]:
    """The runs by curriculum, for each start, reward and scale."""
    names = ("start", "reward", "scale")
    keys = dict.fromkeys(tuple(run[name] for name in names) for run in results["runs"])
    for key in keys:
        of_key = [run for run in results["runs"] if tuple(run[name] for name in names) == key]
        by_curriculum: dict[str, list[Any]] = {}
        for run in sorted(of_key, key=lambda run: run["seed"]):
            by_curriculum.setdefault(run["curriculum"], []).append(run)
        yield dict(zip(names, key, strict=True)), by_curriculum


def table(results: dict[str, Any]) -> list[dict[str, Any]]:
    """A row for each arm: F1 by stage before and after, and the gain over mixed pairs only."""
    rows = []
    for key, by_curriculum in groups(results):
        reference = by_curriculum.get(REFERENCE, [])
        for curriculum, runs in by_curriculum.items():
            row: dict[str, Any] = key | {"curriculum": curriculum, "seeds": len(runs)}
            row["zero_variance_at_first"] = round(
                float(np.mean([run["zero_variance_at_first"] for run in runs])), 3
            )
            for stage in PAPER_STAGES:
                row[f"{stage}_before"] = round(float(np.mean(runs[0]["before"][stage])), 4)
                row[stage] = runs_interval(np.array([run["after"][stage] for run in runs]))
            shared = min(len(runs), len(reference))
            if curriculum != REFERENCE and shared:
                more = np.array([run["after"]["mixed"] for run in runs[:shared]])
                less = np.array([run["after"]["mixed"] for run in reference[:shared]])
                row["gain_on_mixed"] = runs_interval(more - less)
            rows.append(row)
    return rows


def draw(results: dict[str, Any], path: Path) -> None:
    """F1 on held-out mixed pairs, by start, for each reward and curriculum."""
    rewards = list(dict.fromkeys(row["reward"] for row in results["table"]))
    curricula = list(dict.fromkeys(row["curriculum"] for row in results["table"]))
    figure = matplotlib.figure.Figure(figsize=(3.4 * len(rewards), 3.4), layout="constrained")
    for axes, reward in zip(
        figure.subplots(1, len(rewards), squeeze=False, sharey=True)[0], rewards, strict=True
    ):
        of_reward = [r for r in results["table"] if r["reward"] == reward and r["scale"] == "group"]
        for number, curriculum in enumerate(curricula):
            rows = [row for row in of_reward if row["curriculum"] == curriculum]
            rows.sort(key=lambda row: row["single_before"])
            means, lows, highs = np.array([row["mixed"] for row in rows]).reshape(-1, 3).T
            axes.errorbar(
                [row["single_before"] + 0.01 * number for row in rows],
                means,
                np.stack([means - lows, highs - means]),
                color=f"C{number}",
                marker="o",
                capsize=3,
                label=curriculum,
            )
        axes.set(title=f"reward {reward}", xlabel="F1 of the start, single differences")
        axes.grid(linewidth=0.3)
    figure.axes[0].set(ylabel="F1 on mixed pairs", ylim=(0, None))
    figure.axes[0].legend(fontsize="small")
    figure.savefig(path, dpi=80)


if __name__ == "__main__":
    main(tyro.cli(Regimes))
