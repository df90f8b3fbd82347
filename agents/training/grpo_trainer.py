"""TRL's GRPO trainer as this package uses it: its settings, and what is changed in its loss."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from dig_env.agents.training.rollouts import GroupReward
from dig_env.agents.training.run_folder import CHECKPOINTS
from dig_env.agents.training.settings import GRPORun
from dig_env.agents.training.trainer_settings import common_settings, set_gradient_accumulation
from dig_env.scenes.extras import extra

with extra("train"):
    import torch
    from accelerate.utils import is_peft_model
    from torch import nn
    from trl import GRPOConfig, GRPOTrainer

OWNED = {
    "output_dir": "out",
    "num_generations": "rollouts",
    "max_completion_length": "max_completion_length",
    "max_steps": "steps",
    "num_train_epochs": "steps",
    "learning_rate": "learning_rate",
    "beta": "beta",
    "temperature": "temperature",
    "seed": "seed",
    "save_steps": "save_every",
    "save_strategy": "save_every",
    "eval_strategy": "eval_every",
    "eval_steps": "eval_every",
    "eval_on_start": "eval_pairs",
    "resume_from_checkpoint": "out",
    "model_init_kwargs": "model",
    "trust_remote_code": "model",
}
"""Fields of ``GRPOConfig`` that a field of ``GRPORun`` decides."""

FIXED = {
    "shuffle_dataset": "the curriculum decides the order of the pairs",
    "train_sampling_strategy": "the curriculum decides the order of the pairs",
    "dataloader_num_workers": "pairs are rendered and read ahead by separate processes",
    "dataloader_prefetch_factor": "pairs are rendered and read ahead by separate processes",
    "dataloader_persistent_workers": "pairs are rendered and read ahead by separate processes",
    "accelerator_config": "each process takes its own share of the rows",
    "ignore_data_skip": "a resumed run reads the pairs that it has not learned from",
    "save_only_model": "a run could not be resumed without its optimizer",
    "load_best_model_at_end": "the trainer has no evaluation of its own to choose by",
    "logging_steps": "each step is recorded",
    "logging_strategy": "each step is recorded",
    "remove_unused_columns": "the reward needs the columns with the truth",
    "reward_weights": "there is one reward; GRPORun.reward weighs its parts",
    "multi_objective_aggregation": "there is one reward; GRPORun.reward weighs its parts",
}
"""Fields of ``GRPOConfig`` that must stay as they are, and why."""

TOKEN_MEANS = ("dapo", "bnpo", "cispo", "vespo")
"""Losses that are a mean over tokens; the others are a mean over rollouts."""


class FilteringGRPOTrainer(GRPOTrainer):
    """TRL's trainer, without zero-variance groups in the policy term of the loss.

    A group whose rollouts all earned the same has no advantage; that of one whose rewards hardly
    differ is noise (see ``min_group_std``). TRL still counts such a group where the loss is
    averaged, which shrinks the gradients of the other groups by its share. Here its advantages are
    exactly 0, and those of the other groups are divided by their share of the step: the policy term
    is the mean over them alone, whatever the loss. The KL and entropy terms keep all rollouts.

    ``reward_funcs`` is one ``GroupReward``, which decides which groups these are.
    """

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        reward: GroupReward = self.reward_funcs[0]
        rows = torch.arange(len(batch["advantages"])) + self.accelerator.process_index * len(inputs)
        # A group may be on two processes, so its rows are found by their place in the whole step.
        kept = ~torch.tensor(reward.zero_variance)[rows // self.num_generations]
        kept = kept.to(batch["advantages"].device)
        weights = torch.ones_like(batch["advantages"])
        if self.loss_type in TOKEN_MEANS:
            mask = batch["completion_mask"] * batch.get("tool_mask", 1)
            weights = mask.sum(dim=1).to(weights.dtype)
        sums = torch.stack([(weights * kept).sum(), weights.sum()])
        kept_sum, whole_sum = self.accelerator.gather(sums).view(-1, 2).sum(dim=0)
        batch["advantages"] = batch["advantages"] * kept * (whole_sum / kept_sum.clamp(min=1))
        return batch

    def _get_per_token_logps_and_entropies(
        self, model: nn.Module, input_ids: torch.Tensor, mask: torch.Tensor, keep: int, **rest: Any
    ) -> Any:
        """As TRL's, which on a CPU applies the head to the prompts' tokens too, for nothing."""
        on_cpu = input_ids.device.type == "cpu"
        causal = self.accelerator.unwrap_model(model)
        causal = causal.get_base_model() if is_peft_model(causal) else causal
        with _cut(model, causal.base_model, keep) if on_cpu else contextlib.nullcontext():
            return super()._get_per_token_logps_and_entropies(model, input_ids, mask, keep, **rest)


@contextlib.contextmanager
def _cut(model: nn.Module, decoder: nn.Module, keep: int) -> Iterator[None]:
    """Of labels and of what the decoder says, the head sees the last ``keep`` and one before."""

    def cut_labels(_: nn.Module, args: Any, kwargs: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
        return args, kwargs | {"labels": kwargs["labels"][:, -keep - 1 :]}

    def cut_hidden(_: nn.Module, __: Any, output: Any) -> Any:
        output.last_hidden_state = output.last_hidden_state[:, -keep - 1 :]
        return output

    with (
        model.register_forward_pre_hook(cut_labels, with_kwargs=True),
        decoder.register_forward_hook(cut_hidden),
    ):
        yield


def trl_config(run: GRPORun, processes: int) -> GRPOConfig:
    """TRL's settings of a run.

    Raises:
        ValueError: ``run.trl`` sets a field that it may not, or the step's rollouts cannot be
            divided as it says.
    """
    _check_fields(run.trl)
    settings: dict[str, Any] = common_settings(run.save_every, run.wandb) | {
        "output_dir": str(Path(run.out, CHECKPOINTS)),
        "per_device_train_batch_size": run.pairs_per_step * run.rollouts // processes,
        "num_generations": run.rollouts,
        "max_completion_length": run.max_completion_length,
        "max_steps": run.steps,
        "learning_rate": run.learning_rate,
        "lr_scheduler_type": "linear",
        "beta": run.beta,
        "temperature": run.temperature,
        "seed": run.seed,
        "shuffle_dataset": False,
        "dataloader_num_workers": 0,
        "logging_steps": 1,
        # The stream resumes by itself: see Monitor.load.
        "ignore_data_skip": True,
        "gradient_checkpointing": False,
    }
    reporting = settings["report_to"]
    settings |= run.trl
    if isinstance(settings["report_to"], list):
        settings["report_to"] = sorted({*settings["report_to"], *reporting})
    name = f"pairs_per_step={run.pairs_per_step} x rollouts={run.rollouts}"
    set_gradient_accumulation(settings, run.pairs_per_step * run.rollouts, name, processes)
    config = GRPOConfig(**settings)
    _check_generations(config, run)
    return config


def steps_per_batch(config: GRPOConfig) -> int:
    """Optimizer steps that learn from one batch of rollouts."""
    return config.num_iterations * config.steps_per_generation // config.gradient_accumulation_steps


def pairs_per_batch(config: GRPOConfig) -> int:
    """Pairs in one batch of rollouts, over all processes."""
    return config.generation_batch_size // config.num_generations


def _check_fields(given: dict[str, Any]) -> None:
    for name in given:
        if name in OWNED:
            raise ValueError(
                f"trl={{{name!r}: ...}}: set {OWNED[name]!r} of the run instead, which decides it"
            )
        if name in FIXED:
            raise ValueError(f"trl={{{name!r}: ...}} cannot be set, since {FIXED[name]}")
        if name not in GRPOConfig.__dataclass_fields__:
            raise ValueError(f"trl={{{name!r}: ...}}: trl.GRPOConfig has no such setting")


def _check_generations(config: GRPOConfig, run: GRPORun) -> None:
    """A batch of rollouts takes whole steps, and no checkpoint falls between them."""
    if config.steps_per_generation % config.gradient_accumulation_steps:
        raise ValueError(
            f"trl={{'steps_per_generation': {config.steps_per_generation}}} is not a multiple of "
            f"gradient_accumulation_steps={config.gradient_accumulation_steps}: a batch of "
            "rollouts must be enough for whole optimizer steps"
        )
    steps = steps_per_batch(config)
    if run.save_every % steps:
        raise ValueError(
            f"save_every={run.save_every} is not a multiple of the {steps} optimizer steps that "
            "learn from one batch of rollouts (steps_per_generation x num_iterations / "
            "gradient_accumulation_steps): a resumed run must begin with new rollouts"
        )
