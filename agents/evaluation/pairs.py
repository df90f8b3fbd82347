"""Evaluate a policy on a fixed set of pairs: the same seed always means the same pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypedDict, Unpack

import numpy as np

from dig_env import RewardConfig, RewardLike, observe, resolve_reward, score
from dig_env.agents.evaluation.breakdown import (
    metrics_by_count,
    metrics_with_intervals,
    recall_by_axis,
)
from dig_env.agents.evaluation.episodes import Episode, mean_metrics, metric_values
from dig_env.agents.evaluation.external.pair import ExternalPair
from dig_env.agents.evaluation.intervals import CONFIDENCE
from dig_env.agents.evaluation.play import OnFailure, play_dialogues, reply_once
from dig_env.agents.policies.policy import OraclePolicy, Policy
from dig_env.scenes import (
    Difficulty,
    Pair,
    PairDataset,
    Renderer,
    RenderSettings,
    pair_seed_range,
    plan_pair,
    resolve_stage,
)


@dataclass(frozen=True)
class EvaluationResult:
    """What a policy did on a set of pairs.

    Attributes:
        stage, split, seed: which pairs; the seed is that of the resampling, too.
        episodes: one entry a pair, in order.
        source: where the pairs came from: "fresh", or the folder or file of a dataset.
    """

    stage: str
    split: str
    seed: int
    episodes: tuple[Episode, ...]
    source: str = "fresh"

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the episodes of each of ``METRICS``."""
        return mean_metrics(self.episodes)

    @property
    def f1(self) -> float:
        """Mean F1."""
        return self.metrics["f1"]

    @property
    def reward(self) -> float:
        """Mean total reward."""
        return self.metrics["reward"]

    def recall_by_change(self) -> dict[str, float]:
        """The share of differences of each change type that were found."""
        groups = recall_by_axis(self.episodes)["change"]
        return {change: group["recall"][0] for change, group in groups.items()}

    def to_json(self) -> dict[str, Any]:
        """Which pairs, and the results as JSON values.

        Returns:
            "stage", "split", "seed", "source", "size" (of the images, width and height) and
            "episodes" (their number); the mean of each of ``METRICS``; and with the
            "confidence" intervals of a bootstrap over pairs "intervals", [mean, low, high] of
            each metric, "recall_by" (see ``recall_by_axis``) and "by_differences" (see
            ``metrics_by_count``).
        """
        width, height = _size(self.episodes[0].pair)
        intervals = metrics_with_intervals(metric_values(self.episodes), self.seed)
        return {
            "stage": self.stage,
            "split": self.split,
            "seed": self.seed,
            "source": self.source,
            "size": [width, height],
            "episodes": len(self.episodes),
            **self.metrics,
            "confidence": CONFIDENCE,
            "intervals": intervals,
            "recall_by": recall_by_axis(self.episodes, self.seed),
            "by_differences": metrics_by_count(self.episodes, self.seed),
        }


class Playing(TypedDict, total=False):
    """How pairs are played and scored.

    Attributes:
        coordinates: frame that the prompt asks for and answers are read in; "norm1000" by default.
        answers: dialect that the prompt asks for and answers are read in; "strict" by default. See
            ``dig_env.answers.habit_of`` for that of a family of models.
        config: the reward's settings, or its name; see ``dig_env.resolve_reward``.
        batch_size: observations a call of ``policy.act``; 16 by default.
        on_episode: called after each episode, for progress.
        on_failure: called with the name of a pair that the policy gave no answer to, and why; the
            pair is left out. Without it that is an error.
    """

    coordinates: str
    answers: str
    config: RewardLike
    batch_size: int
    on_episode: Callable[[Episode], None] | None
    on_failure: OnFailure | None


def evaluate(
    policy: Policy,
    *,
    stage: str | Difficulty | dict[str, Any] = "single",
    episodes: int = 200,
    seed: int = 0,
    split: str = "test",
    settings: RenderSettings = RenderSettings(),
    workers: int = 1,
    **how: Unpack[Playing],
) -> EvaluationResult:
    """Play ``episodes`` pairs and score the answers.

    The pairs are those of ``env.reset(seed=seed)`` followed by plain resets, in an environment
    with the same stage, split and settings.

    Args:
        policy: answers batches of observations.
        stage: what to play; see ``dig_env.scenes.resolve_stage``.
        episodes: number of pairs, at least 1.
        seed: of the draw of pairs.
        split: "train", "validation" or "test".
        settings: image size and quality.
        workers: Blender processes.
        how: ``coordinates``, ``config`` and so on: see ``Playing``.

    Raises:
        ValueError: ``episodes`` is not positive, or an unknown stage, split or reward; or a policy
            that does not answer each observation.
        Unanswered: an endpoint gave no answer.
    """
    with Renderer(settings, workers) as renderer:
        pairs = held_out_pairs(renderer, stage, episodes, seed, split)
        played = tuple(play_pairs(policy, pairs, **how))
    return EvaluationResult(resolve_stage(stage)[0], split, seed, played)


def evaluate_stored(
    policy: Policy,
    folder: str | Path,
    *,
    stage: str = "single",
    episodes: int | None = None,
    seed: int = 0,
    split: str = "test",
    **how: Unpack[Playing],
) -> EvaluationResult:
    """Play pairs of a dataset on disk; no Blender is needed.

    Args:
        policy: answers batches of observations.
        folder: that ``dig-env render`` wrote.
        stage: name of a stage that the folder has pairs of.
        episodes: how many of its pairs, from the lowest pair seed on; None for all.
        seed: of the resampling for the intervals.
        split: "train", "validation" or "test".
        how: see ``Playing``.

    Raises:
        FileNotFoundError, ValueError: no dataset there, or no such pairs, or fewer than asked for.
    """
    dataset = PairDataset(folder)
    seeds = dataset.pair_seeds(stage, split)
    if episodes is not None and not 1 <= episodes <= len(seeds):
        raise ValueError(
            f"episodes={episodes!r}: {folder} has {len(seeds)} pairs of {split}/{stage}; give 1 to "
            f"{len(seeds)}, or none for all"
        )
    played = play_pairs(policy, map(dataset.pair, seeds[:episodes]), **how)
    return EvaluationResult(stage, split, seed, tuple(played), str(folder))


def evaluate_external(
    policy: Policy,
    pairs: Sequence[ExternalPair],
    *,
    source: str = "external",
    stage: str = "external",
    split: str = "",
    seed: int = 0,
    **how: Unpack[Playing],
) -> EvaluationResult:
    """Play pairs of another origin.

    The prompt is the game's; where a pair of the set has no difference, all prompts are those of a
    stage where nothing may differ, so that no prompt reveals which.

    Args:
        policy: answers batches of observations.
        pairs: of a reader in ``dig_env.agents.evaluation.external``.
        source, stage, split: what the result calls the set and its part.
        seed: of the resampling for the intervals.
        how: see ``Playing``.

    Raises:
        ValueError: no pairs; or as ``evaluate``.
        Unanswered: as ``evaluate``.
    """
    if not pairs:
        raise ValueError("there are no pairs to play")
    played = play_pairs(policy, pairs, difficulty=difficulty_of(pairs), **how)
    return EvaluationResult(stage, split, seed, tuple(played), source)


def difficulty_of(pairs: Sequence[ExternalPair]) -> Difficulty:
    """What the prompt of external pairs says: whether nothing may differ."""
    fewest = min(1, *(len(pair.boxes_unit) for pair in pairs))
    return Difficulty(differences=(fewest, 1))


def held_out_pairs(
    renderer: Renderer,
    stage: str | Difficulty | dict[str, Any],
    episodes: int,
    seed: int = 0,
    split: str = "test",
) -> Iterator[Pair]:
    """The pairs that ``evaluate`` plays.

    Raises:
        ValueError: ``episodes`` is not positive, or an unknown stage or split.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes!r}: give 1 or more")
    _, difficulty = resolve_stage(stage)
    seeds = itertools.islice(pair_seeds(seed, split), episodes)
    return renderer.imap(plan_pair(pair_seed, difficulty) for pair_seed in seeds)


def pair_seeds(seed: int, split: str) -> Iterator[int]:
    """The endless stream of pair seeds that an environment's generator draws from ``seed``."""
    generator = np.random.default_rng(seed)
    allowed = pair_seed_range(split)
    while True:
        yield int(generator.integers(allowed.start, allowed.stop))


def play_pairs(
    policy: Policy,
    pairs: Iterable[Pair | ExternalPair],
    *,
    difficulty: Difficulty = Difficulty(),
    coordinates: str = "norm1000",
    answers: str = "strict",
    config: RewardLike = RewardConfig(),
    batch_size: int = 16,
    on_episode: Callable[[Episode], None] | None = None,
    on_failure: OnFailure | None = None,
) -> list[Episode]:
    """Let a policy answer the given pairs, and score the answers; see ``Playing``.

    ``difficulty`` is what the prompt of external pairs says.
    """
    config = resolve_reward(config)

    def observation(pair: Pair | ExternalPair, turn: int) -> dict[str, Any] | None:
        if turn:
            return None
        if isinstance(policy, OraclePolicy):
            policy.reveal(pair)
        if isinstance(pair, Pair):
            return observe(pair, coordinates, answers)
        return pair.observation(coordinates, difficulty, answers)

    episodes = []
    for pair, (answer,) in play_dialogues(
        reply_once(policy),
        pairs,
        observation,
        lambda pair: str(pair.plan.seed) if isinstance(pair, Pair) else pair.name,
        batch_size=batch_size,
        on_failure=on_failure,
    ):
        episodes.append(scored_episode(pair, answer, coordinates, config, answers))
        if on_episode is not None:
            on_episode(episodes[-1])
    return episodes


def scored_episode(
    pair: Pair | ExternalPair,
    answer: str,
    coordinates: str,
    config: RewardLike,
    answers: str = "strict",
) -> Episode:
    """What an answer to a pair earns and finds, read in this frame and dialect."""
    config = resolve_reward(config)
    result = score(
        answer,
        pair.boxes_unit,
        config,
        coordinates=coordinates,
        size=_size(pair),
        answers=answers,
    )
    found = frozenset(true for _, true, iou in result.matches if iou >= config.iou_threshold)
    return Episode(pair, answer, result, found)


def _size(pair: Pair | ExternalPair) -> tuple[int, int]:
    """(width, height) of the images in pixels."""
    if isinstance(pair, ExternalPair):
        return pair.size
    height, width = pair.image_a.shape[:2]
    return width, height
