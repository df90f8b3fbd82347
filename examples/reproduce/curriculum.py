"""Experiment 2: the automatic curriculum against mixed only, a fixed schedule and random stages.

    python examples/reproduce/curriculum.py
    python examples/reproduce/curriculum.py --reward f1 \\
        --curricula automatic "mixed only" schedule \\
        --out docs/results/reproduce_curriculum_f1.json

All arms take the same number of pairs; the schedule gives each stage a third of them. The second
command asks again under a reward without IoU, which leaves more groups without a signal.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro
from arms import Arm, Settings, compare, run_arms, write_results


@dataclass(frozen=True)
class CurriculumExperiment(Settings):
    """Settings of this experiment.

    Attributes:
        curricula: to compare; "mixed only" is what the others are compared with.
        reward: a name of `dig_env.REWARDS`, which all arms train on.
        out: file for the results.
    """

    curricula: tuple[str, ...] = ("automatic", "mixed only", "schedule", "random")
    reward: str = "full"
    out: Path = Path("docs/results/reproduce_curriculum.json")


def main(settings: CurriculumExperiment) -> None:
    """Train, compare and write the table."""
    outcomes = run_arms(settings, [Arm(kind, settings.reward) for kind in settings.curricula])
    mixed_only = Arm("mixed only", settings.reward).name
    write_results(settings.out, settings, outcomes, compare(outcomes, mixed_only))


if __name__ == "__main__":
    main(tyro.cli(CurriculumExperiment))
