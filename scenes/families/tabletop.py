"""A table in warm light: many shapes and materials on oak, on linen, or out of doors."""

from __future__ import annotations

from dig_env.scenes.families.family import Family, register_family
from dig_env.scenes.families.scenery import Camera, Light, Region, Scenery, Sky, Slab, Vector

_HALF_SIDE = 4.4
_WALL = Slab((-30.0, 9.0, -12.0), (30.0, 9.2, 20.0), "plaster", (0.42, 0.38, 0.33))
_FLOOR = Slab((-30.0, -30.0, -6.2), (30.0, 9.0, -6.0), "planks", (0.16, 0.09, 0.05))
_TERRACE = Slab((-60.0, -30.0, -6.2), (60.0, 90.0, -6.0), "tiles", (0.5, 0.44, 0.36))
_ROOM = Sky(strength=0.4, color=(0.85, 0.75, 0.62))
_GARDEN = Sky(strength=3.0, sun_elevation_deg=30.0)


def _table(material: str, color: Vector, around: tuple[Slab, ...], sky: Sky) -> Scenery:
    half = _HALF_SIDE
    top = Slab((-half, -half, -0.3), (half, half, 0.0), material, color)
    return Scenery((top, *around), sky, glass_surfaces=4)


TABLETOP = register_family(
    Family(
        name="tabletop",
        shapes=(
            "cube",
            "sphere",
            "cylinder",
            "cone",
            "torus",
            "capsule",
            "brick",
            "star",
            "pyramid",
        ),
        materials=("rubber", "metal", "glass", "wood", "marble", "checker"),
        regions=(Region(-2.8, -2.8, 2.8, 2.8),),
        sceneries=(
            _table("planks", (0.46, 0.27, 0.13), (_WALL, _FLOOR), _ROOM),
            _table("cloth", (0.54, 0.51, 0.45), (_WALL, _FLOOR), _ROOM),
            _table("planks", (0.5, 0.47, 0.42), (_TERRACE,), _GARDEN),
        ),
        camera=Camera((5.2, -6.9, 6.2), target=(0.1, 0.0, 0.0), focal_mm=39.0, sensor_mm=32.0),
        lights=(
            Light("lamp", (-5.5, -3.0, 8.5), side=1.8, power_w=1000.0, color=(1.0, 0.84, 0.63)),
            Light("window", (8.0, -4.0, 6.0), side=4.0, power_w=420.0, color=(0.85, 0.92, 1.0)),
        ),
    )
)
