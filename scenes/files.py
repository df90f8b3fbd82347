"""Files and folders that are written whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, then rename it onto it.

    Raises:
        OSError: it could not be written; what stood at ``path`` still stands.
    """
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except OSError as error:
        remedy = "free some space" if path.parent.is_dir() else f"make the folder {path.parent}"
        raise OSError(
            error.errno, f"could not write {path} ({error.strerror}): {remedy}", str(path)
        ) from error
    finally:
        beside.unlink(missing_ok=True)


def write_folder_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a folder beside its place, then put it there instead of an old one."""
    beside = folder.with_name(f".{folder.name}.{os.getpid()}")
    shutil.rmtree(beside, ignore_errors=True)
    try:
        beside.mkdir(parents=True)
        fill(beside)
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(beside, folder)
    finally:
        shutil.rmtree(beside, ignore_errors=True)
