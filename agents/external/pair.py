"""A pair of somebody else's: two image files and the boxes of what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from scenes.pair import Box


@dataclass(frozen=True, eq=False)
class ExternalPair:
    """What a reader yields. The images stay on disk until they are looked at.

    Attributes:
        name: of the pair in its set.
        path_a, path_b: the image files, of equal size.
        size: their (width, height) in pixels.
        boxes_unit: (K, 4) float64 xyxy, each axis from 0 to 1; (0, 4) where nothing differs.
        changes: the kind of each difference, as the set calls it.
    """

    name: str
    path_a: Path
    path_b: Path
    size: tuple[int, int]
    boxes_unit: np.ndarray
    changes: tuple[str, ...]

    @property
    def image_a(self) -> np.ndarray:
        """Image A, (H, W, 3) uint8, read from its file at every call."""
        return _pixels(self.path_a)

    @property
    def image_b(self) -> np.ndarray:
        """Image B, likewise."""
        return _pixels(self.path_b)


def pair_of(
    name: str, path_a: Path, path_b: Path, boxes_px: Sequence[Box], changes: Iterable[str]
) -> ExternalPair:
    """Check two image files, and cut the boxes at the image's edge.

    Args:
        name: of the pair.
        path_a, path_b: its image files.
        boxes_px: xyxy in pixels.
        changes: the kind of each.

    Raises:
        ValueError: a file that is missing or no image, images of different sizes, or a box of
            which nothing lies inside them.
    """
    size = image_size(path_a)
    if image_size(path_b) != size:
        raise ValueError(
            f"pair {name}: {path_a} is {size[0]}x{size[1]} and {path_b} is "
            f"{image_size(path_b)[0]}x{image_size(path_b)[1]}; both images of a pair must be of "
            "one size"
        )
    boxes = np.array(boxes_px, dtype=np.float64).reshape(-1, 4) / (*size, *size)
    inside = boxes.clip(0.0, 1.0)
    # Written so that NaN, which compares false with everything, fails.
    visible = (inside[:, 2:] > inside[:, :2]).all(axis=1)
    if not visible.all():
        box = boxes_px[int(np.argmin(visible))]
        raise ValueError(
            f"pair {name}: the box {list(box)} (x0, y0, x1, y1) has no area inside the image of "
            f"{size[0]}x{size[1]} pixels"
        )
    return ExternalPair(name, path_a, path_b, size, inside, tuple(changes))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file, from its header alone.

    Raises:
        ValueError: it is missing, or no image.
    """
    try:
        with Image.open(path) as image:
            return image.size
    except OSError as error:
        raise ValueError(f"no image at {path}: {error}") from error


def read_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is missing, or no JSON.
    """
    try:
        return json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise ValueError(f"cannot read {path} as JSON: {error}") from error


def xyxy(xywh: Sequence[float]) -> Box:
    """COCO's [x, y, width, height] as corners."""
    x, y, width, height = xywh
    return x, y, x + width, y + height


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box around all (at least one)."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _pixels(path: Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image.convert("RGB"))
