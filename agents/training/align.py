"""Supervised training stages of the compact model, with TRL's ``SFTTrainer``."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig_env import instruction
from dig_env.agents.models import (
    CompactForConditionalGeneration,
    build_model,
    train_only,
    with_words_of,
)
from dig_env.agents.policies.mllm import EMBEDDED, MLLMPolicy
from dig_env.agents.reporting.report import throttled
from dig_env.agents.training.align_report import losses, write_training
from dig_env.agents.training.align_stages import NEW, AlignRun
from dig_env.agents.training.conversations import Conversations
from dig_env.agents.training.run_folder import (
    CHECKPOINTS,
    check_settings,
    json_or_none,
    latest_checkpoint,
    write_settings,
)
from dig_env.agents.training.tracking import wandb_run
from dig_env.agents.training.trainer_settings import (
    common_settings,
    set_gradient_accumulation,
    this_process,
)
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_folder_whole, write_whole

with extra("train"):
    import torch
    from pytorch_optimizer import Muon
    from transformers import PrinterCallback, ProgressCallback, TrainerCallback
    from trl import SFTConfig, SFTTrainer

MUON_FASTER = 3
"""Learning rate of Muon's part over AdamW's; of 2, 3 and 9, the one that learned fastest."""
LOGGED_EVERY = 10
"""Steps over which a loss is averaged."""


@dataclass(frozen=True)
class AlignResult:
    """What a stage leaves behind.

    Attributes:
        run: its settings.
        checkpoint: folder with the model and its processor.
        losses: (step, mean loss of the assistant's tokens over the steps before).
        questions: seen, pairs not counted.
        seconds: wall time of the training.
    """

    run: AlignRun
    checkpoint: Path
    losses: list[tuple[int, float]]
    questions: int
    seconds: float


def train_align(
    run: AlignRun, on_loss: Callable[[int, int, float], None] | None = None
) -> AlignResult | None:
    """Train a compact model on instruction data, the assistant's tokens by cross-entropy.

    Called again with the settings of a run that was stopped, it resumes from its last checkpoint;
    with those of a run that has finished, it returns what was left.

    Args:
        run: the settings.
        on_loss: called every few steps with the step, the number of steps and the mean loss since.

    Returns:
        What the run left; None in all but the first of several processes.

    Raises:
        FileNotFoundError: there is no such model, or no such data.
        ValueError: the data lacks rows of a task, the model is not a compact one, or ``run.out``
            holds a run with other settings.
    """
    assert run.tasks and run.train and run.batch_size and run.epochs, "the stage's, if not given"
    process = this_process()
    check_settings(run)
    finished = _finished(run)
    checkpoint = latest_checkpoint(run.out, "trainer_state.json")  # the trainer writes it last
    process.wait_for_everyone()  # all have looked before one writes
    if finished is not None:
        return finished if process.is_main_process else None
    names = ("turns", "batch_size", "questions", "epochs", "pairs", "pair_share", "seed")
    options = {name: getattr(run, name) for name in names}
    conversations = Conversations(run.data, run.tasks, **options)
    model, processor = _load(run, conversations.texts)
    train_only(model, *run.train)

    def report(state: Any) -> None:
        seconds = time.perf_counter() - begun
        write_training(run, state, conversations.questions, seconds)

    trainer = _trainer(run, model, processor, conversations, _Log(throttled(report), on_loss))
    if process.is_main_process:
        write_settings(run)
    begun = time.perf_counter()
    try:
        with wandb_run(run.wandb, run.out):
            trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
    finally:
        if process.is_main_process:
            report(trainer.state)
    seconds = time.perf_counter() - begun
    # All processes gather the weights, and one has them.
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if not process.is_main_process:
        return None
    _save(run, trainer, weights, {"questions": conversations.questions, "seconds": seconds})
    return _finished(run)


def _trainer(
    run: AlignRun,
    model: CompactForConditionalGeneration,
    processor: Any,
    conversations: Conversations,
    log: _Log,
) -> SFTTrainer:
    """TRL's trainer on the conversations."""
    args = _sft_config(run, this_process().num_processes)
    trainer = SFTTrainer(
        model=model,
        args=args,
        optimizers=(_muon(model, args) if run.optimizer == "muon" else None, None),
        train_dataset=conversations.dataset,
        processing_class=processor,
        callbacks=[log],
    )
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    return trainer


def _save(
    run: AlignRun, trainer: SFTTrainer, weights: dict[str, torch.Tensor], record: dict[str, Any]
) -> None:
    """Leave the model and the record of its training; the checkpoints go."""
    model = trainer.accelerator.unwrap_model(trainer.model)

    def save(folder: Path) -> None:
        model.save_pretrained(folder, state_dict=weights)
        trainer.processing_class.save_pretrained(folder)

    out = Path(run.out)
    write_folder_whole(out / "checkpoint", save)
    record |= {"seconds": round(record["seconds"], 1), "log": losses(trainer.state)}
    write_whole(out / "history.json", json.dumps(record).encode() + b"\n")
    shutil.rmtree(out / CHECKPOINTS, ignore_errors=True)


def _finished(run: AlignRun) -> AlignResult | None:
    """What a run left that went to its end."""
    history = Path(run.out, "history.json")
    if not history.is_file():
        return None
    record = json_or_none(history)
    try:
        points = [(entry["step"], entry["loss"]) for entry in record["log"]]
        questions, seconds = record["questions"], record["seconds"]
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{history} is not what a run of this version leaves: give another --out"
        ) from error
    return AlignResult(run, history.with_name("checkpoint"), points, questions, seconds)


class _Log(TrainerCallback):
    """Passes on the losses, and has a report written."""

    def __init__(
        self,
        report: Callable[[Any], None],
        on_loss: Callable[[int, int, float], None] | None,
    ) -> None:
        self._report, self._on_loss = report, on_loss

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if "loss" in logs and state.is_world_process_zero:
            self._report(state)
            if self._on_loss is not None:
                self._on_loss(state.global_step, state.max_steps, logs["loss"])


def _load(run: AlignRun, texts: list[str]) -> tuple[CompactForConditionalGeneration, Any]:
    """The model to train, in float32, with a token for each word of the texts."""
    torch.manual_seed(run.seed)  # new weights begin alike in every process, and in every run
    if run.model == NEW:
        return with_words_of(*build_model([instruction()]), texts)
    policy = MLLMPolicy.from_pretrained(
        EMBEDDED.get(run.model, run.model), device="cpu", dtype="float32"
    )
    if not isinstance(policy.model, CompactForConditionalGeneration):
        raise ValueError(
            f"{run.model} is a {policy.model.config.model_type}: the stages train a compact model, "
            'such as "tiny" or one from dig_env.agents.models.assemble; train others with TRL\'s '
            "SFTTrainer on the same data"
        )
    return with_words_of(policy.model, policy.processor, texts)


def _muon(model: CompactForConditionalGeneration, args: SFTConfig) -> Muon:
    """Muon for the matrices of the decoder's layers, AdamW for all else.

    Muon's steps are scaled to the length of AdamW's (arXiv 2502.16982, section 2.2), and then by
    ``MUON_FASTER``.
    """
    trained = {name: value for name, value in model.named_parameters() if value.requires_grad}
    matrices = {name for name, v in trained.items() if ".layers." in name and v.ndim == 2}
    groups = [
        {
            "params": [value for name, value in trained.items() if name in matrices],
            "use_muon": True,
            "lr": args.learning_rate * MUON_FASTER,
        },
        {
            "params": [value for name, value in trained.items() if name not in matrices],
            "use_muon": False,
            "lr": args.learning_rate,
            "betas": (args.adam_beta1, args.adam_beta2),
            "eps": args.adam_epsilon,
        },
    ]
    for group in groups:
        group["weight_decay"] = args.weight_decay
    return Muon([group for group in groups if group["params"]], use_adjusted_lr=True)


def _sft_config(run: AlignRun, processes: int) -> SFTConfig:
    assert run.batch_size, "the stage's, if not given"
    settings: dict[str, Any] = common_settings(run.save_every, run.wandb) | {
        "output_dir": str(Path(run.out, CHECKPOINTS)),
        "per_device_train_batch_size": run.batch_size // processes,
        "num_train_epochs": 1,  # their order holds all epochs
        "train_sampling_strategy": "sequential",
        "learning_rate": run.learning_rate,
        "lr_scheduler_type": "cosine",
        "warmup_steps": run.warmup,  # below 1: a share of all
        "weight_decay": 0.0,
        "assistant_only_loss": True,
        "max_length": None,
        "seed": run.seed,
        "logging_steps": LOGGED_EVERY,
        "activation_checkpointing": False,
    }
    settings |= run.trl
    set_gradient_accumulation(settings, run.batch_size, f"batch_size={run.batch_size}", processes)
    return SFTConfig(**settings)
