"""Policies that look at the images along each axis of difficulty: F1 with its interval.

python benchmarks/axes.py
"""

from __future__ import annotations

import platform
from pathlib import Path
from typing import Any

import tyro

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
from dig_env.scenes import (
    PAPER_STAGES,
    STAGES,
    Difficulty,
    Renderer,
    RenderSettings,
    available_cores,
)

SMALLER = 60 / (320 * 240)
"""A ``min_visible`` that lets small or hidden objects pass."""


def _subtle(name: str, change: str, low: float, high: float) -> Difficulty:
    """One change of a kind, within a range, and as faint as can just be noticed."""
    within: dict[str, Any] = {name: (low, high)}
    return Difficulty(changes=(change,), min_contrast=2.3, **within)


AXES: dict[str, Difficulty] = {
    **{stage: STAGES[stage] for stage in STAGES if stage not in PAPER_STAGES},
    "0 or 1 differences": Difficulty(differences=(0, 1)),
    "0 to 8 differences": Difficulty(differences=(0, 8), objects=(8, 10)),
    "color distance 20 to 40": _subtle("color_distance", "color", 20, 40),
    "color distance 10 to 20": _subtle("color_distance", "color", 10, 20),
    "color distance 5 to 10": _subtle("color_distance", "color", 5, 10),
    "size ratio 1.2 to 1.4": _subtle("size_ratio", "size", 1.2, 1.4),
    "size ratio 1.1 to 1.2": _subtle("size_ratio", "size", 1.1, 1.2),
    "size ratio 1.05 to 1.1": _subtle("size_ratio", "size", 1.05, 1.1),
    "material contrast over 20": _subtle("material_contrast", "material", 20, 100),
    "material contrast under 20": _subtle("material_contrast", "material", 2.3, 20),
    "15 objects": Difficulty(objects=(15, 15), object_scale=(0.6, 0.9), min_visible=SMALLER),
    "20 objects": Difficulty(objects=(20, 20), object_scale=(0.6, 0.9), min_visible=SMALLER),
    "hidden by 0.1 to 0.3": Difficulty(occlusion=(0.1, 0.3), min_visible=SMALLER),
    "hidden by 0.3 to 0.6": Difficulty(occlusion=(0.3, 0.6), min_visible=SMALLER),
    "objects at 0.75": Difficulty(object_scale=(0.75, 0.75), min_visible=SMALLER),
    "objects at 0.5": Difficulty(object_scale=(0.5, 0.5), min_visible=SMALLER),
    **{f"camera shift {shift}": Difficulty(camera_shift=shift) for shift in (0.02, 0.05, 0.2)},
    **{f"light shift {shift:g}": Difficulty(light_shift=shift) for shift in (1.0, 3.0)},
    **{f"exposure {stops}": Difficulty(exposure_stops=stops) for stops in (0.1, 0.3, 1.0)},
    **{f"noise {sigma:g}": Difficulty(noise_levels=sigma) for sigma in (4.0, 8.0, 16.0)},
    **{f"JPEG {quality}": Difficulty(jpeg_quality=quality) for quality in (90, 50, 20)},
}
"""From mild to strong on each axis; one difference unless the name says otherwise. Nuisances are
added to the scenes of "single"."""


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
    conditions = {"single": STAGES["single"]} | AXES
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
