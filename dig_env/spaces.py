"""The space of a text that never changes, such as an environment's prompt."""

from __future__ import annotations

import string
from collections.abc import Sequence
from typing import Any

from gymnasium.spaces import Text
from gymnasium.vector.utils import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)


class ConstantText(Text):
    """The one text that an environment shows, a ``Text`` to everything that knows those.

    It takes no part in the shared memory of Gymnasium's ``AsyncVectorEnv``, which decodes texts
    once, before any environment has written one, and returns what it read then ever after
    (seen in Gymnasium 1.4).

    Args:
        text: at least one printable ASCII character.

    Example:
        >>> space = ConstantText("Find it.")
        >>> space.sample(), "Find it." in space, "Find" in space
        ('Find it.', True, False)
    """

    def __init__(self, text: str) -> None:
        super().__init__(len(text), min_length=len(text), charset=string.printable)
        self.text = text

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """The text; ``mask`` and ``probability`` are ignored."""
        return self.text

    def contains(self, x: Any) -> bool:
        """Is ``x`` the text?"""
        return isinstance(x, str) and x == self.text

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, ConstantText) and self.text == other.text

    def __repr__(self) -> str:
        return f"ConstantText({self.text!r})"


@create_shared_memory.register(ConstantText)
def _create(space: ConstantText, n: int = 1, ctx: Any = None) -> None:
    return None


@write_to_shared_memory.register(ConstantText)
def _write(space: ConstantText, index: int, value: str, shared_memory: None) -> None:
    return None


@read_from_shared_memory.register(ConstantText)
def _read(space: ConstantText, shared_memory: None, n: int = 1) -> Sequence[str]:
    return (space.text,) * n
