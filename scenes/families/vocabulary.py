"""The words of the worlds: shapes, sizes, colours, materials and changes.

Sizes, palette, the first three shapes and the first two materials are those of CLEVR (Johnson et
al., CVPR 2017, its ``properties.json``). A family (``dig_env.scenes.families``) says which of the
words its objects have.
"""

from __future__ import annotations

SHAPES: tuple[str, ...] = (
    "cube",
    "sphere",
    "cylinder",
    "cone",
    "torus",
    "capsule",
    "brick",
    "star",
    "pyramid",
    "bottle",
    "vase",
    "bowl",
)
"""What ``scenes/render/blender/shapes.py`` can build; a family may add files."""

SIZES: dict[str, float] = {"large": 0.7, "small": 0.35}
"""Radius in world units: of the circle around an object's footprint. That is the radius of the
sphere and the cylinder, and of the circle through the corners of a cube's footprint (CLEVR divides
a cube's half side by the square root of two). No object is higher than two radii."""

MATERIALS: tuple[str, ...] = ("rubber", "metal", "glass", "steel", "wood", "marble", "checker")
"""All are of the object's colour. "metal" is a mirror, "steel" is brushed metal."""

PATTERNS: tuple[str, ...] = ("wood", "marble", "checker")
"""The materials with a pattern; from one of them to another is a change of texture."""

TURNS: dict[str, float] = {"cube": 90, "capsule": 180, "brick": 180, "star": 72, "pyramid": 90}
"""Degrees after which a shape that is turned about the vertical axis looks the same again; a shape
that is not here looks the same at any angle."""

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

CHANGES: tuple[str, ...] = (*PAPER_CHANGES, "move", "rotate", "texture", "replace")
"""All that may happen. "move" and "rotate" let an object stand elsewhere or turned; "texture" is
the material, among ``PATTERNS``, and "material" any other change of it; "replace" puts another
object in the place, in photographs only."""

PHOTO_CHANGES: tuple[str, ...] = ("color", "add", "delete", "replace")
"""What may happen in photographs."""
