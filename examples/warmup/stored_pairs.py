"""Rendered pairs in memory, for the warm-up."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from dig_env import instruction
from dig_env.observation import instructions
from dig_env.scenes import PairDataset


@dataclass(frozen=True)
class PairArrays:
    """Pairs in memory.

    Attributes:
        images: (N, 2, H, W, 3) uint8, images a and b.
        boxes: (N, M, 4) float32, xyxy in the unit frame, NaN where a pair has fewer than M.
        stages: (N,) name of each pair's stage.
        kinds: (N,) place of each pair's prompt among ``instructions()``.
    """

    images: np.ndarray
    boxes: np.ndarray
    stages: np.ndarray
    kinds: np.ndarray

    def __len__(self) -> int:
        return len(self.images)

    def boxes_of(self, index: int) -> np.ndarray:
        """(K, 4) boxes of one pair, without padding."""
        boxes = self.boxes[index]
        return boxes[~np.isnan(boxes[:, 0])]


def load_pairs(folder: str | Path, split: str) -> PairArrays:
    """All pairs of a split in a dataset's folder.

    Raises:
        FileNotFoundError: there is no dataset.
        ValueError: it has no pairs of the split, or damaged ones.
    """
    dataset = PairDataset(folder)
    seeds = dataset.pair_seeds(split=split)
    width, height = dataset.settings.width, dataset.settings.height
    most = max(difficulty.differences[1] for difficulty in dataset.stages.values())
    images = np.empty((len(seeds), 2, height, width, 3), np.uint8)
    boxes = np.full((len(seeds), most, 4), np.nan, np.float32)
    for index, seed in enumerate(seeds):
        pair = dataset.pair(seed)
        images[index] = pair.image_a, pair.image_b
        boxes[index, : len(pair.differences)] = pair.boxes_unit
    stages = [dataset.stage_of(seed) for seed in seeds]
    prompts = {
        name: instructions().index(instruction(difficulty=difficulty))
        for name, difficulty in dataset.stages.items()
    }
    kinds = np.array([prompts[stage] for stage in stages])
    return PairArrays(images, boxes, np.array(stages), kinds)
