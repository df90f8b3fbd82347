"""The lenient dialect, for evaluation: every box that is clearly written, whatever the notation.

What "strict" reads is read in the same way. Otherwise, the first of these that finds a box: a
notation with marks (``marked``); JSON and Python values, in which lists of four numbers, pairs of
corners and objects with known keys are boxes (single quotes, tuples, trailing commas, numbers as
strings and zeros in front do no harm); named numbers, as in x1=120, y1=300, x2=210, y2=400; four
numbers in a row. All boxes count and equal ones count once, so alternatives cost precision.

The order of the axes is never guessed: numbers are x first unless the keys or marks say otherwise.
Nor is the frame, which is the one asked for unless the marks fix it. A note says what was assumed.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Callable, Iterator
from typing import Any

from dig_env.answers.marked import NOTATIONS
from dig_env.answers.strict import Refused, Rows, check_cost, read_strict

Box = tuple[list[str], bool]
"""The literals of four numbers, x first, and whether they were written y first."""

_N = r"([-+]?\d+(?:\.\d+)?)"
_SEPARATOR = r"(?:\s*,\s*|\s+)"
_CORNERS = re.compile(
    rf"[(\[]\s*{_N}\s*,\s*{_N}\s*[)\]]\s*(?:,|to|and|-+>?|\u2013|\u2192)\s*[(\[]\s*{_N}\s*,\s*{_N}\s*[)\]]"
)
_LOW, _HIGH = "(?:_?min|1|0|_?left)", "(?:_?max|2|1|_?right)"
_NAMED = re.compile(
    rf"(?:\bx{_LOW}|left)\W{{1,4}}{_N}\W{{1,4}}(?:\by{_LOW}|top)\W{{1,4}}{_N}\W{{1,4}}"
    rf"(?:\bx{_HIGH}|right)\W{{1,4}}{_N}\W{{1,4}}(?:\by{_HIGH}|bottom)\W{{1,4}}{_N}",
    re.I,
)
_FOUR = re.compile(
    rf"(?<![\w.,])(?<!\d\s){_N}{_SEPARATOR}{_N}{_SEPARATOR}{_N}{_SEPARATOR}{_N}(?!\w|\.\d|\s*,?\s*[-\d])"
)
_OPENING = re.compile(r"[\[{(]")
_BRACKET = re.compile(r"[\[\]{}()]")
_CLOSING = {"[": "]", "{": "}", "(": ")"}
_ZEROS = re.compile(r"(?<![\w.])0+(?=\d)")
_NUMERIC = re.compile(r"\s*[-+]?\d+(?:\.\d+)?\s*")
_NONE = re.compile(
    r"\bno (?:\w+ )?(?:differences?|changes?)\b|\bimages? (?:are|look) (?:identical|the same)\b"
    r"|\bnothing (?:differs|(?:has )?changed)\b",
    re.I,
)
_BOX_KEYS = {"bbox_2d", "bbox", "box", "boundingbox", "bounding_box", "coordinates", "xyxy"}
_CORNER_KEYS = (
    ("x1", "y1", "x2", "y2"),
    ("x0", "y0", "x1", "y1"),
    ("x_min", "y_min", "x_max", "y_max"),
    ("xmin", "ymin", "xmax", "ymax"),
    ("left", "top", "right", "bottom"),
)
_SIZE_KEYS = (
    ("x", "y", "width", "height"),
    ("x", "y", "w", "h"),
    ("left", "top", "width", "height"),
)


def read_lenient(text: str, decoder: json.JSONDecoder) -> Rows:
    """Read an answer by the rules at the head of this module; as ``read_strict``."""
    try:
        check_cost(text.replace("(", "["))
    except Refused as reason:
        return Rows([], str(reason))
    for name, notation in NOTATIONS.items():
        if notation.region.search(text):
            found = notation.read(text, decoder)
            if not found.error:
                return found._replace(note=f"read as {name} writes boxes")
    strict = read_strict(text, decoder)
    if not strict.error and all(map(_is_plain, strict.rows)):
        return strict
    values = list(_values(_CORNERS.sub(r"[\1, \2, \3, \4]", text)))
    boxes = [box for value in values for box in _boxes(value)]
    boxes = boxes or [(list(match), False) for match in _NAMED.findall(text)]
    boxes = boxes or [(list(match), False) for match in _FOUR.findall(text)]
    if not boxes:
        none = any(map(_says_none, values)) or _NONE.search(text)
        return Rows([], note="read as: nothing differs") if none else strict
    return _rows(boxes, decoder)


def _is_plain(row: Any) -> bool:
    box = row.get("bbox_2d") if isinstance(row, dict) else row
    return isinstance(box, list) and len(box) == 4 and all(isinstance(n, float) for n in box)


def _rows(boxes: list[Box], decoder: json.JSONDecoder) -> Rows:
    number: Callable[[str], Any] = decoder.parse_float
    rows: list[list[float]] = []
    for literals, _ in boxes:
        row = [number(literal.strip()) for literal in literals]
        if row not in rows:
            rows.append(row)
    y_first = sum(flag for _, flag in boxes)
    order = "y first, as box_2d is" if y_first == len(boxes) else "x first"
    if 0 < y_first < len(boxes):
        order = "x first, but y first under box_2d"
    return Rows(rows, note=f"no plain list of boxes; {len(rows)} found and read {order}")


def _values(text: str) -> Iterator[Any]:
    """The JSON or Python values in a text, outermost brackets first, numbers as their literals."""
    position = 0
    while opening := _OPENING.search(text, position):
        start = opening.start()
        end = _end(text, start)
        value = _value(text[start:end]) if end else None
        if value is None:
            position = start + 1
        else:
            position = end or len(text)
            yield value


def _end(text: str, start: int) -> int | None:
    """Behind the bracket that closes the one at ``start``; None if there is none."""
    open_brackets = []
    for match in _BRACKET.finditer(text, start):
        if match[0] in _CLOSING:
            open_brackets.append(_CLOSING[match[0]])
        elif open_brackets.pop() != match[0]:
            return None
        if not open_brackets:
            return match.end()
    return None


def _value(text: str) -> Any:
    """A list, tuple or object, its numbers as strings; None if the text is no such value."""
    try:
        return json.loads(text, parse_float=str, parse_int=str)
    except (ValueError, RecursionError):
        pass
    try:
        # No backslash decides a number, and Python warns of some.
        value = ast.literal_eval(_ZEROS.sub("", text.replace("\\", "/")))
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError):
        return None
    return value if isinstance(value, (list, tuple, dict)) else None


def _says_none(value: Any) -> bool:
    """Is it an empty list, or an object with one?"""
    return value == [] or (isinstance(value, dict) and [] in value.values())


def _boxes(value: Any) -> Iterator[Box]:
    """The boxes in a value, in its order."""
    if isinstance(value, dict):
        yield from _boxes_of_object({str(key).lower(): item for key, item in value.items()})
    elif isinstance(value, (list, tuple)):
        if four := _four(value):
            yield four, False
        else:
            for item in value:
                yield from _boxes(item)


def _boxes_of_object(value: dict[str, Any]) -> Iterator[Box]:
    for keys in _CORNER_KEYS:
        if four := _four([value.get(key) for key in keys]):
            yield four, False
            return
    for keys in _SIZE_KEYS:
        if four := _four([value.get(key) for key in keys]):
            x, y, width, height = map(float, four)
            yield [four[0], four[1], repr(x + width), repr(y + height)], False
            return
    if four := _four(value.get("box_2d")):
        yield [four[1], four[0], four[3], four[2]], True
        return
    named = [item for key, item in value.items() if key in _BOX_KEYS]
    for item in named or value.values():
        yield from _boxes(item)


def _four(value: Any) -> list[str] | None:
    """The literals of four numbers, or of two corners; None if it is something else."""
    if isinstance(value, (list, tuple)) and len(value) == 2:
        both = all(isinstance(item, (list, tuple)) and len(item) == 2 for item in value)
        value = [*value[0], *value[1]] if both else None
    if not isinstance(value, (list, tuple)) or len(value) != 4:
        return None
    if any(isinstance(item, bool) for item in value):
        return None
    literals = [repr(item) if isinstance(item, (int, float)) else item for item in value]
    if all(isinstance(item, str) and _NUMERIC.fullmatch(item) for item in literals):
        return literals
    return None
