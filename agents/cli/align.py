"""The alignment tasks on the command line: instruction data, training stages, evaluation."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

from dig_env.agents.cli.common import Answers, AnswersArgs, HeldOut, HeldOutArgs, result_file
from dig_env.agents.cli.endpoint import Course, Endpoint, EndpointArgs
from dig_env.agents.cli.output import Output, Printed, this_command
from dig_env.agents.reporting.table import Table
from dig_env.agents.training.align_stages import AlignRun
from dig_env.align import AlignSettings
from dig_env.scenes import RenderSettings
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole


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
    output: Output,
) -> None:
    """Write ``count`` questions of one or more tasks; see ``dig_env.agents.cli.render.render``."""
    from dig_env.agents.data.instructions.dataset import AlignData, write_align_data
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
    with output.progress("questions", every=data.rows_per_file) as on_example:
        manifest = write_align_data(out, count, data, split, workers, on_example)
    files = manifest["splits"][split]["files"]
    counts = {name: sum(file["counts"][name] for file in files) for name in data.tasks}
    output.table(Table(("task", split), [(name, str(n)) for name, n in counts.items()]))
    output.result({"split": split, "counts": counts}, questions=out)


def align(run: tyro.conf.OmitArgPrefixes[AlignRun], output: Printed = Output()) -> None:
    """Train a compact model on instruction data, in stages. The same command goes on with a run.

    Args:
        run: its settings.
        output: what is printed.
    """
    with extra("train"):
        from transformers.utils.logging import disable_progress_bar

    from dig_env.agents.training.align import train_align

    disable_progress_bar()  # loading and saving take a second; the run has a bar of its own
    with output.progress("steps", every=100) as tell:
        result = train_align(run, lambda step, steps, loss: tell(step, steps, f"loss {loss:.3f}"))
    if result is None:
        return
    last = result.losses[-1][1] if result.losses else None
    output.say(f"{result.questions} questions in {result.seconds:.0f} s, seed {run.seed}")
    output.result(
        {"questions": result.questions, "seconds": round(result.seconds, 1), "loss": last},
        checkpoint=result.checkpoint,
        report=Path(run.out, "report.html"),
    )


def eval_align(
    policy: str,
    task: str = "all",
    episodes: int = 200,
    options: int = 4,
    out: Path | None = None,
    held_out: HeldOutArgs = HeldOut(),
    answers: AnswersArgs = Answers(),
    endpoint: EndpointArgs = Endpoint(),
    output: Printed = Output(),
) -> None:
    """Evaluate a policy on the alignment tasks, on held-out pairs.

    Args:
        policy: blind, oracle, or a model's folder or hub name; with --base-url the model's name at
            that endpoint.
        task: a name, several with commas, or all.
        episodes: questions of each task.
        options: crops to choose from, at most.
        out: JSON file for the numbers; their report, .html, and plot, .png, lie beside it. By
            default runs/eval-align-POLICY-TASK.json.
        held_out: which pairs are played.
        answers: how the policy answers.
        endpoint: where a model is served.
        output: what is printed.
    """
    from dig_env.align import resolve_tasks

    tasks = resolve_tasks("all" if task == "all" else task.split(","))
    out = result_file(out, "eval-align", policy, task)
    from dig_env.agents.evaluation.align import align_metrics, evaluate_align
    from dig_env.agents.reporting.align import tasks_table, write_tasks_report
    from dig_env.agents.reporting.report import machine

    settings = AlignSettings(answers.coordinates, options=options)
    course = Course(out, output)
    player = _align_player(policy, settings, answers, endpoint, course)
    with output.counting("questions", episodes * len(tasks)) as on_episode:
        played = {
            name: evaluate_align(
                player,
                name,
                episodes=episodes,
                seed=held_out.seed,
                split=held_out.split,
                batch_size=endpoint.batch_size,
                on_episode=on_episode,
                on_failure=course.on_failure,
                coordinates=answers.coordinates,
                filters={"options": options},
                **held_out.environment,
            )
            for name in tasks
        }
    result: dict[str, Any] = {
        "policy": policy,
        "command": this_command(),
        "machine": machine(),
        "seed": held_out.seed,
        "usage": None if endpoint.base_url is None else player.usage_json(),
        "tasks": {name: align_metrics(of, held_out.seed) for name, of in played.items()},
        **course.findings(
            [graded.error for of in played.values() for e in of for graded in e.grades]
        ),
    }
    report = out.with_suffix(".html")
    write_whole(out, json.dumps(result, indent=1).encode() + b"\n")
    write_tasks_report(report, played, result, answers.coordinates)
    output.table(tasks_table(result["tasks"]))
    output.result(result, result=out, report=report)
    course.end(result)


def _align_player(
    policy: str, settings: AlignSettings, answers: Answers, endpoint: Endpoint, course: Course
) -> Any:
    from dig_env.agents.policies.align import AlignBlind, AlignOracle

    if endpoint.base_url is not None:
        from dig_env.agents.policies.align_endpoint import AlignApiPolicy

        options = endpoint.settings(answers)
        return AlignApiPolicy(endpoint.base_url, policy, kept=course.keep(), **options)
    if policy == "blind":
        return AlignBlind(coordinates=settings.coordinates)
    if policy == "oracle":
        return AlignOracle(settings)
    from dig_env.agents.policies.align_mllm import AlignMLLMPolicy

    longest = 256 if answers.max_tokens is None else answers.max_tokens
    return AlignMLLMPolicy.from_pretrained(policy, max_new_tokens=longest, batch_size=32)
