"""The demo's GRPO over several seeds: held-out reward and F1 before and after, with spread.

    python benchmarks/grpo_seeds.py --out docs/results/grpo_seeds.json

Each seed is one `make demo` (3 to 4 minutes on two idle cores, 100 held-out pairs of each stage).
A seed whose folder already holds a result.json is not run again, so the script can be stopped.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import tyro

from dig_env.agents import GRPORun, train_grpo
from dig_env.agents.reporting.report import write_results


def main(
    seeds: tuple[int, ...] = (0, 1, 2),
    runs: Path = Path("runs/grpo_seeds"),
    out: Path = Path("docs/results/grpo_seeds.json"),
    eval_pairs: int = 100,
) -> None:
    """Train once a seed with the demo's settings and write the table.

    Args:
        seeds: seeds of the pair stream, the sampling and the optimiser.
        runs: folder for the runs.
        out: file for the results.
        eval_pairs: held-out pairs of each stage.
    """
    results = []
    for seed in seeds:
        folder = runs / f"seed{seed}"
        if not (folder / "result.json").exists():
            # All steps, however long they take: the result must not depend on the machine's load.
            run = GRPORun(seed=seed, out=str(folder), eval_pairs=eval_pairs, minutes=None)
            train_grpo(run, lambda step: print(step.step, step))
        results.append(json.loads((folder / "result.json").read_text()))
    table = {
        "command": "python benchmarks/grpo_seeds.py",
        "machine": results[0]["machine"],
        "settings": results[0]["settings"] | {"seed": list(seeds), "out": str(runs)},
        "training_s": [round(result["training_s"], 1) for result in results],
        "steps": [result["steps"] for result in results],
        "promotions": [result["promotions"] for result in results],
        "waiting_share": [round(waiting_share(runs / f"seed{seed}"), 4) for seed in seeds],
        "held_out": {
            stage: {
                metric: {
                    when: _spread([result["held_out"][stage][when][metric] for result in results])
                    for when in ("before", "after")
                }
                for metric in ("reward", "f1", "iou", "format", "sampled_reward", "sampled_f1")
            }
            for stage in results[0]["held_out"]
        },
    }
    f1 = {
        f"{stage}, {when}": table["held_out"][stage]["f1"][when]["mean"]
        for stage in table["held_out"]
        for when in ("before", "after")
    }
    write_results(out, table, "F1, mean over the seeds", f1)
    for stage, metrics in table["held_out"].items():
        for metric in ("reward", "f1", "sampled_reward", "sampled_f1"):
            before, after = metrics[metric]["before"], metrics[metric]["after"]
            print(
                f"{stage:6} {metric:6} {before['mean']:.3f} -> {after['mean']:.3f} {after['all']}"
            )


def waiting_share(folder: Path) -> float:
    """The share of a run's time in which the learner waited for pairs."""
    steps = json.loads((folder / "history.json").read_text())
    return sum(step["pair_wait_s"] for step in steps) / sum(step["seconds"] for step in steps)


def _spread(values: list[float]) -> dict[str, float | list[float]]:
    return {
        "mean": round(float(np.mean(values)), 4),
        "sd": round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4),
        "all": [round(value, 4) for value in values],
    }


if __name__ == "__main__":
    tyro.cli(main)
