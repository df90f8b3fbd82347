"""From a seed to a plan. Pure Python: no Blender, no clock, no global random state.

Placement follows CLEVR's ``render_images.py``: positions uniform in [-3, 3]^2, footprints at
least 0.25 apart, and centres at least 0.4 apart along each of the view's cardinal directions
once they differ along it. Departures: objects are placed with the larger of their footprints
before and after the change, so that a change never moves anything; and a layout that finds no
room is started again from the same stream.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import TypeVar

from scenes.difficulty import Difficulty, DifficultyError
from scenes.plan import Camera, Change, Light, PairPlan, SceneObject, Vector
from scenes.vocabulary import COLORS, MATERIALS, PAPER_CHANGES, SHAPES, SIZES

T = TypeVar("T")

FLOOR_HALF_SIDE = 3.0
"""Objects' centres lie in [-3, 3]^2 world units."""
MIN_GAP = 0.25
"""Least distance between two footprints, world units."""
MIN_MARGIN = 0.4
"""Least distance between two centres along left-right and front-behind, world units."""
CAMERA_JITTER = 0.5
LIGHT_JITTER = 1.0
"""Uniform in [-jitter, jitter] on each axis, world units."""

CAMERA = Camera(location=(7.2, -7.0, 6.0), target=(0.0, 0.0, 0.15), focal_mm=39.0, sensor_mm=32.0)
LIGHTS = (
    Light("key", (7.5, -1.5, 9.0), side=1.5, power_w=900.0),
    Light("fill", (-7.0, -6.0, 6.0), side=4.0, power_w=350.0),
    Light("back", (-3.0, 6.0, 8.0), side=2.0, power_w=450.0),
)

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
    if "replace" in difficulty.changes:
        raise DifficultyError(
            f"changes={difficulty.changes!r}: replace happens in photographs only; give one or "
            f"more of {', '.join(PAPER_CHANGES)}"
        )
    if attempt < 0:
        raise ValueError(f"attempt={attempt!r}: give 0 or more")
    # Seeding with a text hashes it with SHA-512, and random() is the one method whose stream
    # Python promises never to change; everything below is drawn through random() alone.
    rng = random.Random(f"dig-env pair {seed} attempt {attempt}")
    # K belongs to the seed alone: crowded scenes fail more often, and redrawing K with each
    # attempt would make the larger K rarer.
    changed_count = _integer(random.Random(f"dig-env pair {seed} K"), *difficulty.differences)
    camera = dataclasses.replace(CAMERA, location=_jitter(rng, CAMERA.location, CAMERA_JITTER))
    lights = tuple(
        dataclasses.replace(light, location=_jitter(rng, light.location, LIGHT_JITTER))
        for light in LIGHTS
    )
    for _ in range(LAYOUT_TRIES):
        layout = _try_layout(rng, difficulty, changed_count, camera)
        if layout is not None:
            objects, changes = layout
            return PairPlan(seed, attempt, difficulty, camera, lights, objects, changes)
    raise DifficultyError(
        f"found no room for objects={difficulty.objects} in {LAYOUT_TRIES} layouts of pair seed "
        f"{seed}: ask for fewer objects (about 12 fit) or fewer size changes"
    )


def _try_layout(
    rng: random.Random, difficulty: Difficulty, changed_count: int, camera: Camera
) -> tuple[tuple[SceneObject, ...], tuple[Change, ...]] | None:
    """Draw the objects, the changes and a place for each; None when there is no room."""
    low, high = difficulty.objects
    count = _integer(rng, max(low, changed_count), high)
    drawn = [_draw_object(rng, object_id) for object_id in range(1, count + 1)]
    order = _shuffled(rng, drawn)
    changes = [_draw_change(rng, obj, difficulty.changes) for obj in order[:changed_count]]
    radii = {obj.id: SIZES[obj.size] for obj in drawn}
    for change in changes:
        versions = [obj for obj in (change.before, change.after) if obj is not None]
        radii[change.object_id] = max(SIZES[obj.size] for obj in versions)
    places = _place(rng, radii, camera)
    if places is None:
        return None

    def placed(obj: SceneObject | None) -> SceneObject | None:
        return obj and dataclasses.replace(obj, x=places[obj.id][0], y=places[obj.id][1])

    changed_ids = {change.object_id for change in changes}
    unchanged = tuple(placed(obj) for obj in drawn if obj.id not in changed_ids)
    return unchanged, tuple(
        Change(change.change, placed(change.before), placed(change.after))
        for change in sorted(changes, key=lambda change: change.object_id)
    )


def _draw_object(rng: random.Random, object_id: int) -> SceneObject:
    return SceneObject(
        id=object_id,
        shape=_choice(rng, SHAPES),
        size=_choice(rng, tuple(SIZES)),
        material=_choice(rng, MATERIALS),
        color=_choice(rng, tuple(COLORS)),
        x=0.0,
        y=0.0,
        rotation_deg=_uniform(rng, 0.0, 360.0),
    )


ATTRIBUTE_VALUES: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "material": MATERIALS,
}


def _draw_change(rng: random.Random, obj: SceneObject, changes: Sequence[str]) -> Change:
    change = _choice(rng, changes)
    if change == "add":
        return Change(change, None, obj)
    if change == "delete":
        return Change(change, obj, None)
    others = [value for value in ATTRIBUTE_VALUES[change] if value != getattr(obj, change)]
    return Change(change, obj, dataclasses.replace(obj, **{change: _choice(rng, others)}))


def _place(
    rng: random.Random, radii: dict[int, float], camera: Camera
) -> dict[int, tuple[float, float]] | None:
    """A place (x, y) for each object id, or None after ``PLACEMENT_TRIES`` tries for one."""
    right, behind = camera.floor_directions
    places: dict[int, tuple[float, float]] = {}
    for object_id, radius in radii.items():
        for _ in range(PLACEMENT_TRIES):
            x = _uniform(rng, -FLOOR_HALF_SIDE, FLOOR_HALF_SIDE)
            y = _uniform(rng, -FLOOR_HALF_SIDE, FLOOR_HALF_SIDE)
            fits = all(
                math.hypot(x - ox, y - oy) - radius - radii[other] >= MIN_GAP
                and abs((x - ox) * right[0] + (y - oy) * right[1]) >= MIN_MARGIN
                and abs((x - ox) * behind[0] + (y - oy) * behind[1]) >= MIN_MARGIN
                for other, (ox, oy) in places.items()
            )
            if fits:
                places[object_id] = (x, y)
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


def _jitter(rng: random.Random, point: Vector, amount: float) -> Vector:
    x, y, z = point
    return (
        x + _uniform(rng, -amount, amount),
        y + _uniform(rng, -amount, amount),
        z + _uniform(rng, -amount, amount),
    )
