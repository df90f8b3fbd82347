"""A leaderboard: a file of JSON lines, one for each run."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from dig_env.scenes.files import locked, write_whole


def read_records(path: Path) -> list[dict[str, Any]]:
    """The runs, in the order in which they were added; none where there is no file.

    Raises:
        ValueError: a line is no run.
    """
    if not path.exists():
        return []
    records = []
    for number, line in enumerate(path.read_text().splitlines(), start=1):
        try:
            record = json.loads(line)
            record["policy"], record["size"], record["f1"]
        except (ValueError, LookupError, TypeError) as error:
            raise ValueError(
                f"{path}, line {number}, is no run of the benchmark ({error!r}): take it out"
            ) from error
        records.append(record)
    return records


def append_record(path: Path, record: dict[str, Any]) -> None:
    """Add a run; one that is there already, to the letter, is not added again.

    Runs that end at the same moment are all added, and a process that is killed leaves the file as
    it was.

    Raises:
        FileNotFoundError: the folder of ``path`` is not there.
        ValueError: a line of the file is no run.
    """
    if not path.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {path.absolute().parent}: make it first")
    with locked(path.absolute().parent):
        records = read_records(path)
        if record in records:
            return
        lines = [json.dumps(one) + "\n" for one in [*records, record]]
        write_whole(path, "".join(lines).encode())
