"""Render fresh pairs, audit them from their pixels, and say what their certificates hold.

    python benchmarks/certificates.py --out docs/results/certificates.json

The pairs stay in ``--folder``, so that the script can be stopped and started again.
"""

from __future__ import annotations

import dataclasses
import platform
from pathlib import Path
from typing import Any

import numpy as np
import tyro

from dig_env.agents.reporting.report import write_results
from dig_env.scenes import (
    Certificate,
    PairDataset,
    RenderSettings,
    audit_dataset,
    available_cores,
    render_dataset,
)
from dig_env.scenes.dataset import CHECKS


def main(
    pairs: int = 2000,
    stage: str = "mixed",
    settings: RenderSettings = RenderSettings(device="cpu"),
    folder: Path = Path("runs/certificates"),
    out: Path = Path("docs/results/certificates.json"),
) -> None:
    """Render, audit, print two tables.

    Args:
        pairs: how many.
        stage: single, dual or mixed.
        settings: image size and quality.
        folder: where the dataset is.
        out: file for the results.
    """
    render_dataset(folder, {stage: pairs}, "validation", settings, on_pair=_progress)
    audit = audit_dataset(folder)
    wrong = {name: sum(problem.check == name for problem in audit.problems) for name in CHECKS}
    for name, meaning in CHECKS.items():
        print(f"{name:14} {audit.checked[name]:6} looked at, {wrong[name]} wrong: {meaning}")
    table = {
        "command": "python benchmarks/certificates.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "settings": dataclasses.asdict(settings),
        "stage": stage,
        "pairs": pairs,
        "audit": {name: [audit.checked[name], wrong[name]] for name in CHECKS},
        **_distributions(PairDataset(folder)),
    }
    write_results(out, table, "findings of the audit", wrong)


def _progress(done: int, total: int) -> None:
    if done % 100 == 0:
        print(f"{done} of {total} pairs", flush=True)


def _distributions(dataset: PairDataset) -> dict[str, Any]:
    """Percentiles of what was measured, and how many plans were drawn for a pair."""
    values: dict[str, list[float]] = {}
    attempts, counts = [], []
    for pair in dataset:
        attempts.append(pair.plan.attempt)
        counts.append(len(pair.differences))
        for name, value in dataclasses.asdict(pair.certificate).items():
            values.setdefault(name, []).append(value)
        for diff in pair.differences:
            values.setdefault("contrast", []).append(diff.contrast)
            values.setdefault("visible_px", []).append(max(diff.visible_a, diff.visible_b))
    rows = {
        name: {
            label: round(float(np.percentile(series, percent)), 4)
            for label, percent in (("least", 0), ("median", 50), ("p95", 95), ("largest", 100))
        }
        for name, series in values.items()
    }
    assert set(rows) >= {field.name for field in dataclasses.fields(Certificate)}
    for name, row in rows.items():
        print(f"{name:20} {row}")
    return {
        "pairs_drawn_again": float(np.mean(np.array(attempts) > 0)),
        "plans_a_pair": 1 + float(np.mean(attempts)),
        "pairs_by_differences": {
            str(count): int(np.sum(np.array(counts) == count)) for count in sorted(set(counts))
        },
        "distributions": rows,
    }


if __name__ == "__main__":
    tyro.cli(main)
