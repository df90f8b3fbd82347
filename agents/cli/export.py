"""``dig-env export``: a dataset in the form that another trainer or tool reads."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import tyro

from dig_env.agents.cli.output import Output, Printed


def export(
    format: Literal["trl", "easyr1", "verl", "swift", "skyrl", "nemo", "coco", "llava"],
    dataset: Path,
    out: Path | None = None,
    reward: str = "full",
    coordinates: str = "norm1000",
    model: str = "Qwen/Qwen3-VL-4B-Thinking",
    thinking: Annotated[bool | None, tyro.conf.arg(constructor=bool)] = None,
    output: Printed = Output(),
) -> None:
    """Write a dataset, reward and config for another trainer or tool.

    Args:
        format: for training with trl, easyr1, verl, swift, skyrl or nemo; coco for detection, llava
            for fine-tuning.
        dataset: folder that dig-env render wrote.
        out: folder to write; an earlier export there is replaced. By default DATASET-FORMAT.
        reward: a name from dig_env.REWARDS, such as full, paper, dense or strict.
        coordinates: frame to answer in: norm1000, unit, pixel or resized_pixel.
        model: folder or hub name that training starts from.
        thinking: whether the model's chat template opens its answer with <think>; by default as
            the template says, or the model's name where the model is not on this machine.
        output: what is printed.
    """
    from dig_env.agents.data.export import ExportSettings, export_dataset
    from dig_env.scenes import PairDataset

    pairs = PairDataset(dataset)
    if out is None:
        out = dataset.with_name(f"{dataset.resolve().name}-{format}")
    with output.progress("pairs", every=1000) as on_pair:
        settings = ExportSettings(reward, coordinates, model, thinking)
        export_dataset(pairs, out, format, settings, on_pair=on_pair)
    if pairs.manifest.missing:
        output.note(
            f"{pairs.manifest.missing} pairs that {dataset} was to hold are not there yet, so not "
            "in the export either: run its 'dig-env render' to the end and export again"
        )
    result = {"format": format, "pairs": len(pairs), "missing": pairs.manifest.missing}
    output.say(f"{len(pairs)} pairs")
    output.result(result, **{format: out})
