"""Experiment 3: what each part of the reward teaches: format only, IoU only, F1 only, and all.

    python examples/reproduce/reward.py

All arms follow the fixed schedule, so that nothing but the reward differs: under the automatic
curriculum another reward would also promote at another time. The held-out answers of all arms are
scored by the full reward.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from arms import Arm, Settings, compare, run_arms, write_results


@dataclass(frozen=True)
class RewardExperiment(Settings):
    """Settings of this experiment.

    Attributes:
        out: file for the results.
    """

    out: Path = Path("docs/results/reproduce_reward.json")


def main(settings: RewardExperiment) -> None:
    """Train, compare and write the table."""
    arms = [Arm("schedule", reward) for reward in ("format", "iou", "f1", "full")]
    outcomes = run_arms(settings, arms)
    write_results(settings.out, settings, outcomes, compare(outcomes, Arm("schedule").name))


if __name__ == "__main__":
    main(tyro.cli(RewardExperiment))
