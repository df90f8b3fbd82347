"""Episodes of several turns as policies see them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass
class Dialogue:
    """What an episode's policy has seen and said so far.

    Attributes:
        observations: of ``DiG-Zoom-v0`` or ``DiG-Align-v0``; one more than texts while a reply is
            due.
        texts: what the policy said to each, verbatim.
    """

    observations: list[dict[str, Any]]
    texts: list[str] = field(default_factory=list)


class DialoguePolicy(Protocol):
    """A policy that plays in turns."""

    def reply(self, dialogues: Sequence[Dialogue]) -> list[str]:
        """The next text of each dialogue: in ``DiG-Zoom-v0`` a request or the answer."""
        ...
