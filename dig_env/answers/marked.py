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
            assert decoder.parse_float is not None
            return float(decoder.parse_float(literal))
        return float(literal) + self.offset


def _notation(region: str, box: str, **more: bool | float) -> Notation:
    return Notation(re.compile(region), re.compile(box), **more)  # type: ignore[arg-type]


NOTATIONS = {
    "qwen2-vl": _notation(
        r"<\|box_start\|>([^<]*)<\|box_end\|>", rf"\({_N},{_N}\)\s*,?\s*\({_N},{_N}\)"
    ),
    "internvl": _notation(r"<box>([^<]*)</box>", rf"\[{_N},{_N},{_N},{_N}\]"),
    "minicpm-v": _notation(r"<box>([^<]*)</box>", r"(\d+)\s+(\d+)\s+(\d+)\s+(\d+)"),
    "doubao": _notation(r"<bbox>([^<]*)</bbox>", r"(\d+)\s+(\d+)\s+(\d+)\s+(\d+)"),
    "deepseek-vl2": _notation(
        r"<\|det\|>([^<]*)<\|/det\|>", rf"\[{_N},{_N},{_N},{_N}\]", bins=999.0
    ),
    "cogvlm": _notation(r"\[\[([^\[\]]*)\]\]", rf"{_N},{_N},{_N},{_N}(?:;|$)", bins=1000.0),
    "paligemma": _notation(r"(?:<loc\d{4}>){4}", r"<loc(\d{4})>" * 4, y_first=True, bins=1024.0),
    "florence-2": _notation(
        r"(?:<loc_\d{1,3}>){4}", r"<loc_(\d{1,3})>" * 4, bins=1000.0, offset=0.5
    ),
}
"""By the name of the family that writes so; see ``dialects`` for the sources."""
