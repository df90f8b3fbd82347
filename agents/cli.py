"""The ``dig-env`` command: thin sub-commands that say where their results lie."""

from __future__ import annotations

import dataclasses
import json
import sys
import warnings
from pathlib import Path

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from agents.blender_install import install_blender
from agents.cli_bench import bench
from agents.cli_export import export
from agents.cli_render import render
from agents.settings import GRPORun
from dig_env import resolve_reward
from scenes import DifficultyError, RenderError, RenderSettings

app = tyro.extras.SubcommandApp()
console = Console(highlight=False)


@app.command
def doctor() -> None:
    """Check Python, libraries, Blender, disk and compute, and say what to do."""
    from agents.doctor import diagnose

    sound = True
    for finding in diagnose():
        console.print(f"{'[green]ok  ' if finding.ok else '[red]FAIL'}[/] {finding.name}:", end=" ")
        console.print(finding.detail, markup=False)
        if not finding.ok:
            sound = False
            console.print(f"     {finding.remedy}", markup=False)
    sys.exit(0 if sound else 1)


app.command(install_blender)
app.command(render)
app.command(export)
app.command(bench)


@app.command
def train(run: tyro.conf.OmitArgPrefixes[GRPORun], reward: str = "full") -> None:
    """Train a policy with GRPO on freshly rendered pairs under the curriculum.

    Args:
        run: its settings.
        reward: name of the reward to learn from: full, paper, dense, strict, format, iou or f1.
    """
    from agents.grpo import Step, train_grpo
    from agents.report import step_line, write_report

    run = dataclasses.replace(run, reward=resolve_reward(reward))
    console.print(f"seed {run.seed}, {run.model} policy, {run.width}x{run.height} {run.quality}")
    console.print("rendering the held-out pairs and evaluating the starting policy ...")
    columns = (BarColumn(), TextColumn("{task.description}"), TimeElapsedColumn())
    with Progress(*columns, console=console) as progress:
        task = progress.add_task("", total=1.0, visible=False)

        def on_step(step: Step) -> None:
            share = max(step.step / run.steps, step.elapsed_s / (60 * (run.minutes or 1e9)))
            line = f"step {step.step}  {step_line(step)}"
            progress.update(task, completed=share, description=line, visible=True)
            if step.step % 20 == 0 and not console.is_terminal:
                console.print(line)

        result = train_grpo(run, on_step)
    paths = write_report(result)
    table = Table("held-out", "", "F1", "reward", f"F1 at T={run.temperature}", "reward")
    for stage in run.stages:
        for when in ("before", "after"):
            means = result.metrics(when, stage)
            names = ("f1", "reward", "sampled_f1", "sampled_reward")
            table.add_row(stage, when, *(f"{means[name]:.3f}" for name in names))
    console.print(table)
    for count, left, entered in result.promotions:
        console.print(f"after {count} pairs the curriculum went from {left} to {entered}")
    console.print(f"checkpoint: {result.checkpoint}")
    for name in ("report", "pairs", "curves"):
        console.print(f"{name}: {paths[name]}")


@app.command
def eval(
    policy: str = "tiny",
    stage: str = "single",
    episodes: int = 200,
    seed: int = 0,
    split: str = "test",
    width: int = 128,
    height: int = 96,
    quality: str = "draft",
    workers: int = 1,
    reward: str = "full",
    out: Path | None = None,
) -> None:
    """Evaluate a policy on held-out pairs.

    Args:
        policy: "tiny", "random", "oracle", "pixeldiff", or a model's folder or hub name.
        stage: single, dual or mixed.
        episodes: number of pairs.
        seed: of the draw of pairs.
        split: train, validation or test.
        width: image width in pixels.
        height: image height in pixels.
        quality: draft, standard or high.
        workers: Blender processes.
        reward: name of the reward: full, paper, dense, strict, format, iou or f1.
        out: also write the result to this JSON file.
    """
    from agents.evaluation import evaluate
    from agents.mllm import named_policy
    from scenes.files import write_whole

    settings = RenderSettings(width, height, quality)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task(f"{policy} on {stage}", total=episodes)
        report = evaluate(
            named_policy(policy),
            stage=stage,
            episodes=episodes,
            seed=seed,
            split=split,
            settings=settings,
            config=resolve_reward(reward),
            workers=workers,
            on_episode=lambda _: progress.advance(task),
        )
    result = report.to_json() | {"policy": policy}
    console.print_json(json.dumps(result))
    if out is not None:
        write_whole(out, json.dumps(result, indent=2).encode() + b"\n")
        console.print(f"result: {out}")


def main() -> None:
    """Run the command line; an error that has a remedy is shown without a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    try:
        app.cli(prog="dig-env", description=__doc__)
    except (DifficultyError, RenderError, ValueError, OSError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)
