"""The space of texts that are known beforehand, such as an environment's prompts."""

from __future__ import annotations

import string
from collections.abc import Sequence
from ctypes import c_byte
from typing import Any

from gymnasium.spaces import Text
from gymnasium.vector.utils import (
    create_shared_memory,
    read_from_shared_memory,
    write_to_shared_memory,
)


class FixedTexts(Text):
    """A few texts, one of which an environment shows; a ``Text`` to everything that knows those.

    Gymnasium's ``AsyncVectorEnv`` decodes the texts of its shared memory once, before any
    environment has written one, and returns what it read then ever after (seen in Gymnasium 1.4).
    So what is shared here is which text it is, and it is looked up when somebody reads it.

    Args:
        texts: 1 to 127, each of at least one printable ASCII character.

    Example:
        >>> space = FixedTexts(["Find it."])
        >>> space.sample(), "Find it." in space, "Find" in space
        ('Find it.', True, False)
    """

    def __init__(self, texts: Sequence[str]) -> None:
        lengths = [len(text) for text in texts]
        super().__init__(max(lengths), min_length=min(lengths), charset=string.printable)
        self.texts = tuple(texts)

    def sample(self, mask: Any = None, probability: Any = None) -> str:
        """One of the texts, each equally often; ``mask`` and ``probability`` are ignored."""
        return self.texts[self.np_random.integers(len(self.texts))]

    def contains(self, x: Any) -> bool:
        """Is ``x`` one of the texts?"""
        return isinstance(x, str) and x in self.texts

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, FixedTexts) and self.texts == other.texts

    def __repr__(self) -> str:
        others = f", and {len(self.texts) - 1} more" if len(self.texts) > 1 else ""
        return f"FixedTexts({self.texts[0]!r}{others})"


class _SharedTexts(Sequence[str]):
    """The texts that the environments of a vector show now; a copy is a tuple of them."""

    def __init__(self, texts: tuple[str, ...], indices: Any) -> None:
        self._texts, self._indices = texts, indices

    def __getitem__(self, index: Any) -> Any:
        return tuple(self._texts[number] for number in self._indices)[index]

    def __len__(self) -> int:
        return len(self._indices)

    def __deepcopy__(self, memo: dict[int, Any]) -> tuple[str, ...]:
        return self[:]


@create_shared_memory.register(FixedTexts)
def _create(space: FixedTexts, n: int = 1, ctx: Any = None) -> Any:
    return ctx.RawArray(c_byte, n)


@write_to_shared_memory.register(FixedTexts)
def _write(space: FixedTexts, index: int, value: str, shared_memory: Any) -> None:
    shared_memory[index] = space.texts.index(value)


@read_from_shared_memory.register(FixedTexts)
def _read(space: FixedTexts, shared_memory: Any, n: int = 1) -> Sequence[str]:
    return _SharedTexts(space.texts, shared_memory)
