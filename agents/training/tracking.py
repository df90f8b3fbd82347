"""Logging of a training run to Weights & Biases."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator

from dig_env.agents.training.settings import WandbMode
from dig_env.agents.training.trainer_settings import this_process


@contextlib.contextmanager
def wandb_run(mode: WandbMode, folder: str) -> Iterator[None]:
    """What transformers' callback and ours log to, if anything: the run that is open already, or
    one of this block alone.

    Args:
        mode: "disabled", "offline" or "online".
        folder: for its files, unless WANDB_DIR names another.
    """
    if mode == "disabled" or not this_process().is_main_process:
        yield
        return
    import wandb  # here: it takes a second to import, and most runs do without it

    if wandb.run is not None:
        yield
        return
    folder = os.environ.get("WANDB_DIR", folder)
    project = os.environ.get("WANDB_PROJECT", "dig-env")
    with wandb.init(project=project, dir=folder, mode=mode):
        yield
