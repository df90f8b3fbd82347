"""Boxes as the text of an answer."""

from __future__ import annotations

from decimal import Context, Decimal

import numpy as np
from numpy.typing import ArrayLike

from dig_env.answers.dialects import DIALECTS
from dig_env.boxes import Boxes, checked_boxes
from dig_env.frames import frame_size
from dig_env.scenes.arguments import one_of

_DECIMALS = {"norm1000": 0, "unit": 3, "pixel": 0, "resized_pixel": 0}
_DIGITS = Context(prec=20)  # a float's shortest form has at most 17 digits


def format_boxes(
    boxes_unit: ArrayLike,
    coordinates: str = "norm1000",
    size: tuple[int, int] | None = None,
    *,
    exact: bool = False,
    answers: str = "strict",
) -> str:
    """Write boxes as an answer, which ``parse_boxes`` reads in the same frame and dialect.

    Args:
        boxes_unit: (N, 4) xyxy in the unit frame. No boxes give "[]".
        coordinates: The frame to write in, one of ``dig_env.COORDINATES``.
        size: The image's (width, height) in pixels; needed for frames in pixels, else ignored.
        exact: False rounds as models are taught to answer, to integers or, in "unit", to three
            decimals, and no box is rounded away: each side keeps at least one step. True
            writes all digits: parsing then gives the very same floats in "norm1000" and "unit",
            and in pixels for boxes whose corners are whole pixels (others may differ in the
            last bit).
        answers: The dialect to write, one of ``DIALECTS``. Those with a frame of their own write
            the nearest of its steps whatever ``coordinates`` and ``exact`` are.

    Raises:
        ValueError: not valid boxes in [0, 1]; unknown ``coordinates`` or ``answers``; a frame in
            pixels without ``size``.

    >>> format_boxes([[0.12, 0.3, 0.21, 0.4]])
    '[[120, 300, 210, 400]]'
    """
    scale = np.array(frame_size(coordinates, size) * 2)
    one_of("answers", answers, DIALECTS)
    dialect = DIALECTS[answers]
    boxes = checked_boxes(boxes_unit, "boxes_unit") + 0.0  # + 0.0 turns -0.0 into 0.0
    if dialect.own is not None and dialect.own.bins is not None:
        steps = np.full(4, float(dialect.own.last))
        texts = _rounded(boxes * dialect.own.bins - dialect.own.offset, steps)
    elif exact:
        write = _exact_norm1000 if coordinates == "norm1000" else _exact
        texts = [list(map(write, box, scale.tolist())) for box in boxes.tolist()]
    else:
        decimals = _DECIMALS[coordinates]
        steps = scale * 10**decimals
        texts = _rounded(boxes * steps, steps, decimals)
    return dialect.write(texts)


def _rounded(boxes: Boxes, last: np.ndarray, decimals: int = 0) -> list[list[str]]:
    """The texts of boxes in steps, of which ``last`` are the highest; each side keeps a step."""
    corners = np.clip(np.rint(boxes), 0.0, last) + 0.0
    low = np.minimum(corners[:, :2], last[2:] - 1)
    high = np.maximum(corners[:, 2:], low + 1)
    rounded = np.hstack([low, high]) / 10**decimals
    return [[f"{value:.{decimals}f}" for value in box] for box in rounded.tolist()]


def _exact(value: float, scale: float) -> str:
    """Write ``value * scale`` so that dividing by ``scale`` gives ``value`` again, where it can."""
    whole = round(value * scale)
    return str(whole) if whole / scale == value else repr(value * scale)


def _exact_norm1000(value: float, _scale: float) -> str:
    """Write a unit value in thousandths: its shortest digits, decimal point moved by three."""
    return f"{_DIGITS.scaleb(Decimal(repr(value)), 3):f}"
