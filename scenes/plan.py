"""Plans: everything that decides a pair, as plain values, before any Blender starts."""

from __future__ import annotations

import dataclasses
import json
from dataclasses import dataclass
from typing import Any

from scenes.difficulty import Difficulty
from scenes.families import is_pattern_change
from scenes.scenery import Camera, Light, Scenery, Sky, Slab
from scenes.vocabulary import CHANGES


@dataclass(frozen=True)
class SceneObject:
    """One object standing on the floor, or on what the scenery has in its place.

    Attributes:
        id: 1, 2, ...: unique within the pair, and the index in the renderer's object-ID pass.
        shape, size, material, color: words of the family.
        x, y: where it stands, in world units.
        rotation_deg: turn about the vertical axis.
        z: height of what it stands on; CLEVR's floor is z = 0.
    """

    id: int
    shape: str
    size: str
    material: str
    color: str
    x: float
    y: float
    rotation_deg: float
    z: float = 0.0


@dataclass(frozen=True)
class Change:
    """What one object is in image A and in image B; None where it is absent.

    ``change`` is "add" when ``before`` is None, "delete" when ``after`` is None, else the name
    of the single thing in which the two differ: an attribute, the place ("move"), the rotation
    ("rotate"), or the material among patterns ("texture").

    Raises:
        ValueError: the two differ in more, in less or in something else than ``change`` says.
    """

    change: str
    before: SceneObject | None
    after: SceneObject | None

    def __post_init__(self) -> None:
        if self.before is None or self.after is None:
            found = ["delete" if self.after is None else "add"]
            if self.before is self.after:
                raise ValueError("a change needs an object in image A or in image B")
        else:
            found = sorted(_changes_between(self.before, self.after))
        if found != [self.change] or self.change not in CHANGES:
            raise ValueError(
                f"object {self.object_id} is said to change its {self.change}, and changes "
                f"{', '.join(found) or 'nothing'}; a change is one of {', '.join(CHANGES)}"
            )

    @property
    def object_id(self) -> int:
        """The id of the changed object."""
        present = self.before or self.after
        assert present is not None
        return present.id


def _changes_between(before: SceneObject, after: SceneObject) -> set[str]:
    unequal = {
        field.name
        for field in dataclasses.fields(SceneObject)
        if getattr(before, field.name) != getattr(after, field.name)
    }
    names = {"x": "move", "y": "move", "z": "move", "rotation_deg": "rotate"}
    if is_pattern_change(before.material, after.material):
        names["material"] = "texture"
    return {names.get(name, name) for name in unequal}


@dataclass(frozen=True)
class PairPlan:
    """A pair of scenes that differ in ``changes`` and in nothing else.

    Attributes:
        seed: the pair seed.
        attempt: 0 for the first plan of this seed; a plan whose picture fails the visibility
            rule is followed by the next attempt.
        difficulty: what was asked for.
        camera, lights, scenery: the same for both images.
        objects: the objects that do not change.
        changes: one entry a changed object.
    """

    seed: int
    attempt: int
    difficulty: Difficulty
    camera: Camera
    lights: tuple[Light, ...]
    scenery: Scenery
    objects: tuple[SceneObject, ...]
    changes: tuple[Change, ...]

    @property
    def scene_a(self) -> tuple[SceneObject, ...]:
        """The objects of image A, by id."""
        return self._with(change.before for change in self.changes)

    @property
    def scene_b(self) -> tuple[SceneObject, ...]:
        """The objects of image B, by id."""
        return self._with(change.after for change in self.changes)

    def _with(self, changed: Any) -> tuple[SceneObject, ...]:
        present = [obj for obj in changed if obj is not None]
        return tuple(sorted([*self.objects, *present], key=lambda obj: obj.id))

    def to_json(self) -> str:
        """One line of JSON with every sampled value; floats round-trip exactly."""
        fields = dataclasses.asdict(self)
        fields["difficulty"] = self.difficulty.to_json()
        return json.dumps(fields)

    @classmethod
    def from_json(cls, text: str) -> PairPlan:
        """The plan that ``to_json`` wrote.

        Raises:
            ValueError: the text is not the JSON of a plan.
        """
        try:
            fields = json.loads(text)
            return cls(
                seed=fields["seed"],
                attempt=fields["attempt"],
                difficulty=Difficulty.from_json(fields["difficulty"]),
                camera=Camera(**_tuples(fields["camera"])),
                lights=tuple(Light(**_tuples(light)) for light in fields["lights"]),
                scenery=_scenery(fields["scenery"]),
                objects=tuple(SceneObject(**obj) for obj in fields["objects"]),
                changes=tuple(
                    Change(
                        change=change["change"],
                        before=change["before"] and SceneObject(**change["before"]),
                        after=change["after"] and SceneObject(**change["after"]),
                    )
                    for change in fields["changes"]
                ),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"this is not the JSON of a PairPlan ({error!r}); give what to_json() returned"
            ) from error


def _scenery(fields: dict[str, Any]) -> Scenery:
    slabs = tuple(Slab(**_tuples(slab)) for slab in fields["slabs"])
    return Scenery(**fields | {"slabs": slabs, "sky": Sky(**_tuples(fields["sky"]))})


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples: turn the lists of vector fields back into them."""
    return {key: tuple(val) if isinstance(val, list) else val for key, val in fields.items()}
