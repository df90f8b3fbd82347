"""``dig-env train`` and ``align``: GRPO under the curriculum, and the supervised stages."""

from __future__ import annotations

import ctypes
import dataclasses
import os
from pathlib import Path
from typing import Any

import tyro

from dig_env.agents.cli.output import Output, Printed
from dig_env.agents.training.align_stages import AlignRun
from dig_env.agents.training.settings import GRPORun
from dig_env.scenes import Renderer, RenderSettings
from dig_env.scenes.extras import extra


def train(
    run: tyro.conf.OmitArgPrefixes[GRPORun] = GRPORun(),
    config: Path | None = None,
    reward: str | None = None,
    output: Printed = Output(),
) -> None:
    """Train a policy with GRPO under the curriculum. The same command resumes a stopped run.

    Args:
        run: its settings.
        config: YAML file of settings, which options on the command line replace; see
            examples/qwen3_vl.
        reward: name of the reward that pairs earn: full, paper, dense, strict, format, iou, f1 or
            exact. By default that of the config, or full.
        output: what is printed.
    """
    with extra("train"):
        from transformers.utils.logging import disable_progress_bar

    from dig_env.agents.training.grpo import train_grpo
    from dig_env.agents.training.grpo_report import held_out_table, summarize
    from dig_env.agents.training.monitor import Step

    disable_progress_bar()  # loading and saving take a second; the run has its own bar
    if reward is not None:
        run = dataclasses.replace(run, reward=reward)
    if os.environ.get("RANK", "0") != "0":  # the first of several processes reports
        output = Output(quiet=True)
    _note_settings(run, output)
    _keep_freed_memory()
    with output.progress("steps", every=20) as update:

        def on_step(step: Step) -> None:
            # The steps that the minutes allow, if they end before.
            allowed = 60 * (run.minutes or 1e9) / step.elapsed_s * step.step
            update(step.step, max(step.step, min(run.steps, round(allowed))), str(step))

        result = train_grpo(run, on_step)
    if result is None:
        return
    out = Path(run.out)
    files = {"checkpoint": result.checkpoint, "report": out / "report.html"}
    files["result"] = out / "result.json"
    if result.evaluated_after:
        output.table(held_out_table(result))
        files["pairs"] = out / "pairs.png"
    for pairs, left, entered in result.promotions:
        output.say(f"after {pairs} pairs the curriculum went from {left} to {entered}")
    output.result(summarize(result), **files)


def align(run: tyro.conf.OmitArgPrefixes[AlignRun], output: Printed = Output()) -> None:
    """Train a compact model on instruction data, in stages. The same command resumes a stopped run.

    Args:
        run: its settings.
        output: what is printed.
    """
    with extra("train"):
        from transformers.utils.logging import disable_progress_bar

    from dig_env.agents.training.align import train_align

    disable_progress_bar()  # loading and saving take a second; the run has its own bar
    with output.progress("steps", every=100) as update:
        result = train_align(run, lambda step, steps, loss: update(step, steps, f"loss {loss:.3f}"))
    if result is None:
        return
    last = result.losses[-1][1] if result.losses else None
    output.say(f"{result.questions} questions in {result.seconds:.0f} s, seed {run.seed}")
    record: dict[str, Any] = {"questions": result.questions, "seconds": round(result.seconds, 1)}
    report = Path(run.out, "report.html")
    output.result(record | {"loss": last}, checkpoint=result.checkpoint, report=report)


def _note_settings(run: GRPORun, output: Output) -> None:
    """Say with what and where a run is about to train."""
    from dig_env.agents.training.trainer_settings import this_process

    processes = this_process().num_processes
    count = "1 process" if processes == 1 else f"{processes} processes"
    size = f"{run.width}x{run.height} {run.quality}"
    output.note(f"seed {run.seed}, {run.model} policy, {size}, {count}")
    if run.dataset is None:
        settings = RenderSettings(run.width, run.height, run.quality)
        with Renderer(settings, run.workers or None) as renderer:  # starts nothing
            output.note(str(renderer))
    if run.eval_pairs:
        output.note("rendering the held-out pairs and evaluating the starting policy ...")


def _keep_freed_memory() -> None:
    """Let glibc keep what one step frees for the next (a fifth of a step's time on two cores)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        m_trim_threshold, m_mmap_threshold = -1, -3  # as in malloc.h
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**31 - 1)
