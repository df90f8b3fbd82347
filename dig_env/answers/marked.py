"""Notations with marks around each box, such as <|box_start|>(120,300),(210,400)<|box_end|>."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass

from dig_env.answers.strict import Rows, box_like_texts, read_strict

_N = r"\s*(-?\d+(?:\.\d+)?)\s*"


@dataclass(frozen=True)
class Notation:
    """One notation. The whole answer is read or refused.

    Attributes:
        region: what stands between two marks (its only group), or one box with its marks.
        box: one box in a region: four groups, its numbers.
        y_first: whether the numbers are y0, x0, y1, x1.
        bins: where the numbers count steps of the image's sides whatever frame is asked for: how
            many steps a side has. Else None.
        offset: added to such numbers; 0.5 where a step stands for its middle.
    """

    region: re.Pattern[str]
    box: re.Pattern[str]
    y_first: bool = False
    bins: float | None = None
    offset: float = 0.0

    def read(self, text: str, decoder: json.JSONDecoder) -> Rows:
        """The rows of a text, x first, or why it is refused; as ``read_strict``."""
        rows = []
        for match in self.region.finditer(text):
            inside = match[match.re.groups]
            if re.search(r"\d", self.box.sub("", inside)) or not self.box.search(inside):
                return Rows([], f"between marks of boxes stands {inside[:60]!r}")
            for x0, y0, x1, y1 in self.box.findall(inside):
                numbers = (y0, x0, y1, x1) if self.y_first else (x0, y0, x1, y1)
                rows.append([self._number(number, decoder) for number in numbers])
        if not rows:
            none = read_strict(text, decoder)  # "[]": nothing differs
            return none if none.rows == [] and not none.error else Rows([], "no box was found")
        if other := box_like_texts(self.region.sub("z", text)):
            return Rows([], f"beside the boxes stands {other[-1][:60]!r}, which is none of them")
        return Rows(rows, extent=self.bins)

    def _number(self, literal: str, decoder: json.JSONDecoder) -> float:
        if self.bins is None:
            return float(decoder.parse_float(literal))
        return float(literal) + self.offset


_LISTED = re.compile(rf"\[{_N},{_N},{_N},{_N}\]")
_SPACED = re.compile(r"(\d+)\s+(\d+)\s+(\d+)\s+(\d+)")

NOTATIONS = {
    "qwen2-vl": Notation(
        re.compile(r"<\|box_start\|>([^<]*)<\|box_end\|>"),
        re.compile(rf"\({_N},{_N}\)\s*,?\s*\({_N},{_N}\)"),
    ),
    "internvl": Notation(re.compile(r"<box>([^<]*)</box>"), _LISTED),
    "minicpm-v": Notation(re.compile(r"<box>([^<]*)</box>"), _SPACED),
    "doubao": Notation(re.compile(r"<bbox>([^<]*)</bbox>"), _SPACED),
    "deepseek-vl2": Notation(re.compile(r"<\|det\|>([^<]*)<\|/det\|>"), _LISTED, bins=999.0),
    "paligemma": Notation(
        re.compile(r"(?:<loc\d{4}>){4}"),
        re.compile(r"<loc(\d{4})>" * 4),
        y_first=True,
        bins=1024.0,
    ),
    "florence-2": Notation(
        re.compile(r"(?:<loc_\d{1,3}>){4}"),
        re.compile(r"<loc_(\d{1,3})>" * 4),
        bins=1000.0,
        offset=0.5,
    ),
}
"""By the name of the family that writes so; see ``dialects`` for the sources."""
COGVLM = Notation(
    re.compile(r"\[\[([^\[\]]*)\]\]"), re.compile(rf"{_N},{_N},{_N},{_N}(?:;|$)"), bins=1000.0
)
"""Its marks are the brackets of a plain list, so that only who asks for it may read it."""
