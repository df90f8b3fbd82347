"""What an answer says: from a policy's text to boxes in the unit frame, and back.

Which part of the text counts, in the order in which the rules are applied:

1. What follows the last ``</think>``. A ``<think>`` that is opened after it and never closed
   hides the rest: an unfinished thought is not an answer.
2. Within that, what stands in ``<answer>...</answer>``, if a closed pair exists: the last one.
3. Within that, the last *box list* that is not inside another JSON value. Prose and code
   fences around it are ignored. A box list is
     - a JSON list that is empty or has a list or an object among its elements
       (``[[120, 300, 210, 400]]``, ``[{"bbox_2d": [120, 300, 210, 400], "label": "cube"}]``), or
     - one JSON object with a ``bbox_2d``.
   Anything else in brackets (``[1]``, ``[0, 1)``, ``{x}``) is prose. A list that begins like a box
   list but is not valid JSON (cut off, say) counts as one, and spoils the answer unless
   another list follows it: there is no falling back on an earlier draft, nor on a lone object
   behind it, which may be its own remainder.

Then all of that list's boxes must be valid, or the answer is worth nothing: four finite
numbers (no strings, no booleans, no lists) that keep an area above zero when clamped to the image.
So a box that leaves the image is cut at its edge, and one that is inverted, flat or wholly
outside is invalid. A number too large for a float reads as infinity, hence as invalid. Boxes may
repeat; each counts.

Numbers are never guessed to be of another frame than the one asked for. Hostile text is refused
before it costs time: a part that counts (rule 2) of more than 65,536 characters, or of more than
1,000 opening brackets, or whose brackets nest more than 64 deep.
"""

import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Context, Decimal
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from dig_env.boxes import Boxes, areas, checked_boxes
from dig_env.frames import frame_size

_DECIMALS = {"norm1000": 0, "unit": 3, "pixel": 0, "resized_pixel": 0}

# All three are far beyond any honest answer. They bound the time (each JSON error counts the
# lines before it), the number of boxes to match, and the depth of the C stack.
_MAX_CHARACTERS = 65_536
_MAX_BRACKETS = 1000
_MAX_DEPTH = 64

_OPENING = re.compile(r"[\[{]")
_BRACKET = re.compile(r"[\[\]{}]")
_BEGINS_BOX_LIST = re.compile(r'\[\s*\[[\s\[]*[-\d]|\[\s*\{\s*"|\{\s*"bbox_2d"')


@dataclass(frozen=True, eq=False)
class ParsedAnswer:
    """What an answer was found to say.

    Attributes:
        boxes: float64 (N, 4), xyxy in the unit frame, every area above zero, in the
            answer's order. (0, 4) when not ``ok``.
        ok: Whether the answer is a valid, non-empty list of boxes (the paper's "format").
        error: Why not, in a sentence for a person; "" when ``ok``.
        empty: Whether the answer is a list without boxes, such as "[]": not ``ok``, but the right
            answer where nothing differs.
    """

    boxes: Boxes
    ok: bool
    error: str
    empty: bool = False


def parse_boxes(
    text: str, coordinates: str = "norm1000", size: tuple[int, int] | None = None
) -> ParsedAnswer:
    """Read the boxes out of an answer's text, by the rules at the head of this module.

    Args:
        text: Anything that a policy may have written. No string raises, and the time is
            linear in its length.
        coordinates: The frame of the numbers, one of ``dig_env.COORDINATES``.
        size: The image's (width, height) in pixels; needed for frames in pixels, else ignored.

    Raises:
        TypeError: ``text`` is not a string.
        ValueError: unknown ``coordinates``, or a frame in pixels without a usable ``size``.

    >>> parse_boxes("The cube is new: [[120, 300, 210, 400]]").boxes
    array([[0.12, 0.3 , 0.21, 0.4 ]])
    >>> parse_boxes("[[120, 300, 210, 400], [700, 100, 650, 180]]").error
    'box 1 has no area inside the image; x0 < x1 and y0 < y1 are needed'
    """
    extent = frame_size(coordinates, size)
    if not isinstance(text, str):
        raise TypeError(f"an answer is a str, not {type(text).__name__}: {text!r:.60}")
    # A number in thousandths becomes a fraction where it is decoded, others by division below.
    in_thousandths = coordinates == "norm1000"
    decoder = _NORM1000_DECODER if in_thousandths else _PLAIN_DECODER
    rows, error = _last_box_list(answer_part(text), decoder)
    if error:
        return _refused(error)
    return _from_rows(rows, 1.0 if in_thousandths else np.array(extent * 2))


def read_boxes(boxes: np.ndarray | list | tuple) -> ParsedAnswer:
    """Apply the rules for a text's boxes to boxes given as numbers in the unit frame.

    Args:
        boxes: (N, 4) xyxy, an array or a list of rows. Whatever it holds, nothing raises.
    """
    if isinstance(boxes, np.ndarray) and (
        boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "fiu"
    ):
        return _refused(f"an array of boxes is (N, 4) numbers, not {boxes.shape} {boxes.dtype}")
    if len(boxes) > _MAX_BRACKETS:
        return _refused(f"the answer has more than {_MAX_BRACKETS} boxes")
    if isinstance(boxes, np.ndarray):
        return _clamped(boxes.astype(np.float64), 1.0)
    return _from_rows(boxes, 1.0)


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


def _norm1000_to_unit(literal: str) -> float:
    """Read a number in thousandths.

    Moving the decimal point in the text rounds once, so that ``format_boxes(exact=True)`` can
    be undone exactly; a division by 1000 would round twice, and miss 2 floats in 100.
    """
    return float(literal) / 1000 if "e" in literal.lower() else float(literal + "e-3")


def _decoder(number: Callable[[str], float]) -> json.JSONDecoder:
    # Integers go to float as well: int() refuses more than 4300 digits with an error.
    return json.JSONDecoder(parse_int=number, parse_float=number)


_NORM1000_DECODER = _decoder(_norm1000_to_unit)
_PLAIN_DECODER = _decoder(float)


def answer_part(text: str) -> str:
    """Return the part of a response that counts: rules 1 and 2. Linear in its length."""
    text = text.rpartition("</think>")[2].partition("<think>")[0]
    start = text.rfind("<answer>", 0, max(text.rfind("</answer>"), 0))
    if start < 0:
        return text
    start += len("<answer>")
    return text[start : text.find("</answer>", start)]


def _last_box_list(text: str, decoder: json.JSONDecoder) -> tuple[list, str]:
    """Return the rows of the box list that counts (rule 3), or why there is none.

    Each opening bracket is decoded in place. The search goes on behind the decoded value, or
    where its decoding failed, so that every character is read about once.
    """
    if hostile := _hostile(text):
        return [], hostile
    rows: list = []
    error = missing = "no list of boxes such as [[x0, y0, x1, y1]] was found"
    position = 0
    while opening := _OPENING.search(text, position):
        start = opening.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError as failure:
            position = max(failure.pos, start + 1)
            if _BEGINS_BOX_LIST.match(text, start):
                near = text[max(failure.pos - 10, start) : failure.pos + 10]
                error = f"the last list of boxes is not valid JSON: {failure.msg} near {near!r}"
        except RecursionError:  # brackets within strings can hide the depth from _hostile
            return [], "brackets nest too deep"
        else:
            # A lone object behind a broken list is most likely the rest of that list.
            if isinstance(value, dict) and error not in ("", missing):
                continue
            found = _rows(value)
            if found is not None:
                rows, error = found, ""
    return rows, error


def _hostile(text: str) -> str:
    """Return what makes a text too costly to read, or "" for any that a person would write."""
    if len(text) > _MAX_CHARACTERS:
        return f"the answer has more than {_MAX_CHARACTERS} characters"
    brackets = text.count("[") + text.count("{")
    if brackets > _MAX_BRACKETS:
        return f"the answer has more than {_MAX_BRACKETS} opening brackets"
    if brackets > _MAX_DEPTH and _depth(text) > _MAX_DEPTH:
        return f"brackets nest more than {_MAX_DEPTH} deep"
    return ""


def _depth(text: str) -> int:
    """Return how deep the brackets of a text nest, balanced or not."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif depth:
            depth -= 1
    return deepest


def _rows(value: list | dict) -> list | None:
    """Return the rows of a JSON value that is a box list, or None where it is prose."""
    if isinstance(value, dict):
        return [value] if "bbox_2d" in value else None
    if value and not any(isinstance(element, (list, dict)) for element in value):
        return None
    return value


def _refused(error: str) -> ParsedAnswer:
    return ParsedAnswer(np.empty((0, 4)), ok=False, error=error)


def _from_rows(rows: list | tuple, scale: Boxes | float) -> ParsedAnswer:
    """Check that rows are boxes, each four numbers or an object with such a ``bbox_2d``."""
    boxes = []
    for index, row in enumerate(rows):
        box = row.get("bbox_2d") if isinstance(row, dict) else row
        if isinstance(box, np.ndarray):
            box = box.tolist()
        if not (isinstance(box, (list, tuple)) and len(box) == 4 and all(map(_is_real, box))):
            return _refused(f"box {index} is not four numbers [x0, y0, x1, y1]")
        boxes.append(box)
    try:
        return _clamped(np.array(boxes, dtype=np.float64).reshape(-1, 4), scale)
    except OverflowError:  # a Python int above 1e308; text has none, its numbers are floats
        return _refused("a box holds a number that is not finite")


def _is_real(value: Any) -> bool:
    return isinstance(value, (float, int, np.floating, np.integer)) and not isinstance(value, bool)


def _clamped(boxes: Boxes, scale: Boxes | float) -> ParsedAnswer:
    """Clamp (N, 4) numbers to the image, 0 to ``scale``, and bring them to the unit frame."""
    if not len(boxes):
        return ParsedAnswer(boxes, ok=False, error="the list of boxes is empty", empty=True)
    finite = np.isfinite(boxes)
    if not finite.all():
        index = int(np.argmin(finite.all(axis=1)))
        return _refused(f"box {index} holds a number that is not finite")
    unit = np.minimum(np.maximum(boxes, 0.0), scale) / scale
    solid = areas(unit) > 0.0
    if not solid.all():
        return _refused(
            f"box {int(np.argmin(solid))} has no area inside the image; "
            "x0 < x1 and y0 < y1 are needed"
        )
    return ParsedAnswer(unit, ok=True, error="")


def _exact(value: float, scale: float) -> str:
    """Write ``value * scale`` so that dividing by ``scale`` gives ``value`` again, where it can."""
    whole = round(value * scale)
    return str(whole) if whole / scale == value else repr(value * scale)


def _exact_norm1000(value: float, _scale: float) -> str:
    """Write a unit value in thousandths: its shortest digits, decimal point moved by three."""
    return f"{_DIGITS.scaleb(Decimal(repr(value)), 3):f}"


_DIGITS = Context(prec=20)  # a float's shortest form has at most 17 digits
