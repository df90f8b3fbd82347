"""What a policy sees and is asked. The count, the stage and the boxes are never in it."""

from __future__ import annotations

from typing import Any

from dig_env.frames import frame_size
from scenes import Pair

_PIXELS = "pixels, the image being {width:.0f} wide and {height:.0f} high"
_FRAMES = {
    "norm1000": "whole numbers from 0 to 1000 relative to the image width and height",
    "unit": "decimals from 0 to 1 relative to the image width and height",
    "pixel": _PIXELS,
    "resized_pixel": _PIXELS,
}


def frame_words(coordinates: str, size: tuple[int, int] | None = None) -> str:
    """What a prompt says of the numbers of a box, to follow "in". Same arguments and errors."""
    width, height = frame_size(coordinates, size)
    return _FRAMES[coordinates].format(width=width, height=height)


def instruction(coordinates: str = "norm1000", size: tuple[int, int] | None = None) -> str:
    """The instruction that accompanies the two images.

    Args:
        coordinates: the frame to answer in, one of ``dig_env.COORDINATES``.
        size: the image's (width, height); used for frames in pixels only.

    Raises:
        ValueError: unknown ``coordinates``, or a frame in pixels without a size.
    """
    return (
        "The two images show the same scene with one or more differences. Find every difference "
        "and answer with a list of boxes [[x_min, y_min, x_max, y_max], ...], one box around each "
        f"difference, in {frame_words(coordinates, size)}."
    )


def observe(pair: Pair, coordinates: str = "norm1000") -> dict[str, Any]:
    """The observation of a pair: "image_a" and "image_b", (H, W, 3) uint8, and "prompt", str."""
    height, width = pair.image_a.shape[:2]
    return {
        "image_a": pair.image_a.copy(),
        "image_b": pair.image_b.copy(),
        "prompt": instruction(coordinates, (width, height)),
    }
