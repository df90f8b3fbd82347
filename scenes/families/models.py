"""Families of other people's objects: a folder of .obj and .glb files whose names are the words.

Only geometry is read, by ``scenes/blender/models.py``, which knows positions and faces and nothing
else: nothing in a file is ever run, and no texture, material or script of it is looked at. The
objects get colours and materials of the base family, so that every change has a name.
"""

from __future__ import annotations

import dataclasses
import re
import warnings
from pathlib import Path

from scenes.blender.models import MODEL_SUFFIXES, ModelError, read_model
from scenes.families.family import Family, FamilyError, family_named
from scenes.vocabulary import COLORS, MATERIALS, SHAPES, SIZES


def object_family(folder: str | Path, base: str = "tabletop", name: str | None = None) -> Family:
    """The family of the objects in a folder, to be registered with ``register_family``.

    ``Difficulty(family="path/of/the/folder")`` does that by itself. A model ``mug.glb`` is a shape
    "mug". It is turned upright as its format says (+Y is up in both), scaled to the size that is
    drawn for it, and set on the floor.

    Args:
        folder: of .obj and .glb files. A pair's bytes depend on their content too.
        base: the family that gives the rest: materials, colours, table, light and camera.
        name: of the new family; by default the folder as given.

    Raises:
        FamilyError: it is no folder, or no file in it can be used. Files that cannot are named in
            a warning and skipped.
    """
    path = Path(folder)
    if not path.is_dir():
        raise FamilyError(f"{folder} is no folder: give one with .obj and .glb files")
    words, skipped = _usable(path)
    if skipped:
        warnings.warn(f"skipped in {folder}: {'; '.join(skipped)}", stacklevel=2)
    if not words:
        raise FamilyError(f"{folder} has no usable .obj or .glb file: {'; '.join(skipped)}")
    family = family_named(base)
    models = str(path.resolve())
    return dataclasses.replace(
        family,
        name=str(folder) if name is None else name,
        shapes=words,
        sceneries=tuple(dataclasses.replace(one, models=models) for one in family.sceneries),
    )


def _usable(folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """The words of the folder's models, and what is wrong with the other files."""
    taken = {*SHAPES, *MATERIALS, *COLORS, *SIZES}
    words, skipped = [], []
    for path in sorted(folder.iterdir()):
        if path.suffix not in MODEL_SUFFIXES:
            continue
        if not re.fullmatch("[a-z]+", path.stem) or path.stem in taken:
            skipped.append(
                f"{path.name} (its name must be one new word of letters a to z, and no colour, "
                "size, material or shape that there is)"
            )
            continue
        try:
            read_model(path)
        except ModelError as error:
            skipped.append(f"{path.name} ({error})")
        else:
            words.append(path.stem)
            taken.add(path.stem)
    return tuple(words), skipped
