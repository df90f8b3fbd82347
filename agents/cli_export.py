"""``dig-env export``: a dataset in the form that another trainer or tool reads."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

console = Console(highlight=False)


def export(
    format: Literal["trl", "easyr1", "verl", "coco", "llava"],
    dataset: Path,
    out: Path | None = None,
    reward: str = "full",
    coordinates: str = "norm1000",
    model: str = "Qwen/Qwen3-VL-4B-Thinking",
    thinking: bool = True,
) -> None:
    """Write what another trainer or tool needs: rows, images, reward file and config.

    Args:
        format: trl, easyr1 and verl for training, coco for detection, llava for fine-tuning.
        dataset: folder that dig-env render wrote.
        out: folder to write; an earlier export there is replaced. By default DATASET-FORMAT.
        reward: a name from dig_env.REWARDS, such as full, paper, dense or strict.
        coordinates: frame to answer in: norm1000, unit, pixel or resized_pixel.
        model: folder or hub name that training starts from.
        thinking: whether the model's chat template opens its answer with <think>.
    """
    from agents.export import ExportSettings, export_dataset
    from scenes import PairDataset

    pairs = PairDataset(dataset)
    if out is None:
        out = dataset.with_name(f"{dataset.resolve().name}-{format}")
    columns = (BarColumn(), MofNCompleteColumn(), TextColumn("pairs"), TimeRemainingColumn())
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("", total=len(pairs))
        export_dataset(
            pairs,
            out,
            format,
            ExportSettings(reward, coordinates, model, thinking),
            on_pair=lambda done, _: progress.update(task, completed=done),
        )
    console.print(f"{format}: {out} ({len(pairs)} pairs)", soft_wrap=True)
    if pairs.manifest.missing:
        console.print(
            f"{pairs.manifest.missing} pairs that {dataset} was to hold are not there yet, so not "
            "in the export either: run its 'dig-env render' to the end and export again",
            soft_wrap=True,
        )
