"""Settings that all runs on TRL's trainers share."""

from __future__ import annotations

import os
from typing import Any

from dig_env.scenes.extras import extra

with extra("train"):
    import torch
    from accelerate import PartialState


def this_process() -> PartialState:
    """This process among those that torchrun or accelerate started to train together.

    On a machine without accelerators accelerate ignores torchrun unless it is told to use the CPU:
    each process would train alone.
    """
    on_cpu = not torch.accelerator.is_available()
    if on_cpu:
        os.environ["ACCELERATE_USE_CPU"] = "true"  # for transformers, which makes the state again
    return PartialState(cpu=on_cpu)


def common_settings(save_every: int, wandb: str) -> dict[str, Any]:
    """Fields of ``transformers.TrainingArguments``.

    Args:
        save_every: steps between checkpoints; 0: none.
        wandb: "disabled", "offline" or "online".
    """
    return {
        "dataloader_pin_memory": False,
        "save_strategy": "steps" if save_every else "no",
        "save_steps": max(save_every, 1),
        "save_total_limit": 2,
        "report_to": [] if wandb == "disabled" else ["wandb"],
        "bf16": False,
        "remove_unused_columns": False,
    }


def set_gradient_accumulation(
    settings: dict[str, Any], samples: int, name: str, processes: int
) -> None:
    """Set how often gradients are accumulated, so that a step has as many samples as it shall.

    Args:
        settings: with per_device_train_batch_size; changed in place.
        samples: of a step, over all processes.
        name: how an error shall call them.
        processes: number of them.

    Raises:
        ValueError: the samples are no whole number of parts, or another one was asked for.
    """
    at_once = settings["per_device_train_batch_size"]
    parts, left = divmod(samples, at_once * processes)
    if left or settings.setdefault("gradient_accumulation_steps", parts) != parts:
        raise ValueError(
            f"{name} is not per_device_train_batch_size={at_once} x {processes} processes x "
            f"gradient_accumulation_steps={settings.get('gradient_accumulation_steps', parts)}: "
            "choose them so that it is"
        )
