"""A folder of instruction data: what it holds, and what a resumed run must agree with."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dig_env.scenes.files import inside, remove_abandoned, write_whole

ALIGN_MANIFEST = "align.json"
"""What was asked for and with what, and the files of each split, in their order."""


def rows_of(state: dict[str, Any]) -> int:
    """Examples that a split's files hold, by its entry in the manifest."""
    return sum(file["rows"] for file in state["files"])


def check_align_folder(out: Path) -> None:
    """Refuse a folder that holds something else, before anything is written.

    Raises:
        ValueError: it holds files, and they are no instruction data.
    """
    files = any(not entry.name.startswith(".") for entry in out.iterdir())
    if files and not (out / ALIGN_MANIFEST).is_file():
        raise ValueError(f"{out} holds files and no {ALIGN_MANIFEST}: give a new or empty folder")


def open_align_folder(out: Path, data: dict[str, Any], split: str, count: int) -> dict[str, Any]:
    """Start a folder or a split of it, or resume one; call it with the lock held.

    Args:
        out: where; it exists.
        data: what it holds, as JSON values.
        split, count: what is asked for.

    Returns:
        The folder's manifest with the split in it, without files that are lost or cut short and
        those after them.

    Raises:
        ValueError: the folder was written with other settings.
    """
    path = out / ALIGN_MANIFEST
    wanted = {"data": data, "made_with": {}, "splits": {}}
    if path.is_file():
        manifest = json.loads(path.read_text())
        different = [
            name for name in wanted["data"] if manifest["data"].get(name) != wanted["data"][name]
        ]
        if different:
            raise ValueError(
                f"{out} was written with other {', '.join(different)}: give the same, or another "
                "folder"
            )
    else:
        manifest = wanted
        save_align_manifest(out, manifest)
    remove_abandoned(out)
    state = manifest["splits"].setdefault(split, {"count": count, "files": []})
    if state["count"] != count:
        raise ValueError(
            f"{out} was started with {state['count']} examples of {split}, not {count}: give that "
            "number, or another folder"
        )
    for index, file in enumerate(state["files"]):
        path = inside(out, file["path"])
        if not path.is_file() or path.stat().st_size != file["bytes"]:
            del state["files"][index:]
            break
    return manifest


def check_versions(out: Path, manifest: dict[str, Any], versions: dict[str, str]) -> None:
    """Note what a folder is made with; ValueError if it was begun with something else."""
    if manifest["made_with"] and manifest["made_with"] != versions:
        different = sorted(
            name for name in versions if manifest["made_with"].get(name) != versions[name]
        )
        raise ValueError(
            f"{out} was made with other versions of {', '.join(different)}: resume with those, or "
            "give another folder"
        )
    manifest["made_with"] = versions


def save_align_manifest(out: Path, manifest: dict[str, Any]) -> None:
    """Write the manifest, whole; equal ones give equal bytes."""
    write_whole(
        out / ALIGN_MANIFEST, (json.dumps(manifest, indent=1, sort_keys=True) + "\n").encode()
    )
