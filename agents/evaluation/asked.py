"""What a policy is asked once, a pair or a question, alike for all that train on it or play it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from dig_env import RewardConfig, RewardLike, observe
from dig_env.agents.evaluation.align import AlignEpisode
from dig_env.agents.evaluation.episodes import Episode
from dig_env.agents.evaluation.pairs import scored_episode
from dig_env.agents.policies.align_chat import chat
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.agents.policies.mllm import Chat, pair_chat
from dig_env.align import AlignSettings, Question, grade, pose
from dig_env.envs.align import observe_turn
from dig_env.scenes import Pair, views

FRAME = "norm1000"
"""Frame of all boxes."""

Answered = Episode | AlignEpisode
"""Both say what they earned, ``reward``, and all else that is averaged, ``metrics``."""


class _OneForAll:
    """TRL copies a row for each rollout; what is asked is one for all of a group."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Any:
        return self


@dataclass(frozen=True, eq=False)
class AskedPair(_OneForAll):
    """A pair, as ``DiG-v0`` shows and scores it.

    Attributes:
        pair: images and truth.
        reward: settings of its reward.
    """

    pair: Pair
    reward: RewardLike

    def chat(self) -> Chat:
        """The messages, and what fills their slots."""
        return pair_chat(observe(self.pair, FRAME))

    def answered(self, text: str) -> Episode:
        """What an answer earns."""
        return scored_episode(self.pair, text, FRAME, self.reward)


@dataclass(frozen=True, eq=False)
class AskedQuestion(_OneForAll):
    """A question of one turn, as ``DiG-Align-v0`` shows and grades it.

    Attributes:
        question: what is asked, and what is right.
        info: the task, the pair seed, and what else is known of the question.
        settings: how it was posed.
    """

    question: Question
    info: dict[str, Any]
    settings: AlignSettings

    def chat(self) -> Chat:
        """The message, and what fills its slots."""
        return chat(Dialogue([observe_turn(self.question, 0, self.settings)]))

    def answered(self, text: str) -> AlignEpisode:
        """What an answer earns."""
        (turn,) = self.question.turns
        graded = grade(text, turn.truth, FRAME, self.question.size)
        return AlignEpisode(self.question, self.info, (text,), (graded,))


Asked = AskedPair | AskedQuestion


def ask(
    pair: Pair,
    task: str | None,
    drawn: int,
    reward: RewardLike = RewardConfig(),
    settings: AlignSettings = AlignSettings(FRAME),
) -> Asked | None:
    """Ask for a pair's differences, or what a task asks about one of its images.

    Args:
        pair: see there.
        task: a name in ``dig_env.align.TASKS``; None: for the differences.
        drawn: decides the question: ``DiG-Align-v0`` asks the same of a pair that it drew by it.
        reward: of pairs.
        settings: of questions.

    Returns:
        None where the pair gives the task nothing to ask.
    """
    if task is None:
        return AskedPair(pair, reward)
    posed = pose(views(pair), task, np.random.default_rng(drawn), settings)
    if posed is None:
        return None
    image, question = posed
    info = {"task": task, "pair_seed": pair.plan.seed, "image": image} | question.info
    return AskedQuestion(question, info, settings)
