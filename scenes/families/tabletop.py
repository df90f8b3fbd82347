"""A table in warm light: many shapes and materials on oak, on linen, or out of doors."""

from __future__ import annotations

from scenes.families.family import Family, Region, register_family
from scenes.scenery import Camera, Light, Scenery, Sky, Slab

_HALF_SIDE = 4.6
_LOW, _HIGH = (-_HALF_SIDE, -_HALF_SIDE, -0.3), (_HALF_SIDE, _HALF_SIDE, 0.0)
_WALL = Slab((-30.0, 9.0, -12.0), (30.0, 9.2, 20.0), "plaster", (0.42, 0.38, 0.33))
_FLOOR = Slab((-30.0, -30.0, -6.2), (30.0, 9.0, -6.0), "planks", (0.16, 0.09, 0.05))
_ROOM = Sky(strength=0.35, color=(0.85, 0.75, 0.62))

TABLETOP = register_family(
    Family(
        name="tabletop",
        shapes=("cube", "sphere", "cylinder", "cone", "torus", "capsule", "box", "star", "pyramid"),
        materials=("rubber", "metal", "glass", "wood", "marble", "checker"),
        regions=(Region(-3.0, -3.0, 3.0, 3.0),),
        sceneries=(
            Scenery(
                (Slab(_LOW, _HIGH, "planks", (0.46, 0.27, 0.13)), _WALL, _FLOOR),
                _ROOM,
                glass_surfaces=4,
            ),
            Scenery(
                (Slab(_LOW, _HIGH, "cloth", (0.62, 0.58, 0.5)), _WALL, _FLOOR),
                _ROOM,
                glass_surfaces=4,
            ),
        ),
        camera=Camera((5.6, -7.6, 5.6), target=(0.0, 0.0, 0.1), focal_mm=38.0, sensor_mm=32.0),
        lights=(
            Light("lamp", (-5.5, -3.0, 8.5), side=1.8, power_w=1000.0, color=(1.0, 0.84, 0.63)),
            Light("window", (8.0, -4.0, 6.0), side=4.0, power_w=420.0, color=(0.85, 0.92, 1.0)),
        ),
    )
)
