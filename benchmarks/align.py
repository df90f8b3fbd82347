"""The alignment tasks: a picture of each, what a blind guess earns, and what a question takes.

    python benchmarks/align.py --out docs/results/align.json --picture docs/align.png

The pairs stay in ``--folder``, so that the script can be stopped and started again.
"""

from __future__ import annotations

import dataclasses
import io
import platform
import time
from pathlib import Path
from typing import Any

import numpy as np
import tyro
from PIL import Image

from dig_env.agents.evaluation.align import align_metrics, evaluate_align
from dig_env.agents.policies.align import AlignBlind, AlignOracle
from dig_env.agents.policies.align_chat import right_answers
from dig_env.agents.reporting.report import write_results
from dig_env.align import TASKS, AlignSettings, pose
from dig_env.align.drawing import draw_question
from dig_env.scenes import PairDataset, RenderSettings, available_cores, render_dataset, views
from dig_env.scenes.files import write_whole

COLUMNS = 5
LEFT_OUT = ("confidence", "by", "episodes")
PICTURED = (0, 1, 2, 3, 4, 5, 6, 7, 8, 9)
"""Which pair shows each task."""
_SETTINGS = AlignSettings()


def main(
    pairs: int = 60,
    episodes: int = 500,
    settings: RenderSettings = RenderSettings(device="cpu"),
    folder: Path = Path("runs/align"),
    out: Path = Path("docs/results/align.json"),
    picture: Path = Path("docs/align.png"),
) -> None:
    """Render, ask, print a table, draw a sheet.

    Args:
        pairs: how many, of the test split.
        episodes: questions of each task.
        settings: image size and quality.
        folder: where the dataset is.
        out: file for the results.
        picture: file for the sheet.
    """
    render_dataset(folder, {"mixed": pairs}, "test", settings)
    table: dict[str, Any] = {
        "command": "python benchmarks/align.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "settings": dataclasses.asdict(settings),
        "pairs": pairs,
        "episodes": episodes,
        "questions": _questions(PairDataset(folder)),
        "blind": {},
    }
    for task in TASKS:
        oracle = evaluate_align(AlignOracle(), task, episodes=50, dataset=folder)
        assert all(abs(episode.reward - 1) < 1e-9 for episode in oracle), task
        blind = evaluate_align(AlignBlind(), task, episodes=episodes, dataset=folder)
        table["blind"][task] = align_metrics(blind)
        numbers = {
            name: f"{value[0]:.2f}"
            for name, value in table["blind"][task].items()
            if name not in LEFT_OUT
        }
        print(f"{task:14} {numbers} {table['questions'][task]}", flush=True)
    blind_rewards = {task: metrics["reward"][0] for task, metrics in table["blind"].items()}
    write_results(out, table, "reward without a look", blind_rewards)
    write_whole(picture, _sheet(PairDataset(folder)))
    print(f"picture: {picture}")


def _questions(dataset: PairDataset) -> dict[str, dict[str, float]]:
    """Of each task: the share of images that give nothing to ask, and milliseconds a question."""
    seen = [view for pair in dataset for view in views(pair)]
    table = {}
    for task, ask in TASKS.items():
        begun = time.perf_counter()
        posed = [
            ask(view, np.random.default_rng(index), _SETTINGS) for index, view in enumerate(seen)
        ]
        table[task] = {
            "images": len(seen),
            "nothing_to_ask": posed.count(None) / len(seen),
            "ms": 1000 * (time.perf_counter() - begun) / len(seen),
        }
    return table


def _sheet(dataset: PairDataset) -> bytes:
    """One question of each task with its answer, as a PNG file of 256 colours."""
    cells = []
    for index, task in enumerate(TASKS):
        seed = dataset.pair_seeds()[PICTURED[index]]
        posed = pose(views(dataset.pair(seed)), task, np.random.default_rng(index), _SETTINGS)
        assert posed is not None
        _, question = posed
        cells.append(draw_question(question, right_answers(question, _SETTINGS.coordinates)))
    rows = []
    for start in range(0, len(cells), COLUMNS):
        row = cells[start : start + COLUMNS]
        rows.append(np.concatenate([_padded(cell, row) for cell in row], axis=1))
    buffer = io.BytesIO()
    Image.fromarray(np.concatenate(rows)).quantize(256, kmeans=10).save(
        buffer, format="PNG", optimize=True
    )
    return buffer.getvalue()


def _padded(cell: np.ndarray, row: list[np.ndarray]) -> np.ndarray:
    """A cell as high as the highest drawn part in its row, with a gutter to its right."""
    height = max(int(np.flatnonzero((other != 255).any(axis=(1, 2)))[-1]) for other in row) + 8
    below = max(0, height - len(cell))
    return np.pad(cell[:height], ((0, below), (0, 8), (0, 0)), constant_values=255)


if __name__ == "__main__":
    tyro.cli(main)
