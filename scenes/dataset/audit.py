"""Check a folder of pairs against its own pixels: nothing it says is taken on trust."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from dig_env.scenes.dataset.checks import check_row
from dig_env.scenes.dataset.manifest import DATA, DataFile, Manifest

CHECKS = {
    "files": "size, checksum and rows are those of the manifest",
    "rows": "every column can be read and decoded",
    "pixels": "the pixels have their stored checksum and size",
    "boxes": "each box is its masks' bounds",
    "boxes IoU": "each box overlaps its masks' bounds by an IoU of 0.9 or more",
    "labels": "measured again, labels and certificate come out as stored, and pass the rules",
    "plan": "the scenes differ in the labelled attributes of the labelled objects only",
    "seeds": "pair seeds are unique, in their split's range and in their place",
}
"""What is checked, by name."""


@dataclass(frozen=True)
class Problem:
    """Something that is wrong.

    Attributes:
        check: a name of ``CHECKS``.
        path: the file, relative to the folder.
        row: the row in it; None when the whole file is meant.
        message: what is wrong.
    """

    check: str
    path: str
    row: int | None
    message: str


@dataclass(frozen=True)
class Audit:
    """What an audit found.

    Attributes:
        checked: files, rows or boxes looked at, by check.
        problems: empty when all is well.
    """

    checked: dict[str, int]
    problems: tuple[Problem, ...]


def audit_dataset(folder: str | Path, on_pair: Callable[[int, int], None] | None = None) -> Audit:
    """Check every file and row of a folder.

    Args:
        folder: holds ``manifest.json``.
        on_pair: called with (rows done, rows in the manifest) after every row.

    Raises:
        FileNotFoundError: there is no manifest.
        ValueError: the manifest itself is damaged.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    report = on_pair or (lambda done, total: None)
    total = sum(file.rows for file in manifest.files)
    checked = Counter(dict.fromkeys(CHECKS, 0))
    problems: list[Problem] = []
    places: dict[int, str] = {}
    done = 0
    for file in manifest.files:
        checked["files"] += 1
        problems += [Problem("files", file.path, None, text) for text in _check_file(folder, file)]
        for index, fields in enumerate(_rows(folder / file.path)):
            for name, count, messages in check_row(fields, file, index, manifest, places):
                checked[name] += count
                problems += [Problem(name, file.path, index, text) for text in messages]
            report(done + index + 1, total)
        done += file.rows
    listed = {file.path for file in manifest.files}
    for path in sorted((folder / DATA).glob("*.parquet")):
        if f"{DATA}/{path.name}" not in listed:
            message = "is not in the manifest: run the 'dig-env render' that made it again"
            problems.append(Problem("files", f"{DATA}/{path.name}", None, message))
    return Audit(dict(checked), tuple(problems))


def _check_file(folder: Path, file: DataFile) -> Iterator[str]:
    try:
        content = (folder / file.path).read_bytes()
    except OSError as error:
        yield f"cannot be read ({error.strerror})"
        return
    if len(content) != file.bytes:
        yield f"has {len(content)} bytes, and the manifest says {file.bytes}"
    elif hashlib.sha256(content).hexdigest() != file.sha256:
        yield "its checksum is not that of the manifest"
    try:
        rows = pq.read_metadata(folder / file.path).num_rows
    except Exception as error:
        yield f"is no readable Parquet file ({error})"
    else:
        if rows != file.rows:
            yield f"has {rows} rows, and the manifest says {file.rows}"


def _rows(path: Path) -> Iterator[dict[str, Any] | Exception]:
    """Each row, or the error that keeps it from being read; none of a file that is no Parquet."""
    try:
        file = pq.ParquetFile(path)
        groups = [file.metadata.row_group(i).num_rows for i in range(file.num_row_groups)]
    except Exception:  # _check_file has said so
        return
    with file:
        for group, rows in enumerate(groups):
            try:
                yield from file.read_row_group(group, use_threads=False).to_pylist()
            except Exception as error:  # damaged bytes can break Parquet in many ways
                yield from [error] * rows
