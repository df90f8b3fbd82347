"""The report of a supervised stage's training, unfinished or finished."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Any

from dig_env.agents.reporting.plots import Panel, curves
from dig_env.agents.reporting.report import Section, versions, write_report
from dig_env.agents.training.align_stages import AlignRun


def write_training(run: AlignRun, state: Any, questions: int, seconds: float) -> None:
    """Write report.html and its plot, report.png, into the run's folder.

    Args:
        run: the settings.
        state: the trainer's: its log and its step.
        questions: of the whole run.
        seconds: of training so far.
    """
    history = losses(state)
    steps = [entry["step"] for entry in history]
    panels = [
        Panel("loss", {"loss": (steps, [entry["loss"] for entry in history])}, noisy=True),
        Panel("learning rate", {"": (steps, [entry["learning_rate"] for entry in history])}),
    ]
    text = "Mean cross-entropy of the answers' tokens, thin, and over the last ten points, bold."
    unfinished = "Not finished: " if state.global_step < state.max_steps else ""
    write_report(
        Path(run.out, "report.html"),
        f"Alignment stage {run.stage}: {Path(run.out).name}",
        f"{unfinished}{state.global_step} of {state.max_steps} steps in {seconds:.0f} s, "
        f"{questions} questions in all.",
        [Section("Training", text, figure=curves(panels, "optimiser step"))] if steps else [],
        {"seed": run.seed, "settings": asdict(run), "versions": versions()},
    )


def losses(state: Any) -> list[dict[str, Any]]:
    """The trainer's log without its last line, which sums up."""
    return [entry for entry in state.log_history if "loss" in entry]
