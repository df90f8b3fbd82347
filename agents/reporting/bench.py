"""The benchmark's runs as tables: one run, and all of a leaderboard."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

from dig_env.agents.reporting.table import Table, fill_tables


def run_table(run: dict[str, Any]) -> Table:
    """A run by stage and by kind of change.

    Args:
        run: with what ``dig_env.agents.evaluation.bench.play.figures`` gives.
    """
    rows = [_row("all", run)]
    rows += [_row(stage, entry) for stage, entry in run["by_stage"].items()]
    for change, entry in run["by_change"].items():
        count = f"{entry['differences']} differences"
        rows.append((f"change: {change}", count, "", "", _cell(entry["recall"])))
    if run["nothing_differs"] is not None:
        rows.append(_row("nothing differs", run["nothing_differs"]))
    header = ["", "", "F1", "reward", "differences found"]
    return Table(header, rows, "In brackets: 95 % of a bootstrap over pairs.")


def leaderboard_table(runs: Sequence[dict[str, Any]], size: str) -> Table:
    """The runs at a size, best first, with F1 by stage.

    Those of a part of the published pairs, and trials, are shown only where there are no others.
    """
    runs = [run for run in runs if run["size"] == size]
    runs = [run for run in runs if run["same"] and run["limit"] is None] or runs
    runs.sort(key=lambda run: -run["f1"][0])
    stages = list(dict.fromkeys(stage for run in runs for stage in run["by_stage"]))
    rows = []
    for run in runs:
        by_stage = [run["by_stage"].get(stage) for stage in stages]
        cells = ["" if entry is None else f"{entry['f1'][0]:.2f}" for entry in by_stage]
        rows.append((run["policy"], f"{run['pairs']:,}", _cell(run["f1"]), *cells))
    return Table(["F1 of", "pairs", "all", *stages], rows)


def fill_page(page: str, runs: Sequence[dict[str, Any]]) -> str:
    """The page with its tables of the leaderboard updated, named by size; see ``fill_tables``."""
    sizes = dict.fromkeys(run["size"] for run in runs)
    return fill_tables(page, {size: partial(leaderboard_table, runs, size) for size in sizes})


def _row(name: str, entry: dict[str, Any]) -> tuple[str, ...]:
    figures = (_cell(entry[key]) for key in ("f1", "reward", "recall"))
    return (name, f"{entry['pairs']} pairs", *figures)


def _cell(interval: Sequence[float] | None) -> str:
    """[mean, low, high]; empty where there is nothing to find."""
    if interval is None:
        return ""
    mean, low, high = interval
    return f"{mean:.3f} ({low:.3f}, {high:.3f})"
