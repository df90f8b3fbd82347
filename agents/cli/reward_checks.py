"""``dig-env redteam`` and ``calibrate``: checks of the reward, as tables."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Any

from dig_env import REWARDS
from dig_env.agents.cli.common import result_file
from dig_env.agents.cli.output import Output, Printed
from dig_env.scenes.files import write_whole


def calibrate(
    pairs: int = 200,
    seed: int = 0,
    out: Path | None = None,
    page: Path | None = None,
    human: Path | None = None,
    output: Printed = Output(),
) -> None:
    """Measure the reward with policies of known quality, on test pairs.

    Args:
        pairs: of each difficulty.
        seed: of pairs and of random answers.
        out: JSON file for the results; their report, .html, and plot, .png, are beside it. By
            default runs/calibration.json.
        page: also bring the tables and the plot of this Markdown page up to date.
        human: also score the answers of this file, which dig-env play kept.
        output: what is printed.
    """
    out = result_file(out, "calibration")
    from dig_env.agents.evaluation.calibration import card as cards
    from dig_env.agents.reporting.calibration import TABLES, write_card_report, write_page

    with output.progress("difficulties", every=1) as update:
        card = cards.calibrate(
            cards.CalibrationSettings(
                pairs=pairs, seed=seed, human=None if human is None else str(human)
            ),
            lambda name, done, total: update(done, total, name),
        )
    report = out.with_suffix(".html")
    cards.write_card(card, out)
    write_card_report(card, report)
    for table in TABLES.values():
        output.table(table(card))
    files = {"results": out, "report": report}
    if page is not None:
        files |= {"plot": write_page(card, page), "page": page}
    output.result(card, **files)


def redteam(
    pairs: int = 200,
    seed: int = 0,
    out: Path | None = None,
    output: Printed = Output(),
) -> None:
    """Measure the reward with tricks. Exits with 1 if one earns more than an honest answer.

    Args:
        pairs: true answers to play each trick against.
        seed: of truths and tricks.
        out: JSON file for the results; their report, .html, and plot, .png, are beside it. By
            default runs/redteam.json.
        output: what is printed.
    """
    out = result_file(out, "redteam")
    from dig_env.agents.reporting.redteam import redteam_table, write_redteam_report
    from dig_env.redteam import random_truths, red_team

    truths = list(random_truths(pairs, seed))
    outcomes = {}
    with output.counting("rewards", len(REWARDS)) as count:
        for name, config in REWARDS.items():
            outcomes[name] = red_team(config, truths, seed)
            count()
    wins = {name: sum(row.wins for row in rows) for name, rows in outcomes.items()}
    won = ", ".join(f"{count} under {name}" for name, count in wins.items() if count)
    results: dict[str, Any] = {
        "command": f"dig-env redteam --pairs {pairs} --seed {seed}",
        "outcomes": {
            name: [dataclasses.asdict(row) for row in rows] for name, rows in outcomes.items()
        },
    }
    verdict = f"attacks that outscored their honest answer: {won or 'none'}"
    report = out.with_suffix(".html")
    write_whole(out, json.dumps(results, indent=2).encode() + b"\n")
    write_redteam_report(report, outcomes, verdict, {"command": results["command"], "seed": seed})
    output.table(redteam_table(outcomes))
    output.say(verdict)
    output.result(results, results=out, report=report)
    sys.exit(1 if won else 0)
