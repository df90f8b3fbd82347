"""``dig-env questions``: questions about pairs, with answers to learn from."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from dig_env.agents.cli.common import StageName, tasks_named
from dig_env.agents.cli.output import Output, Printed
from dig_env.agents.reporting.table import Table
from dig_env.align import AlignSettings
from dig_env.scenes import RenderSettings


def questions(
    out: Path,
    count: int,
    task: str = "all",
    split: str = "train",
    dataset: Path | None = None,
    stage: StageName | None = None,
    width: int = 320,
    height: int = 240,
    quality: str = "standard",
    device: str = "auto",
    workers: int | None = None,
    format: Literal["trl", "llava"] = "trl",
    coordinates: str = "norm1000",
    crop_px: int = 112,
    per_pair: int = 8,
    output: Printed = Output(),
) -> None:
    """Write instruction data: questions of the alignment tasks with their answers.

    Stop at any time: the same command resumes.

    Args:
        out: folder to fill; it may hold other splits already.
        count: questions that the folder is to hold of this split; several tasks share them evenly.
        task: a name in dig_env.align.TASKS, several with commas between, or all.
        split: train, validation or test.
        dataset: ask about the pairs of this folder, which dig-env render wrote, not fresh ones.
        stage: of the pairs.
        width: of fresh pairs, image width in pixels.
        height: of fresh pairs, image height in pixels.
        quality: of fresh pairs: draft, standard or high.
        device: auto, cpu or gpu.
        workers: Blender processes; by default one a CPU core, if they fit in memory.
        format: trl for SFTTrainer (Parquet), llava for conversations (JSON and image files).
        coordinates: frame of all boxes: norm1000, unit, pixel or resized_pixel.
        crop_px: side of a crop in pixels.
        per_pair: greatest number of questions about one pair.
        output: what is printed.
    """
    from dig_env.agents.data.instructions.dataset import AlignData, write_align_data

    data = AlignData(
        tasks=tasks_named(task),
        format=format,
        settings=AlignSettings(coordinates, crop_px),
        stage=stage,
        render=RenderSettings(width, height, quality, device),
        dataset=None if dataset is None else str(dataset),
        per_pair=per_pair,
    )
    with output.progress("questions", every=data.rows_per_file) as on_example:
        manifest = write_align_data(out, count, data, split, workers, on_example)
    files = manifest["splits"][split]["files"]
    counts = {name: sum(file["counts"][name] for file in files) for name in data.tasks}
    output.table(Table(("task", split), [(name, str(n)) for name, n in counts.items()]))
    output.result({"split": split, "counts": counts}, questions=out)
