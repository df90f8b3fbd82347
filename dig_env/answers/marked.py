"""Notations with marks around each box, such as <|box_start|>(120,300),(210,400)<|box_end|>."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from dig_env.answers.strict import (
    MAX_BRACKETS,
    Rows,
    box_like_texts,
    final_part,
    read_strict,
)

_D = "[0-9]"  # no other digits, which \d would allow
_N = rf"\s*(-?{_D}+(?:\.{_D}+)?)\s*"
_OPENED = re.compile(r"<\|?(?:box|bbox|det|loc)\b[^<>]*>?|\[\s*\[|\{\s*[\"']")


@dataclass(frozen=True)
class Notation:
    """One notation. The whole answer is read or refused.

    Attributes:
        region: what stands between two marks (its only group), or one box with its marks.
        box: one box in a region: four groups, its numbers.
        bare: where the marks are special tokens, which servers leave out of a text: what counts
            in their place if no mark is there; as ``region``. Else None.
        y_first: whether the numbers are y0, x0, y1, x1.
        bins: where the numbers count steps of the image's sides whatever frame is asked for: how
            many steps a side has. Else None.
        last: the highest such number.
        offset: added to such numbers; 0.5 where a step stands for its middle.
    """

    region: re.Pattern[str]
    box: re.Pattern[str]
    bare: re.Pattern[str] | None = None
    y_first: bool = False
    bins: float | None = None
    last: int = 999
    offset: float = 0.0

    def read(self, text: str, decoder: json.JSONDecoder) -> Rows:
        """The rows of a text, x first, or why it is refused; as ``read_strict``."""
        text, _ = final_part(text)
        rows = []
        region = self.region if self.bare is None or self.region.search(text) else self.bare
        for match in region.finditer(text):
            inside = match[match.re.groups]
            if re.search(r"\d", self.box.sub("", inside)) or not self.box.search(inside):
                return Rows([], f"between marks of boxes stands {inside[:60]!r}")
            for x0, y0, x1, y1 in self.box.findall(inside):
                numbers = (y0, x0, y1, x1) if self.y_first else (x0, y0, x1, y1)
                rows.append([self._number(number, decoder) for number in numbers])
        if not rows:
            none = read_strict(text, decoder)  # "[]": nothing differs
            return none if none.rows == [] and not none.error else Rows([], "no box was found")
        if len(rows) > MAX_BRACKETS:
            return Rows([], f"the answer has more than {MAX_BRACKETS} boxes")
        rest = region.sub("z", text)
        if opened := _OPENED.search(rest):
            return Rows([], f"beside the boxes stands {opened[0]!r}: an object, or a box cut off")
        if other := box_like_texts(rest):
            return Rows([], f"beside the boxes stands {other[-1][:60]!r}, which is none of them")
        return Rows(rows, extent=self.bins)

    def _number(self, literal: str, decoder: json.JSONDecoder) -> float:
        if self.bins is None:
            return float(decoder.parse_float(literal))
        return float(literal) + self.offset


_LISTED = re.compile(rf"\[{_N},{_N},{_N},{_N}\]")
_LIST = re.compile(r"(\[\s*\[[^\[\]]*\](?:\s*,\s*\[[^\[\]]*\])*\s*\])")
_SPACED = re.compile(r"(-?[0-9]+(?:\.[0-9]+)?)" + r"\s+(-?[0-9]+(?:\.[0-9]+)?)" * 3)
_CORNERS = rf"\({_N},{_N}\)\s*,?\s*\({_N},{_N}\)"

NOTATIONS = {
    "qwen2-vl": Notation(
        re.compile(r"<\|box_start\|>([^<]*)<\|box_end\|>"),
        re.compile(_CORNERS),
        bare=re.compile(f"({_CORNERS.replace('(-', '(?:-')})"),
    ),
    "internvl": Notation(re.compile(r"<box>([^<]*)</box>"), _LISTED, bare=_LIST),
    "minicpm-v": Notation(
        re.compile(r"<box>([^<]*)</box>"),
        _SPACED,
        bare=re.compile(
            r"(?<![0-9.,\s])\s?((?:[0-9]+(?:\.[0-9]+)?\s+){3}[0-9]+(?:\.[0-9]+)?)(?!\s*[0-9,]|\.[0-9])"
        ),
    ),
    "doubao": Notation(re.compile(r"<bbox>([^<]*)</bbox>"), _SPACED),
    "deepseek-vl2": Notation(
        re.compile(r"<\|det\|>([^<]*)<\|/det\|>"), _LISTED, bare=_LIST, bins=999.0
    ),
    "paligemma": Notation(
        re.compile(r"(?:<loc[0-9]{4}>){4}"),
        re.compile(r"<loc([0-9]{4})>" * 4),
        y_first=True,
        bins=1024.0,
        last=1023,
    ),
    "florence-2": Notation(
        re.compile(r"(?:<loc_[0-9]{1,3}>){4}"),
        re.compile(r"<loc_([0-9]{1,3})>" * 4),
        bins=1000.0,
        offset=0.5,
    ),
}
"""By the name of the family that writes so; see ``dialects`` for the sources."""
COGVLM = Notation(
    re.compile(r"\[\[([^\[\]]*)\]\]"), re.compile(rf"{_N},{_N},{_N},{_N}(?:;|$)"), bins=1000.0
)
"""Its marks are the brackets of a plain list, so that only who asks for it may read it."""
