"""From a seed to a plan. Pure Python: no Blender, no clock, no global random state.

Placement follows CLEVR's ``render_images.py``: positions uniform in [-3, 3]^2, footprints at
least 0.25 apart, and centres at least 0.4 apart along each of the view's cardinal directions
once they differ along it. Departures: objects are placed with the larger of their footprints
before and after the change, so that a change never moves anything; a layout that finds no room is
started again from the same stream; both distances shrink where there are more objects than CLEVR's
ten; and where changed objects are to be hidden in part, an object is placed before each.
"""

from __future__ import annotations

import dataclasses
import math
import random
from collections.abc import Sequence
from typing import TypeVar

import numpy as np

from scenes.color import lab_to_srgb8, srgb8_to_lab
from scenes.difficulty import Difficulty, DifficultyError
from scenes.placement import place, uniform
from scenes.plan import Camera, Change, Light, Nuisance, PairPlan, SceneObject, Vector
from scenes.vocabulary import COLORS, MATERIALS, SHAPES, SIZES

T = TypeVar("T")

CAMERA_JITTER = 0.5
LIGHT_JITTER = 1.0
"""Uniform in [-jitter, jitter] on each axis, world units."""

CAMERA = Camera(location=(7.2, -7.0, 6.0), target=(0.0, 0.0, 0.15), focal_mm=39.0, sensor_mm=32.0)
LIGHTS = (
    Light("key", (7.5, -1.5, 9.0), side=1.5, power_w=900.0),
    Light("fill", (-7.0, -6.0, 6.0), side=4.0, power_w=350.0),
    Light("back", (-3.0, 6.0, 8.0), side=2.0, power_w=450.0),
)

LAYOUT_TRIES = 100
SHADE_TRIES = 200
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
    camera = dataclasses.replace(CAMERA, location=_jitter(rng, CAMERA.location, CAMERA_JITTER))
    lights = tuple(
        dataclasses.replace(light, location=_jitter(rng, light.location, LIGHT_JITTER))
        for light in LIGHTS
    )
    for _ in range(LAYOUT_TRIES):
        layout = _try_layout(rng, difficulty, changed_count, camera)
        if layout is not None:
            # From a stream of its own, so that the scene is the same at every strength.
            taken = random.Random(f"dig-env pair {seed} attempt {attempt} nuisance")
            nuisance = _draw_nuisance(taken, difficulty, camera, lights)
            return PairPlan(seed, attempt, difficulty, camera, lights, *layout, nuisance)
    raise DifficultyError(
        f"found no layout of objects={difficulty.objects} in {LAYOUT_TRIES} tries for pair seed "
        f"{seed}: ask for fewer objects (about 12 fit at full size) or fewer size changes, or for "
        "a lower object_scale or occlusion"
    )


def _try_layout(
    rng: random.Random, difficulty: Difficulty, changed_count: int, camera: Camera
) -> tuple[tuple[SceneObject, ...], tuple[Change, ...]] | None:
    """Draw the objects, the changes and a place for each; None when there is no room."""
    low, high = difficulty.objects
    # Each changed object needs another one to hide behind, where it is to be hidden.
    needed = changed_count * (2 if difficulty.occlusion[0] > 0 else 1)
    count = _integer(rng, max(low, needed), high)
    drawn = [_draw_object(rng, object_id, difficulty) for object_id in range(1, count + 1)]
    order = _shuffled(rng, drawn)
    changes = [_draw_change(rng, obj, difficulty) for obj in order[:changed_count]]
    radii = {obj.id: obj.radius for obj in drawn}
    for change in changes:
        versions = [obj for obj in (change.before, change.after) if obj is not None]
        radii[change.object_id] = max(obj.radius for obj in versions)
    screened: dict[int, int] = {}
    if difficulty.occlusion[0] > 0:
        # The largest of the others stand before the changed ones, and are placed next.
        others = sorted(order[changed_count:], key=lambda obj: -obj.radius)
        screened = {
            screen.id: obj.id for obj, screen in zip(order[:changed_count], others, strict=False)
        }
        radii = {key: radii[key] for key in (*screened.values(), *screened, *radii)}
    places = place(rng, radii, camera, screened, difficulty.occlusion)
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


def _draw_object(rng: random.Random, object_id: int, difficulty: Difficulty) -> SceneObject:
    obj = SceneObject(
        id=object_id,
        shape=_choice(rng, SHAPES),
        size=_choice(rng, tuple(SIZES)),
        material=_choice(rng, MATERIALS),
        color=_choice(rng, tuple(COLORS)),
        x=0.0,
        y=0.0,
        rotation_deg=uniform(rng, 0.0, 360.0),
    )
    # Nothing is drawn for what is not asked for: the paper's stages keep their plans.
    if difficulty.object_scale != (1.0, 1.0):
        obj = dataclasses.replace(obj, scale=uniform(rng, *difficulty.object_scale))
    if difficulty.color_distance is not None:
        obj = _shaded(rng, obj, difficulty.color_distance)
    return obj


def _shaded(rng: random.Random, obj: SceneObject, distances: tuple[float, float]) -> SceneObject:
    """The object in a colour as far away in CIE Lab, in a random direction within sRGB.

    It is computed in floats and rounded to 8 bits, so that every machine finds the same.
    """
    lab = srgb8_to_lab(np.array(obj.rgb))
    for _ in range(SHADE_TRIES):
        distance = uniform(rng, *distances)
        up, angle = uniform(rng, -1.0, 1.0), uniform(rng, 0.0, 2 * math.pi)
        aside = math.sqrt(1 - up * up)
        way = np.array([up, aside * math.cos(angle), aside * math.sin(angle)])
        rgb = lab_to_srgb8(lab + distance * way)
        if rgb is None:
            continue
        found = srgb8_to_lab(rgb)  # 8 bits are a little off
        if abs(np.linalg.norm(found - lab) - distance) <= 1.0:
            word = min(PALETTE, key=lambda name: np.linalg.norm(found - PALETTE[name]))
            red, green, blue = rgb.tolist()
            return dataclasses.replace(obj, color=word, shade=(red, green, blue))
    raise DifficultyError(
        f"color_distance={distances}: found no colour that far from {obj.rgb} within sRGB; "
        "ask for less"
    )


PALETTE = {name: srgb8_to_lab(np.array(rgb)) for name, rgb in COLORS.items()}
"""CIE Lab of each colour."""


ATTRIBUTE_VALUES: dict[str, tuple[str, ...]] = {
    "color": tuple(COLORS),
    "shape": SHAPES,
    "size": tuple(SIZES),
    "material": MATERIALS,
}


def _draw_change(rng: random.Random, obj: SceneObject, difficulty: Difficulty) -> Change:
    change = _choice(rng, difficulty.changes)
    if change == "add":
        return Change(change, None, obj)
    if change == "delete":
        return Change(change, obj, None)
    if change == "color" and difficulty.color_distance is not None:
        versions = [obj, _shaded(rng, obj, difficulty.color_distance)]
        return Change(change, *_shuffled(rng, versions))
    if change == "size" and difficulty.size_ratio is not None:
        # Both are as far from the usual radius, so that neither image tells by itself.
        root = math.sqrt(uniform(rng, *difficulty.size_ratio))
        versions = [
            dataclasses.replace(obj, scale=scale) for scale in (obj.scale * root, obj.scale / root)
        ]
        return Change(change, *_shuffled(rng, versions))
    others = [value for value in ATTRIBUTE_VALUES[change] if value != getattr(obj, change)]
    return Change(change, obj, dataclasses.replace(obj, **{change: _choice(rng, others)}))


def _draw_nuisance(
    rng: random.Random, difficulty: Difficulty, camera: Camera, lights: tuple[Light, ...]
) -> Nuisance | None:
    if not difficulty.disturbs:
        return None
    return Nuisance(
        camera=dataclasses.replace(
            camera, location=_jitter(rng, camera.location, difficulty.camera_shift)
        ),
        lights=tuple(
            dataclasses.replace(
                light, location=_jitter(rng, light.location, difficulty.light_shift)
            )
            for light in lights
        ),
        exposure_stops=uniform(rng, -difficulty.exposure, difficulty.exposure),
        noise=difficulty.noise,
        jpeg=difficulty.jpeg,
    )


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
        x + uniform(rng, -amount, amount),
        y + uniform(rng, -amount, amount),
        z + uniform(rng, -amount, amount),
    )
