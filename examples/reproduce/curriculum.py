"""Experiment 2: the automatic curriculum against mixed only, a fixed schedule and random stages.

    python examples/reproduce/curriculum.py

All arms take the same number of pairs; the schedule gives each stage a third of them.
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
        out: file for the results.
    """

    out: Path = Path("docs/results/reproduce_curriculum.json")


def main(settings: CurriculumExperiment) -> None:
    """Train, compare and write the table."""
    arms = [Arm(kind) for kind in ("automatic", "mixed only", "schedule", "random")]
    outcomes = run_arms(settings, arms)
    write_results(settings.out, settings, outcomes, compare(outcomes, Arm("mixed only").name))


if __name__ == "__main__":
    main(tyro.cli(CurriculumExperiment))
