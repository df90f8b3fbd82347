"""An external pair: two image files, or one, and the boxes of what differs."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from dig_env import instruction, odd_one_out
from dig_env.scenes import Difficulty
from dig_env.scenes.measure.pair import Box
from dig_env.scenes.photos.annotations import OUTSIDE, read_json
from dig_env.scenes.photos.picture import Geometry, geometry, read_picture

_MOST_APART = 2.0
"""Mean difference, in levels of 255, up to which two files count as copies of one picture."""


@dataclass(frozen=True, eq=False)
class Patched:
    """A picture of which some parts come from other copies of it.

    Attributes:
        path: the image file.
        patches: further copies, each with the blocks that are taken from it, (rows, columns) bool.
        differing: the blocks where the copies may differ, (rows, columns) bool.
        block_px: side of a block.
    """

    path: Path
    patches: tuple[tuple[Path, np.ndarray], ...]
    differing: np.ndarray
    block_px: int

    def pixels(self) -> np.ndarray:
        """(H, W, 3) uint8.

        Raises:
            ValueError: a file shows something else.
        """
        image = _pixels(self.path).copy()
        common = ~self._spread(self.differing, image)
        for path, taken in self.patches:
            other = _pixels(path)
            if (
                other.shape != image.shape
                or np.abs(image.astype(np.int16) - other)[common].mean() > _MOST_APART
            ):
                raise ValueError(f"{path} and {self.path} are not copies of one picture")
            part = self._spread(taken, image)
            image[part] = other[part]
        return image

    def _spread(self, blocks: np.ndarray, image: np.ndarray) -> np.ndarray:
        """(H, W) bool: the pixels of these blocks."""
        wide = blocks.repeat(self.block_px, 0).repeat(self.block_px, 1)
        return wide[: image.shape[0], : image.shape[1]]


@dataclass(frozen=True, eq=False)
class ExternalPair:
    """What a reader yields. The images stay on disk until they are looked at.

    Attributes:
        name: of the pair in its set.
        path_a, path_b: the image files, of equal size; path_b is None where the set has one image
            with an odd one in it.
        size: their (width, height) in pixels.
        boxes_unit: (K, 4) float64 xyxy, each axis from 0 to 1; (0, 4) where nothing differs.
        changes: the kind of each difference, as the set calls it.
    """

    name: str
    path_a: Path | Patched
    path_b: Path | Patched | None
    size: tuple[int, int]
    boxes_unit: np.ndarray
    changes: tuple[str, ...]

    @property
    def image_a(self) -> np.ndarray:
        """Image A, (H, W, 3) uint8, read from its file at every call."""
        return _pixels(self.path_a)

    @property
    def image_b(self) -> np.ndarray | None:
        """Image B, (H, W, 3) uint8, read from its file at every call; None if there is none."""
        return None if self.path_b is None else _pixels(self.path_b)

    def prompt(self, coordinates: str, difficulty: Difficulty, answers: str) -> str:
        """What is asked; arguments as for ``dig_env.instruction``."""
        if self.path_b is None:
            return odd_one_out(coordinates, self.size, answers)
        return instruction(coordinates, self.size, difficulty, answers)

    def observation(self, coordinates: str, difficulty: Difficulty, answers: str) -> dict[str, Any]:
        """What a policy sees: "image_a", "prompt" and, where there are two images, "image_b"."""
        seen = {"image_a": self.image_a, "prompt": self.prompt(coordinates, difficulty, answers)}
        return seen if self.path_b is None else seen | {"image_b": self.image_b}


def pair_of(
    name: str, path_a: Path, path_b: Path | None, boxes_px: Sequence[Box], changes: Iterable[str]
) -> ExternalPair:
    """Check the image files, and cut the boxes at the image's edge.

    Args:
        name: of the pair.
        path_a, path_b: its image files; path_b may be None.
        boxes_px: xyxy in pixels.
        changes: the kind of each.

    Raises:
        ValueError: a file that is missing or no image, images of different sizes, or a box that
            leaves them, but for the rounding of an annotator.
    """
    size = image_size(path_a)
    if path_b is not None and image_size(path_b) != size:
        raise ValueError(
            f"pair {name}: {path_a} is {size[0]}x{size[1]} and {path_b} is "
            f"{image_size(path_b)[0]}x{image_size(path_b)[1]}; both images of a pair must be of "
            "one size"
        )
    for x0, y0, x1, y1 in boxes_px:
        over = max(-x0 / size[0], -y0 / size[1], x1 / size[0] - 1, y1 / size[1] - 1)
        over_px = max(-x0, -y0, x1 - size[0], y1 - size[1])
        if (over > OUTSIDE and over_px > 2) or x0 >= size[0] or y0 >= size[1] or x1 <= 0 or y1 <= 0:
            raise ValueError(
                f"pair {name}: the box {[x0, y0, x1, y1]} (x0, y0, x1, y1) does not lie inside the "
                f"image of {size[0]}x{size[1]} pixels. Boxes are [x, y, width, height] in pixels "
                "of these very files: are they corners, thousandths, or for another size?"
            )
    boxes = np.array(boxes_px, dtype=np.float64).reshape(-1, 4) / (*size, *size)
    inside = boxes.clip(0.0, 1.0)
    return ExternalPair(name, path_a, path_b, size, inside, tuple(changes))


def image_size(path: Path) -> tuple[int, int]:
    """(width, height) of an image file as it is seen, upright, from its header alone.

    Raises:
        ValueError: it is missing, or no image.
    """
    return image_geometry(path).size


def image_geometry(path: Path) -> Geometry:
    """The size of an image file, and how it is stored; raises as ``image_size``."""
    try:
        return geometry(path)
    except OSError as error:
        raise ValueError(f"no image at {path}: {error}") from error


def load_json(path: Path) -> Any:
    """The content of a JSON file.

    Raises:
        ValueError: it is missing, or no JSON.
    """
    try:
        return read_json(path)
    except (OSError, EOFError, ValueError) as error:
        raise ValueError(f"cannot read {path} as JSON: {error}") from error


def xyxy(xywh: Any, what: str) -> Box:
    """COCO's [x, y, width, height] in pixels as corners.

    Args:
        xywh: as it stands in the file.
        what: whose box it is, for the error.

    Raises:
        ValueError: it is no such box: not four finite numbers, without area, or in 0 to 1.
    """
    is_box = isinstance(xywh, list) and len(xywh) == 4 and all(map(_is_number, xywh))
    if not is_box or xywh[2] <= 0 or xywh[3] <= 0:
        raise ValueError(
            f"{what} has the bbox {xywh!r:.80}: give [x, y, width, height] in pixels, width and "
            "height above 0"
        )
    if max(xywh) <= 1:
        raise ValueError(
            f"{what} has the bbox {xywh}, which is in the frame 0 to 1: multiply it by the image's "
            "width and height, pixels are needed"
        )
    x, y, width, height = xywh
    return x, y, x + width, y + height


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and math.isfinite(value)


def union(boxes: Iterable[Box]) -> Box:
    """The smallest box around all (at least one)."""
    x0, y0, x1, y1 = zip(*boxes, strict=True)
    return min(x0), min(y0), max(x1), max(y1)


def _pixels(source: Path | Patched) -> np.ndarray:
    if isinstance(source, Patched):
        return source.pixels()
    return np.asarray(read_picture(source))
