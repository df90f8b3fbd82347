"""``dig-env render``, ``render-photos`` and ``audit``: datasets on disk."""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from dig_env.agents.cli.common import StageName
from dig_env.agents.cli.output import Output, Printed
from dig_env.agents.reporting.table import Table
from dig_env.scenes import Album, Renderer, RenderSettings, audit_dataset, render_dataset
from dig_env.scenes.dataset import CHECKS, PRESETS


def render(
    out: Path,
    stage: StageName | None = None,
    count: int | None = None,
    preset: Literal["paper"] | None = None,
    split: str = "train",
    shard: str = "1/1",
    width: int = 320,
    height: int = 240,
    quality: str = "standard",
    device: str = "auto",
    workers: int | None = None,
    engine: Literal["local", "ray"] = "local",
    pairs_per_file: int = 100,
    output: Printed = Output(),
) -> None:
    """Render pairs into a folder. Stop at any time: the same command resumes.

    Args:
        out: folder to fill; it may hold pairs of other stages and splits already.
        stage: single, dual, mixed, subtle, cluttered, nuisance or extreme; one that the folder has;
            or MODULE:NAME for one that your module registers.
        count: pairs that the folder is to hold of this stage and split.
        preset: instead of stage and count; paper is 1600 pairs of each stage.
        split: train, validation or test.
        shard: 3/16 renders the third of sixteen shares; together they are the whole.
        width: image width in pixels.
        height: image height in pixels.
        quality: draft, standard or high.
        device: auto, cpu or gpu.
        workers: Blender processes; by default one a CPU core, if they fit in memory.
        engine: ray renders on the Ray cluster at RAY_ADDRESS, or on one that is started here.
        pairs_per_file: rows of each Parquet file.
        output: what is printed.
    """
    counts = _counts(stage, count, preset)
    settings = RenderSettings(width, height, quality, device)
    if engine == "ray":
        output.note(f"{width}x{height} {quality}, on Ray")
    else:
        with Renderer(settings, workers) as renderer:  # starts nothing before its first plan
            output.note(str(renderer))
    how = {"workers": workers, "engine": engine, "pairs_per_file": pairs_per_file}
    _render(out, counts, split, settings, shard, output, how)


def render_photos(
    annotations: Path,
    out: Path,
    stage: StageName,
    count: int,
    images: Path | None = None,
    split: str = "train",
    shard: str = "1/1",
    width: int = 320,
    height: int = 240,
    pairs_per_file: int = 100,
    output: Printed = Output(),
) -> None:
    """Make pairs of photographs into a folder. Stop at any time: the same command resumes.

    Args:
        annotations: a COCO instances file of the photographs' objects, with their masks.
        out: folder to fill; it may hold pairs of other stages and splits already.
        stage: single, dual or mixed; one that the folder has; or MODULE:NAME for one that your
            module registers.
        count: pairs that the folder is to hold of this stage and split.
        images: the folder that the annotations' file names begin at; by default their file's own.
        split: train, validation or test.
        shard: 3/16 makes the third of sixteen shares; together they are the whole.
        width: image width in pixels.
        height: image height in pixels.
        pairs_per_file: rows of each Parquet file.
        output: what is printed.
    """
    settings = RenderSettings(width, height)
    album = Album(annotations, images, (width, height))
    output.note(f"{len(album.names)} photographs, {width}x{height}")
    how = {"album": album, "pairs_per_file": pairs_per_file}
    _render(out, {stage: count}, split, settings, shard, output, how)


def audit(folder: Annotated[Path, tyro.conf.Positional], output: Printed = Output()) -> None:
    """Check a dataset's labels, checksums and claims against its own pixels.

    Args:
        folder: that dig-env render or render-photos wrote.
        output: what is printed.
    """
    with output.progress("pairs", every=1000) as on_pair:
        result = audit_dataset(folder, on_pair)
    wrong = Counter(problem.check for problem in result.problems)
    rows = [
        (name, str(result.checked[name]), str(wrong[name]), meaning)
        for name, meaning in CHECKS.items()
    ]
    output.table(Table(("check", "looked at", "wrong", "what must hold"), rows))
    for problem in result.problems:
        row = "" if problem.row is None else f" row {problem.row}"
        output.say(f"{problem.path}{row}: {problem.message}")
    output.say(f"{folder}: {len(result.problems) or 'no'} problems")
    problems = [asdict(problem) for problem in result.problems]
    output.result({"checked": dict(result.checked), "problems": problems}, dataset=folder)
    sys.exit(1 if result.problems else 0)


def _render(
    out: Path,
    counts: dict[str, int],
    split: str,
    settings: RenderSettings,
    shard: str,
    output: Output,
    how: Mapping[str, Any],
) -> None:
    """Fill the folder and say what it holds."""
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None:
        raise ValueError(f"--shard {shard}: give a share of a number of shares, such as 3/16")
    share = (int(match[1]), int(match[2]))
    with output.progress("pairs", every=how["pairs_per_file"]) as on_pair:
        manifest = render_dataset(out, counts, split, settings, shard=share, on_pair=on_pair, **how)
    pairs, files = sum(file.rows for file in manifest.files), len(manifest.files)
    output.say(f"{pairs} pairs in {files} files")
    if manifest.missing:
        output.note(
            f"{manifest.missing} pairs that were asked for are missing: render the other shards, "
            "or run without --shard"
        )
    output.result(
        {"pairs": pairs, "parquet_files": files, "missing": manifest.missing}, dataset=out
    )


def _counts(stage: str | None, count: int | None, preset: str | None) -> dict[str, int]:
    if preset is not None and stage is None and count is None:
        return PRESETS[preset]
    if preset is None and stage is not None and count is not None:
        return {stage: count}
    raise ValueError(
        "say what to render: either --stage and --count, such as --stage single --count 1600, or "
        "--preset paper"
    )
