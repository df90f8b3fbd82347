"""``dig-env render --task``: instruction data for the alignment tasks."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.table import Table

from agents.cli_progress import progress_of
from scenes import RenderSettings

console = Console(highlight=False)


@dataclass(frozen=True)
class TaskData:
    """How questions are written; of use with --task alone.

    Attributes:
        dataset: ask about the pairs of this folder, which dig-env render wrote, not fresh ones.
        format: trl for SFTTrainer (Parquet), llava for conversations (JSON and image files).
        coordinates: frame of all boxes: norm1000, unit, pixel or resized_pixel.
        crop_px: side of a crop in pixels.
        per_pair: greatest number of questions about one pair.
    """

    dataset: Path | None = None
    format: Literal["trl", "llava"] = "trl"
    coordinates: str = "norm1000"
    crop_px: int = 112
    per_pair: int = 8


def write_tasks(
    out: Path,
    task: str,
    count: int | None,
    stage: str | None,
    split: str,
    render: RenderSettings,
    workers: int | None,
    options: TaskData,
) -> None:
    """Write ``count`` questions of one or more tasks; see ``agents.cli_render.render``."""
    from agents.align.data import AlignData, write_align_data
    from dig_env.align import TASKS, AlignSettings

    if count is None:
        raise ValueError("say how many questions: --count 1000; several tasks share them evenly")
    data = AlignData(
        tasks=tuple(TASKS) if task == "all" else tuple(task.split(",")),
        format=options.format,
        settings=AlignSettings(options.coordinates, options.crop_px),
        stage=stage,
        render=render,
        dataset=None if options.dataset is None else str(options.dataset),
        per_pair=options.per_pair,
    )
    try:
        with progress_of("questions", every=data.rows_per_file) as on_example:
            manifest = write_align_data(out, count, data, split, workers, on_example)
    except KeyboardInterrupt:
        command = shlex.join(["dig-env", *sys.argv[1:]])
        console.print(f"stopped; go on with: {command}", markup=False, soft_wrap=True)
        sys.exit(130)
    table = Table("task", split)
    for name in data.tasks:
        files = manifest["splits"][split]["files"]
        table.add_row(name, str(sum(file["counts"][name] for file in files)))
    console.print(table)
    console.print(f"questions: {out}", soft_wrap=True)
