"""Write pairs into a folder, file by file: it can be stopped, resumed, extended and shared."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig_env.scenes.arguments import whole
from dig_env.scenes.dataset.folder import (
    check_folder,
    check_made_with,
    open_folder,
    origin,
    refresh,
)
from dig_env.scenes.dataset.manifest import (
    MANIFEST,
    SEEDS_PER_STAGE,
    Manifest,
    file_path,
    library_versions,
    stage_seeds,
)
from dig_env.scenes.dataset.on_ray import ray_pairs
from dig_env.scenes.dataset.rows import encode, read_rows, to_parquet
from dig_env.scenes.files import locked, write_whole
from dig_env.scenes.machine import available_cores
from dig_env.scenes.measure.pair import Pair
from dig_env.scenes.photos.album import Album
from dig_env.scenes.photos.make import photo_pair, photo_versions
from dig_env.scenes.photos.plan import PHOTO_STAGES
from dig_env.scenes.plans.difficulty import Difficulty
from dig_env.scenes.plans.planner import plan_pair
from dig_env.scenes.plans.splits import pair_seed_range
from dig_env.scenes.plans.stages import BUILT_IN_STAGES, STAGES, check_stage_name, resolve_stage
from dig_env.scenes.render.renderer import Renderer
from dig_env.scenes.render.settings import RenderSettings

PRESETS: dict[str, dict[str, int]] = {"paper": {"single": 1600, "dual": 1600, "mixed": 1600}}
"""Counts by stage. "paper" has the size of DiG's corpus (arXiv 2512.12633)."""

ENGINES = ("local", "ray")


@dataclass(frozen=True)
class _Gap:
    """A file that lacks pairs: those of ``seeds``, of which it holds the first ``done``."""

    path: str
    stage: str
    seeds: range
    done: int

    @property
    def missing(self) -> range:
        return self.seeds[self.done :]


def render_dataset(
    folder: str | Path,
    counts: Mapping[str, int],
    split: str = "train",
    settings: RenderSettings = RenderSettings(),
    *,
    difficulties: Mapping[str, Difficulty | dict[str, Any]] | None = None,
    shard: tuple[int, int] = (1, 1),
    pairs_per_file: int = 100,
    workers: int | None = None,
    album: Album | None = None,
    engine: str = "local",
    on_pair: Callable[[int, int], None] | None = None,
) -> Manifest:
    """Render what a folder lacks of the first ``counts`` pairs of each stage.

    Pair i of a stage has the i-th seed of ``stage_seeds``. The same call resumes a stopped one; a
    larger count adds pairs. Several processes may fill one folder, or folders to be joined later.

    Args:
        folder: made if need be. It holds pairs of one ``settings``, any splits and stages.
        counts: number of pairs by stage, of ``STAGES``, ``difficulties`` or the folder's own.
        split: "train", "validation" or "test".
        settings: image size, quality and device.
        difficulties: stages of your own by name, as for ``register_stage``, for this folder only.
        shard: (i, n), 1 <= i <= n: render the files of the i-th of n shards only. The shards
            together are what one call without shards writes, byte for byte.
        pairs_per_file: rows of each Parquet file but a stage's last; a killed call loses the pairs
            of unfinished files.
        workers: Blender processes; None for one a CPU core, if they fit in memory.
        album: photographs to make pairs of instead, in this process; of the size of ``settings``.
            The stages are ``PHOTO_STAGES``.
        engine: "local" renders in processes of this machine, "ray" on the Ray cluster at
            RAY_ADDRESS, or on one that is started here with ``workers`` CPUs. The files are equal.
        on_pair: called with (pairs there, pairs to be there), once before any rendering and then
            after every pair.

    Returns:
        The folder's manifest; its ``missing`` is 0 when nothing that was ever asked for lacks.

    Raises:
        ValueError: an argument is out of its range, or the folder holds something else.
        DifficultyError: no pair of a seed satisfies the difficulty.
        RenderError: Blender is missing or failed.
    """
    folder = Path(folder).absolute()
    stages = _stages(counts, album, difficulties or {}, folder)
    _check_source(split, settings, album, engine)
    counts = {
        name: whole(f"counts[{name!r}]", count, 1, SEEDS_PER_STAGE, " of pairs")
        for name, count in counts.items()
    }
    shard, pairs_per_file = _shard(shard), whole("pairs_per_file", pairs_per_file, 1)
    manifest = _opened(folder, Manifest(settings, pairs_per_file, stages, {split: counts}, {}, ()))
    gaps, total = _gaps(manifest, counts, split, shard)
    for gap in gaps:
        stages[gap.stage].check_family()  # before Blender starts
    asked = ((seed, stages[gap.stage]) for gap in gaps for seed in gap.missing)
    source = _source(asked, settings, workers, album, engine)
    return _fill(folder, manifest, split, gaps, total, source, on_pair or (lambda *_: None))


def _opened(folder: Path, wanted: Manifest) -> Manifest:
    """The manifest of a folder, which is made or begun if need be, with what is wanted in it."""
    folder.mkdir(parents=True, exist_ok=True)
    check_folder(folder)
    with locked(folder):
        return open_folder(folder, wanted)


def _check_source(split: str, settings: RenderSettings, album: Album | None, engine: str) -> None:
    """Raise ValueError for arguments of ``render_dataset`` that do not go together."""
    pair_seed_range(split)  # says which splits there are
    size = (settings.width, settings.height)
    if album is not None and album.size != size:
        raise ValueError(
            f"the album's photographs are {album.size[0]}x{album.size[1]}, and the settings say "
            f"{size[0]}x{size[1]}: make the album with size={size}"
        )
    if engine not in ENGINES or (album is not None and engine != "local"):
        raise ValueError(
            f"engine={engine!r}: give one of {', '.join(ENGINES)}; with an album, local"
        )


def _fill(
    folder: Path,
    manifest: Manifest,
    split: str,
    gaps: list[_Gap],
    total: int,
    source: contextlib.AbstractContextManager[tuple[dict[str, str], Iterator[Pair]]],
    report: Callable[[int, int], None],
) -> Manifest:
    """Write the files that lack pairs, of which there are ``total`` in the end."""
    there = total - sum(len(gap.missing) for gap in gaps)
    report(there, total)
    if not gaps:
        return manifest
    with source as (versions, pairs), ThreadPoolExecutor(available_cores()) as encoders:
        made_with = library_versions() | versions
        check_made_with(folder, made_with, manifest.made_with)
        for gap in gaps:
            rows = []
            for pair in itertools.islice(pairs, len(gap.missing)):
                rows.append(encoders.submit(encode, pair, gap.stage))
                there += 1
                report(there, total)
            file_origin = origin(manifest, split, gap.stage, made_with)
            manifest = _filled(folder, gap, [row.result() for row in rows], file_origin)
    return manifest


@contextlib.contextmanager
def _source(
    asked: Iterator[tuple[int, Difficulty]],
    settings: RenderSettings,
    workers: int | None,
    album: Album | None,
    engine: str,
) -> Iterator[tuple[dict[str, str], Iterator[Pair]]]:
    """What decides the pixels, and the pairs that are asked for, in their order."""
    if album is not None:
        yield photo_versions(album), (photo_pair(seed, stage, album) for seed, stage in asked)
        return
    if engine == "ray":
        with ray_pairs(asked, settings, workers) as source:
            yield source
        return
    with Renderer(settings, workers) as renderer:
        yield renderer.versions, renderer.imap(plan_pair(seed, stage) for seed, stage in asked)


def _stages(
    counts: Mapping[str, int],
    album: Album | None,
    difficulties: Mapping[str, Difficulty | dict[str, Any]],
    folder: Path,
) -> dict[str, Difficulty]:
    """The difficulty of each stage that ``counts`` names."""
    built_in = {name: STAGES[name] for name in BUILT_IN_STAGES} if album is None else PHOTO_STAGES
    own = {name: resolve_stage(stage)[1] for name, stage in difficulties.items()}
    for name, stage in own.items():
        check_stage_name(name)
        if built_in.get(name, stage) != stage:
            raise ValueError(f"difficulties: {name!r} is taken; give your stage another name")
    registered = {name: STAGES[name] for name in STAGES if name not in BUILT_IN_STAGES}
    there = Manifest.load(folder).stages if (folder / MANIFEST).exists() else {}
    known = registered | there | built_in | own
    unknown = [name for name in counts if name not in known]
    if unknown or not counts:
        raise ValueError(
            f"counts={dict(counts)!r}: give the number of pairs of one or more of the stages "
            f"{', '.join(known)}; dig_env.scenes.register_stage() and 'difficulties' take "
            "stages of your own"
        )
    return {name: known[name] for name in counts}


def _shard(shard: tuple[int, int]) -> tuple[int, int]:
    try:
        index, of = (whole("shard", number, 1) for number in shard)
        if index <= of:
            return index, of
    except (TypeError, ValueError):
        pass
    raise ValueError(f"shard={shard!r}: give (i, n) with 1 <= i <= n, such as (3, 16)")


def _gaps(
    manifest: Manifest, counts: Mapping[str, int], split: str, shard: tuple[int, int]
) -> tuple[list[_Gap], int]:
    """The files that are to be written, and the number of pairs in all files of this shard."""
    rows = {file.path: file.rows for file in manifest.files}
    step = manifest.pairs_per_file
    index, of = shard
    gaps, total = [], 0
    for stage, count in counts.items():
        for number in range(index - 1, -(-count // step), of):
            seeds = stage_seeds(split, stage)[number * step : min((number + 1) * step, count)]
            path = file_path(split, stage, number)
            total += len(seeds)
            if rows.get(path, 0) < len(seeds):
                gaps.append(_Gap(path, stage, seeds, rows.get(path, 0)))
    return gaps, total


def _filled(
    folder: Path, gap: _Gap, rows: list[dict[str, Any]], origin: dict[str, Any]
) -> Manifest:
    """Write a file whose missing rows are rendered; the manifest with it."""
    path = folder / gap.path
    with locked(folder):
        manifest = Manifest.load(folder)
        check_made_with(folder, origin["made_with"], manifest.made_with)
        kept = read_rows(path)[: gap.done] if gap.done else []
        write_whole(path, to_parquet(kept + rows, origin))
        return refresh(folder, manifest, rewritten=gap.path)
