# ruff: noqa: E501 - answers as they are written
"""Answers as families of models and people write them, each with the boxes that it means.

Shortened and with other numbers; the source of each notation stands in ``DIALECTS``, further ones
beside the case. Numbers are of "norm1000" unless the notation has a frame of its own.
"""

from __future__ import annotations

from typing import NamedTuple

A, B = [0.12, 0.3, 0.21, 0.4], [0.5, 0.55, 0.6, 0.7]


class Said(NamedTuple):
    """An answer: the dialects that read it besides "lenient", its text and its boxes."""

    dialects: tuple[str, ...]
    text: str
    boxes: list[list[float]]


def _steps(bins: float, offset: float, *boxes: tuple[int, ...]) -> list[list[float]]:
    return [[(step + offset) / bins for step in box] for box in boxes]


FAMILIES = [
    # Qwen2-VL
    Said(("qwen2-vl",), "<|box_start|>(120,300),(210,400)<|box_end|>", [A]),
    Said(
        ("qwen2-vl",),
        "<|object_ref_start|>red cube<|object_ref_end|><|box_start|>(120, 300), (210, 400)<|box_end|>",
        [A],
    ),
    Said(
        ("qwen2-vl",),
        "The differences:\n<|object_ref_start|>cube<|object_ref_end|><|box_start|>(120,300),(210,400)<|box_end|>\n<|object_ref_start|>sphere<|object_ref_end|><|box_start|>(500,550),(600,700)<|box_end|>",
        [A, B],
    ),
    Said(
        ("qwen2-vl",),
        "<|box_start|>(120,300),(210,400)<|box_end|><|box_start|>(500,550),(600,700)<|box_end|><|im_end|>",
        [A, B],
    ),
    # The same, where the server leaves out special tokens (vllm-project/vllm, issue 27636)
    Said(("qwen2-vl",), "red cube(120,300),(210,400)", [A]),
    Said(("qwen2-vl",), "cube(120,300),(210,400)\nball(500,550),(600,700)", [A, B]),
    Said(("internvl",), "cube[[120, 300, 210, 400]]", [A]),
    Said(("minicpm-v",), "cube 120 300 210 400\nball 500 550 600 700", [A, B]),
    Said(("minicpm-v",), "cube 120 300 210 400", [A]),
    # Qwen2.5-VL and Qwen3-VL
    Said(
        ("qwen3-vl", "strict"),
        '```json\n[\n\t{"bbox_2d": [120, 300, 210, 400], "label": "cube"}\n]\n```',
        [A],
    ),
    Said(
        ("qwen3-vl", "strict"),
        '```json\n[\n\t{"bbox_2d": [120, 300, 210, 400], "label": "cube"},\n\t{"bbox_2d": [500, 550, 600, 700], "label": "sphere"}\n]\n```',
        [A, B],
    ),
    Said(
        ("qwen3-vl", "strict"),
        '{"bbox_2d": [120, 300, 210, 400]}\n{"bbox_2d": [500, 550, 600, 700]}',
        [A, B],
    ),
    Said(
        ("qwen3-vl", "strict"),
        '<think>Left, then right.</think>\n[{"bbox_2d": [120, 300, 210, 400], "label": "color"}]',
        [A],
    ),
    # GLM-4.1V and GLM-4.5V
    Said(("glm-v", "strict"), "<|begin_of_box|>[[120, 300, 210, 400]]<|end_of_box|>", [A]),
    Said(
        ("glm-v", "strict"),
        "<think>I compare them.</think><answer>The cube: <|begin_of_box|>[[120,300,210,400],[500,550,600,700]]<|end_of_box|></answer>",
        [A, B],
    ),
    # InternVL
    Said(("internvl",), "<ref>cube</ref><box>[[120, 300, 210, 400]]</box>", [A]),
    Said(
        ("internvl",),
        "<ref>cubes</ref><box>[[120, 300, 210, 400], [500, 550, 600, 700]]</box>",
        [A, B],
    ),
    Said(
        ("internvl",),
        "A <ref>cube</ref><box>[[120, 300, 210, 400]]</box> is gone and a <ref>sphere</ref><box>[[500, 550, 600, 700]]</box> is red.",
        [A, B],
    ),
    Said(("internvl",), "<box>[120, 300, 210, 400]</box>", [A]),
    # MiniCPM-V
    Said(("minicpm-v",), "<box>120 300 210 400</box>", [A]),
    Said(
        ("minicpm-v",),
        "<ref>cube</ref><box>120 300 210 400</box><ref>ball</ref><box>500 550 600 700</box>",
        [A, B],
    ),
    # Doubao
    Said(("doubao",), "<bbox>120 300 210 400</bbox>", [A]),
    Said(
        ("doubao",),
        "1. <bbox>120 300 210 400</bbox> removed\n2. <bbox>500 550 600 700</bbox> color",
        [A, B],
    ),
    # DeepSeek-VL2: 0 to 999
    Said(
        ("deepseek-vl2",),
        "<|ref|>cube<|/ref|><|det|>[[120, 300, 210, 400]]<|/det|>",
        _steps(999, 0, (120, 300, 210, 400)),
    ),
    Said(
        ("deepseek-vl2",),
        "<|ref|>differences<|/ref|><|det|>[[0, 0, 210, 400], [500, 550, 999, 999]]<|/det|><|end_of_sentence|>",
        _steps(999, 0, (0, 0, 210, 400), (500, 550, 999, 999)),
    ),
    # Gemini: y first
    Said(
        ("gemini",), '```json\n[\n  {"box_2d": [300, 120, 400, 210], "label": "cube"}\n]\n```', [A]
    ),
    Said(
        ("gemini",), '[{"box_2d": [300, 120, 400, 210]}, {"box_2d": [550, 500, 700, 600]}]', [A, B]
    ),
    Said(
        ("gemini",),
        'Here are the differences:\n\n```json\n[{"box_2d": [300, 120, 400, 210], "label": "the cube is missing"}, {"box_2d": [550, 500, 700, 600], "label": "color"}]\n```',
        [A, B],
    ),
    Said(("gemini",), '{"box_2d": [300, 120, 400, 210], "label": "cube"}', [A]),
    # PaliGemma: y first, 1,024 steps
    Said(
        ("paligemma",),
        "<loc0256><loc0128><loc0512><loc0384> cube",
        _steps(1024, 0, (128, 256, 384, 512)),
    ),
    Said(
        ("paligemma",),
        "<loc0256><loc0128><loc0512><loc0384> cube ; <loc0600><loc0700><loc0800><loc0900> ball",
        _steps(1024, 0, (128, 256, 384, 512), (700, 600, 900, 800)),
    ),
    # Florence-2: 1,000 steps, each its middle
    Said(
        ("florence-2",),
        "</s><s>cube<loc_120><loc_300><loc_210><loc_400></s>",
        _steps(1000, 0.5, (120, 300, 210, 400)),
    ),
    Said(
        ("florence-2",),
        "cube<loc_120><loc_300><loc_210><loc_400>ball<loc_500><loc_550><loc_600><loc_700>",
        _steps(1000, 0.5, (120, 300, 210, 400), (500, 550, 600, 700)),
    ),
]
"""What the families' dialects read; CogVLM's leading zeros and semicolons are below."""

COGVLM = [
    Said(("cogvlm",), "[[120,300,210,400]]", [A]),
    Said(
        ("cogvlm",), "The cube [[012,030,210,400]] has another color.", [[0.012, 0.03, 0.21, 0.4]]
    ),
    Said(("cogvlm",), "[[120,300,210,400;500,550,600,700]]", [A, B]),
]

PEOPLE = [
    # Lists in prose, numbered or not
    Said((), "1. [120, 300, 210, 400]\n2. [500, 550, 600, 700]", [A, B]),
    Said(
        (),
        "1. **Cube**: [120, 300, 210, 400] - color\n2. **Sphere**: [500, 550, 600, 700] - removed",
        [A, B],
    ),
    Said(
        (),
        "- Red cube removed: [120, 300, 210, 400]\n- Sphere turned blue: [500, 550, 600, 700]",
        [A, B],
    ),
    Said((), "The difference is at [120, 300, 210, 400].", [A]),
    Said((), "[120, 300, 210, 400]", [A]),
    Said((), "[120, 300, 210, 400], [500, 550, 600, 700]", [A, B]),
    Said((), "[120, 300, 210, 400]\n[500, 550, 600, 700]", [A, B]),
    Said((), "Bounding box: (120, 300, 210, 400)", [A]),
    Said(
        (),
        "| object | box |\n|---|---|\n| cube | [120, 300, 210, 400] |\n| ball | [500, 550, 600, 700] |",
        [A, B],
    ),
    Said((), "120, 300, 210, 400", [A]),
    Said((), "Cube: 120 300 210 400", [A]),
    # Corners
    Said((), "The cube spans (120, 300) to (210, 400).", [A]),
    Said((), "(120, 300), (210, 400)", [A]),
    Said((), "[[120, 300], [210, 400]]", [A]),
    Said((), "[(120, 300), (210, 400)]", [A]),
    # Named numbers
    Said((), "x1=120, y1=300, x2=210, y2=400", [A]),
    Said((), "x_min: 120, y_min: 300, x_max: 210, y_max: 400", [A]),
    Said((), "xmin=120 ymin=300 xmax=210 ymax=400", [A]),
    Said((), "left: 120, top: 300, right: 210, bottom: 400", [A]),
    # JSON under other keys
    Said((), '{"x1": 120, "y1": 300, "x2": 210, "y2": 400}', [A]),
    Said((), '[{"x_min": 120, "y_min": 300, "x_max": 210, "y_max": 400}]', [A]),
    Said((), '[{"xmin": 120, "ymin": 300, "xmax": 210, "ymax": 400, "score": 0.9}]', [A]),
    Said((), '{"left": 120, "top": 300, "right": 210, "bottom": 400}', [A]),
    Said((), '[{"x": 120, "y": 300, "width": 90, "height": 100}]', [A]),
    Said((), '{"left": 120, "top": 300, "width": 90, "height": 100}', [A]),
    Said(
        (),
        '{"differences": [{"bbox": [120, 300, 210, 400]}, {"bbox": [500, 550, 600, 700]}]}',
        [A, B],
    ),
    Said(
        (),
        '{"differences": [{"id": 1, "description": "color", "bounding_box": [120, 300, 210, 400]}]}',
        [A],
    ),
    Said((), '{"boxes": [[120, 300, 210, 400], [500, 550, 600, 700]], "count": 2}', [A, B]),
    Said((), '[{"bbox": {"x1": 120, "y1": 300, "x2": 210, "y2": 400}, "label": "cube"}]', [A]),
    Said((), '[{"box": [120, 300, 210, 400], "confidence": 0.93}]', [A]),
    # Python, and JSON with small faults
    Said((), "[{'bbox_2d': [120, 300, 210, 400], 'label': 'cube'}]", [A]),
    Said((), "[(120, 300, 210, 400), (500, 550, 600, 700)]", [A, B]),
    Said((), "[[120, 300, 210, 400], [500, 550, 600, 700],]", [A, B]),
    Said((), '[["120", "300", "210", "400"]]', [A]),
    Said((), '[{"bbox_2d": ["120", "300", "210", "400"]}]', [A]),
    Said((), "boxes = [[120, 300, 210, 400]]", [A]),
    Said((), "```python\nboxes = [(120, 300, 210, 400)]\n```", [A]),
    Said((), "[[120 300 210 400]]", [A]),
    Said((), "\\boxed{[120, 300, 210, 400]}", [A]),
    Said((), "<answer>[120, 300, 210, 400]</answer>", [A]),
    Said((), "<think>Maybe [1, 2, 3, 4]?</think>The cube, (120, 300, 210, 400).", [A]),
    # Said twice
    Said((), "The cube at [120, 300, 210, 400].\n\nAnswer: {'boxes': [[120, 300, 210, 400]]}", [A]),
    # None
    Said((), "There are no differences.", []),
    Said((), "The images are identical.", []),
    Said((), '{"differences": []}', []),
    Said((), "No visible differences were found between the two images.", []),
]
"""What "lenient" alone reads."""
