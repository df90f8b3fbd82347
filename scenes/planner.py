"""From a seed to a plan. Pure Python: no Blender, no clock, no global random state.

Placement follows CLEVR's ``render_images.py``: positions uniform in [-3, 3]^2, footprints at
least 0.25 apart, and centres at least 0.4 apart along each of the view's cardinal directions
once they differ along it. Departures: objects are placed with the larger of their footprints
before and after the change, so that no other change moves anything; and a layout that finds no
room is started again from the same stream.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import TypeVar

from scenes.difficulty import Difficulty, DifficultyError
from scenes.families import Family, family_named, is_pattern_change, turn_deg
from scenes.plan import Change, PairPlan, SceneObject
from scenes.scenery import Camera, Light, Vector
from scenes.vocabulary import SIZES

T = TypeVar("T")
Placed = TypeVar("Placed", Camera, Light)

MOVE = (1.4, 2.6)
"""How far an object moves, world units: clear of where it stood, whatever its size, and near enough
that one box around both places says something."""
TURN = (0.3, 0.7)
"""How far an object turns, as a part of the angle after which it would look the same."""
PLACEMENT_TRIES = 50
LAYOUT_TRIES = 100
MAX_SEED = 2**63 - 1


def plan_pair(seed: int, difficulty: Difficulty, attempt: int = 0) -> PairPlan:
    """Plan the pair of a seed.

    Args:
        seed: pair seed, 0 to 2**63 - 1.
        difficulty: what the pair may look like.
        attempt: which plan of the seed's stream; ``Renderer`` counts it up when the picture of
            the one before broke a rule of ``label_pair``.

    Returns:
        The same plan for the same arguments, in every process and on every machine.

    Raises:
        DifficultyError: no layout was found within the bounded number of tries.
        ValueError: the seed or attempt is out of range.
    """
    is_int = isinstance(seed, int) and not isinstance(seed, bool)
    if not is_int or not 0 <= seed <= MAX_SEED:
        raise ValueError(f"seed={seed!r}: give a whole number from 0 to {MAX_SEED}")
    if attempt < 0:
        raise ValueError(f"attempt={attempt!r}: give 0 or more")
    # Seeding with a text hashes it with SHA-512, and random() is the one method whose stream
    # Python promises never to change; everything below is drawn through random() alone.
    rng = random.Random(f"dig-env pair {seed} attempt {attempt}")
    # K belongs to the seed alone: crowded scenes fail more often, and redrawing K with each
    # attempt would make the larger K rarer.
    changed_count = _integer(random.Random(f"dig-env pair {seed} K"), *difficulty.differences)
    family = family_named(difficulty.family)
    camera = _jittered(rng, family.camera, family.camera_jitter)
    lights = tuple(_jittered(rng, light, family.light_jitter) for light in family.lights)
    scenery = _any(rng, family.sceneries)
    for _ in range(LAYOUT_TRIES):
        layout = _try_layout(rng, difficulty, family, changed_count, camera)
        if layout is not None:
            return PairPlan(seed, attempt, difficulty, camera, lights, scenery, *layout)
    raise DifficultyError(
        f"found no room for objects={difficulty.objects} in {LAYOUT_TRIES} layouts of pair seed "
        f"{seed}: ask for fewer objects (about 12 fit) or fewer size changes"
    )


def _try_layout(
    rng: random.Random, difficulty: Difficulty, family: Family, changed_count: int, camera: Camera
) -> tuple[tuple[SceneObject, ...], tuple[Change, ...]] | None:
    """Draw the objects, the changes and a place for each; None when there is no room."""
    low, high = difficulty.objects
    count = _integer(rng, max(low, changed_count), high)
    drawn = [_draw_object(rng, family, object_id) for object_id in range(1, count + 1)]
    order = _shuffled(rng, drawn)
    changed = [_draw_change(rng, family, obj, difficulty.changes) for obj in order[:changed_count]]
    radii = {obj.id: SIZES[obj.size] for obj in drawn}
    for change, before, after in changed:
        versions = [obj for obj in (before, after) if obj is not None]
        radii[versions[0].id] = max(SIZES[obj.size] for obj in versions)
        if change == "move":
            radii[-versions[0].id] = radii[versions[0].id]
    places = _place(rng, radii, family, camera)
    if places is None:
        return None

    def placed(obj: SceneObject | None, moved: bool = False) -> SceneObject | None:
        x, y, z = places[-obj.id if moved else obj.id] if obj else (0.0, 0.0, 0.0)
        return obj and dataclasses.replace(obj, x=x, y=y, z=z)

    changes = [
        Change(change, placed(before), placed(after, change == "move"))
        for change, before, after in changed
    ]
    changed_ids = {change.object_id for change in changes}
    unchanged = tuple(placed(obj) for obj in drawn if obj.id not in changed_ids)
    return unchanged, tuple(sorted(changes, key=lambda change: change.object_id))


def _draw_object(rng: random.Random, family: Family, object_id: int) -> SceneObject:
    return SceneObject(
        id=object_id,
        shape=_choice(rng, family.shapes),
        size=_choice(rng, family.sizes),
        material=_choice(rng, family.materials),
        color=_choice(rng, family.colors),
        x=0.0,
        y=0.0,
        rotation_deg=_uniform(rng, 0.0, 360.0),
    )


def _draw_change(
    rng: random.Random, family: Family, obj: SceneObject, changes: Sequence[str]
) -> tuple[str, SceneObject | None, SceneObject | None]:
    """A change and what the object is before and after it, places aside.

    An object at which the change could not happen or be seen gets another shape or material.
    """
    change = _choice(rng, changes)
    if change == "add":
        return change, None, obj
    if change == "delete":
        return change, obj, None
    if change == "move":
        return change, obj, obj
    if change == "rotate":
        if not turn_deg(obj.shape):
            obj = dataclasses.replace(obj, shape=_choice(rng, family.turnable))
        turn = _uniform(rng, *TURN) * turn_deg(obj.shape)
        return change, obj, dataclasses.replace(obj, rotation_deg=obj.rotation_deg + turn)
    if change == "texture":
        before, after = _shuffled(rng, family.patterns)[:2]
        obj = dataclasses.replace(obj, material=before)
        return change, obj, dataclasses.replace(obj, material=after)
    others = _others(family, change, getattr(obj, change))
    if not others:  # a pattern, where there are patterns only beside one other material
        plain = [one for one in family.materials if _others(family, change, one)]
        obj = dataclasses.replace(obj, material=_choice(rng, plain))
        others = _others(family, change, obj.material)
    return change, obj, dataclasses.replace(obj, **{change: _choice(rng, others)})


def _others(family: Family, attribute: str, value: str) -> list[str]:
    """What an attribute of this value may change to."""
    return [
        other
        for other in family.values(attribute)
        if other != value and not is_pattern_change(value, other)
    ]


def _place(
    rng: random.Random, radii: dict[int, float], family: Family, camera: Camera
) -> dict[int, Vector] | None:
    """A place for each key, or None after ``PLACEMENT_TRIES`` tries for one.

    Args:
        radii: of the footprints, by object id; minus the id is where the object moves to.
    """
    right, behind = camera.floor_directions
    places: dict[int, Vector] = {}

    def fits(key: int, here: Vector) -> bool:
        if key < 0 and not MOVE[0] <= math.dist(here, places[-key]) <= MOVE[1]:
            return False
        for other, there in places.items():
            x, y = here[0] - there[0], here[1] - there[1]
            if other == -key or here[2] != there[2]:
                continue
            if (
                math.hypot(x, y) - radii[key] - radii[other] < family.min_gap
                or abs(x * right[0] + y * right[1]) < family.min_margin
                or abs(x * behind[0] + y * behind[1]) < family.min_margin
            ):
                return False
        return True

    for key in radii:
        for _ in range(PLACEMENT_TRIES):
            region = _any(rng, family.regions)
            x = _uniform(rng, region.x_min, region.x_max)
            y = _uniform(rng, region.y_min, region.y_max)
            if fits(key, (x, y, region.z)):
                places[key] = (x, y, region.z)
                break
        else:
            return None
    return places


def _uniform(rng: random.Random, low: float, high: float) -> float:
    return low + (high - low) * rng.random()


def _integer(rng: random.Random, low: int, high: int) -> int:
    return low + int(rng.random() * (high - low + 1))


def _choice(rng: random.Random, items: Sequence[T]) -> T:
    return items[int(rng.random() * len(items))]


def _shuffled(rng: random.Random, items: Sequence[T]) -> list[T]:
    """Fisher-Yates over random()."""
    result = list(items)
    for last in range(len(result) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        result[last], result[other] = result[other], result[last]
    return result


def _any(rng: random.Random, items: Sequence[T]) -> T:
    """One of some items; nothing is drawn where there is one only."""
    return items[0] if len(items) == 1 else _choice(rng, items)


def _jittered(rng: random.Random, thing: Placed, amount: float) -> Placed:
    """A camera or light whose place is uniform in the cube of this half width around its own."""
    x, y, z = thing.location
    location = (
        x + _uniform(rng, -amount, amount),
        y + _uniform(rng, -amount, amount),
        z + _uniform(rng, -amount, amount),
    )
    return dataclasses.replace(thing, location=location)
