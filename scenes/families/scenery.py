"""What surrounds the objects of a scene: camera, lights, what they stand on and the sky."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Vector = tuple[float, float, float]
"""(x, y, z) in world units, or red, green and blue in linear light."""


STEEP = 0.25
"""What looks more steeply up or down than 75 degrees (this is their cosine) has +Y, not the
vertical, for its upward direction: from a straight view a small shift would turn the picture."""


def upward(direction: Sequence[float]) -> Vector:
    """What is up in the picture of a camera that looks in a direction (x, y, z)."""
    x, y, z = direction
    is_steep = math.hypot(x, y) < STEEP * math.hypot(x, y, z)
    return (0.0, 1.0, 0.0) if is_steep else (0.0, 0.0, 1.0)


@dataclass(frozen=True)
class Camera:
    """A pinhole camera at ``location`` (world units) that looks at ``target``, see ``upward``."""

    location: Vector
    target: Vector
    focal_mm: float
    sensor_mm: float

    @property
    def upward(self) -> Vector:
        """What is up in its picture."""
        x, y, z = (to - at for to, at in zip(self.target, self.location, strict=True))
        return upward((x, y, z))

    @property
    def floor_directions(self) -> tuple[tuple[float, float], tuple[float, float]]:
        """Unit vectors on the floor that point right and away as the camera sees it."""
        dx, dy, dz = (to - at for to, at in zip(self.target, self.location, strict=True))
        if self.upward[1]:
            return (-math.copysign(1.0, dz), 0.0), (0.0, 1.0)
        length = math.hypot(dx, dy)
        behind = (dx / length, dy / length)
        return (behind[1], -behind[0]), behind


@dataclass(frozen=True)
class Light:
    """A square area light at ``location`` that points at the origin.

    Attributes:
        side: edge length in world units.
        power_w: radiant power in watts, as Blender counts it.
        color: linear red, green and blue, 0 to 1.
    """

    name: str
    location: Vector
    side: float
    power_w: float
    color: Vector = (1.0, 1.0, 1.0)


@dataclass(frozen=True)
class Slab:
    """An upright box of one material: a floor, a table, a board, a wall.

    Attributes:
        low, high: its lowest and its highest corner; equal heights make a plane.
        material: one of ``SURFACES``.
        color: linear red, green and blue, 0 to 1.
    """

    low: Vector
    high: Vector
    material: str
    color: Vector

    def __post_init__(self) -> None:
        if self.material not in SURFACES:
            raise ValueError(
                f"material={self.material!r}: a slab is of one of {', '.join(SURFACES)}"
            )
        if not all(low <= high for low, high in zip(self.low, self.high, strict=True)):
            raise ValueError(f"low={self.low} and high={self.high}: low must not be above high")


@dataclass(frozen=True)
class Region:
    """A level rectangle in which the centres of objects may be, world units."""

    x_min: float
    y_min: float
    x_max: float
    y_max: float
    z: float = 0.0


SURFACES: tuple[str, ...] = ("concrete", "planks", "tiles", "cloth", "plaster")
"""The materials of slabs: plain grey in CLEVR; boards with grain; stones; linen; an uneven coat."""


@dataclass(frozen=True)
class Sky:
    """Light from everywhere.

    Attributes:
        strength: of its light; 0.4 of an even sky is about as bright as 3 of a clear one.
        color: linear red, green and blue of an even grey one.
        sun_elevation_deg: 0 to 90, a clear sky instead (Hosek and Wilkie, 2012); None for an even
            one. The sun itself is left to the lights.
    """

    strength: float
    color: Vector = (1.0, 1.0, 1.0)
    sun_elevation_deg: float | None = None


@dataclass(frozen=True)
class Scenery:
    """What stands still.

    Attributes:
        slabs: what objects stand on and before.
        sky: what shines from beyond.
        models: folder of the models whose names are the shapes that ``dig_env.scenes.SHAPES`` has
            not; "" if there are none.
        glass_surfaces: how many surfaces of glass light may pass on its way to a point; 0 where
            no glass stands. It changes the noise of every pixel.
    """

    slabs: tuple[Slab, ...]
    sky: Sky
    models: str = ""
    glass_surfaces: int = 0

    @property
    def bounds(self) -> np.ndarray:
        """(2, 3): the lowest and the highest corner of the box around all slabs."""
        low = np.min([slab.low for slab in self.slabs], axis=0)
        return np.array([low, np.max([slab.high for slab in self.slabs], axis=0)])
