"""What a family is: the words its objects have, where they stand, and what surrounds them."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from dig_env.scenes.families.checks import problem_of
from dig_env.scenes.families.mesh_files import MODEL_SUFFIXES, ModelError
from dig_env.scenes.families.models import usable_models
from dig_env.scenes.families.scenery import Camera, Light, Region, Scenery, Vector
from dig_env.scenes.families.vocabulary import COLORS, MATERIALS, PATTERNS, SHAPES, SIZES, TURNS

MAX_NAMED = 50
"""Files that one warning names."""


class FamilyError(ValueError):
    """A family that is malformed or unknown."""


@dataclass(frozen=True)
class Family:
    """A world: plain values from which the planner draws uniformly.

    Attributes:
        name: what ``Difficulty.family`` says.
        shapes: of ``dig_env.scenes.SHAPES``, or names of files in its sceneries' ``models``.
        materials, sizes, colors: words of ``dig_env.scenes.MATERIALS``, ``SIZES`` and ``COLORS``.
        regions: where objects stand; they must be on slabs of every scenery, and farther apart in
            height than 1.4, which is the largest object's.
        sceneries: one is drawn for each pair.
        camera, lights: their places are drawn around these.
        camera_jitter, light_jitter: half widths of the cubes around them, world units.
        min_gap: least distance between two footprints, world units.
        min_margin: least distance between two centres along left-right and front-behind.

    Raises:
        FamilyError: a word is unknown, there is nothing to draw from, or it could not be built: a
            number out of its range, a region that is on no slab, two lights of one name.
    """

    name: str
    shapes: tuple[str, ...]
    materials: tuple[str, ...]
    regions: tuple[Region, ...]
    sceneries: tuple[Scenery, ...]
    camera: Camera
    lights: tuple[Light, ...]
    sizes: tuple[str, ...] = tuple(SIZES)
    colors: tuple[str, ...] = tuple(COLORS)
    camera_jitter: float = 0.5
    light_jitter: float = 1.0
    min_gap: float = 0.25
    min_margin: float = 0.4

    def __post_init__(self) -> None:
        if not isinstance(self.name, str) or not self.name:
            raise FamilyError(f"name={self.name!r}: give a family a name")
        has_files = any(scenery.models for scenery in self.sceneries)
        for field, known in (
            ("shapes", self.shapes if has_files else SHAPES),
            ("materials", MATERIALS),
            ("sizes", tuple(SIZES)),
            ("colors", tuple(COLORS)),
        ):
            words = getattr(self, field)
            is_tuple = isinstance(words, tuple) and all(isinstance(word, str) for word in words)
            unknown = is_tuple and [word for word in words if word not in known]
            if not is_tuple or unknown or not words or len(set(words)) != len(words):
                raise FamilyError(
                    f"family {self.name!r} has {field}={words!r}: give one or more of "
                    f"{', '.join(known[:MAX_NAMED])}, each once, as a tuple"
                )
        problem = problem_of(self)
        if problem:
            raise FamilyError(f"family {self.name!r}: {problem}")
        if "glass" in self.materials and not all(one.glass_surfaces for one in self.sceneries):
            raise FamilyError(
                f"family {self.name!r} has glass: give each of its sceneries glass_surfaces=4"
            )

    @property
    def turnable(self) -> tuple[str, ...]:
        """The shapes at which a turn can be seen."""
        return tuple(shape for shape in self.shapes if turn_deg(shape))

    @property
    def patterns(self) -> tuple[str, ...]:
        """The materials with a pattern."""
        return tuple(material for material in self.materials if material in PATTERNS)

    def contains(self, place: Vector) -> bool:
        """May an object's centre stand there?"""
        x, y, z = place
        return any(
            region.x_min <= x <= region.x_max and region.y_min <= y <= region.y_max
            for region in self.regions
            if region.z == z
        )

    def values(self, attribute: str) -> tuple[str, ...]:
        """The words that "shape", "size", "material" or "color" may have."""
        return getattr(self, attribute + "s")

    def unsupported(self, changes: Sequence[str]) -> str:
        """Why some of the changes cannot happen here; "" when all can."""
        for change in changes:
            if change in ("color", "shape", "size") and len(self.values(change)) < 2:
                return f"its objects have one {change} only"
            if change == "material" and not any(
                other != one and not is_pattern_change(one, other)
                for one in self.materials
                for other in self.materials
            ):
                return "its objects have one material, or patterns only"
            if change == "rotate" and not self.turnable:
                return "its shapes look the same at any angle"
            if change == "texture" and len(self.patterns) < 2:
                return f"it has fewer than two of the materials {', '.join(PATTERNS)}"
        return ""


def turn_deg(shape: str) -> float:
    """Degrees after which a turned shape looks the same again; 0 if it does at any angle.

    What a file holds is taken to have no symmetry.
    """
    return TURNS.get(shape, 0.0) if shape in SHAPES else 360.0


def is_pattern_change(before: str, after: str) -> bool:
    """Is a change of material one of texture?"""
    return before in PATTERNS and after in PATTERNS


_FAMILIES: dict[str, Family] = {}


def register_family(family: Family) -> Family:
    """Let ``Difficulty(family=family.name)`` mean this family, in this process.

    Processes that plan pairs of it must register it too; render workers need not.

    Raises:
        FamilyError: the name belongs to another one.
    """
    if not isinstance(family, Family):
        raise FamilyError(f"{family!r} is no dig_env.scenes.Family: give one")
    if _FAMILIES.setdefault(family.name, family) != family:
        raise FamilyError(f"there is another family {family.name!r}: choose another name")
    return family


def family_named(name: str) -> Family:
    """The family of a name, or the one of the object files in a folder.

    Raises:
        FamilyError: there is none; the message lists those that are.
    """
    if isinstance(name, str) and name not in _FAMILIES and Path(name).is_dir():
        return register_family(object_family(name))
    if not isinstance(name, str) or name not in _FAMILIES:
        raise FamilyError(
            f"unknown family {name!r}; there are {', '.join(_FAMILIES)}, the path of a folder of "
            "models, and what you give to dig_env.scenes.register_family()"
        )
    return _FAMILIES[name]


def object_family(folder: str | Path, base: str = "tabletop", name: str | None = None) -> Family:
    """The family of the models in a folder and its subfolders, for ``register_family``.

    ``Difficulty(family="path/of/the/folder")`` does that by itself. A model ``mug.glb`` is a shape
    "mug". It is turned upright as is the custom of its format, scaled to the size that is drawn
    for it, and set on the floor.

    Args:
        folder: of .glb, .gltf, .obj, .off, .ply and .stl files. A pair's bytes depend on their
            content too.
        base: the family that gives the rest: materials, colours, table, light and camera.
        name: of the new family; by default the folder as given.

    Raises:
        FamilyError: it is no folder, or no file in it can be used. Files that cannot are named in
            a warning and skipped.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FamilyError(f"{folder} is no folder: give one with models")
    try:
        words, skipped = usable_models(path)
    except ModelError as error:
        raise FamilyError(str(error)) from error
    named = "; ".join(skipped[:MAX_NAMED]) + "; ..." * (len(skipped) > MAX_NAMED)
    if not words:
        raise FamilyError(
            f"{folder} and its subfolders have no usable {', '.join(MODEL_SUFFIXES)} file"
            + (f"; skipped: {named}" if skipped else "")
        )
    if skipped:
        warnings.warn(f"skipped {len(skipped)} in {folder}: {named}", stacklevel=2)
    family = family_named(base)
    models = str(path.resolve())
    return dataclasses.replace(
        family,
        name=str(folder) if name is None else name,
        shapes=words,
        sceneries=tuple(dataclasses.replace(one, models=models) for one in family.sceneries),
    )
