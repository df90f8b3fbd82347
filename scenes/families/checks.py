"""What keeps a family from being built, found before the first pair is planned."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dig_env.scenes.arguments import real, whole
from dig_env.scenes.families.models import model_files
from dig_env.scenes.families.scenery import Camera, Light, Region, Scenery
from dig_env.scenes.families.vocabulary import SHAPES, SIZES

if TYPE_CHECKING:
    from dig_env.scenes.families.family import Family

FARTHEST = 1e5
"""World units, and watts: beyond it Blender's single precision blurs what is near."""
LEAST = 1e-3
"""Of lengths that must not be 0."""


def problem_of(family: Family) -> str:
    """What is wrong with a family's numbers, places and lights; "" if nothing is."""
    for field, kind in (("regions", Region), ("sceneries", Scenery), ("lights", Light)):
        values = getattr(family, field)
        if not values or not isinstance(values, tuple):
            return f"it has no {field}: give a tuple of one or more"
        if not all(isinstance(value, kind) for value in values):
            return f"{field}={values!r}: give dig_env.scenes.{kind.__name__} values"
    if not isinstance(family.camera, Camera):
        return f"camera={family.camera!r}: give a dig_env.scenes.Camera"
    for scenery in family.sceneries:
        try:
            whole("glass_surfaces", scenery.glass_surfaces, 0, 1024)  # Blender's bound
        except ValueError as error:
            return str(error)
        files = model_files(Path(scenery.models))[0] if scenery.models else {}
        missing = [shape for shape in family.shapes if shape not in SHAPES and shape not in files]
        if missing:
            return f"shape {missing[0]!r} is no model in {scenery.models!r} of a scenery"
    for name, value, count, low, high in _numbers(family):
        if count > 1 and (not isinstance(value, tuple) or len(value) != count):
            return f"{name}={value!r}: give a tuple of {count} numbers"
        try:
            for number in value if count > 1 else (value,):
                real(name, number, low, high)
        except ValueError as error:
            return str(error)
    return _problem_of_places(family)


def _numbers(family: Family) -> Iterator[tuple[str, Any, int, float, float]]:
    """Name, value, how many numbers it is, the least and the largest of each."""
    for name in ("camera_jitter", "light_jitter", "min_gap", "min_margin"):
        yield name, getattr(family, name), 1, 0.0, FARTHEST
    for name in ("location", "target"):
        yield f"camera.{name}", getattr(family.camera, name), 3, -FARTHEST, FARTHEST
    for name in ("focal_mm", "sensor_mm"):
        yield f"camera.{name}", getattr(family.camera, name), 1, LEAST, FARTHEST
    for light in family.lights:
        yield f"location of light {light.name!r}", light.location, 3, -FARTHEST, FARTHEST
        yield f"side of light {light.name!r}", light.side, 1, LEAST, FARTHEST
        yield f"power_w of light {light.name!r}", light.power_w, 1, 0.0, FARTHEST
        yield f"color of light {light.name!r}", light.color, 3, 0.0, 1.0
    for region in family.regions:
        for name, value in vars(region).items():
            yield f"{name} of a region", value, 1, -FARTHEST, FARTHEST
    for scenery in family.sceneries:
        yield "strength of a sky", scenery.sky.strength, 1, 0.0, FARTHEST
        yield "color of a sky", scenery.sky.color, 3, 0.0, 1.0
        if scenery.sky.sun_elevation_deg is not None:
            yield "sun_elevation_deg of a sky", scenery.sky.sun_elevation_deg, 1, 0.0, 90.0
        for slab in scenery.slabs:
            yield "low of a slab", slab.low, 3, -FARTHEST, FARTHEST
            yield "high of a slab", slab.high, 3, -FARTHEST, FARTHEST
            yield "color of a slab", slab.color, 3, 0.0, 1.0


def _problem_of_places(family: Family) -> str:
    camera = family.camera
    if math.dist(camera.location, camera.target) < LEAST:
        return f"the camera stands at {camera.location}, which it looks at: move one of them"
    names = [light.name for light in family.lights]
    if len(set(names)) != len(names) or not all(isinstance(n, str) and n for n in names):
        return f"its lights are called {names!r}: give each its own name"
    for light in family.lights:
        if math.hypot(*light.location) < LEAST:
            return f"light {light.name!r} is at the origin, to which lights point: move it"
    reach = max(SIZES[size] for size in family.sizes)
    for region in family.regions:
        if region.x_min > region.x_max or region.y_min > region.y_max:
            return f"{region}: give x_min <= x_max and y_min <= y_max"
        for scenery in family.sceneries:
            if not any(
                slab.high[2] == region.z
                and slab.low[0] + reach <= region.x_min <= region.x_max <= slab.high[0] - reach
                and slab.low[1] + reach <= region.y_min <= region.y_max <= slab.high[1] - reach
                for slab in scenery.slabs
            ):
                return (
                    f"{region} is not on a slab of each scenery, with {reach:g} to its edges "
                    "for the largest object"
                )
    heights = sorted({region.z for region in family.regions})
    if any(high - low <= 2 * reach for low, high in itertools.pairwise(heights)):
        return f"its regions are at {heights}: keep them more than {2 * reach:g} apart in height"
    return ""
