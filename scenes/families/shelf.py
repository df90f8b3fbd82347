"""A shelf with three boards, seen from the front."""

from __future__ import annotations

from dig_env.scenes.families.family import Family, register_family
from dig_env.scenes.families.scenery import Camera, Light, Region, Scenery, Sky, Slab, Vector

BOARD_HEIGHTS = (-1.9, 0.0, 1.9)
"""Tops of the boards, world units: the largest object is 1.4 high."""
_BOARD = 0.14
_SIDE, _FRONT, _BACK = 3.9, -0.95, 1.05


def _shelf(material: str, color: Vector, wall: Vector) -> Scenery:
    top = BOARD_HEIGHTS[-1] + 1.9
    boards = tuple(
        Slab((-_SIDE, _FRONT, z - _BOARD), (_SIDE, _BACK, z), material, color)
        for z in (*BOARD_HEIGHTS, top)
    )
    sides = tuple(
        Slab(
            (x - _BOARD / 2, _FRONT, BOARD_HEIGHTS[0] - _BOARD),
            (x + _BOARD / 2, _BACK, top),
            material,
            color,
        )
        for x in (-_SIDE - _BOARD / 2, _SIDE + _BOARD / 2)
    )
    back = Slab((-9.0, _BACK, -8.0), (9.0, _BACK + 0.1, 8.0), "plaster", wall)
    sky = Sky(strength=0.4, color=(0.95, 0.97, 1.0))
    return Scenery((*boards, *sides, back), sky, glass_surfaces=4)


SHELF = register_family(
    Family(
        name="shelf",
        shapes=("cube", "sphere", "cylinder", "cone", "pyramid", "bottle", "vase", "bowl"),
        materials=("rubber", "steel", "glass", "wood", "marble", "checker"),
        regions=tuple(Region(-3.1, -0.15, 3.1, 0.25, z) for z in BOARD_HEIGHTS),
        sceneries=(
            _shelf("planks", (0.42, 0.25, 0.13), (0.55, 0.53, 0.48)),
            _shelf("plaster", (0.75, 0.74, 0.72), (0.22, 0.33, 0.36)),
            _shelf("planks", (0.2, 0.12, 0.07), (0.42, 0.3, 0.26)),
        ),
        camera=Camera((0.0, -11.5, 1.6), target=(0.0, 0.0, 0.75), focal_mm=41.0, sensor_mm=32.0),
        lights=(
            Light("key", (-5.0, -9.0, 7.0), side=2.5, power_w=1100.0, color=(1.0, 0.93, 0.83)),
            Light("fill", (7.0, -9.0, 2.0), side=4.0, power_w=450.0, color=(0.9, 0.95, 1.0)),
        ),
        min_margin=0.0,
    )
)
