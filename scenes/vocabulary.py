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

PAPER_CHANGES: tuple[str, ...] = ("color", "shape", "size", "material", "add", "delete")
"""What the paper lets happen to an object from image A to image B, and the default; the first four
alter that attribute."""

CHANGES: tuple[str, ...] = (*PAPER_CHANGES, "replace")
"""All that may happen. "replace" puts another object in the place, in photographs only."""

PHOTO_CHANGES: tuple[str, ...] = ("color", "add", "delete", "replace")
"""What may happen in photographs."""
