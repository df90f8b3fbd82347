"""A folder of pairs on disk: one writer at a time, and a manifest that follows the files."""

from __future__ import annotations

import dataclasses
import hashlib
from pathlib import Path
from typing import Any

from dig_env.scenes.dataset.card import dataset_card
from dig_env.scenes.dataset.manifest import (
    DATA,
    FORMAT_VERSION,
    MANIFEST,
    DataFile,
    Manifest,
    parse_file_name,
    stage_seeds,
)
from dig_env.scenes.dataset.rows import read_origin
from dig_env.scenes.files import remove_abandoned, write_whole
from dig_env.scenes.plans.difficulty import Difficulty

PIXEL_VERSIONS = (
    *("dig-env", "blender", "device", "processor", "libc", "pyoidn"),
    *("photographs", "image libraries"),
)
"""Entries of ``made_with`` that decide plans and pixels, and are therefore one in a folder."""


def check_folder(folder: Path) -> None:
    """Refuse a folder of something else, before even a lock is left in it.

    Raises:
        ValueError: it holds files, and they are no dataset's.
    """
    if (folder / MANIFEST).exists():
        return
    present = {path.name for path in folder.iterdir() if not path.name.startswith(".")}
    foreign = sorted(present - {DATA, "README.md"})
    # Lone data files may have been copied in from shards; a lone README.md is someone else's.
    if foreign or ((folder / "README.md").exists() and not (folder / DATA).exists()):
        raise ValueError(
            f"{folder} is no dataset, yet holds {', '.join(foreign) or 'README.md'}: give a "
            "new or an empty folder"
        )


def open_folder(folder: Path, wanted: Manifest) -> Manifest:
    """Start a folder, or resume one; call it with the lock held.

    Args:
        folder: where; it exists.
        wanted: settings, stages and counts of this call, without files.

    Returns:
        The folder's manifest, with what is wanted added.

    Raises:
        ValueError: the folder holds pairs of other settings.
    """
    manifest = wanted
    if (folder / MANIFEST).exists():
        manifest = _merged(folder, Manifest.load(folder), wanted)
    (folder / DATA).mkdir(exist_ok=True)
    remove_abandoned(folder)
    return refresh(folder, manifest)


def refresh(folder: Path, manifest: Manifest, rewritten: str | None = None) -> Manifest:
    """Bring the manifest up to date with the files, and write it; call it with the lock held.

    Checksums of files that the manifest knows stay as they are, so that a later damage shows.

    Args:
        folder: where.
        manifest: what is known so far.
        rewritten: path of a file whose entry is out of date.

    Raises:
        ValueError: a file is damaged or does not belong here.
    """
    known = {file.path: file for file in manifest.files if file.path != rewritten}
    files = []
    for path in sorted((folder / DATA).glob("*.parquet")):
        file = known.get(f"{DATA}/{path.name}")
        if file is None or file.bytes != path.stat().st_size:
            file, found = _described(path, manifest.pairs_per_file)
            manifest = _adopted(folder, manifest, file, found)
        files.append(file)
    manifest = dataclasses.replace(manifest, files=tuple(files))
    write_whole(folder / MANIFEST, manifest.text.encode())
    write_whole(folder / "README.md", dataset_card(manifest).encode())
    return manifest


def origin(manifest: Manifest, split: str, stage: str, made_with: dict[str, str]) -> dict[str, Any]:
    """What a data file says of itself, so that files of several machines can be put together."""
    return {
        "format_version": FORMAT_VERSION,
        "settings": dataclasses.asdict(manifest.settings),
        "pairs_per_file": manifest.pairs_per_file,
        "split": split,
        "stage": stage,
        "difficulty": manifest.stages[stage].to_json(),
        "made_with": made_with,
    }


def check_made_with(folder: Path, here: dict[str, str], there: dict[str, str]) -> None:
    """Refuse to mix pairs of two renderers.

    Raises:
        ValueError: they differ in what decides pixels.
    """
    for name in PIXEL_VERSIONS:
        if there and here.get(name) != there.get(name):
            raise ValueError(
                f"the pairs in {folder} were made with {name} {there.get(name)}, and others with "
                f"{name} {here.get(name)} need not match them: use {name} {there.get(name)}, or "
                "another folder"
            )


def _merged(folder: Path, manifest: Manifest, wanted: Manifest) -> Manifest:
    """The folder's manifest with the stages and counts of ``wanted``, if both go together."""
    checked = [
        (field.name, getattr(wanted.settings, field.name), getattr(manifest.settings, field.name))
        for field in dataclasses.fields(manifest.settings)
    ]
    checked.append(("pairs_per_file", wanted.pairs_per_file, manifest.pairs_per_file))
    checked += [
        (f"stage {name}", stage, manifest.stages.get(name, stage))
        for name, stage in wanted.stages.items()
    ]
    for name, given, there in checked:
        if given != there:
            raise ValueError(
                f"{folder} holds pairs with {name}={there!r}, and one folder holds pairs of one "
                f"kind: give {name}={there!r} instead of {given!r}, or another folder"
            )
    asked = {split: dict(counts) for split, counts in manifest.asked.items()}
    for split, counts in wanted.asked.items():
        for stage, count in counts.items():
            before = asked.setdefault(split, {}).get(stage, 0)
            asked[split][stage] = max(before, count)
    return dataclasses.replace(manifest, stages=manifest.stages | wanted.stages, asked=asked)


def _described(path: Path, pairs_per_file: int) -> tuple[DataFile, dict[str, Any]]:
    """The manifest's entry of a file, and what the file says of its origin."""
    split, stage, index = parse_file_name(path.name)
    try:
        found, rows = read_origin(path)
    except Exception as error:  # a damaged file can break the Parquet reader in many ways
        raise ValueError(
            f"{path} is damaged ({error}): delete it and run the same command again, which "
            "renders it again"
        ) from error
    content = path.read_bytes()
    entry = DataFile(
        path=f"{DATA}/{path.name}",
        split=split,
        stage=stage,
        first_pair_seed=stage_seeds(split, stage)[index * pairs_per_file],
        rows=rows,
        bytes=len(content),
        sha256=hashlib.sha256(content).hexdigest(),
    )
    return entry, found


def _adopted(folder: Path, manifest: Manifest, file: DataFile, found: dict[str, Any]) -> Manifest:
    """The manifest of a folder to which a file was added, if the file belongs there."""
    made_with = found["made_with"]
    check_made_with(folder, made_with, manifest.made_with)
    difficulty = Difficulty.from_json(found["difficulty"])
    manifest = dataclasses.replace(
        manifest,
        stages={file.stage: difficulty} | manifest.stages,
        made_with=manifest.made_with or made_with,
    )
    if found != origin(manifest, file.split, file.stage, made_with):
        raise ValueError(
            f"{folder / file.path} does not belong to this dataset (it says of itself: {found}): "
            "take it out of the folder, or give the settings and stages it was rendered with"
        )
    return manifest
