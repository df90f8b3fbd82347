"""The ``dig-env`` command: thin sub-commands that say where their results lie."""

from __future__ import annotations

import dataclasses
import os
import sys
import warnings

import tyro
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from agents.blender_install import install_blender
from agents.cli_align import align, eval_align
from agents.cli_bench import bench
from agents.cli_eval import eval
from agents.cli_export import export
from agents.cli_external import eval_external
from agents.cli_render import render
from agents.settings import GRPORun
from dig_env import __version__, resolve_reward
from scenes import DifficultyError, RenderError

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
app.command(eval)
app.command(eval_external)
app.command(align)
app.command(eval_align)


@app.command
def train(run: tyro.conf.OmitArgPrefixes[GRPORun], reward: str = "full") -> None:
    """Train a policy with GRPO under the curriculum. The same command goes on with a stopped run.

    Args:
        run: its settings.
        reward: name of the reward to learn from: full, paper, dense, strict, format, iou or f1.
    """
    from transformers.utils.logging import disable_progress_bar

    from agents.grpo import train_grpo
    from agents.monitor import Step
    from agents.report import step_line, write_report

    disable_progress_bar()  # loading and saving take a second; the run has a bar of its own
    run = dataclasses.replace(run, reward=resolve_reward(reward))
    console.quiet = os.environ.get("RANK", "0") != "0"  # the first of several processes reports
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
    if result is None:
        return
    if not run.eval_pairs:
        console.print(f"checkpoint: {result.checkpoint}")
        return
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


def main() -> None:
    """Run the command line; an error that has a remedy is shown without a traceback."""
    warnings.filterwarnings("ignore", category=FutureWarning)
    if sys.argv[1:] == ["--version"]:
        print(f"dig-env {__version__}")
        return
    try:
        app.cli(prog="dig-env", description=__doc__)
    except (DifficultyError, RenderError, ValueError, OSError) as error:
        console.print(f"[red]error:[/] {error}", soft_wrap=True)
        sys.exit(2)
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    main()
