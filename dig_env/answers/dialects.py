"""How answers may be read: "strict", the habits of families of models, and "lenient".

A dialect is declared like a coordinate frame, by its name in ``DIALECTS``. Rewards read "strict".
An evaluation names the family's dialect, since a model that answers as its makers document is not
wrong; ``habit_of`` knows the families by their models' names. "lenient" is for all other models.
All but "lenient" read the whole answer or refuse it: four numbers beside the boxes that are none of
them are a reason to refuse.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from dig_env.answers.lenient import read_lenient
from dig_env.answers.marked import COGVLM, NOTATIONS, Notation
from dig_env.answers.strict import Rows, read_strict, unique_keys


@dataclass(frozen=True)
class Dialect:
    """How a family of models writes boxes.

    Attributes:
        read: gives the rows of a text, x first; see ``read_strict``.
        box: one box, as a format string of {x0}, {y0}, {x1} and {y1}.
        coordinates: the frame in which the family is documented to answer, one of
            ``dig_env.COORDINATES``. None: any, or the notation has a frame of its own.
        source: where that is documented.
        models: matches the names of the family's models; None: of none.
        around: what stands around all boxes, and ``between`` two of them.
        shown: the notation as a prompt shows it; "" is that of ``box``, with names for numbers.
        own: the notation, if it has a frame of its own.
    """

    read: Callable[[str, json.JSONDecoder], Rows]
    box: str
    coordinates: str | None
    source: str
    models: str | None = None
    around: str = "[{}]"
    between: str = ", "
    shown: str = ""
    own: Notation | None = None

    def write(self, boxes: Sequence[Sequence[str]]) -> str:
        """Boxes as an answer.

        Args:
            boxes: the texts of x0, y0, x1 and y1 of each, in the frame of the dialect. None are
                "[]" in every dialect.
        """
        if not boxes:
            return "[]"
        texts = (self.box.format(x0=x0, y0=y0, x1=x1, y1=y1) for x0, y0, x1, y1 in boxes)
        return self.around.format(self.between.join(texts))

    @property
    def asked(self) -> str:
        """The notation as a prompt shows it, such as [[x_min, y_min, x_max, y_max], ...]."""
        box = self.box.format(x0="x_min", y0="y_min", x1="x_max", y1="y_max")
        return self.shown or self.around.format(f"{box}{self.between}...")


def habit_of(model: str) -> dict[str, str]:
    """How a model of this name is documented to answer, for ``evaluate``.

    Args:
        model: a hub id, or a name at an endpoint. The part behind the last "/" counts.

    Returns:
        "answers", one of ``DIALECTS``, and "coordinates", one of ``dig_env.COORDINATES``: "strict"
        and "norm1000" where the family is not known.

    >>> habit_of("google/gemini-2.5-flash")
    {'answers': 'gemini', 'coordinates': 'norm1000'}
    """
    name = model.rstrip("/").rpartition("/")[2].lower()
    for answers, dialect in DIALECTS.items():
        if dialect.models is not None and re.search(dialect.models, name):
            return {"answers": answers, "coordinates": dialect.coordinates or "norm1000"}
    return {"answers": "strict", "coordinates": "norm1000"}


def read_gemini(text: str, decoder: json.JSONDecoder) -> Rows:
    """As ``read_strict``, with "box_2d" for "bbox_2d" and every box y first."""
    if '"bbox_2d"' in text:
        return Rows([], 'the key of a box is "box_2d", y first; "bbox_2d" is x first')
    found = read_strict(text, _gemini_decoder(decoder.parse_float))
    if found.error:
        return found._replace(error=found.error.replace("bbox_2d", "box_2d"))
    rows = []
    for row in found.rows:
        box = row.get("bbox_2d") if isinstance(row, dict) else row
        if not isinstance(box, list) or len(box) != 4:
            return Rows([], f"{row!r:.60} is not a box_2d of four numbers")
        rows.append([box[1], box[0], box[3], box[2]])
    return found._replace(rows=rows)


@cache
def _gemini_decoder(number: Callable[[str], Any]) -> json.JSONDecoder:
    def renamed(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        return unique_keys([("bbox_2d" if key == "box_2d" else key, item) for key, item in pairs])

    return json.JSONDecoder(parse_int=number, parse_float=number, object_pairs_hook=renamed)


_PLAIN = "[{x0}, {y0}, {x1}, {y1}]"
_OBJECT = '{{"bbox_2d": [{x0}, {y0}, {x1}, {y1}], "label": "difference"}}'

DIALECTS = {
    "strict": Dialect(read_strict, _PLAIN, None, "dig_env.answers.strict"),
    "lenient": Dialect(read_lenient, _PLAIN, None, "dig_env.answers.lenient"),
    "qwen2-vl": Dialect(
        NOTATIONS["qwen2-vl"].read,
        "<|object_ref_start|>difference<|object_ref_end|>"
        "<|box_start|>({x0},{y0}),({x1},{y1})<|box_end|>",
        "norm1000",
        "arXiv 2409.12191, section 2.2",
        models=r"qwen2-?vl",
        around="{}",
    ),
    "qwen2.5-vl": Dialect(
        read_strict,
        _OBJECT,
        "resized_pixel",
        "QwenLM/Qwen2.5-VL, cookbooks/spatial_understanding",
        models=r"qwen2\.5-?vl",
    ),
    "qwen3-vl": Dialect(
        read_strict,
        _OBJECT,
        "norm1000",
        "QwenLM/Qwen3-VL, cookbooks/2d_grounding",
        models=r"qwen3-?vl|qwen3\.5",
    ),
    "glm-v": Dialect(
        read_strict,
        _PLAIN,
        "norm1000",
        "zai-org/GLM-V, README",
        models=r"glm-4\.\dv",
        around="<|begin_of_box|>[{}]<|end_of_box|>",
        shown="[[x_min, y_min, x_max, y_max], ...]",
    ),
    "internvl": Dialect(
        NOTATIONS["internvl"].read,
        _PLAIN,
        "norm1000",
        "internvl.readthedocs.io, chat data format",
        models=r"internvl",
        around="<ref>difference</ref><box>[{}]</box>",
    ),
    "minicpm-v": Dialect(
        NOTATIONS["minicpm-v"].read,
        "<ref>difference</ref><box>{x0} {y0} {x1} {y1}</box>",
        "norm1000",
        "OpenBMB/MiniCPM-V, grounding",
        models=r"minicpm-v",
        around="{}",
    ),
    "doubao": Dialect(
        NOTATIONS["doubao"].read,
        "<bbox>{x0} {y0} {x1} {y1}</bbox>",
        "norm1000",
        "Volcengine Ark, visual grounding",
        models=r"doubao",
        around="{}",
    ),
    "deepseek-vl2": Dialect(
        NOTATIONS["deepseek-vl2"].read,
        _PLAIN,
        None,
        "deepseek-ai/DeepSeek-VL2, README",
        models=r"deepseek-?vl2",
        around="<|ref|>difference<|/ref|><|det|>[{}]<|/det|>",
        own=NOTATIONS["deepseek-vl2"],
    ),
    "cogvlm": Dialect(
        COGVLM.read,
        "{x0:0>3},{y0:0>3},{x1:0>3},{y1:0>3}",
        None,
        "zai-org/CogVLM, README",
        models=r"cogvlm-grounding",
        around="[[{}]]",
        between=";",
        own=COGVLM,
    ),
    "gemini": Dialect(
        read_gemini,
        '{{"box_2d": [{y0}, {x0}, {y1}, {x1}], "label": "difference"}}',
        "norm1000",
        "ai.google.dev/gemini-api/docs/image-understanding",
        models=r"gemini",
    ),
    "paligemma": Dialect(
        NOTATIONS["paligemma"].read,
        "<loc{y0:0>4}><loc{x0:0>4}><loc{y1:0>4}><loc{x1:0>4}> difference",
        None,
        "google-research/big_vision, configs/proj/paligemma",
        models=r"paligemma",
        around="{}",
        between=" ; ",
        own=NOTATIONS["paligemma"],
    ),
    "florence-2": Dialect(
        NOTATIONS["florence-2"].read,
        "difference<loc_{x0}><loc_{y0}><loc_{x1}><loc_{y1}>",
        None,
        "transformers, Florence2PostProcessor",
        models=r"florence-?2",
        around="{}",
        between="",
        own=NOTATIONS["florence-2"],
    ),
}
"""By name. "strict" is what rewards read; "lenient" is for evaluation alone."""
