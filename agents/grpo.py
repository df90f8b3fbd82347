"""GRPO on rendered pairs, with TRL's ``GRPOTrainer`` as the engine.

What this adds to TRL, and nothing else:

1. The dataset is an endless stream. Each row is a pair that is rendered, or read, while the model
   learns from the ones before, at the stage that the curriculum chooses.
2. All rollouts of a group answer the same pair (TRL repeats the row); their reward is
   ``dig_env.score``.
3. The curriculum is told of one episode a pair: the mean reward of its rollouts. The default one
   does not count a pair that was planned at an earlier stage than the present one.
4. Groups whose rollouts all earned the same are left out of the loss: they say nothing, and would
   make the step smaller by their share (DAPO, arXiv 2503.14476, samples others in their place).
5. A run that was stopped goes on from its last checkpoint, to the same losses.

Departures from TRL's defaults: no shuffle buffer (it would render a thousand pairs before the first
step and make the curriculum lag by as many); the model is loaded in float32, since AdamW's small
steps are lost in bfloat16 weights; truncated answers stay in the loss with what they earned.
"""

from __future__ import annotations

import contextlib
import ctypes
import itertools
import json
import shutil
from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch
from accelerate import PartialState
from datasets import IterableDataset
from peft import LoraConfig
from transformers import PrinterCallback, ProgressCallback
from trl import GRPOConfig, GRPOTrainer

from agents.episodes import Episode, mean_metrics
from agents.evaluation import pair_seeds, play
from agents.grpo_report import write_run
from agents.mllm import EMBEDDED, MLLMPolicy
from agents.monitor import PROGRESS, GRPOResult, Monitor, Step
from agents.report import now_and_then
from agents.rollouts import GroupReward, PairStream
from agents.settings import GRPORun
from agents.thinking import set_thinking
from agents.tracking import wandb_run
from agents.trainer_settings import common_settings, step_in_parts
from dig_env import Curriculum, StageCurriculum
from dig_env.pairs import FreshPairs, PairSource, StoredPairs
from scenes import STAGES, Pair, PairDataset, RenderSettings, available_cores
from scenes.files import write_folder_whole, write_whole

TRAINER = "trainer"
"""Folder of the trainer's own checkpoints, within ``GRPORun.out``."""

FREE = ("workers", "minutes", "save_every", "wandb", "out")
"""Settings that a run may change when it goes on."""


class SkippingTrainer(GRPOTrainer):
    """TRL's trainer, which leaves groups without any advantage out of the loss."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        batch = super()._generate_and_score_completions(inputs)
        groups = batch["advantages"].abs().view(-1, self.num_generations)
        silent = (groups.amax(dim=1) < 1e-6).repeat_interleave(self.num_generations)
        batch["completion_mask"] = batch["completion_mask"] * ~silent[:, None]
        counted = self.accelerator.gather(batch["completion_mask"].sum()).sum()
        batch["num_items_in_batch"] = counted.clamp(min=1)
        return batch


def train_grpo(
    run: GRPORun,
    on_step: Callable[[Step], None] | None = None,
    curriculum: StageCurriculum | None = None,
) -> GRPOResult | None:
    """Train a policy with GRPO under the curriculum, and write its report now and then.

    Called again with the settings of a run that was stopped, it goes on from its last checkpoint.

    Args:
        run: the settings.
        on_step: called after every optimiser step, for progress.
        curriculum: a fresh one, to use instead of the ``Curriculum`` that ``run`` describes; its
            stages are some of ``run.stages``, all of which are evaluated. To go on with a stopped
            run, give one that was made alike.

    Returns:
        What the run left; None in all but the first of several processes.

    Raises:
        FileNotFoundError: there is no such model, or no such dataset.
        ValueError: ``run.out`` holds an unfinished run with other settings or another kind of
            curriculum, or a stage of ``curriculum`` is not in ``run.stages``.
        scenes.RenderError: Blender is missing or failed.
    """
    curriculum = _checked(curriculum, run)
    _keep_freed_memory()
    Path(run.out).mkdir(parents=True, exist_ok=True)
    process = PartialState()
    checkpoint = unfinished(run)
    policy = _load_policy(run)
    with contextlib.closing(_source(run, process.num_processes)) as source:
        evaluated = process.is_main_process and run.eval_pairs
        pairs = _held_out(run, source, "test") if evaluated else {}
        watched = _held_out(run, source, "validation") if evaluated and run.eval_every else {}
        start = GRPOResult(
            run=run,
            checkpoint=Path(run.out, "checkpoint"),
            before=play_held_out(policy, pairs, run),
            sampled={"before": play_sampled(policy, pairs, run)},
        )

        def so_far(steps: list[Step]) -> GRPOResult:
            return replace(
                start, steps=steps, promotions=curriculum.history, renderer_versions=source.versions
            )

        def report(steps: list[Step]) -> None:
            if process.is_main_process:
                write_run(so_far(steps))

        trainer, monitor = _trainer(run, policy, source, curriculum, watched, report, on_step)
        if checkpoint is not None:
            monitor.load(checkpoint, lambda: trainer._load_rng_state(str(checkpoint)))
        try:
            with wandb_run(run.wandb, run.out):
                trainer.train(resume_from_checkpoint=checkpoint and str(checkpoint))
        except BaseException:  # an interruption, too
            report(monitor.steps)
            raise
        policy.model.eval()
        after = play_held_out(policy, pairs, run)
        sampled = start.sampled | {"after": play_sampled(policy, pairs, run)}
        model, weights = _trained(trainer, run)
        if not process.is_main_process:
            return None
        result = replace(so_far(monitor.steps), after=after, sampled=sampled, finished=True)

    def save(folder: Path) -> None:
        model.save_pretrained(folder, state_dict=weights)
        policy.processor.save_pretrained(folder)
        (folder / "curriculum.json").write_text(json.dumps(curriculum.state_dict()))

    write_folder_whole(result.checkpoint, save)
    history = json.dumps([asdict(step) for step in result.steps])
    write_whole(Path(run.out, "history.json"), history.encode() + b"\n")
    write_run(result)
    # Its checkpoints are of use to an unfinished run only; without save_every there is no folder.
    if Path(run.out, TRAINER).exists():
        shutil.rmtree(Path(run.out, TRAINER))
    return result


def _checked(curriculum: StageCurriculum | None, run: GRPORun) -> StageCurriculum:
    """The curriculum that was given or else that of the run, if the run evaluates its stages."""
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
    watched: dict[str, list[Pair]],
    report: Callable[[list[Step]], None],
    on_step: Callable[[Step], None] | None,
) -> tuple[GRPOTrainer, Monitor]:
    """TRL's trainer on a stream of pairs, and what watches it."""
    process = PartialState()
    stream = PairStream(source, curriculum, run, (process.process_index, process.num_processes))
    reward = GroupReward(curriculum, run.reward, run.rollouts, policy.opening)

    def validate() -> dict[str, float]:
        played = play_held_out(policy, watched, run)
        policy.model.train()
        return {stage: mean_metrics(episodes)["f1"] for stage, episodes in played.items()}

    monitor = Monitor(run, stream, reward, curriculum, validate, now_and_then(report), on_step)
    trainer = SkippingTrainer(
        model=policy.model,
        reward_funcs=reward,
        args=_trl_config(run, process.num_processes),
        train_dataset=IterableDataset.from_generator(stream.rows),
        processing_class=policy.processor,
        callbacks=[monitor],
        peft_config=LoraConfig(**run.lora) if run.lora is not None else None,
    )
    for printer in (PrinterCallback, ProgressCallback):
        trainer.remove_callback(printer)
    return trainer, monitor


def unfinished(run: GRPORun) -> Path | None:
    """The last whole checkpoint of an unfinished run in ``run.out``.

    Raises:
        ValueError: it is of a run with other settings.
    """
    found = Path(run.out, TRAINER).glob(f"checkpoint-*/{PROGRESS}")
    newest = max(found, key=lambda path: int(path.parent.name.rpartition("-")[2]), default=None)
    if newest is None:
        return None
    then, now = json.loads(newest.read_text())["run"], json.loads(json.dumps(asdict(run)))
    different = [name for name in now if then.get(name) != now[name] and name not in FREE]
    if different:
        name = different[0]
        raise ValueError(
            f"{run.out} holds an unfinished run with {name}={then.get(name)!r}, not {now[name]!r}: "
            f"give its settings to go on with it, another --out, or delete {newest.parent.parent}"
        )
    return newest.parent


def play_held_out(
    policy: MLLMPolicy, held_out: dict[str, list[Pair]], run: GRPORun
) -> dict[str, list[Episode]]:
    """The episodes of each stage, scored by the very reward that the run trains on."""
    return {stage: play(policy, pairs, config=run.reward) for stage, pairs in held_out.items()}


def play_sampled(
    policy: MLLMPolicy, held_out: dict[str, list[Pair]], run: GRPORun
) -> dict[str, list[Episode]]:
    """The episodes of each stage at the rollouts' temperature, with random numbers of their own."""
    sampling = MLLMPolicy(
        policy.model,
        policy.processor,
        max_new_tokens=policy.max_new_tokens,
        temperature=run.temperature,
        batch_size=policy.batch_size,
    )
    with torch.random.fork_rng():
        torch.manual_seed(run.seed)
        return play_held_out(sampling, held_out, run)


def _load_policy(run: GRPORun) -> MLLMPolicy:
    policy = MLLMPolicy.from_pretrained(
        EMBEDDED.get(run.model, run.model),
        # With nothing to evaluate, the trainer takes the model to its device, or shards it.
        device="auto" if run.eval_pairs else "cpu",
        # AdamW's small steps are lost to rounding in bfloat16 weights; autocast with trl={"bf16":
        # True} is what saves time. Adapters are float32 in any case.
        dtype="float32" if run.lora is None else "auto",
        max_new_tokens=run.max_completion_length,
        batch_size=32,
    )
    if run.thinking is not None:
        set_thinking(policy.processor, run.thinking)
    return policy


def _source(run: GRPORun, processes: int) -> PairSource:
    """Where training pairs come from."""
    if run.dataset is not None:
        return StoredPairs(run.dataset, "train")
    workers = run.workers or max(1, available_cores() // processes)
    return FreshPairs(RenderSettings(run.width, run.height, run.quality), "train", workers)


def _held_out(run: GRPORun, source: PairSource, split: str) -> dict[str, list[Pair]]:
    """``run.eval_pairs`` pairs of each stage: the dataset's first ones, or fresh ones."""
    pairs = {}
    for stage in run.stages:
        seeds: Iterable[int] = pair_seeds(0, split)
        if run.dataset is not None:
            seeds = PairDataset(run.dataset).pair_seeds(stage, split)
        wanted = itertools.islice(seeds, run.eval_pairs)
        asked = [source.submit(seed, STAGES[stage]) for seed in wanted]
        pairs[stage] = [future.result() for future in asked]
    return pairs


def _keep_freed_memory() -> None:
    """Let glibc keep what one step frees for the next (a fifth of a step's time on two cores)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        m_trim_threshold, m_mmap_threshold = -1, -3  # as in malloc.h
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def _trained(trainer: GRPOTrainer, run: GRPORun) -> tuple[Any, dict[str, torch.Tensor] | None]:
    """The model to save, and its weights where they lie sharded; all processes must call it."""
    model = trainer.accelerator.unwrap_model(trainer.model)
    if run.lora is not None:
        return model.merge_and_unload(), None
    if not trainer.is_fsdp_enabled:
        return model, None
    weights = trainer.accelerator.get_state_dict(trainer.model_wrapped)
    # Gathered one by one, tied weights no longer share memory and would be stored twice.
    return model, {k: v for k, v in weights.items() if k not in model.all_tied_weights_keys}


def _trl_config(run: GRPORun, processes: int) -> GRPOConfig:
    settings: dict[str, Any] = common_settings(run.save_every, run.wandb) | {
        "output_dir": str(Path(run.out, TRAINER)),
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
        # The stream goes on by itself: see Monitor.load.
        "ignore_data_skip": True,
        "gradient_checkpointing": False,
    }
    settings |= run.trl
    name = f"pairs_per_step={run.pairs_per_step} x rollouts={run.rollouts}"
    step_in_parts(settings, run.pairs_per_step * run.rollouts, name, processes)
    return GRPOConfig(**settings)
