"""Policies that look at the images along each axis of difficulty: F1 with its interval.

python benchmarks/axes.py
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import tyro

from dig_env.agents.evaluation.calibration.axes import AXIS_DIFFICULTIES
from dig_env.agents.evaluation.calibration.card import (
    CalibrationSettings,
    answer_all,
    image_policies,
    table_rows,
    write_card,
)
from dig_env.agents.evaluation.pairs import held_out_pairs
from dig_env.agents.reporting.plots import dots_figure
from dig_env.agents.reporting.report import Section, write_report
from dig_env.scenes import STAGES, Renderer, RenderSettings, available_cores


def main(
    pairs: int = 50,
    out: Path = Path("docs/results/axes.json"),
) -> None:
    """Render, play and print.

    Args:
        pairs: test pairs of each difficulty, of seed 0.
        out: file for the results.
    """
    settings = CalibrationSettings(pairs=pairs)
    render = RenderSettings(settings.width, settings.height, settings.quality, "cpu")
    policies = image_policies(render)
    conditions = {"single": STAGES["single"]} | AXIS_DIFFICULTIES
    card: dict[str, Any] = {
        "command": f"python benchmarks/axes.py --pairs {pairs}",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "pairs": pairs,
        "difficulties": {name: value.to_json() for name, value in conditions.items()},
        "rows": [],
    }
    with Renderer(render) as renderer:
        for name, difficulty in conditions.items():
            played = list(held_out_pairs(renderer, difficulty, pairs, settings.seed))
            rows = list(table_rows(name, answer_all(policies, played), settings))
            card["rows"] += [
                {key: row[key] for key in ("condition", "policy", "note", "f1") if key in row}
                for row in rows
            ]
            print(name, *(f"{row['policy']}: {row['f1'][0]:.2f}" for row in rows), flush=True)
    write_card(card, out)
    found = {
        name: [row["f1"] for row in card["rows"] if row["policy"] == name] for name in policies
    }
    sections = [Section("Who finds what", figure=dots_figure(conditions, found, "mean F1"))]
    write_report(out.with_suffix(".html"), "F1 along the axes", card["command"], sections, card)
    print(f"results: {out}")


if __name__ == "__main__":
    tyro.cli(main)
