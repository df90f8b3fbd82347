"""Boxes as the text of an answer."""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np
from numpy.typing import ArrayLike

from dig_env.boxes import checked_boxes
from dig_env.frames import frame_size

_DECIMALS = {"norm1000": 0, "unit": 3, "pixel": 0, "resized_pixel": 0}
_DIGITS = Context(prec=20)  # a float's shortest form has at most 17 digits


def format_boxes(
    boxes_unit: ArrayLike,
    coordinates: str = "norm1000",
    size: tuple[int, int] | None = None,
    *,
    exact: bool = False,
) -> str:
    """Write boxes as the canonical answer, which ``parse_boxes`` reads in the same frame.

    Args:
        boxes_unit: (N, 4) xyxy in the unit frame. No boxes give "[]".
        coordinates: The frame to write in, one of ``dig_env.COORDINATES``.
        size: The image's (width, height) in pixels; needed for frames in pixels, else ignored.
        exact: False rounds as models are taught to answer, to integers or, in "unit", to three
            decimals, and no box is rounded away: each side keeps at least one step. True
            writes all digits: parsing then gives the very same floats in "norm1000" and "unit",
            and in pixels for boxes whose corners are whole pixels (others may differ in the
            last bit).

    Raises:
        ValueError: not valid boxes in [0, 1]; unknown ``coordinates``; a frame in pixels without
            ``size``.

    >>> format_boxes([[0.12, 0.3, 0.21, 0.4]])
    '[[120, 300, 210, 400]]'
    """
    scale = np.array(frame_size(coordinates, size) * 2)
    boxes = checked_boxes(boxes_unit, "boxes_unit") + 0.0  # + 0.0 turns -0.0 into 0.0
    if exact:
        write = _exact_norm1000 if coordinates == "norm1000" else _exact
        texts = [list(map(write, box, scale.tolist())) for box in boxes.tolist()]
    else:
        decimals = _DECIMALS[coordinates]
        steps = scale * 10**decimals
        corners = np.rint(boxes * steps)
        low = np.minimum(corners[:, :2], steps[2:] - 1)
        high = np.maximum(corners[:, 2:], low + 1)
        rounded = np.hstack([low, high]) / 10**decimals
        texts = [[f"{value:.{decimals}f}" for value in box] for box in rounded.tolist()]
    return "[" + ", ".join("[" + ", ".join(box) + "]" for box in texts) + "]"


def _exact(value: float, scale: float) -> str:
    """Write ``value * scale`` so that dividing by ``scale`` gives ``value`` again, where it can."""
    whole = round(value * scale)
    return str(whole) if whole / scale == value else repr(value * scale)


def _exact_norm1000(value: float, _scale: float) -> str:
    """Write a unit value in thousandths: its shortest digits, decimal point moved by three."""
    return f"{_DIGITS.scaleb(Decimal(repr(value)), 3):f}"
