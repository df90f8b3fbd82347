"""A pair that was answered, and the metrics of such pairs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dig_env import Score
from dig_env.agents.evaluation.external.pair import ExternalPair
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.scenes import Pair

METRICS = ("reward", "format", "f1", "iou", "precision", "recall", "count_accuracy")


@dataclass(frozen=True, eq=False)
class Episode:
    """A pair that was answered.

    Attributes:
        pair: what was asked about.
        answer: the policy's text.
        score: what the answer earned; its ``answer`` holds the boxes.
        found: indices of the pair's differences that were found.
        dialogue: of ``DiG-Zoom-v0``: all observations but the last, and all texts.
        cost: of its requests for zooms.
        truncated: its turns ended without an answer, which is "" then.
    """

    pair: Pair | ExternalPair
    answer: str
    score: Score
    found: frozenset[int]
    dialogue: Dialogue | None = None
    cost: float = 0.0
    truncated: bool = False

    @property
    def reward(self) -> float:
        """What the answer earned, less the cost."""
        return self.score.total - self.cost

    @property
    def metrics(self) -> dict[str, float]:
        """``METRICS`` of this answer."""
        return dict(zip(METRICS, metric_values([self])[0].tolist(), strict=True))

    @property
    def name(self) -> str:
        """The pair seed, or the pair's name in its set."""
        if isinstance(self.pair, ExternalPair):
            return self.pair.name
        return str(self.pair.plan.seed)

    @property
    def changes(self) -> tuple[str, ...]:
        """The kind of each difference."""
        if isinstance(self.pair, ExternalPair):
            return self.pair.changes
        return tuple(difference.change for difference in self.pair.differences)

    @property
    def error(self) -> str:
        """Why nothing could be read; "" for boxes, and for the empty list."""
        read = self.score.answer
        return "" if read.ok or read.empty else read.error

    @property
    def count_is_right(self) -> bool:
        """Whether the answer has as many boxes as the pair has differences."""
        read = self.score.answer
        return (read.ok or read.empty) and len(read.boxes) == len(self.pair.boxes_unit)

    def to_json(self) -> dict[str, Any]:
        """The pair's seed or name, its changes, the answer, what it earned, and why nothing."""
        if isinstance(self.pair, ExternalPair):
            which: dict[str, Any] = {"name": self.pair.name}
        else:
            which = {"pair_seed": self.pair.plan.seed}
        return which | {
            "changes": list(self.changes),
            "answer": self.answer,
            "error": self.score.answer.error,
            "found": sorted(self.found),
            **self.metrics,
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


def assumptions(episodes: Sequence[Episode]) -> dict[str, int]:
    """What was assumed to read the answers that could be read, and of how many answers: that their
    numbers look like those of another frame, or what "lenient" took for the boxes. Those that
    differ in numbers alone are one, the commonest first."""
    notes: dict[str, list[str]] = {}
    for episode in episodes:
        if episode.score.answer.error and not episode.error:
            note = episode.score.answer.error
            notes.setdefault(re.sub(r"[-\d.]+", "", note), []).append(note)
    ordered = sorted(notes.values(), key=len, reverse=True)
    return {same[0]: len(same) for same in ordered}


def metric_values(episodes: Sequence[Episode]) -> np.ndarray:
    """(n, len(METRICS)) floats of n episodes."""
    return np.array(
        [
            (
                episode.reward,
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


def means(rows: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The mean of each entry over the rows that have it.

    >>> means([{"reward": 1.0}, {"reward": 0.0, "iou": 0.5}])
    {'reward': 0.5, 'iou': 0.5}
    """
    names = dict.fromkeys(name for row in rows for name in row)
    table = np.array([[row.get(name, np.nan) for name in names] for row in rows])
    return dict(zip(names, np.nanmean(table, axis=0).tolist(), strict=True))


def mean_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """The mean of each of ``METRICS`` over episodes."""
    return dict(zip(METRICS, metric_values(episodes).mean(axis=0).tolist(), strict=True))
