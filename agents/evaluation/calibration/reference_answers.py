"""Answers of known quality, from empty to perfect: what a reward is calibrated against."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence

import numpy as np

from dig_env import format_boxes, observe, score
from dig_env.agents.policies.policy import Policy, RandomPolicy
from dig_env.scenes import Pair

Answerer = Callable[[Sequence[Pair]], list[str]]
"""Answers pairs in the norm1000 frame. Unlike a policy it may look at the truth."""

JITTER_IOUS = (0.3, 0.5, 0.7, 0.9)

RANKS: tuple[tuple[str, ...], ...] = (
    ("empty",),
    ("random", "full frame", "centre box"),
    *((f"jitter {iou}",) for iou in JITTER_IOUS),
    ("oracle",),
)
"""The reference answers from worst to best. Within one rank there is no order."""

HUMAN = "human"
"""Who answered in ``dig-env play``."""

# Along a direction of length 1 (in box sides) any box has by then left its place or grown so much
# that little IoU is left, unless the image's edges held it back.
_FARTHEST = 4.0
_HALVINGS = 60


def reference_answers(seed: int = 0) -> dict[str, Answerer]:
    """The answerers of ``RANKS``, in that order.

    "empty" answers "[]", "full frame" the whole image, "centre box" its middle half in each axis,
    "random" one to four random boxes, "jitter 0.7" the truth with each box at an IoU of 0.7,
    "oracle" the truth.

    Args:
        seed: of the random boxes and of the jitter.
    """
    answerers: dict[str, Answerer] = {
        "empty": functools.partial(_always, "[]"),
        "random": answers_of(RandomPolicy(seed)),
        "full frame": functools.partial(_always, format_boxes([[0.0, 0.0, 1.0, 1.0]])),
        "centre box": functools.partial(_always, format_boxes([[0.25, 0.25, 0.75, 0.75]])),
        **{f"jitter {iou}": functools.partial(_near_truth, iou, seed) for iou in JITTER_IOUS},
        "oracle": lambda pairs: [format_boxes(pair.boxes_unit, exact=True) for pair in pairs],
    }
    return {name: answerers[name] for rank in RANKS for name in rank}


def answers_of(policy: Policy) -> Answerer:
    """The answerer that asks a policy."""
    return lambda pairs: policy.act([observe(pair) for pair in pairs])


def jittered(boxes_unit: np.ndarray, iou: float, rng: np.random.Generator) -> np.ndarray:
    """Move and scale each box until it overlaps its old self by ``iou``.

    The four corners' coordinates go off in a random direction (normal, in units of the box's own
    sides, cut at the image's edges), as far as bisection finds the IoU: it is at least ``iou``
    and exceeds it by rounding alone.

    Args:
        boxes_unit: (N, 4) xyxy in the unit frame.
        iou: between 0.1 and 1, both exclusive.
        rng: decides the directions. The same generator state gives the same ones at every IoU
            that they can reach.

    Raises:
        ValueError: ``iou`` is out of its range.
    """
    if not 0.1 < iou < 1.0:
        raise ValueError(f"iou={iou!r}: give a number between 0.1 and 1, both exclusive")
    return np.array([_jittered_box(box, iou, rng) for box in boxes_unit]).reshape(-1, 4)


def _jittered_box(box: np.ndarray, iou: float, rng: np.random.Generator) -> np.ndarray:
    sides = np.tile(box[2:] - box[:2], 2)

    def moved(distance: float) -> np.ndarray:
        return np.clip(box + distance * direction * sides, 0.0, 1.0)

    def overlap(distance: float) -> float:
        return score(moved(distance)[None], box[None]).iou  # 0 where no area is left

    while True:
        direction = rng.normal(size=4)
        direction /= np.linalg.norm(direction)
        if overlap(_FARTHEST) < iou:
            break
    near, far = 0.0, _FARTHEST
    for _ in range(_HALVINGS):
        middle = (near + far) / 2
        near, far = (middle, far) if overlap(middle) >= iou else (near, middle)
    return moved(near)


def _always(answer: str, pairs: Sequence[Pair]) -> list[str]:
    return [answer] * len(pairs)


def _near_truth(iou: float, seed: int, pairs: Sequence[Pair]) -> list[str]:
    return [
        format_boxes(
            jittered(pair.boxes_unit, iou, np.random.default_rng([seed, pair.plan.seed])),
            exact=True,
        )
        for pair in pairs
    ]
