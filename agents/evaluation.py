"""Evaluate a policy on a fixed set of pairs: the same seed always means the same pairs."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from agents.policies import OraclePolicy, Policy
from dig_env import RewardConfig, Score, observe, score
from scenes import (
    Difficulty,
    Pair,
    Renderer,
    RenderSettings,
    pair_seed_range,
    plan_pair,
    resolve_stage,
)

METRICS = ("reward", "format", "f1", "iou", "precision", "recall")


@dataclass(frozen=True, eq=False)
class Episode:
    """One answered pair. ``found`` holds the object ids of the differences that were matched."""

    pair: Pair
    answer: str
    score: Score
    found: frozenset[int]


@dataclass(frozen=True)
class Report:
    """What a policy did on a set of pairs.

    Attributes:
        stage, split, seed: which pairs.
        episodes: one entry a pair, in order.
    """

    stage: str
    split: str
    seed: int
    episodes: tuple[Episode, ...]

    @property
    def metrics(self) -> dict[str, float]:
        """Means over the episodes: "reward", "format", "f1", "iou", "precision", "recall"."""
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
        found: dict[str, list[bool]] = {}
        for episode in self.episodes:
            for diff in episode.pair.differences:
                found.setdefault(diff.change, []).append(diff.object_id in episode.found)
        return {change: float(np.mean(hits)) for change, hits in sorted(found.items())}

    def to_json(self) -> dict[str, Any]:
        """Means, settings and per-change recall as JSON values."""
        return {
            "stage": self.stage,
            "split": self.split,
            "seed": self.seed,
            "episodes": len(self.episodes),
            **self.metrics,
            "recall_by_change": self.recall_by_change(),
        }


def mean_metrics(episodes: Sequence[Episode]) -> dict[str, float]:
    """The mean of each of ``METRICS`` over episodes; "reward" is the total of the score."""
    attributes = ("total", *METRICS[1:])
    return {
        metric: float(np.mean([getattr(episode.score, name) for episode in episodes]))
        for metric, name in zip(METRICS, attributes, strict=True)
    }


def evaluate(
    policy: Policy,
    *,
    stage: str | Difficulty | dict[str, Any] = "single",
    episodes: int = 200,
    seed: int = 0,
    split: str = "test",
    settings: RenderSettings = RenderSettings(),
    coordinates: str = "norm1000",
    config: RewardConfig = RewardConfig(),
    workers: int = 1,
    batch_size: int = 16,
    on_episode: Callable[[Episode], None] | None = None,
) -> Report:
    """Play ``episodes`` pairs and score the answers.

    The pairs are those of ``env.reset(seed=seed)`` followed by plain resets, in an environment
    with the same stage, split and settings.

    Args:
        policy: answers batches of observations.
        stage: what to play; see ``scenes.resolve_stage``.
        episodes: number of pairs, at least 1.
        seed: of the draw of pairs.
        split: "train", "validation" or "test".
        settings: image size and quality.
        coordinates: frame that the prompt asks for and answers are read in.
        config: reward weights.
        workers: Blender processes.
        batch_size: observations a call of ``policy.act``.
        on_episode: called after each episode, for progress.

    Raises:
        ValueError: ``episodes`` is not positive, or an unknown stage or split.
    """
    with Renderer(settings, workers) as renderer:
        return Report(
            resolve_stage(stage)[0],
            split,
            seed,
            tuple(
                play(
                    policy,
                    held_out_pairs(renderer, stage, episodes, seed, split),
                    coordinates=coordinates,
                    config=config,
                    batch_size=batch_size,
                    on_episode=on_episode,
                )
            ),
        )


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


def play(
    policy: Policy,
    pairs: Iterable[Pair],
    *,
    coordinates: str = "norm1000",
    config: RewardConfig = RewardConfig(),
    batch_size: int = 16,
    on_episode: Callable[[Episode], None] | None = None,
) -> list[Episode]:
    """Let a policy answer pairs that are at hand, and score the answers; see ``evaluate``."""
    episodes: list[Episode] = []
    stream = iter(pairs)
    while batch := list(itertools.islice(stream, batch_size)):
        if isinstance(policy, OraclePolicy):
            for pair in batch:
                policy.reveal(pair)
        answers = policy.act([observe(pair, coordinates) for pair in batch])
        if len(answers) != len(batch):
            raise ValueError(
                f"{type(policy).__name__}.act returned {len(answers)} answers for {len(batch)} "
                "observations; it must return one each"
            )
        for pair, answer in zip(batch, answers, strict=True):
            episodes.append(_scored(pair, answer, coordinates, config))
            if on_episode is not None:
                on_episode(episodes[-1])
    return episodes


def _scored(pair: Pair, answer: str, coordinates: str, config: RewardConfig) -> Episode:
    height, width = pair.image_a.shape[:2]
    result = score(answer, pair.boxes_unit, config, coordinates=coordinates, size=(width, height))
    found = frozenset(
        pair.differences[true].object_id
        for _, true, iou in result.matches
        if iou >= config.found_from
    )
    return Episode(pair, answer, result, found)
