"""Make the benchmark's pairs: the same command resumes, and says what came out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from dig_env.agents.evaluation.bench.card import bench_card
from dig_env.agents.evaluation.bench.definition import (
    FILE,
    PAIRS,
    SIZES,
    SPLIT,
    Definition,
    FrozenSize,
    frozen_stage,
    settings_of,
)
from dig_env.scenes import PairDataset, render_dataset
from dig_env.scenes.files import write_whole
from dig_env.scenes.plans.stages import BUILT_IN_STAGES

PAIRS_PER_FILE = 50
"""At most so many pairs are lost when it is stopped."""


def make_benchmark(
    folder: Path,
    sizes: Sequence[str] = SIZES,
    pairs: int = PAIRS,
    stages: Sequence[str] = BUILT_IN_STAGES,
    workers: int | None = None,
    on_pair: Callable[[int, int], None] = lambda done, total: None,
) -> Definition:
    """Render what a folder lacks, and write its definition and card after each size.

    Args:
        folder: made if need be; each size is a dataset in it, such as ``folder/320x240``.
        sizes: one after the other.
        pairs: of each stage.
        stages: with built-in names.
        workers: Blender processes; None for one a CPU core.
        on_pair: called with (pairs there, pairs to be there).

    Returns:
        What the folder holds.

    Raises:
        ValueError: an argument is out of its range, or the folder holds something else.
        RenderError: Blender is missing or failed.
    """
    settings = {size: settings_of(size) for size in sizes}
    each = len(stages) * pairs
    for index, size in enumerate(sizes):

        def report(done: int, _: int, before: int = index * each) -> None:
            on_pair(before + done, len(sizes) * each)

        render_dataset(
            folder / size,
            dict.fromkeys(stages, pairs),
            SPLIT,
            settings[size],
            pairs_per_file=PAIRS_PER_FILE,
            workers=workers,
            on_pair=report,
        )
        made = describe(folder, pairs)
        write_whole(folder / FILE, made.text.encode())
        write_whole(folder / "README.md", bench_card(made).encode())
    return made


def describe(folder: Path, pairs: int) -> Definition:
    """What a folder holds, from the rows of its files: sizes with ``pairs`` of a stage or more."""
    sizes = {}
    for size in sorted(path.parent.name for path in folder.glob("*x*/manifest.json")):
        dataset = PairDataset(folder / size)
        if dataset.settings != settings_of(size):
            raise ValueError(
                f"{folder / size} holds pairs of {dataset.settings}, and the benchmark's are "
                f"{settings_of(size)}: take it out of the folder"
            )
        found = {stage: frozen_stage(dataset, stage, pairs) for stage in BUILT_IN_STAGES}
        stages = {name: stage for name, stage in found.items() if stage is not None}
        if stages:
            sizes[size] = FrozenSize(dataset.manifest.made_with, stages)
    return Definition(pairs, sizes)
