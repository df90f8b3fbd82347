"""Datasets in the form that other trainers and tools read: rows, images, reward file and config.

One function for each format; ``export_dataset`` writes any of them, whole or not at all. Each
split and stage has its own file, so that a curriculum can go from stage to stage and
nothing that trains reads test pairs.
"""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Callable
from pathlib import Path

from dig_env.agents.data.export.annotations import write_coco, write_llava
from dig_env.agents.data.export.source import ExportSettings, Source
from dig_env.agents.data.export.trainers import (
    write_easyr1,
    write_nemo,
    write_skyrl,
    write_swift,
    write_trl,
    write_verl,
)
from dig_env.scenes import PairDataset
from dig_env.scenes.files import write_folder_whole
from dig_env.scenes.version import __version__

__all__ = ["FORMATS", "ExportSettings", "export_dataset"]

EXPORT_MANIFEST = "export.json"
"""What was exported, and how; also the mark of a folder that an export may replace."""

FORMATS: dict[str, Callable[[Source, Path], None]] = {
    "trl": write_trl,
    "easyr1": write_easyr1,
    "verl": write_verl,
    "swift": write_swift,
    "skyrl": write_skyrl,
    "nemo": write_nemo,
    "coco": write_coco,
    "llava": write_llava,
}
"""What writes each format into an empty folder."""


def export_dataset(
    dataset: str | Path | PairDataset,
    out: str | Path,
    format: str,
    settings: ExportSettings = ExportSettings(),
    on_pair: Callable[[int, int], None] | None = None,
) -> Path:
    """Export a dataset. At most ``parquet.ROWS_AT_ONCE`` pairs are in memory at once.

    Args:
        dataset: a folder that ``dig-env render`` wrote.
        out: folder for the export; an earlier export there is replaced, once the new one is whole.
        format: one of ``FORMATS``.
        settings: see there.
        on_pair: called with (pairs written, pairs in all).

    Returns:
        ``out``.

    Raises:
        ValueError: an unknown format; a dataset without the pairs that the format needs, or with
            damaged ones; ``out`` holds something that is no export.
        FileNotFoundError: there is no dataset.
    """
    if format not in FORMATS:
        raise ValueError(f"unknown format {format!r}; the formats are {', '.join(FORMATS)}")
    if not isinstance(dataset, PairDataset):
        dataset = PairDataset(dataset)
    out = Path(out)
    if out.is_dir() and any(out.iterdir()) and not (out / EXPORT_MANIFEST).is_file():
        raise ValueError(
            f"{out} holds files and no {EXPORT_MANIFEST}, so it is no earlier export: "
            "give --out a new folder"
        )
    source = Source(dataset, settings, on_pair)
    write_folder_whole(out.resolve(), functools.partial(_fill, source, format))
    return out


def _fill(source: Source, format: str, folder: Path) -> None:
    FORMATS[format](source, folder)
    card = {
        "format": format,
        "dig_env": __version__,
        "pairs": source.counts(),
        "rendered": dataclasses.asdict(source.dataset.settings),
        "settings": dataclasses.asdict(source.settings),
        "reward": source.reward_options(),
    }
    (folder / EXPORT_MANIFEST).write_text(json.dumps(card, indent=2) + "\n")
