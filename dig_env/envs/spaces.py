"""Spaces of texts: those that are known beforehand, such as prompts, and a policy's answers."""

from __future__ import annotations

import string
from collections.abc import Iterable, Iterator, Mapping, Sequence
from ctypes import c_byte
from typing import Any, cast

import numpy as np
from gymnasium.error import CustomSpaceError
from gymnasium.spaces import Text, Tuple
from gymnasium.vector.utils import (
    batch_space,
    create_shared_memory,
    iterate,
    read_from_shared_memory,
    write_to_shared_memory,
)

from dig_env.answers import MAX_ANSWER_LENGTH


class FixedTexts(Text):
    """A few texts, one of which an environment shows; a ``Text`` to everything that knows those.

    Gymnasium's ``AsyncVectorEnv`` decodes the texts of its shared memory once, before any
    environment has written one, and always returns what it read then (seen in Gymnasium 1.4).
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


class AnswerText(Text):
    """The space of a policy's answers: every text, of any length and in any characters.

    ``sample`` draws texts of up to ``MAX_ANSWER_LENGTH`` printable ASCII characters, and what a
    ``Text`` says of its length and characters is true of those. Having no largest text, the space
    neither flattens nor fits into shared memory.

    A vector of environments refuses, before any of them takes a step, what is not one text for
    each; Gymnasium would deal out a single text by its letters.

    Example:
        >>> "é" in AnswerText(), 7 in AnswerText()
        (True, False)
    """

    def __init__(self) -> None:
        super().__init__(MAX_ANSWER_LENGTH, min_length=0, charset=string.printable)

    def contains(self, x: Any) -> bool:
        """Is ``x`` a text?"""
        return isinstance(x, str)

    @property
    def is_np_flattenable(self) -> bool:
        """No."""
        return False

    def __eq__(self, other: Any) -> bool:
        return isinstance(other, AnswerText)

    def __repr__(self) -> str:
        return "AnswerText()"


@create_shared_memory.register(AnswerText)
def _refuse(space: AnswerText, n: int = 1, ctx: Any = None) -> Any:
    raise CustomSpaceError(f"{space} has texts of any length: give shared_memory=False")


class _Answers(Tuple):
    """An answer for each environment of a vector."""


@batch_space.register(AnswerText)
def _batch(space: AnswerText, n: int = 1) -> _Answers:
    batch = cast(Tuple, batch_space.dispatch(Text)(space, n))  # each has its own seed
    return _Answers(batch.spaces)


@iterate.register(_Answers)
def _deal_out(space: _Answers, items: Any) -> Iterator[str]:  # type: ignore[misc]
    each = f"give a list of {len(space)} texts, an answer for each environment"
    if isinstance(items, (str, bytes, Mapping)) or not isinstance(items, Iterable):
        raise TypeError(f"the actions are one {type(items).__name__}: {each}")
    answers = list(np.atleast_1d(items) if isinstance(items, np.ndarray) else items)
    if len(answers) != len(space):
        raise ValueError(f"{len(answers)} answers for {len(space)} environments: {each}")
    for index, answer in enumerate(answers):
        if not isinstance(answer, str):
            raise TypeError(f"answer {index} is a {type(answer).__name__}, no text: {each}")
    return iter(answers)
