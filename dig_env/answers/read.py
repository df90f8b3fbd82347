"""Boxes out of an answer's text, or out of numbers."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from dig_env.answers.dialects import DIALECTS
from dig_env.answers.part import answer_part, too_long
from dig_env.answers.strict import MAX_BRACKETS, unique_keys
from dig_env.boxes import Boxes, areas
from dig_env.frames import frame_size
from dig_env.scenes.arguments import one_of


@dataclass(frozen=True, eq=False)
class ParsedAnswer:
    """What an answer was found to say.

    Attributes:
        boxes: float64 (N, 4), xyxy in the unit frame, every area above zero, in the
            answer's order. (0, 4) when not ``ok``.
        ok: Whether the answer is a valid, non-empty list of boxes (the paper's "format").
        error: What is wrong, in a sentence for a person: why the answer is not ``ok``, that its
            numbers look like those of another frame, or what "lenient" assumed. Else "".
        empty: Whether the answer says that nothing differs, such as "[]": not ``ok``, but the right
            answer where that is so.
    """

    boxes: Boxes
    ok: bool
    error: str
    empty: bool = False


def parse_boxes(
    text: str,
    coordinates: str = "norm1000",
    size: tuple[int, int] | None = None,
    answers: str = "strict",
) -> ParsedAnswer:
    """Read the boxes out of an answer's text, by the rules of ``dig_env.answers``.

    Args:
        text: Anything that a policy may have written. No string raises, and the time is
            linear in its length.
        coordinates: The frame of the numbers, one of ``dig_env.COORDINATES``.
        size: The image's (width, height) in pixels; needed for frames in pixels, else ignored.
        answers: The dialect that is read, one of ``DIALECTS``.

    Raises:
        TypeError: ``text`` is not a string.
        ValueError: unknown ``coordinates`` or ``answers``, or a frame in pixels without a usable
            ``size``.

    >>> parse_boxes("The cube is new: [[120, 300, 210, 400]]").boxes
    array([[0.12, 0.3 , 0.21, 0.4 ]])
    >>> parse_boxes("[[120, 300, 210, 400], [700, 100, 650, 180]]").error
    'box 1 has no area inside 1000 x 1000: in [700, 100, 650, 180], x0 < x1 and y0 < y1 are needed'
    """
    if not isinstance(text, str):
        raise TypeError(f"an answer is a str, not {type(text).__name__}: {text!r:.60}")
    return read_part(answer_part(text), coordinates, size, answers)


def read_part(
    part: str, coordinates: str, size: tuple[int, int] | None, answers: str
) -> ParsedAnswer:
    """As ``parse_boxes``, given what ``answer_part`` has found."""
    extent = frame_size(coordinates, size)
    one_of("answers", answers, DIALECTS)
    if error := too_long(part):
        return refused(error)
    decoder, per_unit = _DECODERS[coordinates == "norm1000"]
    found = DIALECTS[answers].read(part, decoder)
    if found.error:
        empty = ": the answer is empty; thoughts are no part of it"
        return refused(found.error if part.strip() else found.error + empty)
    if found.extent is not None:
        extent, per_unit = (found.extent, found.extent), 1.0
    parsed = _from_rows(found.rows, extent, per_unit)
    notes = [note for note in (found.note, parsed.error) if note]
    return replace(parsed, error="; ".join(notes)) if found.note else parsed


def read_boxes(boxes: np.ndarray | list | tuple) -> ParsedAnswer:
    """Apply the rules for a text's boxes to boxes given as numbers in the unit frame.

    Args:
        boxes: (N, 4) xyxy, an array or a list of rows. Whatever it holds, nothing raises.
    """
    if isinstance(boxes, np.ndarray) and (
        boxes.ndim != 2 or boxes.shape[1] != 4 or boxes.dtype.kind not in "fiu"
    ):
        return refused(f"an array of boxes is (N, 4) numbers, not {boxes.shape} {boxes.dtype}")
    if len(boxes) > MAX_BRACKETS:
        return refused(f"the answer has more than {MAX_BRACKETS} boxes")
    if isinstance(boxes, np.ndarray):
        return _clamped(boxes.astype(np.float64), (1.0, 1.0))
    return _from_rows(boxes, (1.0, 1.0))


def refused(error: str) -> ParsedAnswer:
    """An answer that is worth nothing, and why."""
    return ParsedAnswer(np.empty((0, 4)), ok=False, error=error)


def _norm1000_to_unit(literal: str) -> float:
    """Read a number in thousandths.

    Moving the decimal point in the text rounds once, so that ``format_boxes(exact=True)`` can
    be undone exactly; a division by 1000 would round twice, and miss 2 floats in 100.
    """
    return float(literal) / 1000 if "e" in literal.lower() else float(literal + "e-3")


_DIGITS = re.compile(r"\d[\d.e+-]*")
# In thousandths or not: the decoder, and what the numbers were divided by while they were decoded.
# Integers go to float as well: int() refuses more than 4300 digits with an error.
_DECODERS = {
    in_thousandths: (
        json.JSONDecoder(parse_int=number, parse_float=number, object_pairs_hook=unique_keys),
        1000.0 if in_thousandths else 1.0,
    )
    for in_thousandths, number in ((True, _norm1000_to_unit), (False, float))
}


def _from_rows(
    rows: list | tuple, extent: tuple[float, float], per_unit: float = 1.0
) -> ParsedAnswer:
    """Check that rows are boxes, each four numbers or an object with such a ``bbox_2d``.

    Args:
        rows: the list of boxes, its numbers divided by ``per_unit``.
        extent: of the frame that they were written in.
        per_unit: see ``rows``.
    """
    boxes = []
    for index, row in enumerate(rows):
        box = row.get("bbox_2d") if isinstance(row, dict) else row
        if isinstance(box, np.ndarray):
            box = box.tolist()
        if not (isinstance(box, (list, tuple)) and len(box) == 4 and all(map(_is_real, box))):
            if isinstance(row, dict) and "bbox_2d" not in row:
                return refused(
                    f'box {index} is {_shown(row, per_unit)}, without "bbox_2d": a box is '
                    '[x0, y0, x1, y1] or {"bbox_2d": [x0, y0, x1, y1]}'
                )
            found = _shown(box, per_unit)
            return refused(f"box {index} is not four numbers [x0, y0, x1, y1] but {found}")
        if isinstance(row, dict) and (other := _further_box(row)):
            return refused(
                f"box {index} has further numbers under {other!r:.30}: give each box a row"
            )
        boxes.append(box)
    try:
        array = np.array(boxes, dtype=np.float64).reshape(-1, 4)
    except OverflowError:  # a Python int above 1e308; text has none, its numbers are floats
        return refused("a box holds a number that is not finite")
    return _clamped(array, extent, per_unit)


def _further_box(row: dict[str, Any]) -> str | None:
    """The key of a row under which there may be another box than the one that is read."""
    for key, value in row.items():
        other = isinstance(value, (list, dict)) and value != row["bbox_2d"]
        if other and len(_DIGITS.findall(repr(value))) >= 4:
            return key
    return None


def _is_real(value: Any) -> bool:
    return isinstance(value, (float, int, np.floating, np.integer)) and not isinstance(value, bool)


def _clamped(boxes: Boxes, extent: tuple[float, float], per_unit: float = 1.0) -> ParsedAnswer:
    """Clamp (N, 4) numbers to the image and bring them to the unit frame; see ``_from_rows``."""
    if not len(boxes):
        return ParsedAnswer(boxes, ok=False, error="the list of boxes is empty", empty=True)
    finite = np.isfinite(boxes)
    if not finite.all():
        index = int(np.argmin(finite.all(axis=1)))
        return refused(f"box {index} holds a number that is not finite")
    scale = 1.0 if extent[0] == extent[1] == per_unit else np.array(extent * 2) / per_unit
    unit = np.minimum(np.maximum(boxes, 0.0), scale) / scale
    solid = areas(unit) > 0.0
    if not solid.all():
        index = int(np.argmin(solid))
        return refused(
            f"box {index} has no area inside {extent[0]:g} x {extent[1]:g}: in "
            f"{_shown(boxes[index], per_unit)}, x0 < x1 and y0 < y1 are needed"
        )
    return ParsedAnswer(unit, ok=True, error=_doubt(boxes, extent, per_unit))


def _doubt(boxes: Boxes, extent: tuple[float, float], per_unit: float) -> str:
    """Say it if valid numbers look like those of another frame, the commonest mistake there is.

    They are read and rewarded all the same: which frame was meant would be a guess.
    """
    low, high = boxes.min() * per_unit, boxes.max() * per_unit
    largest = max(extent)
    if high <= 1.0 < largest:
        found = "all numbers lie within 0 to 1"
    elif high > 1.1 * largest or low < -0.1 * largest:
        found = f"the numbers reach from {low:g} to {high:g}"
    else:
        return ""
    return f"{found}, and were read as those of a frame of {extent[0]:g} x {extent[1]:g}"


def _shown(value: Any, per_unit: float, depth: int = 3) -> str:
    """What was written, in short."""
    if isinstance(value, (list, tuple, np.ndarray)) and depth:
        inner = ", ".join(_shown(item, per_unit, depth - 1) for item in value[:6])
        return f"[{inner}, ...]" if len(value) > 6 else f"[{inner}]"
    if isinstance(value, dict) and depth:
        items = [f"{key!r:.30}: {_shown(item, per_unit, depth - 1)}" for key, item in value.items()]
        return "{" + ", ".join(items[:3]) + (", ...}" if len(items) > 3 else "}")
    if _is_real(value) and abs(value) <= 1e300:
        return f"{value * per_unit:.6g}"
    return f"{value!r:.30}"
