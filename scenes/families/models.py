"""Other people's objects: a folder of models, whose file names are the words.

Only geometry is read (``mesh_files.py``). The objects get colours and materials of a family, so
that every change has a name.
"""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

from dig_env.scenes.families.mesh_files import MODEL_SUFFIXES, ModelError, read_model
from dig_env.scenes.families.vocabulary import SHAPES
from dig_env.scenes.render.blender.meshes import Mesh

UNREAD_SUFFIXES = (
    ".3dm .3ds .3dxml .3mf .abc .blend .c4d .dae .dxf .fbx .iges .igs .lwo .ma .max .mb .skp .step "
    ".stp .usd .usda .usdc .usdz .vrm .wrl .x3d .xaml .zip"
)
"""Models too, or collections of them; all other files are taken for what models come with."""
MAX_MODELS = 2000
"""Files of one folder; all are read before the first pair is planned."""


def model_files(folder: Path) -> tuple[dict[str, Path], list[str]]:
    """The models of a folder and its subfolders, and what else should be one but is not read.

    A model's word is its path in the folder without the suffix, such as "mug" or "02691156/1a2b/
    models/model_normalized"; with the suffix where the word would mean another thing too.

    Returns:
        files: by word, in the order of the paths.
        skipped: "NAME (why)" each.

    Raises:
        ModelError: there are more than ``MAX_MODELS``.
    """
    paths, skipped = [], []

    def unreadable(error: OSError) -> None:
        skipped.append(f"{error.filename} ({error.strerror})")

    for parent, folders, files in os.walk(folder, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(name for name in (*folders, *files) if not name.startswith(".")):
            path = Path(parent, name)
            shown, suffix = path.relative_to(folder).as_posix(), path.suffix.lower()
            if name in folders:
                if path.is_symlink():
                    skipped.append(f"{shown} (a link to a folder: give that folder itself)")
            elif suffix in UNREAD_SUFFIXES.split():
                skipped.append(f"{shown} (a kind of file that is not read: export it as .glb)")
            elif suffix in MODEL_SUFFIXES:
                if not path.is_file() or shown.encode(errors="replace").decode() != shown:
                    skipped.append(f"{shown!r} (no file, or its name is no UTF-8: rename it)")
                else:
                    paths.append(path)
    if len(paths) > MAX_MODELS:
        raise ModelError(
            f"{folder} has {len(paths)} models, and up to {MAX_MODELS} are read: give one of its "
            "subfolders, or a folder with a part of them"
        )
    names = {path.relative_to(folder).as_posix(): path for path in sorted(paths)}
    count = Counter(_stem(name) for name in names)
    taken = {*SHAPES, *names}
    return {
        _stem(name) if count[_stem(name)] == 1 and _stem(name) not in taken else name: path
        for name, path in names.items()
    }, skipped


def _stem(name: str) -> str:
    return name.removesuffix(Path(name).suffix)


def usable_models(folder: Path) -> tuple[tuple[str, ...], list[str]]:
    """The words of the models that can be read, and what is wrong with the other files.

    Raises:
        ModelError: see ``model_files``.
    """
    files, skipped = model_files(folder)
    words = []
    for word, path in files.items():
        try:
            read_model(path, folder)
        except ModelError as error:
            skipped.append(f"{path.relative_to(folder).as_posix()} ({error})")
        else:
            words.append(word)
    return tuple(words), skipped


def model_mesh(folder: str, word: str) -> Mesh:
    """The mesh of a word.

    Raises:
        ModelError: the file is gone, or no longer usable.
    """
    files, _ = model_files(Path(folder)) if folder else ({}, [])
    if word not in files:
        raise ModelError(f"there is no model {word!r} in {folder or 'any folder'}")
    return read_model(files[word], Path(folder))
