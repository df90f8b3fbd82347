"""The strict dialect: the whole answer is read, or it is refused.

An answer is a *box list*: a JSON list that has lists or objects among its elements
(``[[120, 300, 210, 400]]``, ``[{"bbox_2d": [120, 300, 210, 400], "label": "cube"}]``), or one JSON
object with a ``bbox_2d``. Prose, tags and code fences around it do not count, nor do other brackets
(``[1]``, ``[0, 1)``, ``{x}``), as long as nothing in them looks like a box.

- Several lists are one, if nothing but marks stands between them, or if each is an item of a list
  of the text ("1." or "-"). A last list that has all boxes of those before it is the answer.
  Otherwise which of them is meant would be a guess, and the answer is refused.
- Four numbers in a row outside of the lists, in whatever notation, must be a box of the answer.
- A list that is cut off or no JSON is refused; there is no falling back on another one.
- After a line that begins with "Final answer:", or else with "Answer:", only what follows counts.
  A paragraph under "Draft:", "Thought:", "Reasoning:", "Analysis:" or the like does not count, nor
  does what is taken back by nothing but "no", "wait" or the like between two brackets.
- ``[]`` beside a list of boxes says nothing. By itself it says that nothing differs, if it is a
  line, follows a colon or is the last sentence.
"""

from __future__ import annotations

import itertools
import json
import re
from typing import Any, NamedTuple

# Both are far beyond any honest answer. They bound the time (each JSON error counts the lines
# before it), the number of boxes to match, and the depth of the C stack.
MAX_BRACKETS = 1000
_MAX_DEPTH = 64

_NOTHING = "no list of boxes such as [[x0, y0, x1, y1]] was found"
_OPENING = re.compile(r"[\[{]")
_BRACKET = re.compile(r"[\[\]{}]")
# What is an answer even where it is no JSON; other brackets that cannot be decoded are prose.
_BEGINS_BOX_LIST = re.compile(r"""\[\s*\[[\s\[]*[-\d]|\[?\s*\{\s*["']""")

_NUMBER = re.compile(r"\d(?<![\d.]\d)\d*+(?:\.\d*+)?(?:[eE][-+]?\d++)?")  # without its sign
# Four numbers of one box in any notation: "120, 300, 210, 400", "<loc0120><loc0300>...", "(1, 2) to
# (3, 4)", "x_min: 1, y_min: 2, ...".
_BOX_LIKE = re.compile(
    rf"{_NUMBER.pattern}(?:(?:[\W_]|(?i:width|height|left|right|top|bottom|upper|lower"
    rf"|min|max|loc|and|to|px|x|y|w|h)){{1,40}}+{_NUMBER.pattern}){{3,}}"
)

_TAG = re.compile(r"<ref>[^<>]*</ref>|<(?!/?answer>)[^<>]*>", re.I)
_MARKS = re.compile(r"(?:[\s,;()*_]|`{3}\w*|\band\b|\d{1,3}[.)]\s)*+")
_IS_ITEM = r"\s*(?:[-*+•]|\d{1,3}[.)])\s"
_NEXT_ITEM = re.compile(rf"[^\n]*\n{_IS_ITEM}[^\n]*")
_FIRST_ITEM = re.compile(rf"{_IS_ITEM}[^\n]*")

_LINE = r"(?im)^[ \t>#*_-]*+(?:\d{1,3}[.)][ \t*_]*+)?(?:the |my |our )?"
_ENDS_LABEL = r"[*_ \t]*+(?:[:\uff1a][*_]*+|$)"
_FINAL = re.compile(
    rf"{_LINE}final(?: (?:answers?|results?|output|response|list|boxes))?(?: is)?{_ENDS_LABEL}"
)
_ANSWER = re.compile(rf"{_LINE}answers?(?: is)?{_ENDS_LABEL}")
_DRAFT = re.compile(
    _LINE
    + r"(?:first |rough |initial )?(?:drafts?|scratch ?(?:pad|work)?|thoughts?|thinking|reasoning"
    + rf"|analysis)(?: \w{{1,12}}){{0,2}}{_ENDS_LABEL}\s*+(?:.++\n?)*+"
)
_EMPHASIS = re.compile(r"<[^<>]*>|`{3}\w*|\*\*|__|[`$]|\\boxed\{(?=\[\s*\]\})|(?<=\])\}")
# "[]" as all of an answer, as a line of its own, after a colon, or as the last sentence.
_SAYS_NONE = re.compile(
    r"\A\s*\[\s*\]\s*\Z|(?:\A|[\n:\uff1a])[ \t]*\(?\[\]\)?[ \t]*(?:[.,;!\u3002\n]|\Z)"
    r"|[.!?\u3002]\s+\[\]\s*\Z"
)
# Between brackets, nothing but words that take back what was said.
_WITHDRAWN = re.compile(
    r"[\]}][^\w\[\]{}]*(?:\b(?i:no|wait|oh|hmm|sorry|actually|rather|correction)\b"
    r"[^\w\[\]{}]*)++(?=[\[{])"
)


class Refused(Exception):
    """Why an answer is refused."""


class Rows(NamedTuple):
    """What a text was found to say.

    Attributes:
        rows: of the list of boxes, not yet checked; none where the answer says that nothing
            differs.
        error: why the answer is refused, or "".
        note: what was assumed to read it, or "".
        extent: where the notation has a frame of its own: its steps along each side. Else None.
    """

    rows: list
    error: str = ""
    note: str = ""
    extent: float | None = None


class _Found(NamedTuple):
    """What stands in a text.

    Attributes:
        lists: (start, end, rows) of each box list with rows.
        empty: how many lists without anything in them.
        others: objects that are no boxes.
        rest: the text without the lists.
        cut: what a bracket that is still open at the text's end begins; "" if there is none.
    """

    lists: list[tuple[int, int, list]]
    empty: int
    others: list[dict]
    rest: str
    cut: str


def read_strict(text: str, decoder: json.JSONDecoder) -> Rows:
    """Read an answer by the rules at the head of this module.

    Args:
        text: the part of a response that counts.
        decoder: of JSON; its ``parse_float`` is what numbers become.
    """
    try:
        check_cost(text)
        rows = _plain(text.strip(), decoder)
        return Rows(_rows(text, decoder) if rows is None else rows)
    except Refused as reason:
        return Rows([], str(reason))


def box_like_texts(text: str) -> list[str]:
    """Four numbers in a row or more, in whatever notation."""
    return [match[0] for match in _BOX_LIKE.finditer(text)]


def final_part(text: str) -> tuple[str, bool]:
    """What counts of an answer: what follows "Final answer:", no drafts, nothing that was taken
    back. And whether anything was left out but what stands before "Final answer:"."""
    final = _FINAL.search(text) or _ANSWER.search(text)
    text = text[final.end() :] if final else text
    answer = _WITHDRAWN.split(_DRAFT.sub("", text))[-1]
    return answer, len(answer) < len(text)


def unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """A decoder's ``object_pairs_hook`` that refuses a second box under the same key."""
    value = dict(pairs)
    if len(value) < len(pairs):
        raise json.JSONDecodeError("a key stands twice in an object", "", 0)
    return value


def _plain(text: str, decoder: json.JSONDecoder) -> list | None:
    """The rows of a text that is nothing but a list, as trained policies answer; else None."""
    if text.startswith("[["):
        try:
            value, end = decoder.raw_decode(text)
        except (json.JSONDecodeError, RecursionError):
            return None
        if end == len(text):
            return value
    return None


def _rows(text: str, decoder: json.JSONDecoder) -> list:
    """The rows of a text with more in it than a list."""
    answer, drafted = final_part(text)
    found = _scan(answer, decoder)
    box_like = box_like_texts(found.rest)
    if found.cut and (found.lists or found.empty):
        raise Refused(f"the answer is cut off: {found.cut!r} is not closed")
    if not found.lists:
        if found.empty == 1 and not box_like and not found.others and _says_none(answer):
            return []
        raise Refused(_NOTHING + _instead(found, box_like, drafted))
    rows = _joined(answer, found.lists)
    said = _said(rows)
    for like in box_like:
        numbers = [decoder.parse_float(literal) for literal in _NUMBER.findall(like)]
        if not _said([numbers[i : i + 4] for i in range(0, len(numbers), 4)]) <= said:
            raise Refused(
                f"beside the list of boxes stands {_short(like)}, which is none of them: write one "
                "list with all boxes"
            )
    return rows


def _scan(text: str, decoder: json.JSONDecoder) -> _Found:
    """Decode each opening bracket in place.

    The search continues behind the decoded value, or where its decoding failed, so that every
    character is read about once.
    """
    lists: list[tuple[int, int, list]] = []
    others: list[dict] = []
    rest, cut = [], ""
    empty = position = copied = 0
    end = len(text.rstrip())
    while opening := _OPENING.search(text, position):
        start = opening.start()
        try:
            value, position = decoder.raw_decode(text, start)
        except json.JSONDecodeError as failure:
            if _BEGINS_BOX_LIST.match(text, start):
                raise Refused(_why_broken(text, start, failure)) from None
            position = max(failure.pos, start + 1)
            if not cut and position >= end:
                cut = text[start : start + 20]
        except RecursionError:  # brackets within strings can hide the depth from check_cost
            raise Refused("brackets nest too deep") from None
        else:
            if isinstance(value, dict) and "bbox_2d" not in value:
                others += [value] if value else []
            elif value == [] or isinstance(value, dict) or _is_box_list(value):
                if value:
                    lists.append((start, position, [value] if isinstance(value, dict) else value))
                else:
                    empty += 1
                rest += [text[copied:start], "z"]  # a letter, which parts the numbers around it
                copied = position
    return _Found(lists, empty, others, "".join([*rest, text[copied:]]), cut)


def _is_box_list(value: list) -> bool:
    """Are there lists or objects in it? Those of one number are citations, such as [[1]]."""
    return any(
        isinstance(row, dict)
        or (isinstance(row, list) and not (len(row) == 1 and isinstance(row[0], float)))
        for row in value
    )


def _joined(text: str, lists: list[tuple[int, int, list]]) -> list:
    """The rows of several box lists, where it is clear which of them are the answer."""
    last = lists[-1][2]
    said = _said(last)
    if all(_said(rows) <= said for _, _, rows in lists[:-1]):
        return last
    begin = text[text.rfind("\n", 0, lists[0][0]) + 1 : lists[0][0]]
    in_items = _FIRST_ITEM.fullmatch(_TAG.sub("", begin))
    for (_, end, _), (start, _, _) in itertools.pairwise(lists):
        between = _TAG.sub("", text[end:start])
        if not (_MARKS.fullmatch(between) or (in_items and _NEXT_ITEM.fullmatch(between))):
            raise Refused(
                f"several lists of boxes were found ({len(lists)}, with {_short(between)} between "
                "them): write one list with all boxes"
            )
    return [row for _, _, rows in lists for row in rows]


def _said(rows: list) -> set[str]:
    return {repr(row.get("bbox_2d") if isinstance(row, dict) else row) for row in rows}


def _says_none(text: str) -> bool:
    return _SAYS_NONE.search(_EMPHASIS.sub("", text)) is not None


def _instead(found: _Found, box_like: list[str], drafted: bool) -> str:
    """What was found where there is no box list, and what is needed."""
    if found.others:
        keys = ", ".join(map(repr, found.others[-1]))
        return (
            f', but an object with {keys:.60}: write the list alone; the key of a box is "bbox_2d"'
        )
    if box_like:
        return f", but {_short(box_like[-1])}: write each box in brackets, and a list of all"
    if found.empty:
        return ', but "[]" within other text: if nothing differs, answer with nothing else'
    return ", but a draft: write the answer in a paragraph of its own" if drafted else ""


def _why_broken(text: str, start: int, failure: json.JSONDecodeError) -> str:
    place = max(failure.pos, start)
    if comma := re.compile(r",\s*(?=[\]}])").match(text, place):
        place = comma.end()  # Python 3.13 names the comma, those before it what follows
    found = text[place : place + 1]
    if not text[place:].strip():
        why = "it is cut off"
    elif found in "]}" and text[:place].rstrip().endswith(","):
        why = f"there is a comma before '{found}'"
    elif found == "'":
        why = "its strings need double quotes"
    else:
        why = failure.msg
    near = text[max(place - 10, start) : place + 10]
    return f"a list of boxes is not valid JSON: {why}, near {near!r}"


def _short(text: str) -> str:
    text = " ".join(text.split())
    return repr(text if len(text) <= 60 else text[:60] + "...")


def check_cost(text: str) -> None:
    """Refuse what is too costly to read, which nobody would write."""
    brackets = text.count("[") + text.count("{")
    if brackets > MAX_BRACKETS:
        raise Refused(f"the answer has more than {MAX_BRACKETS} opening brackets")
    if brackets > _MAX_DEPTH and _depth(text) > _MAX_DEPTH:
        raise Refused(f"brackets nest more than {_MAX_DEPTH} deep")


def _depth(text: str) -> int:
    """How deep the brackets of a text nest, balanced or not."""
    depth = deepest = 0
    for bracket in _BRACKET.findall(text):
        if bracket in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif depth:
            depth -= 1
    return deepest
