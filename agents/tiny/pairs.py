"""Rendered pairs in memory and on disk, for the warm-up."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from scenes import STAGES, Renderer, RenderSettings, pair_seed_range, plan_pair

SHARD = 400
"""Pairs in one file."""

MIXTURE = ("single", "single", "single", "dual", "mixed")
"""The stage of pair i is MIXTURE[i % 5]: 60 % single, 20 % dual, 20 % mixed."""

MOST = max(stage.differences[1] for stage in STAGES.values())


@dataclass(frozen=True)
class PairArrays:
    """Pairs in memory.

    Attributes:
        images: (N, 2, H, W, 3) uint8, images a and b.
        boxes: (N, M, 4) float32, xyxy in the unit frame, NaN where a pair has fewer than M.
    """

    images: np.ndarray
    boxes: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def boxes_of(self, index: int) -> np.ndarray:
        """(K, 4) boxes of one pair, without padding."""
        boxes = self.boxes[index]
        return boxes[~np.isnan(boxes[:, 0])]


def load_pairs(folder: Path, split: str) -> PairArrays:
    """All pairs of a split in a folder.

    Raises:
        FileNotFoundError: there are none.
    """
    files = sorted(folder.glob(f"{split}-*.npz"))
    if not files:
        raise FileNotFoundError(
            f"no {split} pairs in {folder}: give a folder with {split}-000.npz and so on, "
            "or run the warm-up without --no-render, which renders them"
        )
    shards = [np.load(file) for file in files]
    return PairArrays(
        np.concatenate([shard["images"] for shard in shards]),
        np.concatenate([shard["boxes"] for shard in shards]),
    )


def render_shards(
    folder: Path, split: str, pairs: int, settings: RenderSettings, workers: int
) -> Iterator[Path]:
    """Render the first `pairs` pairs of a split in files of 400, skipping files that exist.

    Each file holds `images` and `boxes` as in `PairArrays`, and `seeds`. Stop and run again at
    any time.
    """
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{split}-{shard:03d}.npz" for shard in range(-(-pairs // SHARD))]
    if all(file.exists() for file in files):
        return
    first = pair_seed_range(split).start
    with Renderer(settings, workers=workers) as renderer:
        for shard, file in enumerate(files):
            if not file.exists():
                offsets = range(shard * SHARD, min((shard + 1) * SHARD, pairs))
                _write(file, _render(renderer, first, offsets, settings))
                yield file


def _render(
    renderer: Renderer, first: int, offsets: range, settings: RenderSettings
) -> dict[str, np.ndarray]:
    n = len(offsets)
    images = np.zeros((n, 2, settings.height, settings.width, 3), np.uint8)
    boxes = np.full((n, MOST, 4), np.nan, np.float32)
    plans = (plan_pair(first + i, STAGES[MIXTURE[i % len(MIXTURE)]]) for i in offsets)
    for i, pair in enumerate(renderer.imap(plans)):
        images[i] = pair.image_a, pair.image_b
        boxes[i, : len(pair.differences)] = pair.boxes_unit
    return {"images": images, "boxes": boxes, "seeds": first + np.array(offsets)}


def _write(file: Path, arrays: dict[str, np.ndarray]) -> None:
    beside = file.with_name(f".{file.name}")
    with beside.open("wb") as stream:
        np.savez_compressed(stream, **arrays)
    os.replace(beside, file)
