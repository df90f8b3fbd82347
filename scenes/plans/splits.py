"""Disjoint splits: each owns a range of pair seeds, so no pair can be in two."""

from __future__ import annotations

SPLITS: tuple[str, ...] = ("train", "validation", "test")
SEEDS_PER_SPLIT = 2**48


def pair_seed_range(split: str) -> range:
    """The pair seeds of a split: 2**48 of them, from n * 2**48 for the n-th of ``SPLITS``.

    Raises:
        ValueError: there is no such split.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}; the splits are {', '.join(SPLITS)}")
    first = SPLITS.index(split) * SEEDS_PER_SPLIT
    return range(first, first + SEEDS_PER_SPLIT)
