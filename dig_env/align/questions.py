"""Questions: what is shown and asked, and what the right answer is."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from dig_env.align.words import Attributes, noun_phrase
from dig_env.answers import format_boxes
from dig_env.boxes import Boxes

IMAGE, OBJECT = "<image>", "<object>"
"""Where a prompt shows the image, and each of its crops in turn."""

LETTERS = "ABCDEFGH"
"""Names of the crops to choose from."""


@dataclass(frozen=True, eq=False)
class BoxTruth:
    """The answer is one box: (4,) float64 xyxy in the unit frame."""

    box: Boxes


@dataclass(frozen=True, eq=False)
class WordsTruth:
    """The answer is the values of the asked attributes."""

    attributes: Attributes


@dataclass(frozen=True)
class ChoiceTruth:
    """The answer is one of ``LETTERS``: the ``index``-th of ``options``."""

    index: int
    options: int


@dataclass(frozen=True)
class YesNoTruth:
    """The answer is yes or no."""

    yes: bool


@dataclass(frozen=True, eq=False)
class DescriptionTruth:
    """The answer is every object: its four attributes, and (4,) float64 xyxy, unit frame."""

    objects: tuple[tuple[Attributes, Boxes], ...]


Truth = BoxTruth | WordsTruth | ChoiceTruth | YesNoTruth | DescriptionTruth


@dataclass(frozen=True, eq=False)
class Turn:
    """One message of the user and its right answer.

    Attributes:
        prompt: text with ``<object>`` for each crop; the first turn's begins with ``<image>``.
        truth: what is right.
        crops: (S, S, 3) uint8 each, in the order of their slots.
    """

    prompt: str
    truth: Truth
    crops: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True, eq=False)
class Question:
    """What is asked about one image, in one turn or more.

    Attributes:
        task: its name in ``TASKS``.
        image: (H, W, 3) uint8.
        turns: at least one. A later turn says nothing of whether earlier answers were right.
        info: what else is known of it, such as {"kind": "popular"}; never the answer.
    """

    task: str
    image: np.ndarray
    turns: tuple[Turn, ...]
    info: dict[str, str] = field(default_factory=dict)

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image in pixels."""
        height, width = self.image.shape[:2]
        return width, height


def write_answer(
    truth: Truth, coordinates: str, size: tuple[int, int], *, exact: bool = False
) -> str:
    """The right answer as a policy ought to write it.

    Args:
        truth: what is right.
        coordinates: frame of the boxes, one of ``dig_env.COORDINATES``.
        size: (width, height) of the image in pixels.
        exact: all digits of the boxes, rather than those that models are taught to write.
    """
    match truth:
        case BoxTruth():
            return format_boxes(truth.box[None], coordinates, size, exact=exact)
        case WordsTruth():
            if "shape" in truth.attributes:
                return noun_phrase(truth.attributes)
            return " ".join(truth.attributes.values())
        case ChoiceTruth():
            return LETTERS[truth.index]
        case YesNoTruth():
            return "yes" if truth.yes else "no"
        case DescriptionTruth():
            lines = [
                f"{noun_phrase(attributes)} "
                f"{format_boxes(box[None], coordinates, size, exact=exact)[1:-1]}"
                for attributes, box in truth.objects
            ]
            return "\n".join(lines)
