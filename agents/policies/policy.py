"""The policy protocol, three policies that need no learning, and a prompt for those that did."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import scipy

from dig_env import format_boxes, instruction


class Policy(Protocol):
    """All that a policy needs: answers in text for a batch of observations."""

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """Answer each observation ("image_a", "image_b": (H, W, 3) uint8; "prompt": str).

        In sets that have one image with an odd one in it, there is no "image_b".
        """
        ...


class LabelledPair(Protocol):
    """What an oracle is shown: a ``dig_env.scenes.Pair`` or an ``ExternalPair``."""

    @property
    def image_a(self) -> np.ndarray:
        """(H, W, 3) uint8."""

    @property
    def image_b(self) -> np.ndarray | None:
        """(H, W, 3) uint8; None where there is one image."""

    @property
    def boxes_unit(self) -> np.ndarray:
        """(K, 4) float64 xyxy, each axis from 0 to 1."""


class Unanswered(OSError):
    """Questions that got no answer; the message says why and what to do.

    Attributes:
        answers: to all questions of the call, None where there is none. Empty where asking the
            others is of no use either.
        reasons: why there is none; "" where there is.
    """

    def __init__(
        self, message: str, answers: Sequence[str | None] = (), reasons: Sequence[str] = ()
    ) -> None:
        super().__init__(message)
        self.answers, self.reasons = list(answers), list(reasons)


class RandomPolicy:
    """One to four random boxes, the lower bound for every policy.

    Args:
        seed: of its own generator.
        coordinates, answers: frame and dialect to answer in.
    """

    def __init__(
        self, seed: int = 0, coordinates: str = "norm1000", answers: str = "strict"
    ) -> None:
        self._rng = np.random.default_rng(seed)
        self._coordinates, self._answers_in = coordinates, answers

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """Answer without a look at the images."""
        return [self._answer(obs) for obs in observations]

    def _answer(self, observation: dict[str, Any]) -> str:
        count = int(self._rng.integers(1, 5))
        center = self._rng.uniform(0.15, 0.85, (count, 2))
        half = self._rng.uniform(0.03, 0.12, (count, 2))
        boxes = np.concatenate([center - half, center + half], axis=1)
        return format_boxes(boxes, self._coordinates, _size(observation), answers=self._answers_in)


class OraclePolicy:
    """Answers with the truth of pairs that it was shown: an upper bound, and a check of the reward.

    Observations hold no truth, so it must be shown: ``dig_env.agents.evaluate`` does so; in your
    own loop call ``policy.reveal(env.unwrapped.pair)`` after each ``reset``.

    Args:
        coordinates, answers: frame and dialect to answer in.
    """

    def __init__(self, coordinates: str = "norm1000", answers: str = "strict") -> None:
        self._coordinates, self._answers_in = coordinates, answers
        self._answers: dict[bytes, str] = {}

    def reveal(self, pair: LabelledPair) -> None:
        """Show the truth of a pair that is to be answered."""
        height, width = pair.image_a.shape[:2]
        self._answers[_digest(pair.image_a, pair.image_b)] = format_boxes(
            pair.boxes_unit,
            self._coordinates,
            (width, height),
            exact=True,
            answers=self._answers_in,
        )

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """Answer with the exact boxes.

        Raises:
            LookupError: a pair was not revealed.
        """
        digests = [_digest(obs["image_a"], obs.get("image_b")) for obs in observations]
        if not all(digest in self._answers for digest in digests):
            raise LookupError(
                "OraclePolicy was not shown this pair: use dig_env.agents.evaluate, or call "
                "policy.reveal(env.unwrapped.pair) after each reset"
            )
        return [self._answers[digest] for digest in digests]


class PixelDiffPolicy:
    """Boxes around connected regions in which the pixels differ: the classical baseline.

    Shadows and reflections of a change reach outside its object, so a low threshold gives boxes
    that are too large and a high one tears objects apart.

    Args:
        threshold: least difference of a region's pixels, 0 to 255, in the channel that differs
            most.
        min_area: least area of a region as a fraction of the image.
        coordinates, answers: frame and dialect to answer in.
    """

    def __init__(
        self,
        threshold: float = 25.0,
        min_area: float = 0.001,
        coordinates: str = "norm1000",
        answers: str = "strict",
    ) -> None:
        self._threshold = threshold
        self._min_area = min_area
        self._coordinates, self._answers_in = coordinates, answers

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """Answer by subtracting the images."""
        return [self._answer(obs) for obs in observations]

    def _answer(self, observation: dict[str, Any]) -> str:
        if "image_b" not in observation:
            raise ValueError(
                "PixelDiffPolicy subtracts two images, and this set has one: take another policy"
            )
        image_a = observation["image_a"].astype(np.int16)
        changed = np.abs(image_a - observation["image_b"]).max(axis=-1) > self._threshold
        # Closing joins the parts of an object of which a stripe stayed the same.
        changed = scipy.ndimage.binary_closing(changed, structure=np.ones((3, 3)))
        regions, _ = scipy.ndimage.label(changed, structure=np.ones((3, 3)))
        width, height = _size(observation)
        boxes = [
            (cols.start / width, rows.start / height, cols.stop / width, rows.stop / height)
            for index, (rows, cols) in enumerate(scipy.ndimage.find_objects(regions), start=1)
            if (regions[rows, cols] == index).sum() >= self._min_area * changed.size
        ]
        found = np.array(boxes).reshape(-1, 4)
        return format_boxes(found, self._coordinates, (width, height), answers=self._answers_in)


class TrainedPrompt:
    """A policy that is asked in the prompt of the paper's stages, whatever the stage.

    The embedded policy knows no other: a sentence that it has never seen would decide its answer
    more than the images do.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """The policy's answers to the same images."""
        prompt = instruction()
        return self._policy.act([seen | {"prompt": prompt} for seen in observations])


def _size(observation: dict[str, Any]) -> tuple[int, int]:
    height, width = observation["image_a"].shape[:2]
    return width, height


def _digest(image_a: np.ndarray, image_b: np.ndarray | None) -> bytes:
    shown = image_a.tobytes() + (b"" if image_b is None else image_b.tobytes())
    return hashlib.blake2b(shown).digest()
