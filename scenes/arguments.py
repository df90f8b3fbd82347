"""Arguments, checked one way and refused in one form: ``name=value: give ...``."""

from __future__ import annotations

import contextlib
import math
import operator
import sys
from collections.abc import Collection
from numbers import Integral, Real
from typing import Any

import numpy as np

LARGEST = sys.float_info.max


def whole(
    name: str, value: Any, least: int | None = None, most: int | None = None, of: str = ""
) -> int:
    """A whole number, Python's or NumPy's, as an int: whatever ``operator.index`` takes.

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


def real(
    name: str, value: Any, least: float = -math.inf, most: float = math.inf, above: bool = False
) -> float:
    """A finite number, Python's or NumPy's, as a float, or as an int if it is whole by its type.

    Args:
        name: of the argument, for the error.
        value: what was given. True and False are no numbers here.
        least, most: what is allowed.
        above: whether ``least`` itself is not.

    Raises:
        ValueError: it is no finite number, or out of its range.
    """
    low = math.nextafter(least, math.inf) if above else least
    is_number = isinstance(value, Real) and not isinstance(value, bool)
    # Compared rather than converted: an int may be too large for a float.
    if is_number and -LARGEST <= value <= LARGEST and low <= value <= most:
        return int(value) if isinstance(value, Integral) else float(value)
    begin = "" if least == -math.inf else f" above {least:g}" if above else f", {least:g} or more"
    if most == math.inf:
        raise ValueError(f"{name}={value!r}: give a finite number{begin}")
    begin = f"{begin}, up to" if above else f" from {least:g} to"
    raise ValueError(f"{name}={value!r}: give a number{begin} {most:g}")


def one_of(name: str, value: Any, allowed: Collection[str]) -> None:
    """Raise ValueError unless a text is one of those that are allowed."""
    if not isinstance(value, str) or value not in allowed:
        raise ValueError(f"{name}={value!r}: give one of {', '.join(allowed)}")
