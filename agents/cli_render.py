"""``dig-env render``: datasets on disk, and their audit."""

from __future__ import annotations

import re
import shlex
import sys
from collections import Counter
from pathlib import Path
from typing import Literal

import tyro
from rich.console import Console
from rich.table import Table

from agents.cli_align import TaskData, write_tasks
from agents.cli_progress import progress_of
from scenes import Album, Renderer, RenderSettings, audit_dataset, render_dataset
from scenes.dataset import CHECKS, PRESETS

console = Console(highlight=False)


def render(
    out: Path | None = None,
    stage: str | None = None,
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
    photos: Path | None = None,
    images: Path | None = None,
    task: str | None = None,
    data: tyro.conf.OmitArgPrefixes[TaskData] = TaskData(),
    audit: Path | None = None,
) -> None:
    """Render pairs or questions into a folder, or check one. Stop at any time and go on.

    Args:
        out: folder to fill; it may hold pairs of other stages and splits already.
        stage: single, dual, mixed, subtle, cluttered, nuisance or extreme.
        count: pairs that the folder is to hold of this stage and split; with --task, questions.
        preset: instead of stage and count; paper is 1600 pairs of each stage.
        split: train, validation or test.
        shard: 3/16 renders the third of sixteen shares; together they are the whole.
        width: image width in pixels.
        height: image height in pixels.
        quality: draft, standard or high.
        device: auto, cpu or gpu.
        workers: Blender processes; by default one a CPU core.
        engine: ray renders on the Ray cluster at RAY_ADDRESS, or on one that is started here.
        pairs_per_file: rows of each Parquet file.
        photos: make pairs of photographs instead: a COCO instances file of their objects' masks.
            Quality, device and workers do not matter then.
        images: with --photos, the folder that its file names begin at; by default the file's own.
        task: write questions and answers to learn from instead of pairs: a name in
            dig_env.align.TASKS, several with commas between, or all.
        data: how questions are written.
        audit: check this folder against its own pixels instead of rendering.
    """
    if audit is not None:
        _audit(audit)
        return
    if out is None:
        raise ValueError("say where to render to: --out DIR (or what to check: --audit DIR)")
    if task is not None:
        if preset is not None or shard != "1/1" or photos is not None or engine != "local":
            raise ValueError(
                "--task goes without --preset, --shard, --photos and --engine: give --count"
            )
        settings = RenderSettings(width, height, quality, device)
        write_tasks(out, task, count, stage, split, settings, workers, data)
        return
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None:
        raise ValueError(f"--shard {shard}: give a share of a number of shares, such as 3/16")
    settings = RenderSettings(width, height, quality, device)
    album = None if photos is None else Album(photos, images, (width, height))
    if engine == "ray":
        console.print(f"{width}x{height} {quality}, on Ray")
    elif album is None:
        with Renderer(settings, workers) as renderer:  # starts nothing before its first plan
            console.print(str(renderer))
    else:
        console.print(f"{len(album.names)} photographs, {width}x{height}")
    with progress_of("pairs", every=pairs_per_file) as on_pair:
        try:
            manifest = render_dataset(
                out,
                _counts(stage, count, preset),
                split,
                settings,
                shard=(int(match[1]), int(match[2])),
                pairs_per_file=pairs_per_file,
                workers=workers,
                album=album,
                engine=engine,
                on_pair=on_pair,
            )
        except KeyboardInterrupt:
            command = shlex.join(["dig-env", *sys.argv[1:]])
            console.print(f"stopped; go on with: {command}", markup=False, soft_wrap=True)
            sys.exit(130)
    pairs = sum(file.rows for file in manifest.files)
    console.print(f"dataset: {out} ({pairs} pairs in {len(manifest.files)} files)", soft_wrap=True)
    if manifest.missing:
        console.print(
            f"{manifest.missing} pairs that were asked for are missing: render the other shards, "
            "or run without --shard",
            soft_wrap=True,
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


def _audit(folder: Path) -> None:
    """Print a table of the checks and every problem; exit with 1 when there is one."""
    with progress_of("pairs", every=1000) as on_pair:
        result = audit_dataset(folder, on_pair)
    wrong = Counter(problem.check for problem in result.problems)
    table = Table("check", "looked at", "wrong", "what must hold")
    for name, meaning in CHECKS.items():
        color = "red" if wrong[name] else "green"
        table.add_row(name, str(result.checked[name]), f"[{color}]{wrong[name]}[/]", meaning)
    console.print(table)
    for problem in result.problems:
        row = "" if problem.row is None else f" row {problem.row}"
        console.print(f"{problem.path}{row}: {problem.message}", markup=False, soft_wrap=True)
    console.print(f"{folder}: {len(result.problems) or 'no'} problems", soft_wrap=True)
    sys.exit(1 if result.problems else 0)
