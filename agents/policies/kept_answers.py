"""Answers that cost money or time are stored as they arrive, so that none is paid for twice."""

from __future__ import annotations

import contextlib
import hashlib
import json
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from dig_env.agents.policies.policy import Policy


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


class KeepingPolicy:
    """A policy whose answers are kept as they come: it is asked only what was never answered.

    Args:
        policy: that answers by what it sees alone, and not by what it was asked before.
        kept: where its answers are kept, and found again.
    """

    def __init__(self, policy: Policy, kept: KeptAnswers) -> None:
        self._policy, self._kept = policy, kept

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """Answer each observation.

        Raises:
            ValueError: the policy gave more or fewer answers than it was asked for.
        """
        asked = [_digest(observation) for observation in observations]
        found = {key: kept["answer"] for key in asked if (kept := self._kept.get(key))}
        new = {key: seen for key, seen in zip(asked, observations, strict=True) if key not in found}
        if new:
            for key, answer in zip(new, self._policy.act([*new.values()]), strict=True):
                self._kept.add(key, {"answer": answer})
                found[key] = answer
        return [found[key] for key in asked]


def _digest(observation: dict[str, Any]) -> str:
    digest = hashlib.sha256(observation["prompt"].encode())
    for name in ("image_a", "image_b"):
        digest.update(observation[name].tobytes())
    return digest.hexdigest()
