"""Whole numbers, Python's or NumPy's: whatever ``operator.index`` takes."""

from __future__ import annotations

import contextlib
import operator
from typing import Any

import numpy as np


def whole(
    name: str, value: Any, least: int | None = None, most: int | None = None, of: str = ""
) -> int:
    """``value`` as an int.

    Args:
        name: of the argument, for the error.
        value: what was given. True and False are no numbers here.
        least, most: what is allowed; None is no limit.
        of: what it counts, for the error: " of pixels".

    Raises:
        ValueError: it is no whole number, or out of its range.
    """
    if not isinstance(value, (bool, np.bool_)):
        with contextlib.suppress(TypeError):
            number = operator.index(value)
            if (least is None or least <= number) and (most is None or number <= most):
                return number
    allowed = "" if least is None else f", {least} or more"
    allowed = allowed if most is None else f" from {least} to {most}"
    raise ValueError(f"{name}={value!r}: give a whole number{of}{allowed}")
