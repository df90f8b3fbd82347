"""How hard a pair is: one frozen, validated value, and the paper's three stages."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Any

from scenes.vocabulary import CHANGES, PAPER_CHANGES


class DifficultyError(ValueError):
    """A difficulty that is malformed, or for which no scene can be laid out."""


@dataclass(frozen=True)
class Difficulty:
    """What a pair of scenes may look like.

    Attributes:
        differences: inclusive range of K, the number of changed objects; K is drawn uniformly.
            At least 1.
        objects: inclusive range of distinct objects over both images (an added object counts).
            Drawn uniformly from what is left of the range once K objects must fit.
        changes: change types to draw from, uniformly and independently for each changed object;
            a subset of ``scenes.CHANGES``. The default is the paper's six.
        min_visible: the least part of the image, as a fraction of its pixels, that each object
            must show in every image it stands in. The default is CLEVR's 200 pixels of 320x240.
        min_contrast: the least mean CIE Lab distance (CIE76 Delta E) between the two images over
            the pixels of a changed object. About 2.3 is just noticeable; the default asks for
            over twice that.
        max_bystander_contrast: the largest such distance that an unchanged object may show, by
            shadows and mirror images. The default is what makes a change of its own.
        max_detached_area: the largest patch, as a fraction of the image's pixels, that may change
            strongly (Delta E 10) without touching the box of a difference. The default is what
            makes an object.

    Raises:
        DifficultyError: a field is out of its range; the message says what is allowed.
    """

    differences: tuple[int, int] = (1, 1)
    objects: tuple[int, int] = (3, 6)
    changes: tuple[str, ...] = PAPER_CHANGES
    min_visible: float = 200 / (320 * 240)
    min_contrast: float = 5.0
    max_bystander_contrast: float = 5.0
    max_detached_area: float = 200 / (320 * 240)

    def __post_init__(self) -> None:
        for name, least in (("differences", 1), ("objects", 1)):
            object.__setattr__(self, name, _int_range(name, getattr(self, name), least))
        if isinstance(self.changes, str):
            raise DifficultyError(
                f"changes={self.changes!r} is one string; give a list, such as [{self.changes!r}]"
            )
        object.__setattr__(self, "changes", tuple(self.changes))
        unknown = [change for change in self.changes if change not in CHANGES]
        if unknown or not self.changes or len(set(self.changes)) != len(self.changes):
            raise DifficultyError(
                f"changes={self.changes!r}: give one or more of {', '.join(CHANGES)}, each once"
            )
        if self.differences[1] > self.objects[1]:
            raise DifficultyError(
                f"differences={self.differences} cannot happen to at most {self.objects[1]} "
                "objects, because each difference takes an object of its own: raise the upper "
                "end of objects or lower that of differences"
            )
        _check_number("min_visible", self.min_visible, 0.0, 1.0)
        _check_number("min_contrast", self.min_contrast, 0.0, 100.0)
        _check_number("max_bystander_contrast", self.max_bystander_contrast, 0.0, 100.0)
        _check_number("max_detached_area", self.max_detached_area, 0.0, 1.0)

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values; ``from_json`` gives an equal Difficulty back."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Difficulty:
        """Build from keyword values, lists allowed for tuples.

        Raises:
            DifficultyError: an unknown field, or a value out of its range.
        """
        known = [field.name for field in dataclasses.fields(cls)]
        unknown = sorted(set(fields) - set(known))
        if unknown:
            raise DifficultyError(
                f"unknown difficulty field {', '.join(unknown)}; the fields are {', '.join(known)}"
            )
        return cls(**fields)


def _int_range(name: str, value: Any, least: int) -> tuple[int, int]:
    """``value`` as (low, high) of ints with least <= low <= high, or a DifficultyError."""
    try:
        low, high = value
    except (TypeError, ValueError):
        low = high = None
    both_ints = all(isinstance(end, int) and not isinstance(end, bool) for end in (low, high))
    if not both_ints or not least <= low <= high:
        raise DifficultyError(
            f"{name}={value!r}: give two whole numbers (low, high) with {least} <= low <= high"
        )
    return (low, high)


def _check_number(name: str, value: Any, low: float, high: float) -> None:
    is_number = isinstance(value, (int, float)) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise DifficultyError(f"{name}={value!r}: give a number from {low:g} to {high:g}")


STAGES: dict[str, Difficulty] = {
    "single": Difficulty(differences=(1, 1)),
    "dual": Difficulty(differences=(2, 2)),
    "mixed": Difficulty(differences=(1, 4)),
}
"""The paper's curriculum: one difference, two, then one to four."""


def resolve_stage(stage: str | Difficulty | dict[str, Any]) -> tuple[str, Difficulty]:
    """The (name, Difficulty) that a user's ``stage`` argument means.

    Args:
        stage: a name from ``STAGES``, a Difficulty, or a dictionary of Difficulty fields. The
            latter two are called "custom" unless they equal a named stage.

    Raises:
        DifficultyError: an unknown name or invalid fields.
    """
    if isinstance(stage, str):
        if stage not in STAGES:
            raise DifficultyError(
                f"unknown stage {stage!r}; the stages are {', '.join(STAGES)}, or give a "
                "dictionary of Difficulty fields such as {'differences': (1, 2)}"
            )
        return stage, STAGES[stage]
    if isinstance(stage, dict):
        stage = Difficulty.from_json(stage)
    if not isinstance(stage, Difficulty):
        raise DifficultyError(
            f"stage={stage!r} is a {type(stage).__name__}; give a stage name "
            f"({', '.join(STAGES)}), a Difficulty, or a dictionary of its fields"
        )
    for name, difficulty in STAGES.items():
        if stage == difficulty:
            return name, stage
    return "custom", stage
