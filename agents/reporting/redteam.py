"""What attacks on the reward earned, as a table and as a report."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from dig_env.agents.reporting.plots import dots_figure
from dig_env.agents.reporting.report import Section, versions, write_report
from dig_env.agents.reporting.table import Table
from dig_env.redteam import Outcome

Outcomes = dict[str, list[Outcome]]
"""Of each attack, under each reward by its name."""


def redteam_table(outcomes: Outcomes) -> Table:
    """Mean rewards of each attack under each reward; where it wins, an exclamation mark."""
    rows = [
        (
            of_attack[0].attack,
            *(f"{row.earned:.2f}{'!' if row.wins else ''}" for row in of_attack),
            f"{of_attack[0].honest:.2f}",
        )
        for of_attack in zip(*outcomes.values(), strict=True)
    ]
    return Table(("attack", *outcomes, "honest"), rows)


def write_redteam_report(
    path: Path, outcomes: Outcomes, verdict: str, made: dict[str, Any]
) -> None:
    """Write the report: what each attack earned beside its honest answer."""
    name, rows = next(iter(outcomes.items()))
    series = {
        "attack": [[row.earned] * 3 for row in rows],
        "honest answer": [[row.honest] * 3 for row in rows],
    }
    text = f"Under the reward {name!r}, and below under each. The honest answer's is {name}'s."
    sections = [
        Section(
            "Mean rewards",
            text,
            figure=dots_figure([row.attack for row in rows], series, "mean reward"),
            tables=[redteam_table(outcomes)],
        )
    ]
    write_report(
        path,
        "Tricks against the reward",
        f"{len(rows)} attacks under {len(outcomes)} rewards; {verdict}.",
        sections,
        made | {"versions": versions()},
    )
