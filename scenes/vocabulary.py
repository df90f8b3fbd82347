"""The words of the world: shapes, sizes, colours, materials and changes, with CLEVR's numbers.

Sizes, palette and materials are those of CLEVR (Johnson et al., CVPR 2017, its
``properties.json``).
"""

from __future__ import annotations

SHAPES: tuple[str, ...] = ("cube", "sphere", "cylinder")

SIZES: dict[str, float] = {"large": 0.7, "small": 0.35}
"""Radius in world units: of the sphere and the cylinder, and of the circle through the corners
of a cube's footprint (CLEVR divides a cube's half side by the square root of two)."""

MATERIALS: tuple[str, ...] = ("rubber", "metal")

COLORS: dict[str, tuple[int, int, int]] = {
    "gray": (87, 87, 87),
    "red": (173, 35, 35),
    "blue": (42, 75, 215),
    "green": (29, 105, 20),
    "brown": (129, 74, 25),
    "purple": (129, 38, 192),
    "cyan": (41, 208, 208),
    "yellow": (255, 238, 51),
}
"""sRGB, 0 to 255."""

CHANGES: tuple[str, ...] = ("color", "shape", "size", "material", "add", "delete")
"""What may happen to an object from image A to image B; the first four alter that attribute."""

PHOTO_CHANGES: tuple[str, ...] = ("color", "add", "delete", "replace")
"""What may happen to an object of a photograph."""

ALL_CHANGES: tuple[str, ...] = tuple(dict.fromkeys(CHANGES + PHOTO_CHANGES))
