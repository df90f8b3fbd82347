"""How answers may be read: "strict", the habits of families of models, and "lenient".

A dialect is declared like a coordinate frame, by its name in ``DIALECTS``. Rewards read "strict".
An evaluation names the family's dialect, since a model that answers as its makers document is not
wrong; "lenient" is for models that nobody knows. All but "lenient" read the whole answer or refuse
it: four numbers beside the boxes that are none of them are a reason to refuse.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import Any

from dig_env.answers.lenient import read_lenient
from dig_env.answers.marked import COGVLM, NOTATIONS
from dig_env.answers.strict import Rows, read_strict, unique_keys


@dataclass(frozen=True)
class Dialect:
    """How a family of models writes boxes.

    Attributes:
        read: gives the rows of a text, x first; see ``read_strict``.
        example: the box [[120, 300, 210, 400]] of "norm1000" in this notation.
        coordinates: the frame in which the family is documented to answer, one of
            ``dig_env.COORDINATES``. None: any, or the notation has a frame of its own.
        source: where that is documented.
    """

    read: Callable[[str, json.JSONDecoder], Rows]
    example: str
    coordinates: str | None
    source: str


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


_LISTED = '[{"bbox_2d": [120, 300, 210, 400], "label": "cube"}]'

DIALECTS = {
    "strict": Dialect(read_strict, "[[120, 300, 210, 400]]", None, "dig_env.answers.strict"),
    "lenient": Dialect(read_lenient, "[[120, 300, 210, 400]]", None, "dig_env.answers.lenient"),
    "qwen2-vl": Dialect(
        NOTATIONS["qwen2-vl"].read,
        "<|object_ref_start|>cube<|object_ref_end|><|box_start|>(120,300),(210,400)<|box_end|>",
        "norm1000",
        "arXiv 2409.12191, section 2.2",
    ),
    "qwen2.5-vl": Dialect(
        read_strict, _LISTED, "resized_pixel", "QwenLM/Qwen2.5-VL, cookbooks/spatial_understanding"
    ),
    "qwen3-vl": Dialect(
        read_strict, _LISTED, "norm1000", "QwenLM/Qwen3-VL, cookbooks/2d_grounding"
    ),
    "glm-v": Dialect(
        read_strict,
        "<|begin_of_box|>[[120, 300, 210, 400]]<|end_of_box|>",
        "norm1000",
        "zai-org/GLM-V, README",
    ),
    "internvl": Dialect(
        NOTATIONS["internvl"].read,
        "<ref>cube</ref><box>[[120, 300, 210, 400]]</box>",
        "norm1000",
        "internvl.readthedocs.io, chat data format",
    ),
    "minicpm-v": Dialect(
        NOTATIONS["minicpm-v"].read,
        "<ref>cube</ref><box>120 300 210 400</box>",
        "norm1000",
        "OpenBMB/MiniCPM-V, grounding",
    ),
    "doubao": Dialect(
        NOTATIONS["doubao"].read,
        "<bbox>120 300 210 400</bbox>",
        "norm1000",
        "Volcengine Ark, visual grounding",
    ),
    "deepseek-vl2": Dialect(
        NOTATIONS["deepseek-vl2"].read,
        "<|ref|>cube<|/ref|><|det|>[[120, 300, 210, 400]]<|/det|>",
        None,
        "deepseek-ai/DeepSeek-VL2, README: steps of 999",
    ),
    "cogvlm": Dialect(
        COGVLM.read,
        "[[120,300,210,400]]",
        None,
        "zai-org/CogVLM, README: three digits, several boxes parted by semicolons",
    ),
    "gemini": Dialect(
        read_gemini,
        '[{"box_2d": [300, 120, 400, 210], "label": "cube"}]',
        "norm1000",
        "ai.google.dev/gemini-api/docs/image-understanding: y first",
    ),
    "paligemma": Dialect(
        NOTATIONS["paligemma"].read,
        "<loc0307><loc0123><loc0410><loc0215> cube",
        None,
        "google-research/big_vision, configs/proj/paligemma: y first, 1,024 steps",
    ),
    "florence-2": Dialect(
        NOTATIONS["florence-2"].read,
        "cube<loc_120><loc_300><loc_210><loc_400>",
        None,
        "transformers, Florence2PostProcessor: 1,000 steps, each its middle",
    ),
}
"""By name. "strict" is what rewards read; "lenient" is for evaluation alone."""
