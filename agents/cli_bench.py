"""``dig-env bench``: what the reward is worth, as tables."""

from __future__ import annotations

import dataclasses
import json
import sys
from pathlib import Path
from typing import Annotated, Literal

import tyro
from rich.console import Console
from rich.table import Table

from dig_env import REWARDS
from scenes.files import write_whole

console = Console(highlight=False)


def bench(
    card: Annotated[Literal["redteam", "calibration"], tyro.conf.Positional],
    pairs: int = 200,
    seed: int = 0,
    out: Path | None = None,
    page: Path | None = None,
    person: str | None = None,
) -> None:
    """Measure the reward: redteam plays tricks against it, calibration plays known policies.

    Args:
        card: which table.
        pairs: true answers to play each trick against, or pairs of each difficulty.
        seed: of truths, tricks and pairs.
        out: also write the results to this JSON file.
        page: also bring the tables and the plot of this page up to date (calibration).
        person: also score the answers of this file, which dig-env play kept (calibration).
    """
    if card == "redteam":
        _redteam(pairs, seed, out)
    else:
        _calibration(pairs, seed, person, out, page)


def _calibration(
    pairs: int, seed: int, person: str | None, out: Path | None, page: Path | None
) -> None:
    """Render, let every policy answer, and print the tables."""
    from agents.calibration.card import CalibrationSettings, calibrate, write_card
    from agents.calibration.page import TABLES, write_page

    card = calibrate(
        CalibrationSettings(pairs=pairs, seed=seed, person=person),
        lambda name, done, total: console.print(f"{done} of {total}: {name}"),
    )
    for table in TABLES.values():
        console.print(table(card) + "\n", markup=False, soft_wrap=True)
    if out is not None:
        write_card(card, out)
        console.print(f"results: {out}")
    if page is not None:
        console.print(f"plot: {write_page(card, page)}")
        console.print(f"page: {page}")


def _redteam(pairs: int, seed: int, out: Path | None) -> None:
    """Print what each attack earns beside its honest answer; exit with 1 if one earns more."""
    from dig_env.redteam import random_truths, red_team

    truths = list(random_truths(pairs, seed))
    outcomes = {name: red_team(config, truths, seed) for name, config in REWARDS.items()}
    table = Table("attack", *REWARDS, "honest", box=None, padding=(0, 1, 0, 0))
    for rows in zip(*outcomes.values(), strict=True):
        cells = [f"{'[red]' if row.wins else ''}{row.earned:.2f}" for row in rows]
        table.add_row(rows[0].attack, *cells, f"{rows[0].honest:.2f}")
    console.print(
        f"mean rewards on {pairs} truths; the honest answer's under {next(iter(REWARDS))}"
    )
    console.print(table)
    wins = {name: sum(row.wins for row in rows) for name, rows in outcomes.items()}
    won = ", ".join(f"{count} under {name}" for name, count in wins.items() if count)
    console.print(f"attacks that outscored their honest answer: {won or 'none'}")
    if out is not None:
        results = {
            "command": f"dig-env bench redteam --pairs {pairs} --seed {seed}",
            "outcomes": {
                name: [dataclasses.asdict(row) for row in rows] for name, rows in outcomes.items()
            },
        }
        write_whole(out, json.dumps(results, indent=2).encode() + b"\n")
        console.print(f"results: {out}")
    sys.exit(1 if won else 0)
