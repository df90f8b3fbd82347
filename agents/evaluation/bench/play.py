"""Play the benchmark with a policy: every answer, and the figures by stage and by change."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, Unpack

import numpy as np

from dig_env.agents.evaluation.bench.definition import SPLIT, Definition
from dig_env.agents.evaluation.calibration.card import THRESHOLDS
from dig_env.agents.evaluation.episodes import Episode
from dig_env.agents.evaluation.intervals import mean_intervals, ratio_intervals, rounded
from dig_env.agents.evaluation.pairs import Playing, play_pairs
from dig_env.agents.policies.policy import PixelDiffPolicy
from dig_env.scenes import CHANGES, Pair, PairDataset

METRICS = ("f1", "reward", "iou")
"""Of each pair. The first is what policies are ranked by."""

Answers = dict[str, list[dict[str, Any]]]
"""By stage, ``Episode.to_json`` of each pair that was answered."""


def at_best_threshold(pairs: Iterable[Pair], **how: Unpack[Playing]) -> list[Episode]:
    """The episodes of pixel difference at the threshold that earns most on these very pairs.

    That is more than a policy that subtracts pixels could know: an upper bound for thresholds, as
    on the calibration card.

    Args:
        pairs: all of a stage.
        how: see ``Playing``; ``on_episode`` is called for those of the best threshold.
    """
    there = list(pairs)
    frame, dialect = how.get("coordinates", "norm1000"), how.get("answers", "strict")
    silent: Playing = {**how, "on_episode": None}
    played = [
        play_pairs(PixelDiffPolicy(level, coordinates=frame, answers=dialect), there, **silent)
        for level in THRESHOLDS
    ]
    best = max(played, key=lambda episodes: sum(episode.reward for episode in episodes))
    if on_episode := how.get("on_episode"):
        for episode in best:
            on_episode(episode)
    return best


def play_benchmark(
    play: Callable[[Iterable[Pair]], list[Episode]],
    folder: Path,
    size: str,
    made: Definition,
    limit: int | None = None,
    on_stage: Callable[[str, Sequence[Episode]], None] = lambda stage, episodes: None,
) -> Answers:
    """Play the pairs of a size. The pixels of one stage are in memory at a time.

    Args:
        play: ``play_pairs`` with a policy, or ``at_best_threshold``.
        folder: that ``make_benchmark`` filled.
        size: such as "320x240".
        made: what the folder holds.
        limit: play only the first so many pairs of each stage.
        on_stage: called with the name and the episodes of each stage that is done.

    Raises:
        ValueError: ``limit`` is out of its range.
        Unanswered: an endpoint gave no answer.
    """
    if limit is not None and not 1 <= limit <= made.pairs:
        raise ValueError(f"limit={limit!r}: give 1 to {made.pairs} pairs of each stage, or none")
    dataset = PairDataset(folder / size)
    answers: Answers = {}
    for stage in made.sizes[size].stages:
        seeds = dataset.pair_seeds(stage, SPLIT)[: limit or made.pairs]
        episodes = play(map(dataset.pair, seeds))
        on_stage(stage, episodes)
        answers[stage] = [episode.to_json() for episode in episodes]
    return answers


def figures(answers: Answers, seed: int = 0) -> dict[str, Any]:
    """What the answers are worth, each as [mean, low, high] of a bootstrap over pairs.

    Args:
        answers: at least one.
        seed: of the resampling.

    Returns:
        Of all pairs "pairs", their number, each of ``METRICS`` and "recall", the share of all
        differences that were found; the same "by_stage"; "by_change" with "differences", their
        number, and "recall"; and "nothing_differs", as of a stage, over the pairs at K = 0, whose
        F1 is 1 for the empty list; None where there is none.
    """
    everything = [answer for rows in answers.values() for answer in rows]
    same = [answer for answer in everything if not answer["changes"]]
    return {
        **_figures_of(everything, seed),
        "by_stage": {stage: _figures_of(rows, seed) for stage, rows in answers.items() if rows},
        "by_change": _by_change(everything, seed),
        "nothing_differs": _figures_of(same, seed) if same else None,
    }


def _figures_of(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, Any]:
    values = np.array([[row[metric] for metric in METRICS] for row in rows])
    means = dict(zip(METRICS, rounded(mean_intervals(values, seed=seed)), strict=True))
    there = np.array([[len(row["changes"])] for row in rows])
    found = np.array([[len(row["found"])] for row in rows])
    recall = rounded(ratio_intervals(found, there, seed=seed))[0] if there.any() else None
    return {"pairs": len(rows), **means, "recall": recall}


def _by_change(rows: Sequence[dict[str, Any]], seed: int) -> dict[str, dict[str, Any]]:
    kinds = [kind for kind in CHANGES if any(kind in row["changes"] for row in rows)]
    there = np.array([[row["changes"].count(kind) for kind in kinds] for row in rows])
    found = np.array(
        [[sum(row["changes"][i] == kind for i in row["found"]) for kind in kinds] for row in rows]
    )
    recalls = rounded(ratio_intervals(found, there, seed=seed))
    return {
        kind: {"differences": int(count), "recall": recall}
        for kind, count, recall in zip(kinds, there.sum(axis=0), recalls, strict=True)
    }
