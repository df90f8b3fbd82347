"""Policies for the alignment tasks that need no learning: the upper and the lower bound."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import Any

import numpy as np

from dig_env import format_boxes
from dig_env.agents.policies.dialogue import Dialogue
from dig_env.align import AlignSettings, Question, write_answer
from dig_env.align.questions import LETTERS
from dig_env.align.words import noun_phrase, values_in
from dig_env.envs.align import observe_turn


class AlignOracle:
    """Answers with the truth of questions that it was shown: earns 1.0 in every task.

    Observations hold no truth, so it must be shown: ``evaluate_align`` does so; in your own loop
    call ``oracle.reveal(env.unwrapped.question)`` after each ``reset``.

    Args:
        settings: those of the environment.
    """

    def __init__(self, settings: AlignSettings = AlignSettings()) -> None:
        self._settings = settings
        self._answers: dict[str, str] = {}

    def reveal(self, question: Question) -> None:
        """Show the truth of a question that is to be answered."""
        seen: list[dict[str, Any]] = []
        for index, turn in enumerate(question.turns):
            seen.append(observe_turn(question, index, self._settings))
            self._answers[_digest(seen)] = write_answer(
                turn.truth, self._settings.coordinates, question.size, exact=True
            )

    def reply(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """The right answer to the last observation of each dialogue.

        Raises:
            LookupError: a question was not revealed.
        """
        digests = [_digest(dialogue.observations) for dialogue in dialogues]
        if not all(digest in self._answers for digest in digests):
            raise LookupError(
                "AlignOracle was not shown this question: use dig_env.agents.evaluate_align, or "
                "call oracle.reveal(env.unwrapped.question) after each reset"
            )
        return [self._answers[digest] for digest in digests]


class AlignBlind:
    """Answers in the form that is asked for, without a look at the image or the crops.

    A box is the typical one, in the middle; letters, yes or no and words of CLEVR are drawn.

    Args:
        seed: of its own generator.
        coordinates: frame to answer in.
    """

    def __init__(self, seed: int = 0, coordinates: str = "norm1000") -> None:
        self._rng = np.random.default_rng(seed)
        self._coordinates = coordinates

    def reply(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """Answer each dialogue's last prompt."""
        return [self._answer(dialogue.observations[-1]) for dialogue in dialogues]

    def _answer(self, observation: dict[str, Any]) -> str:
        prompt = observation["prompt"]
        height, width = observation["image"].shape[:2]
        box = format_boxes([[0.45, 0.4, 0.57, 0.57]], self._coordinates, (width, height))
        drawn = {
            name: values[self._rng.integers(len(values))]
            for name, values in values_in("clevr").items()
        }
        if "yes or no" in prompt:
            return ("yes", "no")[self._rng.integers(2)]
        if "Answer with the letter" in prompt:
            options = len(re.findall(r"\([A-H]\) <object>", prompt))
            return LETTERS[self._rng.integers(options)]
        if "Answer with the box" in prompt:
            return box
        if "followed by its box" in prompt or "then its box" in prompt:
            return f"{noun_phrase(drawn)} {box[1:-1]}"
        return noun_phrase(drawn)


def _digest(observations: Sequence[dict[str, Any]]) -> str:
    """Of everything that a dialogue has shown."""
    digest = hashlib.sha256(observations[0]["image"].tobytes())
    for observation in observations:
        digest.update(observation["prompt"].encode())
        digest.update(observation["crops"].tobytes())
    return digest.hexdigest()
