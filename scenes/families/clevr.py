"""CLEVR's world (Johnson et al., CVPR 2017): plain shapes on an endless grey floor."""

from __future__ import annotations

from dig_env.scenes.families.family import Family, register_family
from dig_env.scenes.families.scenery import Camera, Light, Region, Scenery, Sky, Slab

FLOOR_HALF_SIDE = 3.0
"""Objects' centres are in [-3, 3]^2 world units."""

CLEVR = register_family(
    Family(
        name="clevr",
        shapes=("cube", "sphere", "cylinder"),
        materials=("rubber", "metal"),
        regions=(Region(-FLOOR_HALF_SIDE, -FLOOR_HALF_SIDE, FLOOR_HALF_SIDE, FLOOR_HALF_SIDE),),
        sceneries=(
            Scenery(
                slabs=(
                    Slab((-60.0, -60.0, 0.0), (60.0, 60.0, 0.0), "concrete", (0.42, 0.42, 0.43)),
                ),
                sky=Sky(strength=0.45, color=(0.5, 0.52, 0.55)),
            ),
        ),
        camera=Camera((7.2, -7.0, 6.0), target=(0.0, 0.0, 0.15), focal_mm=39.0, sensor_mm=32.0),
        lights=(
            Light("key", (7.5, -1.5, 9.0), side=1.5, power_w=900.0),
            Light("fill", (-7.0, -6.0, 6.0), side=4.0, power_w=350.0),
            Light("back", (-3.0, 6.0, 8.0), side=2.0, power_w=450.0),
        ),
    )
)
