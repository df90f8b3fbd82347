"""The alignment tasks on the command line: instruction data, training stages, evaluation."""

from __future__ import annotations

import json
import platform
import shlex
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro
from rich.console import Console
from rich.table import Table

from agents.align.stages import AlignRun
from agents.cli_progress import progress_of
from dig_env.align import AlignSettings
from scenes import RenderSettings, available_cores
from scenes.files import write_whole

console = Console(highlight=False)


@dataclass(frozen=True)
class TaskData:
    """How questions are written; of use with --task alone.

    Attributes:
        dataset: ask about the pairs of this folder, which dig-env render wrote, not fresh ones.
        format: trl for SFTTrainer (Parquet), llava for conversations (JSON and image files).
        coordinates: frame of all boxes: norm1000, unit, pixel or resized_pixel.
        crop_px: side of a crop in pixels.
        per_pair: greatest number of questions about one pair.
    """

    dataset: Path | None = None
    format: Literal["trl", "llava"] = "trl"
    coordinates: str = "norm1000"
    crop_px: int = 112
    per_pair: int = 8


def write_tasks(
    out: Path,
    task: str,
    count: int | None,
    stage: str | None,
    split: str,
    render: RenderSettings,
    workers: int | None,
    options: TaskData,
) -> None:
    """Write ``count`` questions of one or more tasks; see ``agents.cli_render.render``."""
    from agents.align.data import AlignData, write_align_data
    from dig_env.align import TASKS

    if count is None:
        raise ValueError("say how many questions: --count 1000; several tasks share them evenly")
    data = AlignData(
        tasks=tuple(TASKS) if task == "all" else tuple(task.split(",")),
        format=options.format,
        settings=AlignSettings(options.coordinates, options.crop_px),
        stage=stage,
        render=render,
        dataset=None if options.dataset is None else str(options.dataset),
        per_pair=options.per_pair,
    )
    try:
        with progress_of("questions", every=data.rows_per_file) as on_example:
            manifest = write_align_data(out, count, data, split, workers, on_example)
    except KeyboardInterrupt:
        command = shlex.join(["dig-env", *sys.argv[1:]])
        console.print(f"stopped; go on with: {command}", markup=False, soft_wrap=True)
        sys.exit(130)
    table = Table("task", split)
    for name in data.tasks:
        files = manifest["splits"][split]["files"]
        table.add_row(name, str(sum(file["counts"][name] for file in files)))
    console.print(table)
    console.print(f"questions: {out}", soft_wrap=True)


def align(run: tyro.conf.OmitArgPrefixes[AlignRun]) -> None:
    """Train a compact model on instruction data: stage 1a, 1b, 2 or 3 of the alignment road.

    The same command goes on with a stopped run.
    """
    from transformers.utils.logging import disable_progress_bar

    from agents.align.training import train_align

    disable_progress_bar()  # loading and saving take a second; the run has a bar of its own
    with progress_of("steps", every=100) as tell:
        result = train_align(run, lambda step, steps, loss: tell(step, steps))
    if result is None:
        return
    last = f"loss {result.losses[-1][1]:.3f}, " if result.losses else ""
    console.print(f"{result.questions} questions in {result.seconds:.0f} s, {last}seed {run.seed}")
    console.print(f"checkpoint: {result.checkpoint}", soft_wrap=True)


def eval_align(
    policy: str,
    task: str = "all",
    episodes: int = 200,
    seed: int = 0,
    split: str = "test",
    dataset: Path | None = None,
    width: int = 128,
    height: int = 96,
    quality: str = "draft",
    coordinates: str = "norm1000",
    options: int = 4,
    max_tokens: int = 256,
    out: Path | None = None,
) -> None:
    """Evaluate a policy on the alignment tasks, on held-out pairs.

    Args:
        policy: blind, oracle, or a model's folder or hub name.
        task: a name, several with commas, or all.
        episodes: questions of each task.
        seed: of the draw of pairs and questions, and of the resampling for the intervals.
        split: train, validation or test.
        dataset: ask about the pairs of this folder, which dig-env render wrote, not fresh ones.
        width: image width in pixels; stored pairs have theirs.
        height: image height in pixels; stored pairs have theirs.
        quality: draft, standard or high; stored pairs have theirs.
        coordinates: frame of all boxes: norm1000, unit, pixel or resized_pixel.
        options: crops to choose from, at most.
        max_tokens: longest answer of a model.
        out: also write the numbers to this JSON file.
    """
    from agents.align.evaluation import align_metrics, evaluate_align
    from dig_env.align import resolve_tasks

    tasks = resolve_tasks("all" if task == "all" else task.split(","))
    if out is not None and not out.absolute().parent.is_dir():
        raise FileNotFoundError(f"there is no folder {out.absolute().parent}: make it first")
    player = _align_player(policy, AlignSettings(coordinates, options=options), max_tokens)
    where: dict[str, Any] = {"width": width, "height": height, "quality": quality}
    results = {}
    with progress_of("questions", every=episodes) as tell:
        done = 0
        for name in tasks:

            def count(_: Any) -> None:
                nonlocal done
                done += 1
                tell(done, episodes * len(tasks))

            played = evaluate_align(
                player,
                name,
                episodes=episodes,
                seed=seed,
                split=split,
                on_episode=count,
                coordinates=coordinates,
                filters={"options": options},
                **(where if dataset is None else {"dataset": str(dataset)}),
            )
            results[name] = align_metrics(played, seed)
    table = Table("task", "questions", "reward", "right", "95 % interval")
    for name, numbers in results.items():
        right, low, high = numbers["accuracy"]
        reward, interval = f"{numbers['reward'][0]:.3f}", f"{low:.3f} to {high:.3f}"
        table.add_row(name, str(numbers["episodes"]), reward, f"{right:.3f}", interval)
    console.print(table)
    if out is not None:
        result = {
            "policy": policy,
            "command": shlex.join(["dig-env", *sys.argv[1:]]),
            "machine": f"{available_cores()} cores, {platform.machine()}, {platform.system()}",
            "tasks": results,
        }
        write_whole(out, json.dumps(result, indent=1).encode() + b"\n")
        console.print(f"result: {out}", soft_wrap=True)


def _align_player(policy: str, settings: AlignSettings, max_tokens: int) -> Any:
    from agents.align.policies import AlignBlind, AlignOracle

    if policy == "blind":
        return AlignBlind(coordinates=settings.coordinates)
    if policy == "oracle":
        return AlignOracle(settings)
    from agents.align.mllm import AlignMLLMPolicy

    return AlignMLLMPolicy.from_pretrained(policy, max_new_tokens=max_tokens, batch_size=32)
