"""GRPO on rendered pairs and on questions about them, with TRL's ``GRPOTrainer`` as the engine.

What this adds to TRL, and nothing else:

1. The dataset is an endless stream. Each row is a pair that is rendered, or read, while the model
   learns from the ones before, at the stage that the curriculum chooses: the pair itself, or an
   alignment task's question about one of its images.
2. All rollouts of a group answer the same pair or question (TRL repeats the row); their reward is
   what they earn in its environment: ``dig_env.score``, or ``dig_env.align.grade``.
3. The curriculum gets one episode a pair: the mean reward of its rollouts. The default one does not
   count a pair that was planned at an earlier stage than the present one.
4. Zero-variance groups, whose rollouts all earned the same, are left out of the policy term of the
   loss, so that they do not shrink the step by their share (DAPO, arXiv 2503.14476, samples others
   in their place).
5. A run that was stopped resumes from its last checkpoint, to the same losses.

Departures from TRL's defaults: no shuffle buffer (it would render a thousand pairs before the first
step and make the curriculum lag by as many); the model is loaded in float32, since AdamW's small
steps are lost in bfloat16 weights; truncated answers stay in the loss with what they earned.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

from dig_env import Curriculum, RandomCurriculum, StageCurriculum
from dig_env.agents.policies.image_tokens import without_images
from dig_env.agents.policies.mllm import EMBEDDED, MLLMPolicy
from dig_env.agents.policies.thinking import set_thinking
from dig_env.agents.reporting.report import throttled
from dig_env.agents.training.grpo_report import RESULT, write_run
from dig_env.agents.training.grpo_trainer import (
    FilteringGRPOTrainer,
    pairs_per_batch,
    trl_config,
)
from dig_env.agents.training.held_out import Results
from dig_env.agents.training.monitor import PROGRESS, GRPOResult, Monitor, Step
from dig_env.agents.training.rollouts import GroupReward, PairStream
from dig_env.agents.training.run_folder import (
    CHECKPOINTS,
    check_settings,
    latest_checkpoint,
    write_settings,
)
from dig_env.agents.training.settings import GRPORun
from dig_env.agents.training.tracking import wandb_run
from dig_env.agents.training.trainer_settings import this_process
from dig_env.envs.pairs import FreshPairs, PairSource, StoredPairs
from dig_env.scenes import RenderSettings
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_folder_whole, write_whole
from dig_env.scenes.machine import default_workers

with extra("train"):
    import torch
    from datasets import IterableDataset
    from peft import LoraConfig, get_peft_model
    from transformers import PrinterCallback, ProgressCallback
    from trl import GRPOTrainer

HISTORY = "history.json"


def train_grpo(
    run: GRPORun,
    on_step: Callable[[Step], None] | None = None,
    curriculum: StageCurriculum | None = None,
) -> GRPOResult | None:
    """Train a policy with GRPO under the curriculum, and write its report as it learns.

    Called again with the settings of a run that was stopped, it resumes from its last checkpoint;
    with those of a run that has finished, it trains nothing and returns what was left.

    Args:
        run: the settings.
        on_step: called after every optimizer step, for progress.
        curriculum: a fresh one, to use instead of that which ``run`` describes; its
            stages are some of ``run.stages``, all of which are evaluated. To resume a stopped run,
            give one that was made alike.

    Returns:
        What the run left; None in all but the first of several processes.

    Raises:
        FileNotFoundError: there is no such model, or no such dataset.
        ValueError: ``run.out`` holds a run with other settings or another kind of curriculum, a
            stage of ``curriculum`` is not in ``run.stages``, ``run.trl`` holds what cannot be set,
            or the model is to be sharded and evaluated (``eval_pairs``) in one run.
        dig_env.scenes.RenderError: Blender is missing or failed.
    """
    curriculum = _checked(curriculum, run)
    check_settings(run)
    process = this_process()
    finished, checkpoint = _finished(run, curriculum), latest_checkpoint(run.out, PROGRESS)
    process.wait_for_everyone()  # all have looked before one writes
    if finished is not None:
        return finished if process.is_main_process else None
    policy = _load_policy(run)
    with contextlib.closing(_source(run)) as source:
        results = Results(run, policy, source, curriculum)
        trainer, monitor = _trainer(run, policy, source, curriculum, results, on_step)
        if checkpoint is not None:
            monitor.load(checkpoint, lambda: trainer._load_rng_state(str(checkpoint)))
        if process.is_main_process:
            write_settings(run)
        results.play_before()
        try:
            with wandb_run(run.wandb, run.out):
                trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        except BaseException:  # an interruption, too
            results.write_report(monitor.steps)
            raise
        result = results.play_after(monitor.steps)
        model, weights = _trained(trainer, run)
    if not process.is_main_process:
        return None
    _save(result, model, weights, policy.processor, curriculum)
    return result


def _save(
    result: GRPOResult,
    model: Any,
    weights: dict[str, torch.Tensor] | None,
    processor: Any,
    curriculum: StageCurriculum,
) -> None:
    """Write the model, the history and the report; then the trainer's checkpoints go."""

    def fill(folder: Path) -> None:
        model.save_pretrained(folder, state_dict=weights)
        processor.save_pretrained(folder)
        (folder / "curriculum.json").write_text(json.dumps(curriculum.state_dict()))

    write_folder_whole(result.checkpoint, fill)
    steps = json.dumps([asdict(step) for step in result.steps])
    write_whole(Path(result.run.out, HISTORY), steps.encode() + b"\n")
    write_run(result)
    # Without save_every there is no such folder.
    shutil.rmtree(Path(result.run.out, CHECKPOINTS), ignore_errors=True)


def _checked(curriculum: StageCurriculum | None, run: GRPORun) -> StageCurriculum:
    """The curriculum that was given or else that of the run, if the run evaluates its stages."""
    if curriculum is None and run.curriculum == "random":
        return RandomCurriculum(run.stages, run.seed, run.window)
    if curriculum is None:
        return Curriculum(run.stages, run.promote_at, run.demote_below, run.window)
    foreign = [stage for stage in curriculum.stages if stage not in run.stages]
    if foreign:
        raise ValueError(
            f"the curriculum may choose stage {foreign[0]!r}, which is not in the run's stages, "
            f"{', '.join(run.stages)}: add it to GRPORun(stages=...) or leave it out"
        )
    return curriculum


def _trainer(
    run: GRPORun,
    policy: MLLMPolicy,
    source: PairSource,
    curriculum: StageCurriculum,
    results: Results,
    on_step: Callable[[Step], None] | None,
) -> tuple[GRPOTrainer, Monitor]:
    """TRL's trainer on a stream of pairs, and what watches it."""
    process = this_process()
    config = trl_config(run, process.num_processes)
    forbidden = without_images(policy.model.config, policy.processor.tokenizer, config.use_vllm)
    config.generation_kwargs = (config.generation_kwargs or {}) | forbidden
    place = (process.process_index, process.num_processes)
    stream = PairStream(source, curriculum, run, place, pairs_per_batch(config))
    reward = GroupReward(curriculum, run.rollouts, policy.opening, run.min_group_std)
    trainer = FilteringGRPOTrainer(
        model=policy.model,
        reward_funcs=reward,
        args=config,
        train_dataset=IterableDataset.from_generator(stream.rows),
        processing_class=policy.processor,
        peft_config=LoraConfig(**run.lora) if run.lora is not None else None,
    )
    if run.eval_pairs and (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        raise ValueError(
            f"eval_pairs={run.eval_pairs}: a model whose weights are sharded over processes (FSDP, "
            "DeepSpeed) is not evaluated while it is trained: set eval_pairs=0 and evaluate the "
            "checkpoint with dig-env eval"
        )
    report = throttled(results.write_report)
    monitor = Monitor(run, config, stream, reward, curriculum, results.validate, report, on_step)
    trainer.callback_handler.callbacks.insert(0, monitor)  # before those that report a log line
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    return trainer, monitor


def _finished(run: GRPORun, curriculum: StageCurriculum) -> GRPOResult | None:
    """What a finished run in ``run.out`` left; ``curriculum`` gets its last state."""
    out = Path(run.out)
    if not (out / RESULT).is_file():
        return None
    summary = json.loads((out / RESULT).read_text())
    checkpoint = out / "checkpoint"
    curriculum.load_state_dict(json.loads((checkpoint / "curriculum.json").read_text()))
    steps = json.loads((out / HISTORY).read_text())
    return GRPOResult(
        run,
        checkpoint,
        before={},
        sampled={},
        steps=[Step(**step) for step in steps],
        promotions=curriculum.history,
        renderer_versions=summary["versions"],
        recorded=summary["held_out"],
        finished=True,
    )


def _load_policy(run: GRPORun) -> MLLMPolicy:
    policy = MLLMPolicy.from_pretrained(
        EMBEDDED.get(run.model, run.model),
        device="cpu",  # the trainer takes it to this process's device, or shards it
        # AdamW's small steps are lost to rounding in bfloat16 weights; autocast with trl={"bf16":
        # True} is what saves time. Adapters are float32 in any case.
        dtype="float32" if run.lora is None else "auto",
        max_new_tokens=run.max_completion_length,
        batch_size=16,
    )
    if run.thinking is not None:
        set_thinking(policy.processor, run.thinking)
    return policy


def _source(run: GRPORun) -> PairSource:
    """Where training pairs come from."""
    if run.dataset is not None:
        return StoredPairs(run.dataset, "train")
    here = int(os.environ.get("LOCAL_WORLD_SIZE", "1"))  # processes that share this machine's cores
    workers = run.workers or max(1, default_workers(run.width, run.height) // here)
    return FreshPairs(RenderSettings(run.width, run.height, run.quality), "train", workers)


def _trained(trainer: GRPOTrainer, run: GRPORun) -> tuple[Any, dict[str, torch.Tensor] | None]:
    """The model to save, and its weights where they are sharded; all processes must call it."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    weights = None
    if trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled:
        weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    if run.lora is None:
        if weights is not None:
            # Gathered one by one, tied weights no longer share memory and would be stored twice.
            tied = model.all_tied_weights_keys
            weights = {name: value for name, value in weights.items() if name not in tied}
        return model, weights
    if weights is not None and trainer.accelerator.is_main_process:
        # Shards cannot be merged in place: a whole model takes the adapters.
        model = get_peft_model(_load_policy(run).model, LoraConfig(**run.lora))
        model.load_state_dict(weights)
    return (model.merge_and_unload() if trainer.accelerator.is_main_process else model), None
