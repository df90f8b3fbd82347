"""From a seed to a plan. Pure Python: no Blender, no clock, no global random state.

Placement follows CLEVR's ``render_images.py``: positions uniform in [-3, 3]^2, footprints at
least 0.25 apart, and centres at least 0.4 apart along each of the view's cardinal directions
once they differ along it. Departures: objects are placed with the larger of their footprints
before and after the change, so that no other change moves anything; a layout that finds no room is
started again from the same stream; both distances shrink where there are more objects than CLEVR's
ten; and where changed objects are to be hidden in part, an object is placed before each.
"""

from __future__ import annotations

import dataclasses
import math
import random
from typing import Any, TypeVar

import numpy as np

from dig_env.scenes.arguments import whole
from dig_env.scenes.color import lab_to_srgb8, srgb8_to_lab
from dig_env.scenes.families import Family, family_named, is_pattern_change, turn_deg
from dig_env.scenes.families.scenery import Camera, Light
from dig_env.scenes.families.vocabulary import COLORS
from dig_env.scenes.plans.difficulty import Difficulty, DifficultyError
from dig_env.scenes.plans.draws import any_of, choice, integer, shuffled, uniform
from dig_env.scenes.plans.placement import place
from dig_env.scenes.plans.plan import Change, Nuisance, PairPlan, SceneObject

Placed = TypeVar("Placed", Camera, Light)

TURN = (0.3, 0.7)
"""How far an object turns, as a part of the angle after which it would look the same."""
MAX_ATTEMPTS = 50
"""Plans of one seed's stream that may come to nothing before it is an error: those for which no
layout is found, and those of which the picture breaks a rule of ``label_pair``."""
LAYOUT_TRIES = 100
"""Layouts of one attempt."""
MAX_EFFORT = 10**6
"""No more layouts are tried once those before took this: some seconds, whatever is asked for. A
layout takes the square of the number of objects that found a place, since each is compared with
those before."""
SHADE_TRIES = 200
MAX_SEED = 2**63 - 1


class _NoLayout(Exception):
    """A layout came to nothing: why, and what that took, in the unit of ``MAX_EFFORT``."""


def plan_pair(seed: int, difficulty: Difficulty, attempt: int = 0) -> PairPlan:
    """Plan the pair of a seed.

    Args:
        seed: pair seed, 0 to 2**63 - 1.
        difficulty: what the pair may look like.
        attempt: which plan of the seed's stream; ``Renderer`` counts it up when the picture of
            the one before broke a rule of ``label_pair``.

    Returns:
        The plan of this attempt, or of the first after it for which a layout is found. The same
        for the same arguments, in every process and on every machine.

    Raises:
        DifficultyError: none of the first ``MAX_ATTEMPTS`` attempts has a layout, or none was found
            with ``MAX_EFFORT``; or the family is unknown, or cannot change as asked.
        ValueError: the seed or attempt is out of range.
    """
    seed = whole("seed", seed, 0, MAX_SEED)
    attempt = whole("attempt", attempt, 0)
    if "replace" in difficulty.changes:
        raise DifficultyError(
            f"changes={difficulty.changes!r}: replace happens in photographs only; leave it out"
        )
    difficulty.check_family()
    family = family_named(difficulty.family)
    # K belongs to the seed alone: crowded scenes fail more often, and redrawing K with each
    # attempt would make the larger K rarer.
    changed_count = integer(random.Random(f"dig-env pair {seed} K"), *difficulty.differences)
    effort, tried, reason = 0, 0, ""
    for number in range(attempt, max(attempt + 1, MAX_ATTEMPTS)):
        # Seeding with a text hashes it with SHA-512, and random() is the one method whose stream
        # Python promises never to change; everything below is drawn through random() alone.
        rng = random.Random(f"dig-env pair {seed} attempt {number}")
        camera = _jittered(rng, family.camera, family.camera_jitter)
        lights = tuple(_jittered(rng, light, family.light_jitter) for light in family.lights)
        scenery = any_of(rng, family.sceneries)
        for _ in range(LAYOUT_TRIES):
            if effort > MAX_EFFORT:
                break
            try:
                layout = _draw_layout(rng, difficulty, family, changed_count, camera)
            except _NoLayout as error:
                reason, took = error.args
                effort += took
                tried += 1
                continue
            # From its own stream, so that the scene is the same at every strength.
            taken = random.Random(f"dig-env pair {seed} attempt {number} nuisance")
            nuisance = _draw_nuisance(taken, difficulty, camera, lights)
            return PairPlan(seed, number, difficulty, camera, lights, scenery, *layout, nuisance)
    raise DifficultyError(
        f"found no layout of objects={difficulty.objects} in {tried} tries for pair seed {seed}: "
        f"{reason}"
    )


def _draw_layout(
    rng: random.Random, difficulty: Difficulty, family: Family, changed_count: int, camera: Camera
) -> tuple[tuple[SceneObject, ...], tuple[Change, ...]]:
    """Draw the objects, the changes and a place for each; _NoLayout when there is no room."""
    low, high = difficulty.objects
    # Each changed object needs another one to hide behind, where it is to be hidden.
    needed = changed_count * (2 if difficulty.occlusion[0] > 0 else 1)
    count = integer(rng, max(low, needed), high)
    drawn = [_draw_object(rng, i, family, difficulty) for i in range(1, count + 1)]
    order = shuffled(rng, drawn)
    changed = [_draw_change(rng, obj, family, difficulty) for obj in order[:changed_count]]
    radii = {obj.id: obj.radius for obj in drawn}
    for change, before, after in changed:
        versions = [obj for obj in (before, after) if obj is not None]
        radii[versions[0].id] = max(obj.radius for obj in versions)
        if change == "move":
            radii[-versions[0].id] = radii[versions[0].id]
    occluders: dict[int, int] = {}
    if difficulty.occlusion[0] > 0:
        # The largest of the others stand before the changed ones, the larger before the larger,
        # and each is placed right after the one that it hides.
        hidden = sorted(order[:changed_count], key=lambda obj: -radii[obj.id])
        others = sorted(order[changed_count:], key=lambda obj: -obj.radius)
        occluders = {occluder.id: obj.id for obj, occluder in zip(hidden, others, strict=False)}
        couples = [key for occluder, obj in occluders.items() for key in (obj, occluder)]
        radii = {key: radii[key] for key in (*couples, *radii)}
    places = place(rng, radii, family, camera, occluders, difficulty.occlusion)
    if len(places) < len(radii):
        raise _NoLayout(
            "ask for fewer objects (about 12 fit at full size), fewer size changes, or a lower "
            "object_scale or occlusion",
            len(places) ** 2,
        )

    def placed(obj: SceneObject, moved: bool = False) -> SceneObject:
        x, y, z = places[-obj.id if moved else obj.id]
        return dataclasses.replace(obj, x=x, y=y, z=z)

    changes = [
        Change(change, before and placed(before), after and placed(after, change == "move"))
        for change, before, after in changed
    ]
    changed_ids = {change.object_id for change in changes}
    unchanged = tuple(placed(obj) for obj in drawn if obj.id not in changed_ids)
    return unchanged, tuple(sorted(changes, key=lambda change: change.object_id))


def _draw_object(
    rng: random.Random, object_id: int, family: Family, difficulty: Difficulty
) -> SceneObject:
    obj = SceneObject(
        id=object_id,
        shape=choice(rng, family.shapes),
        size=choice(rng, family.sizes),
        material=choice(rng, family.materials),
        color=choice(rng, family.colors),
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
    raise _NoLayout(
        f"color_distance={distances}: there is no colour that far from {obj.rgb} within sRGB; "
        "ask for less",
        10 * SHADE_TRIES,
    )


PALETTE = {name: srgb8_to_lab(np.array(rgb)) for name, rgb in COLORS.items()}
"""CIE Lab of each colour."""


def _draw_change(
    rng: random.Random, obj: SceneObject, family: Family, difficulty: Difficulty
) -> tuple[str, SceneObject | None, SceneObject | None]:
    """A change and what the object is before and after it, places aside.

    An object at which the change could not happen or be seen gets another shape or material.
    """
    change = choice(rng, difficulty.changes)
    if change == "add":
        return change, None, obj
    if change == "delete":
        return change, obj, None
    if change == "move":
        return change, obj, obj
    if change == "rotate":
        if not turn_deg(obj.shape):
            obj = dataclasses.replace(obj, shape=choice(rng, family.turnable))
        turn = uniform(rng, *TURN) * turn_deg(obj.shape)
        return change, obj, dataclasses.replace(obj, rotation_deg=obj.rotation_deg + turn)
    if change == "texture":
        pattern, other = shuffled(rng, family.patterns)[:2]
        obj = dataclasses.replace(obj, material=pattern)
        return change, obj, dataclasses.replace(obj, material=other)
    if change == "color" and difficulty.color_distance is not None:
        before, after = shuffled(rng, [obj, _shaded(rng, obj, difficulty.color_distance)])
        return change, before, after
    if change == "size" and difficulty.size_ratio is not None:
        # Both are as far from the usual radius, so that neither image shows it by itself.
        root = math.sqrt(uniform(rng, *difficulty.size_ratio))
        scales = shuffled(rng, [obj.scale * root, obj.scale / root])
        before, after = (dataclasses.replace(obj, scale=scale) for scale in scales)
        return change, before, after
    others = _others(family, change, getattr(obj, change))
    if not others:  # a pattern, where there are patterns only beside one other material
        plain = [one for one in family.materials if _others(family, change, one)]
        obj = dataclasses.replace(obj, material=choice(rng, plain))
        others = _others(family, change, obj.material)
    changed: dict[str, Any] = {change: choice(rng, others)}
    return change, obj, dataclasses.replace(obj, **changed)


def _others(family: Family, attribute: str, value: str) -> list[str]:
    """What an attribute of this value may change to."""
    return [
        other
        for other in family.values(attribute)
        if other != value and not is_pattern_change(value, other)
    ]


def _draw_nuisance(
    rng: random.Random, difficulty: Difficulty, camera: Camera, lights: tuple[Light, ...]
) -> Nuisance | None:
    if not difficulty.has_nuisance:
        return None
    return Nuisance(
        camera=_jittered(rng, camera, difficulty.camera_shift),
        lights=tuple(_jittered(rng, light, difficulty.light_shift) for light in lights),
        exposure_stops=uniform(rng, -difficulty.exposure_stops, difficulty.exposure_stops),
        noise_levels=difficulty.noise_levels,
        jpeg_quality=difficulty.jpeg_quality,
    )


def _jittered(rng: random.Random, thing: Placed, amount: float) -> Placed:
    """A camera or light whose place is uniform in the cube of this half width around its own."""
    x, y, z = thing.location
    location = (
        x + uniform(rng, -amount, amount),
        y + uniform(rng, -amount, amount),
        z + uniform(rng, -amount, amount),
    )
    return dataclasses.replace(thing, location=location)
