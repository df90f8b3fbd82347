"""Plans: everything that decides a pair, as plain values, before any Blender starts."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from dig_env.scenes.families import is_pattern_change
from dig_env.scenes.families.scenery import Camera, Light, Scenery, Sky, Slab
from dig_env.scenes.families.vocabulary import CHANGES, COLORS, SIZES
from dig_env.scenes.plans.difficulty import Difficulty


class PlannedObject(Protocol):
    """What every plan says of an object: its id, unique within the pair and in the ID masks."""

    @property
    def id(self) -> int: ...


class PlannedChange(Protocol):
    """What every plan says of a change."""

    @property
    def change(self) -> str: ...
    @property
    def object_id(self) -> int: ...


class Plan(Protocol):
    """What plans have in common: ``PairPlan`` of rendered pairs, ``PhotoPlan`` of photographs.

    Attributes:
        seed: the pair seed.
        attempt: 0 for the first plan of this seed; a plan whose picture fails the visibility
            rule is followed by the next attempt.
        difficulty: what was asked for.
        objects: the objects that do not change.
        changes: one entry a changed object.
        scene_a, scene_b: the objects of each image, by id.
        nuisance: what alters image B without being a difference; None: nothing does.
        layout: the plan itself, where it says where objects stand in space; None for photographs.
    """

    @property
    def seed(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def difficulty(self) -> Difficulty: ...
    @property
    def objects(self) -> Sequence[PlannedObject]: ...
    @property
    def changes(self) -> Sequence[PlannedChange]: ...
    @property
    def scene_a(self) -> Sequence[PlannedObject]: ...
    @property
    def scene_b(self) -> Sequence[PlannedObject]: ...
    @property
    def nuisance(self) -> Nuisance | None: ...
    @property
    def layout(self) -> PairPlan | None: ...

    def to_json(self) -> dict[str, Any]:
        """A dictionary that ``json.dumps`` takes; floats round-trip exactly."""
        ...


PlannedT = TypeVar("PlannedT", bound=PlannedObject)


def in_scene(
    objects: Iterable[PlannedT], changed: Iterable[PlannedT | None]
) -> tuple[PlannedT, ...]:
    """The objects of one image by id: those that do not change, and the changed that it has."""
    present = [obj for obj in changed if obj is not None]
    return tuple(sorted([*objects, *present], key=lambda obj: obj.id))


@dataclass(frozen=True)
class SceneObject:
    """One object standing on the floor, or on what the scenery has in its place.

    Attributes:
        id: 1, 2, ...: unique within the pair, and the index in the renderer's object-ID pass.
        shape, size, material, color: words of the family.
        x, y: where it stands, in world units.
        rotation_deg: turn about the vertical axis.
        scale: factor of the radius that ``size`` stands for.
        shade: (red, green, blue), 8-bit sRGB, where it is not the palette's; ``color`` is then the
            nearest colour of the palette.
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
    scale: float = 1.0
    shade: tuple[int, int, int] | None = None
    z: float = 0.0

    @property
    def radius(self) -> float:
        """In world units."""
        return SIZES[self.size] * self.scale

    @property
    def rgb(self) -> tuple[int, int, int]:
        """Its colour, 8-bit sRGB."""
        return COLORS[self.color] if self.shade is None else self.shade


@dataclass(frozen=True)
class Nuisance:
    """How image B was taken, where that is not how image A was.

    Attributes:
        camera, lights: image B's.
        exposure_stops: its linear light is multiplied by two to the power of this.
        noise_levels: standard deviation of Gaussian noise, in 8-bit levels.
        jpeg_quality: quality of its JPEG compression, 1 to 95; None: not compressed.
    """

    camera: Camera
    lights: tuple[Light, ...]
    exposure_stops: float
    noise_levels: float
    jpeg_quality: int | None


CHANGE_OF_FIELD: dict[str, str] = {
    "shade": "color",
    "scale": "size",
    "x": "move",
    "y": "move",
    "z": "move",
    "rotation_deg": "rotate",
}
"""The change that alters a field of ``SceneObject``, where that is not the one of its name."""


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
    texture = is_pattern_change(before.material, after.material)
    names = CHANGE_OF_FIELD | ({"material": "texture"} if texture else {})
    return {names.get(name, name) for name in unequal}


@dataclass(frozen=True)
class PairPlan:
    """A pair of scenes that differ in ``changes`` and in nothing else.

    Attributes:
        seed, attempt, difficulty, objects, changes, nuisance: see ``Plan``.
        camera, lights: of both images, unless there is a nuisance.
        scenery: of both images.
    """

    seed: int
    attempt: int
    difficulty: Difficulty
    camera: Camera
    lights: tuple[Light, ...]
    scenery: Scenery
    objects: tuple[SceneObject, ...]
    changes: tuple[Change, ...]
    nuisance: Nuisance | None = None

    @property
    def camera_b(self) -> Camera:
        """Image B's camera."""
        return self.nuisance.camera if self.nuisance else self.camera

    @property
    def lights_b(self) -> tuple[Light, ...]:
        """Image B's lights."""
        return self.nuisance.lights if self.nuisance else self.lights

    @property
    def scene_a(self) -> tuple[SceneObject, ...]:
        """The objects of image A, by id."""
        return in_scene(self.objects, (change.before for change in self.changes))

    @property
    def scene_b(self) -> tuple[SceneObject, ...]:
        """The objects of image B, by id."""
        return in_scene(self.objects, (change.after for change in self.changes))

    @property
    def layout(self) -> PairPlan:
        """The plan itself: it says where every object stands."""
        return self

    def to_json(self) -> dict[str, Any]:
        """A dictionary that ``json.dumps`` takes, with every value; floats round-trip exactly."""
        fields = dataclasses.asdict(self) | {"difficulty": self.difficulty.to_json()}
        if self.nuisance is None:
            del fields["nuisance"]
        return fields

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> PairPlan:
        """The plan of which ``to_json`` gave the fields; lists are allowed for tuples.

        Raises:
            ValueError: they are not those of a plan.
        """
        try:
            return cls(
                seed=fields["seed"],
                attempt=fields["attempt"],
                difficulty=Difficulty.from_json(fields["difficulty"]),
                **_view(fields),
                scenery=_scenery(fields["scenery"]),
                objects=tuple(_object(obj) for obj in fields["objects"]),
                changes=tuple(
                    Change(
                        change=change["change"],
                        before=change["before"] and _object(change["before"]),
                        after=change["after"] and _object(change["after"]),
                    )
                    for change in fields["changes"]
                ),
                nuisance=_nuisance(fields["nuisance"]) if "nuisance" in fields else None,
            )
        except (KeyError, TypeError) as error:
            raise ValueError(
                f"these are not the fields of a PairPlan ({error!r}): give what to_json() returned"
            ) from error


def _object(fields: dict[str, Any]) -> SceneObject:
    return SceneObject(**_tuples(fields))


def _view(fields: dict[str, Any]) -> dict[str, Any]:
    return {
        "camera": Camera(**_tuples(fields["camera"])),
        "lights": tuple(Light(**_tuples(light)) for light in fields["lights"]),
    }


def _nuisance(fields: dict[str, Any]) -> Nuisance:
    return Nuisance(**fields | _view(fields))


def _scenery(fields: dict[str, Any]) -> Scenery:
    slabs = tuple(Slab(**_tuples(slab)) for slab in fields["slabs"])
    return Scenery(**fields | {"slabs": slabs, "sky": Sky(**_tuples(fields["sky"]))})


def _tuples(fields: dict[str, Any]) -> dict[str, Any]:
    """JSON has no tuples: turn the lists of vector fields back into them."""
    return {key: tuple(val) if isinstance(val, list) else val for key, val in fields.items()}
