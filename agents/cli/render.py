"""``dig-env render``: datasets on disk, and their audit."""

from __future__ import annotations

import re
import sys
from collections import Counter
from dataclasses import asdict
from pathlib import Path
from typing import Literal

import tyro

from dig_env.agents.cli.align import TaskData, write_tasks
from dig_env.agents.cli.common import StageName
from dig_env.agents.cli.output import Output, Printed
from dig_env.agents.reporting.table import Table
from dig_env.scenes import Album, Renderer, RenderSettings, audit_dataset, render_dataset
from dig_env.scenes.dataset import CHECKS, PRESETS


def render(
    out: Path | None = None,
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
    photos: Path | None = None,
    images: Path | None = None,
    task: str | None = None,
    data: tyro.conf.OmitArgPrefixes[TaskData] = TaskData(),
    audit: Path | None = None,
    output: Printed = Output(),
) -> None:
    """Render pairs or questions into a folder, or check one. Stop at any time and go on.

    Args:
        out: folder to fill; it may hold pairs of other stages and splits already.
        stage: single, dual, mixed, subtle, cluttered, nuisance or extreme; one that the folder has;
            or MODULE:NAME for one that your module registers.
        count: pairs that the folder is to hold of this stage and split; with --task, questions.
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
        photos: make pairs of photographs instead: a COCO instances file of their objects' masks.
            Quality, device and workers do not matter then.
        images: with --photos, the folder that its file names begin at; by default the file's own.
        task: write questions and answers to learn from instead of pairs: a name in
            dig_env.align.TASKS, several with commas between, or all.
        data: how questions are written.
        audit: check this folder against its own pixels instead of rendering.
        output: what is printed.
    """
    if audit is not None:
        _audit(audit, output)
        return
    if out is None:
        raise ValueError("say where to render to: --out DIR (or what to check: --audit DIR)")
    if task is not None:
        if preset is not None or shard != "1/1" or photos is not None or engine != "local":
            raise ValueError(
                "--task goes without --preset, --shard, --photos and --engine: give --count"
            )
        settings = RenderSettings(width, height, quality, device)
        write_tasks(out, task, count, stage, split, settings, workers, data, output)
        return
    match = re.fullmatch(r"(\d+)/(\d+)", shard)
    if match is None:
        raise ValueError(f"--shard {shard}: give a share of a number of shares, such as 3/16")
    settings = RenderSettings(width, height, quality, device)
    album = None if photos is None else Album(photos, images, (width, height))
    if engine == "ray":
        output.note(f"{width}x{height} {quality}, on Ray")
    elif album is None:
        with Renderer(settings, workers) as renderer:  # starts nothing before its first plan
            output.note(str(renderer))
    else:
        output.note(f"{len(album.names)} photographs, {width}x{height}")
    with output.progress("pairs", every=pairs_per_file) as on_pair:
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
    pairs = sum(file.rows for file in manifest.files)
    output.say(f"{pairs} pairs in {len(manifest.files)} files")
    if manifest.missing:
        output.note(
            f"{manifest.missing} pairs that were asked for are missing: render the other shards, "
            "or run without --shard"
        )
    files = len(manifest.files)
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


def _audit(folder: Path, output: Output) -> None:
    """Print a table of the checks and every problem; exit with 1 when there is one."""
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
