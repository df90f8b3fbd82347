"""Answers of every kind, with their truths: what all adapters must score alike.

`answers_about` writes answers to a given truth; `CORPUS` has some hundred of them, to truths of
no to four boxes. The same at every import.
"""

from __future__ import annotations

import json
from dataclasses import dataclass

import numpy as np

from dig_env import format_boxes


@dataclass(frozen=True)
class Case:
    """One answer.

    Attributes:
        kind: what is right or wrong with it.
        answer: a policy's text, in "norm1000".
        truth: (K, 4) rows of the true boxes, xyxy in the unit frame.
    """

    kind: str
    answer: str
    truth: list[list[float]]

    @property
    def truth_text(self) -> str:
        """The truth as a row's ground truth: parsing it gives the very same floats."""
        return format_boxes(np.reshape(self.truth, (-1, 4)), exact=True)


def random_boxes(rng: np.random.Generator, count: int) -> np.ndarray:
    """(count, 4) boxes of at least a twentieth of each side, half of them on whole pixels."""
    size = rng.uniform(0.05, 0.4, (count, 2))
    low = rng.uniform(0.0, 1.0 - size)
    boxes = np.hstack([low, low + size])
    return np.rint(boxes * 320) / 320 if rng.random() < 0.5 else boxes


def answers_about(truth: np.ndarray, rng: np.random.Generator) -> dict[str, str]:
    """One answer of each kind to a truth of (K, 4) boxes."""
    right = format_boxes(truth)
    jitter = rng.normal(0.0, 0.02, truth.shape)
    near = np.clip(truth + jitter, 0.0, 1.0)
    near = np.hstack([np.minimum(near[:, :2], near[:, 2:]), np.maximum(near[:, :2], near[:, 2:])])
    wrong = format_boxes(random_boxes(rng, max(1, len(truth))))
    labelled = [{"bbox_2d": box, "label": "cube"} for box in json.loads(right)]
    return {
        "exact": format_boxes(truth, exact=True),
        "right": right,
        "near": format_boxes(near, exact=True),
        "wrong": wrong,
        "shuffled": format_boxes(rng.permutation(truth), exact=True),
        "one missing": format_boxes(truth[1:]),
        "one too many": format_boxes(np.vstack([truth, random_boxes(rng, 1)])),
        "spam": format_boxes(np.vstack([truth, random_boxes(rng, 20)])),
        "twice": format_boxes(np.vstack([truth, truth])),
        "full frame": "[[0, 0, 1000, 1000]]",
        "empty list": "[]",
        "empty text": "",
        "prose": "I see no difference between the two images.",
        "in prose": f"The cube has changed: {right}. That is all.",
        "fenced": f"```json\n{json.dumps(labelled)}\n```",
        "thought first": f"<think>Perhaps {wrong}?</think>\n\n{right}",
        "thought opened by the template": f"Perhaps {wrong}?</think>\n\n{right}",
        "thought cut off": f"Let me look. Perhaps {right}",
        "thought opened and cut off": f"<think>Perhaps {right}",
        "answer tags": f"<answer>{right}</answer>",
        "second thoughts": f"{wrong} no, {right}",
        "cut off list": right[:-3],
        "not numbers": '[["a", "b", "c", "d"]]',
        "not finite": "[[0, 0, NaN, 1e999]]",
        "inverted": "[[900, 900, 100, 100]]",
        "out of the image": "[[-100, -100, 1200, 400]]",
        "three numbers": "[[1, 2, 3]]",
        "a loop": "The cube is red. " * 200 + right,
        "another frame": format_boxes(truth, "unit"),
    }


def _corpus() -> tuple[Case, ...]:
    rng = np.random.default_rng(20)
    return tuple(
        Case(kind, answer, truth.tolist())
        for count in (0, 1, 1, 2, 2, 3, 3, 4)
        for truth in [random_boxes(rng, count)]
        for kind, answer in answers_about(truth, rng).items()
    )


CORPUS = _corpus()
"""232 answers."""
