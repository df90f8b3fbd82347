"""Answers that cost money are stored as they arrive, so that none is paid for twice."""

from __future__ import annotations

import contextlib
import json
import threading
from pathlib import Path
from typing import Any


class KeptAnswers:
    """A file of JSON lines, one for each answer: what was asked (a digest) and what came back.

    A line that was cut off, since the process was killed, is skipped.

    Args:
        path: the file; it may be absent. Its folder is there.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._kept: dict[str, dict[str, Any]] = {}
        content = path.read_bytes() if path.exists() else b""
        for line in content.splitlines():
            with contextlib.suppress(ValueError, KeyError, TypeError):
                fields = json.loads(line)
                self._kept[fields.pop("asked")] = fields
        self._begin = b"\n" if content and not content.endswith(b"\n") else b""

    def __len__(self) -> int:
        return len(self._kept)

    def get(self, asked: str) -> dict[str, Any] | None:
        """What was kept of a question."""
        return self._kept.get(asked)

    def add(self, asked: str, fields: dict[str, Any]) -> None:
        """Keep an answer; it is in the file when this returns."""
        line = json.dumps({"asked": asked} | fields).encode() + b"\n"
        with self._lock, self.path.open("ab") as file:
            file.write(self._begin + line)
            self._begin = b""
            self._kept[asked] = fields

    def remove(self) -> None:
        """Delete the file: the result has all answers."""
        self.path.unlink(missing_ok=True)
