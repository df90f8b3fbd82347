"""Plans of pairs that are made of photographs."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from dig_env.scenes.families.vocabulary import PHOTO_CHANGES
from dig_env.scenes.plans.difficulty import Difficulty
from dig_env.scenes.plans.plan import in_scene
from dig_env.scenes.plans.stages import PAPER_STAGES, STAGES

PHOTO_STAGES: dict[str, Difficulty] = {
    name: dataclasses.replace(STAGES[name], objects=(1, 255), changes=PHOTO_CHANGES)
    for name in PAPER_STAGES
}
"""The paper's stages, with what can be done to photographs."""


@dataclass(frozen=True)
class PhotoObject:
    """An object of the photograph, or one that is pasted into it.

    Attributes:
        id: unique within the pair, and in its ID masks.
        photo: file name of the photograph that it was cut from.
        annotation: its id in the album's annotations file.
        category: its word there.
        box: (x_min, y_min, x_max, y_max) in whole pixels: where it stands. It is scaled to it.
        color: mean CIE a* and b* that it is given; None for those it was photographed with.
    """

    id: int
    photo: str
    annotation: int
    category: str
    box: tuple[int, int, int, int]
    color: tuple[float, float] | None = None


@dataclass(frozen=True)
class PhotoChange:
    """What one object is in image A and in image B; None where it is absent.

    Raises:
        ValueError: the two do not differ as ``change`` says: "color" alters the colour alone,
            "replace" puts another object in the place.
    """

    change: str
    before: PhotoObject | None
    after: PhotoObject | None

    def __post_init__(self) -> None:
        before, after = self.before, self.after
        if before is None or after is None:
            found = "" if before is after else "delete" if after is None else "add"
        elif dataclasses.replace(before, color=None) == dataclasses.replace(after, color=None):
            found = "color" if before != after else ""
        else:
            found = "replace" if before.id == after.id and before.color == after.color else ""
        if found != self.change:
            raise ValueError(
                f"{self.before} to {self.after} is said to be a change of kind {self.change!r}, "
                f"and is {found or 'none'}; the kinds are {', '.join(PHOTO_CHANGES)}"
            )

    @property
    def object_id(self) -> int:
        """The id of the changed object."""
        present = self.before or self.after
        assert present is not None
        return present.id


@dataclass(frozen=True)
class PhotoPlan:
    """A photograph in two versions that differ in ``changes`` and in nothing else.

    Attributes:
        seed, attempt, difficulty: see ``dig_env.scenes.Plan``.
        photo: file name of the photograph.
        objects: its objects that do not change and are large enough to count (``min_visible``).
        changes: one entry a changed object.
    """

    seed: int
    attempt: int
    difficulty: Difficulty
    photo: str
    objects: tuple[PhotoObject, ...]
    changes: tuple[PhotoChange, ...]

    @property
    def nuisance(self) -> None:
        """None: the two versions differ in nothing but the changes."""
        return None

    @property
    def layout(self) -> None:
        """None: it is not known where in space the objects of a photograph stand."""
        return None

    @property
    def scene_a(self) -> tuple[PhotoObject, ...]:
        """The objects of image A, by id."""
        return in_scene(self.objects, (change.before for change in self.changes))

    @property
    def scene_b(self) -> tuple[PhotoObject, ...]:
        """The objects of image B, by id."""
        return in_scene(self.objects, (change.after for change in self.changes))

    def to_json(self) -> dict[str, Any]:
        """A dictionary that ``json.dumps`` takes, with every value; floats round-trip exactly."""
        return dataclasses.asdict(self) | {"difficulty": self.difficulty.to_json()}

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> PhotoPlan:
        """The plan of which ``to_json`` gave the fields; lists are allowed for tuples.

        Raises:
            ValueError: they are not those of such a plan.
        """
        try:
            changes = tuple(
                PhotoChange(
                    change["change"],
                    change["before"] and _object(change["before"]),
                    change["after"] and _object(change["after"]),
                )
                for change in fields["changes"]
            )
            objects = tuple(_object(obj) for obj in fields["objects"])
            difficulty = Difficulty.from_json(fields["difficulty"])
            read = {"difficulty": difficulty, "objects": objects, "changes": changes}
            return cls(**fields | read)
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"these are not the fields of a PhotoPlan ({error!r}): give what to_json() returned"
            ) from error


def _object(fields: dict) -> PhotoObject:
    color = fields["color"]
    return PhotoObject(
        **fields | {"box": tuple(fields["box"]), "color": color and (color[0], color[1])}
    )
