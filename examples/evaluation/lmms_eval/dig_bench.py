"""DiG-Bench in lmms-eval, asked and scored as ``dig-env bench run`` does.

The variable DIG_BENCH_MODEL may name the model, such as Qwen/Qwen3-VL-8B-Instruct: it is then asked
and read in its family's notation and frame; without it in plain lists from 0 to 1000.
"""

import functools
import json
import os

import numpy as np

from dig_env import format_boxes, instruction, score
from dig_env.answers import habit_of
from dig_env.scenes import PairPlan

HABIT = habit_of(os.environ.get("DIG_BENCH_MODEL", ""))
SMALL, LARGE = (320, 240), (640, 480)
"""Sizes in pixels. The functions are told, since lmms-eval shows most of them no images."""


def doc_to_visual(doc: dict) -> list:
    """Both images, the first one first."""
    return [doc[name].convert("RGB") for name in ("image_a", "image_b")]


def doc_to_text(doc: dict, size: tuple[int, int] = SMALL) -> str:
    """The game's prompt for the stage of the pair."""
    difficulty = PairPlan.from_json(json.loads(doc["plan"])).difficulty
    return instruction(size=size, difficulty=difficulty, **HABIT)


def doc_to_target(doc: dict, size: tuple[int, int] = SMALL) -> str:
    """The true boxes as an answer."""
    return format_boxes(truth(doc, size), size=size, exact=True, **HABIT)


def process_results(doc: dict, results: list[str], size: tuple[int, int] = SMALL) -> dict:
    """What an answer earns; lmms-eval takes the mean of each, over the pairs that have it."""
    earned = score(results[0], truth(doc, size), size=size, **HABIT)
    return {"dig_f1": earned.f1, "dig_reward": earned.total, f"dig_f1_{doc['stage']}": earned.f1}


def truth(doc: dict, size: tuple[int, int]) -> np.ndarray:
    """(K, 4) xyxy in the unit frame."""
    boxes = np.array([difference["box"] for difference in doc["differences"]], float)
    return boxes.reshape(-1, 4) / (size * 2)


large_text = functools.partial(doc_to_text, size=LARGE)
large_target = functools.partial(doc_to_target, size=LARGE)
large_results = functools.partial(process_results, size=LARGE)
