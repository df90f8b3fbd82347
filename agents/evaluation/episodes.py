"""One answered pair, and what it counts for."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dig_env import Score
from dig_env.scenes import Pair

METRICS = ("reward", "format", "f1", "iou", "precision", "recall", "count_accuracy")


@dataclass(frozen=True, eq=False)
class Episode:
    """One answered pair.

    Attributes:
        pair: what was asked about.
        answer: the policy's text.
        score: what the answer earned; its ``answer`` holds the boxes.
        found: the object ids of the differences that were found.
    """

    pair: Pair
    answer: str
    score: Score
    found: frozenset[int]

    @property
    def count_is_right(self) -> bool:
        """Whether the answer has as many boxes as the pair has differences."""
        read = self.score.answer
        return (read.ok or read.empty) and len(read.boxes) == len(self.pair.differences)

    def to_json(self) -> dict[str, Any]:
        """Seed and changes of the pair, the answer, what it earned, and why nothing ("error")."""
        return {
            "pair_seed": self.pair.plan.seed,
            "changes": [difference.change for difference in self.pair.differences],
            "answer": self.answer,
            "error": self.score.answer.error,
            "found": sorted(self.found),
            **mean_metrics([self]),
        }


def unreadable(errors: Sequence[str]) -> dict[str, Any]:
    """What could not be read: "answers" of how many ("of"), and the commonest "reason".

    Args:
        errors: why nothing could be read, of each answer; "" where something was. Those that differ
            in numbers and quotations alone are one reason.
    """
    kinds = Counter(re.sub(r"'.*'|\".*\"|\d+", "", error) for error in errors if error)
    commonest = kinds.most_common(1)[0][0] if kinds else ""
    same = (e for e in errors if e and re.sub(r"'.*'|\".*\"|\d+", "", e) == commonest)
    return {"answers": kinds.total(), "of": len(errors), "reason": next(same, "")}


def read_error(result: Score) -> str:
    """Why nothing could be read; "" for boxes, and for the empty list."""
    return "" if result.answer.ok or result.answer.empty else result.answer.error


def metric_values(episodes: Sequence[Episode]) -> np.ndarray:
    """(n, len(METRICS)) floats of n episodes; "reward" is the total of the score."""
    return np.array(
        [
            (
                episode.score.total,
                episode.score.format,
                episode.score.f1,
                episode.score.iou,
                episode.score.precision,
                episode.score.recall,
                float(episode.count_is_right),
            )
            for episode in episodes
        ]
    )


def mean_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """The mean of each of ``METRICS`` over episodes."""
    return dict(zip(METRICS, metric_values(episodes).mean(axis=0).tolist(), strict=True))
