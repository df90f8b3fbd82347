"""Score a policy on pairs of any origin, as ``dig_env.agents.evaluate`` does on rendered ones."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dig_env import RewardConfig, RewardLike, Score, instruction, resolve_reward, score
from dig_env.agents.evaluation.breakdown import metrics_with_intervals
from dig_env.agents.evaluation.episodes import METRICS
from dig_env.agents.evaluation.external.pair import ExternalPair
from dig_env.agents.evaluation.intervals import CONFIDENCE
from dig_env.agents.policies.policy import OnFailure, OraclePolicy, Policy, Unanswered, answers_to
from dig_env.scenes import Difficulty


@dataclass(frozen=True, eq=False)
class ExternalResult:
    """What a policy did on a set of pairs.

    Attributes:
        pairs: what was played.
        answers: the policy's text for each.
        scores: of each answer.
        iou_threshold: the IoU from which on a difference counts as found.
    """

    pairs: tuple[ExternalPair, ...]
    answers: tuple[str, ...]
    scores: tuple[Score, ...]
    iou_threshold: float

    @property
    def values(self) -> np.ndarray:
        """(pairs, metrics) floats, in the order of ``episodes.METRICS``."""
        rows = zip(self.pairs, self.scores, strict=True)
        return np.array([_metric_values(pair, result) for pair, result in rows])

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the pairs of each of ``dig_env.agents.evaluation.episodes.METRICS``."""
        return dict(zip(METRICS, self.values.mean(axis=0).tolist(), strict=True))

    def recall_by_change(self) -> dict[str, float]:
        """The share of differences of each kind that were found.

        "none" is the share of the pairs without a difference that were answered so.
        """
        found: dict[str, list[bool]] = {}
        for pair, result in zip(self.pairs, self.scores, strict=True):
            hits = {true for _, true, iou in result.matches if iou >= self.iou_threshold}
            for index, change in enumerate(pair.changes):
                found.setdefault(change, []).append(index in hits)
            if not pair.changes:
                found.setdefault("none", []).append(result.answer.empty)
        return {change: float(np.mean(hits)) for change, hits in sorted(found.items())}

    def to_json(self) -> dict[str, Any]:
        """The results as JSON values.

        Returns:
            "pairs" (their number), the mean of each metric, "recall_by_change", and with the
            "confidence" intervals of a bootstrap over pairs "intervals", [mean, low, high] of each
            metric.
        """
        return {
            "pairs": len(self.pairs),
            **self.metrics,
            "recall_by_change": self.recall_by_change(),
            "confidence": CONFIDENCE,
            "intervals": metrics_with_intervals(self.values, seed=0),
        }


def evaluate_external(
    policy: Policy,
    pairs: Sequence[ExternalPair],
    *,
    coordinates: str = "norm1000",
    config: RewardLike = RewardConfig(),
    batch_size: int = 16,
    on_pair: Callable[[], None] | None = None,
    on_failure: OnFailure | None = None,
) -> ExternalResult:
    """Let a policy answer every pair, and score the answers.

    The prompt is the game's; where a pair of the set has no difference, all prompts are those of a
    stage where nothing may differ, so that no prompt tells which.

    Args:
        policy: answers batches of observations.
        pairs: of a reader in this package.
        coordinates: frame that the prompt asks for and answers are read in.
        config: the reward's settings, or its name; see ``dig_env.resolve_reward``.
        batch_size: observations a call of ``policy.act``.
        on_pair: called after each pair, for progress.
        on_failure: called with the name of a pair that the policy gave no answer to, and why; the
            pair is left out. Without it that is an error.

    Raises:
        ValueError: no pairs, or a policy that does not answer each observation.
        Unanswered: an endpoint gave no answer.
    """
    if not pairs:
        raise ValueError("there are no pairs to play")
    config = resolve_reward(config)
    fewest = min(1, *(len(pair.boxes_unit) for pair in pairs))
    difficulty = Difficulty(differences=(fewest, 1))
    answered: list[ExternalPair] = []
    answers: list[str] = []
    scores: list[Score] = []
    stream = iter(pairs)
    while batch := list(itertools.islice(stream, batch_size)):
        if isinstance(policy, OraclePolicy):
            for pair in batch:
                policy.reveal(pair)
        seen = [_observation(pair, coordinates, difficulty) for pair in batch]
        replies = answers_to(policy.act, seen, [pair.name for pair in batch], on_failure)
        for pair, reply in zip(batch, replies, strict=True):
            if reply is None:
                continue
            answered.append(pair)
            answers.append(reply)
            scores.append(
                score(reply, pair.boxes_unit, config, coordinates=coordinates, size=pair.size)
            )
            if on_pair is not None:
                on_pair()
    if on_failure is not None and not answered:
        raise Unanswered("no pair got an answer")
    return ExternalResult(tuple(answered), tuple(answers), tuple(scores), config.iou_threshold)


def _observation(pair: ExternalPair, coordinates: str, difficulty: Difficulty) -> dict[str, Any]:
    return {
        "image_a": pair.image_a,
        "image_b": pair.image_b,
        "prompt": instruction(coordinates, pair.size, difficulty),
    }


def _metric_values(pair: ExternalPair, result: Score) -> tuple[float, ...]:
    parts = (result.total, result.format, result.f1, result.iou, result.precision, result.recall)
    read = result.answer
    count_is_right = (read.ok or read.empty) and len(read.boxes) == len(pair.boxes_unit)
    return (*parts, float(count_is_right))
