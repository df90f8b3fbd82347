"""Other people's objects: a folder of .obj and .glb files whose names are the words.

Only geometry is read, by ``scenes/blender/models.py``, which knows positions and faces and nothing
else: nothing in a file is ever run, and no texture, material or script of it is looked at. The
objects get colours and materials of a family, so that every change has a name.
"""

from __future__ import annotations

import re
from pathlib import Path

from scenes.blender.models import MODEL_SUFFIXES, ModelError, read_model
from scenes.vocabulary import COLORS, MATERIALS, SHAPES, SIZES


def usable_models(folder: Path) -> tuple[tuple[str, ...], list[str]]:
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
