"""Evaluate a policy on the alignment tasks, with the benchmarks' numbers."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dig_env.agents.evaluation.intervals import CONFIDENCE, ratio_intervals
from dig_env.agents.evaluation.play import OnFailure, play_dialogues
from dig_env.agents.policies.align import AlignOracle
from dig_env.agents.policies.dialogue import DialoguePolicy
from dig_env.align import Grade, Question, grade
from dig_env.align.questions import BoxTruth, YesNoTruth
from dig_env.envs.align import DiGAlignEnv, observe_turn

BREAKDOWNS = ("kind", "expression", "relation", "refers", "asked", "options")
"""Entries of an episode's ``info`` by which accuracy is broken down, where a task has them."""


@dataclass(frozen=True, eq=False)
class AlignEpisode:
    """A question that was answered.

    Attributes:
        question: what was asked.
        info: of the environment's ``reset``: the task, the pair seed and so on.
        texts: the answers, one a turn.
        grades: what each earned.
    """

    question: Question
    info: dict[str, Any]
    texts: tuple[str, ...]
    grades: tuple[Grade, ...]

    @property
    def reward(self) -> float:
        """The sum of the episode's rewards: the mean over its turns."""
        return sum(graded.reward for graded in self.grades) / len(self.grades)

    @property
    def metrics(self) -> dict[str, float]:
        """What it adds to the means of ``align_metrics``, but for F1, which is no mean: "reward",
        "accuracy" and so on; of yes and no only what it has a part in."""
        parts = {name: of for name, of in _parts(self).items() if name != "f1" and of[1]}
        return {name: part / total for name, (part, total) in parts.items()}


def evaluate_align(
    policy: DialoguePolicy,
    task: str | Sequence[str],
    *,
    episodes: int = 200,
    seed: int = 0,
    split: str = "test",
    batch_size: int = 16,
    on_episode: Callable[[AlignEpisode], None] | None = None,
    on_failure: OnFailure | None = None,
    **environment: Any,
) -> list[AlignEpisode]:
    """Play ``episodes`` questions: those of an environment that is reset once with the seed.

    Args:
        policy: replies to dialogues of ``DiG-Align-v0``.
        task: a name in ``dig_env.align.TASKS``, or several that are drawn from.
        episodes: number of questions, at least 1.
        seed: of the draw of pairs and questions.
        split: "train", "validation" or "test".
        batch_size: dialogues a call of ``policy.reply``.
        on_episode: called after each episode, for progress.
        on_failure: called with the task and pair seed of a question that the policy gave no answer
            to, and why; the question is left out. Without it that is an error.
        environment: further arguments of ``DiGAlignEnv``, such as ``dataset`` or ``width``.

    Raises:
        ValueError: ``episodes`` is not positive; or as in ``DiGAlignEnv``.
        Unanswered: an endpoint gave no answer.
    """
    if episodes < 1:
        raise ValueError(f"episodes={episodes!r}: give 1 or more")
    env = DiGAlignEnv(task=task, split=split, **environment)

    def observation(asked: tuple[Question, dict[str, Any]], turn: int) -> dict[str, Any] | None:
        question, _ = asked
        if isinstance(policy, AlignOracle) and not turn:
            policy.reveal(question)
        return observe_turn(question, turn, env.settings) if turn < len(question.turns) else None

    played = []
    with contextlib.closing(env):
        for (question, info), texts in play_dialogues(
            policy.reply,
            _questions(env, episodes, seed),
            observation,
            lambda asked: f"{asked[1]['task']} {asked[1]['pair_seed']}",
            batch_size=batch_size,
            on_failure=on_failure,
        ):
            turns = zip(texts, question.turns, strict=True)
            frame = (env.coordinates, question.size)
            grades = tuple(grade(text, turn.truth, *frame) for text, turn in turns)
            played.append(AlignEpisode(question, info, texts, grades))
            if on_episode is not None:
                on_episode(played[-1])
    return played


def _questions(
    env: DiGAlignEnv, episodes: int, seed: int
) -> Iterator[tuple[Question, dict[str, Any]]]:
    """Each episode's question, with the environment's ``info``."""
    for index in range(episodes):
        _, info = env.reset(seed=None if index else seed)
        yield env.question, info


def align_metrics(episodes: Sequence[AlignEpisode], seed: int = 0) -> dict[str, Any]:
    """The numbers of one task's episodes.

    Args:
        episodes: of one task, at least one.
        seed: of the bootstrap's resampling.

    Returns:
        "episodes"; and [value, low, high] (bootstrap over pairs) of "reward"; of "accuracy", the
        share of turns that were right: for boxes REC accuracy@50, for words all asked attributes;
        of "unread", the share of turns in which nothing could be read; for boxes of "iou"; for yes
        and no as POPE has them, yes being positive, of "precision", "recall", "f1" and
        "yes_rate". "by": the same for each group of ``BREAKDOWNS``.

    Raises:
        ValueError: no episodes, or of several tasks.
    """
    tasks = {episode.info["task"] for episode in episodes}
    if len(tasks) != 1:
        raise ValueError(f"episodes of {', '.join(sorted(tasks)) or 'no task'}: give one task's")
    groups = {
        name: {
            value: _numbers([e for e in episodes if e.info[name] == value], seed)
            for value in sorted({episode.info[name] for episode in episodes})
        }
        for name in BREAKDOWNS
        if name in episodes[0].info
    }
    return {"confidence": CONFIDENCE, **_numbers(episodes, seed), "by": groups}


def _numbers(episodes: Sequence[AlignEpisode], seed: int) -> dict[str, Any]:
    """Each number as parts and totals of an episode, summed by pair, with intervals."""
    names: dict[str, list[tuple[float, float]]] = {}
    for episode in episodes:
        for name, values in _parts(episode).items():
            names.setdefault(name, []).append(values)
    table = np.array(list(names.values())).transpose(1, 2, 0)  # episode, part or total, number
    _, pair = np.unique([episode.info["pair_seed"] for episode in episodes], return_inverse=True)
    sums = np.zeros((pair.max() + 1, *table.shape[1:]))
    np.add.at(sums, pair, table)
    # A number of nothing at all, such as the precision of one who never says yes, is 0.
    there = sums[:, 1].sum(axis=0) > 0
    intervals = np.zeros((len(names), 3))
    intervals[there] = ratio_intervals(sums[:, 0, there], sums[:, 1, there], seed=seed)
    return {"episodes": len(episodes)} | dict(zip(names, intervals.tolist(), strict=True))


def _parts(episode: AlignEpisode) -> dict[str, tuple[float, float]]:
    """What an episode adds to the numerator and the denominator of each number."""
    turns = list(zip(episode.question.turns, episode.grades, strict=True))
    parts = {
        "reward": (episode.reward, 1.0),
        "accuracy": (float(sum(graded.right for _, graded in turns)), float(len(turns))),
        "unread": (float(sum(bool(graded.error) for _, graded in turns)), float(len(turns))),
    }
    if len(turns) > 1:
        return parts
    ((turn, graded),) = turns
    if isinstance(turn.truth, BoxTruth):
        parts["iou"] = (graded.iou, 1.0)
    if isinstance(turn.truth, YesNoTruth):
        true, said = float(turn.truth.yes), float(graded.read == "yes")
        parts["precision"] = (true * said, said)
        parts["recall"] = (true * said, true)
        parts["f1"] = (2 * true * said, true + said)
        parts["yes_rate"] = (said, 1.0)
    return parts
