"""Experiment 1: GRPO on unseen pairs against its supervised start, by stage and kind of change.

    python examples/reproduce/grpo.py

Held-out F1, reward, IoU and format before and after, three seeds, and the share of the differences
of each kind that are found. GRPO takes single differences alone, or the automatic curriculum.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from arms import Arm, Settings, compare, run_arms, write_results

from dig_env.agents.evaluation.intervals import runs_interval
from dig_env.scenes import PAPER_CHANGES, PAPER_STAGES


@dataclass(frozen=True)
class GRPOExperiment(Settings):
    """Settings of this experiment.

    Attributes:
        out: file for the results.
    """

    out: Path = Path("docs/results/reproduce_grpo.json")


def main(settings: GRPOExperiment) -> None:
    """Train, compare and write the table."""
    outcomes = run_arms(settings, [Arm("single only"), Arm("automatic")])
    table = compare(outcomes)
    for stage in PAPER_STAGES:
        start = next(iter(outcomes.values()))[:1]
        table["start"][stage]["found"] = _found(start, "before", stage)
        for arm, runs in outcomes.items():
            table[arm][stage]["found"] = _found(runs, "after", stage)
    write_results(settings.out, settings, outcomes, table)


def _found(runs: list[dict[str, Any]], when: str, stage: str) -> dict[str, list[float]]:
    """[share found, lower, upper end] by kind of change, over pairs that have such a change."""
    result = {}
    for change in PAPER_CHANGES:
        rows = [
            [
                np.mean(a["changes"][change])
                for a in run["held_out"][when][stage]
                if change in a["changes"]
            ]
            for run in runs
        ]
        result[change] = runs_interval(np.array(rows))
    return result


if __name__ == "__main__":
    main(tyro.cli(GRPOExperiment))
