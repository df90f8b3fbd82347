"""Random draws by ``Random.random()`` alone, the one method whose stream Python never changes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def uniform(rng: random.Random, low: float, high: float) -> float:
    """A number between low and high."""
    return low + (high - low) * rng.random()


def integer(rng: random.Random, low: int, high: int) -> int:
    """A whole number from low to high, both included."""
    return low + int(rng.random() * (high - low + 1))


def choice(rng: random.Random, items: Sequence[T]) -> T:
    """One of some items."""
    return items[int(rng.random() * len(items))]


def any_of(rng: random.Random, items: Sequence[T]) -> T:
    """One of some items; nothing is drawn where there is only one."""
    return items[0] if len(items) == 1 else choice(rng, items)


def shuffled(rng: random.Random, items: Sequence[T]) -> list[T]:
    """The items in random order (Fisher-Yates)."""
    result = list(items)
    for last in range(len(result) - 1, 0, -1):
        other = int(rng.random() * (last + 1))
        result[last], result[other] = result[other], result[last]
    return result
