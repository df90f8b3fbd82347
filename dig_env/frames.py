"""Coordinate frames: what the numbers of an answer are relative to."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from PIL import Image

from dig_env.scenes.arguments import one_of, whole
from dig_env.scenes.extras import extra

COORDINATES = ("norm1000", "unit", "pixel", "resized_pixel")
"""Frames of an answer's numbers.

- "norm1000": 0 to 1000 along each axis (Qwen2-VL and Qwen3-VL).
- "unit": 0 to 1 along each axis.
- "pixel": pixels of the image.
- "resized_pixel": pixels of the image as Qwen2.5-VL's processor resizes it; see ``resized_size``.
"""


def frame_size(coordinates: str, size: tuple[int, int] | None) -> tuple[float, float]:
    """The frame's extent along x and y: what the unit frame is multiplied by.

    Args:
        coordinates: one of ``COORDINATES``.
        size: the image's (width, height) in pixels; needed for the two frames in pixels.

    Raises:
        ValueError: unknown ``coordinates``, or a frame in pixels without a usable ``size``.

    >>> frame_size("resized_pixel", (320, 240))
    (308.0, 252.0)
    """
    if coordinates == "norm1000":
        return 1000.0, 1000.0
    if coordinates == "unit":
        return 1.0, 1.0
    one_of("coordinates", coordinates, COORDINATES)
    width, height = _usable(size, coordinates)
    if coordinates == "resized_pixel":
        width, height = resized_size((width, height))
    return float(width), float(height)


def resized_size(size: tuple[int, int], image_processor: Any = None) -> tuple[int, int]:
    """The (width, height) to which a Qwen-VL image processor resizes an image.

    The processor itself is asked, with a blank image, so that the answer holds for every version
    and setting of it.

    Args:
        size: the image's (width, height) in pixels.
        image_processor: of any Qwen2-VL, Qwen2.5-VL or Qwen3-VL model. None is Qwen2.5-VL's with
            the limits that transformers gives it. For one with limits of your own, ask here and
            give the result as the size of "pixel" answers.

    Raises:
        ValueError: the processor refuses such an image (its sides differ more than 200 times).
    """
    return _default_resized_size(size) if image_processor is None else _asked(image_processor, size)


def _asked(image_processor: Any, size: tuple[int, int]) -> tuple[int, int]:
    blank = Image.new("RGB", size)
    grid = image_processor(images=[blank], return_tensors="pt")["image_grid_thw"][0].tolist()
    return grid[2] * image_processor.patch_size, grid[1] * image_processor.patch_size


@lru_cache
def _default_resized_size(size: tuple[int, int]) -> tuple[int, int]:
    # Here, since it takes seconds to import. The variant without torchvision resizes alike.
    with extra("train"):
        from transformers import Qwen2VLImageProcessorPil

    return _asked(Qwen2VLImageProcessorPil(), size)


def _usable(size: Any, coordinates: str) -> tuple[int, int]:
    try:
        width, height = (whole("size", side, 1) for side in size)
    except (TypeError, ValueError):
        raise ValueError(
            f"size={size!r}: coordinates={coordinates!r} needs the image's (width, height) in "
            "pixels"
        ) from None
    return width, height
