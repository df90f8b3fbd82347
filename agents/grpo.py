"""GRPO on freshly rendered pairs, with TRL's ``GRPOTrainer`` as the engine.

What this adds to TRL, and nothing else:

1. The dataset is an endless stream. Each row is a pair that a Blender process renders while the
   model learns from the ones before, at the stage where the curriculum stands.
2. All rollouts of a group answer the same pair (TRL repeats the row); their reward is
   ``dig_env.score``.
3. The curriculum counts one episode a pair: the mean reward of its rollouts. A pair that was
   planned at an earlier stage than the present one is learned from but not counted.

Departures from TRL's defaults: no shuffle buffer (it would render a thousand pairs before the first
step and make the curriculum lag by as many); the model is loaded in float32, since AdamW's small
steps are lost in bfloat16 weights; truncated answers stay in the loss with what they earned.
"""

from __future__ import annotations

import ctypes
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from datasets import IterableDataset
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from agents.evaluation import Episode, held_out_pairs, mean_metrics, play
from agents.mllm import TINY_PATH, MLLMPolicy
from agents.rollouts import GroupReward, PairStream
from agents.settings import GRPORun
from dig_env import Curriculum, draw_pair, parse_boxes
from scenes import Pair, Renderer, RenderSettings, available_cores
from scenes.files import write_folder_whole, write_whole


@dataclass(frozen=True)
class Step:
    """What one optimiser step saw; rewards and their parts are means over its rollouts.

    Attributes:
        step: counted from 1.
        stage: at which its (last) pair was planned.
        reward, format, f1, iou: see ``dig_env.score``.
        equal_groups: share of the groups whose rollouts all earned the same: nothing to learn.
        completion_length: mean tokens of an answer.
        window_mean: mean of the curriculum's window; None when it is empty.
        pairs: rendered pairs that the learner took so far.
        pairs_per_s: in this step.
        pair_wait_s: seconds of this step in which the learner waited for a pair.
        seconds: wall time of this step.
        elapsed_s: wall time since training began.
    """

    step: int
    stage: str
    reward: float
    format: float
    f1: float
    iou: float
    equal_groups: float
    completion_length: float
    window_mean: float | None
    pairs: int
    pairs_per_s: float
    pair_wait_s: float
    seconds: float
    elapsed_s: float


@dataclass(frozen=True)
class GRPOResult:
    """What a run leaves behind.

    Attributes:
        run: its settings.
        checkpoint: folder with model, processor and curriculum.json.
        steps: one entry an optimiser step.
        promotions: (episodes counted, stage left, stage entered).
        before, after: the held-out episodes of each stage, by the starting and the trained policy,
            answered greedily.
        sampled: the same pairs answered at the rollouts' temperature, by "before" and "after" and
            stage: the stochastic policy whose expected reward GRPO raises.
        seconds: wall time of the training itself.
        renderer_versions: ``Renderer.versions`` of the Blender that rendered its pairs.
    """

    run: GRPORun
    checkpoint: Path
    steps: list[Step]
    promotions: list[tuple[int, str, str]]
    before: dict[str, list[Episode]]
    after: dict[str, list[Episode]]
    sampled: dict[str, dict[str, list[Episode]]]
    seconds: float
    renderer_versions: dict[str, str]

    def metrics(self, when: str, stage: str) -> dict[str, float]:
        """Held-out means of a stage, ``when`` being "before" or "after".

        Those of ``mean_metrics`` for greedy answers, and "sampled_reward" and "sampled_f1".
        """
        sampled = mean_metrics(self.sampled[when][stage])
        return mean_metrics({"before": self.before, "after": self.after}[when][stage]) | {
            "sampled_reward": sampled["reward"],
            "sampled_f1": sampled["f1"],
        }


class _Monitor(TrainerCallback):
    """Turns TRL's log lines into ``Step`` records, and stops the run when its time is over."""

    def __init__(
        self,
        run: GRPORun,
        stream: PairStream,
        reward: GroupReward,
        curriculum: Curriculum,
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self._run, self._stream, self._reward = run, stream, reward
        self._curriculum, self._on_step = curriculum, on_step
        self.steps: list[Step] = []
        self.begun = self._last = time.monotonic()
        self._pairs_before, self._wait_before = 0, 0.0

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        if not logs or "reward" not in logs:
            return
        now = time.monotonic()
        seconds = now - self._last
        pairs = self._stream.count - self._pairs_before
        step = Step(
            step=state.global_step,
            stage=self._reward.stage,
            reward=float(logs["reward"]),
            format=self._reward.means["format"],
            f1=self._reward.means["f1"],
            iou=self._reward.means["iou"],
            equal_groups=self._reward.means["equal_groups"],
            completion_length=float(logs["completions/mean_length"]),
            window_mean=self._curriculum.mean,
            pairs=self._stream.count,
            pairs_per_s=pairs / seconds,
            pair_wait_s=self._stream.wait_s - self._wait_before,
            seconds=seconds,
            elapsed_s=now - self.begun,
        )
        self._last = now
        self._pairs_before, self._wait_before = self._stream.count, self._stream.wait_s
        self.steps.append(step)
        self._log_wandb(step)
        if self._on_step is not None:
            self._on_step(step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        minutes = (time.monotonic() - self.begun) / 60
        if self._run.minutes is not None and minutes >= self._run.minutes:
            control.should_training_stop = True

    def _log_wandb(self, step: Step) -> None:
        if self._run.wandb == "disabled":
            return
        import wandb  # here: it takes a second to import, and most tests do without it

        entry: dict[str, Any] = {
            "dig/stage": self._run.stages.index(step.stage),
            "dig/pairs_per_s": step.pairs_per_s,
            "dig/pair_wait_s": step.pair_wait_s,
        }
        if step.step % 20 == 1:
            entry["dig/pairs"] = [
                wandb.Image(picture, caption=caption)
                for picture, caption in self._pictures(count=4)
            ]
        wandb.log(entry, commit=False)

    def _pictures(self, count: int) -> Iterator[tuple[np.ndarray, str]]:
        """Drawings of the first rollout of the step's first pairs."""
        first_rollouts = self._reward.answers[:: self._run.rollouts]
        for pair_seed, text, reward in first_rollouts[:count]:
            pair = self._stream.latest[pair_seed]
            boxes = parse_boxes(text).boxes
            yield (
                draw_pair(pair.image_a, pair.image_b, pair.boxes_unit, boxes),
                f"seed {pair_seed}, reward {reward:.2f}: {text}",
            )


def train_grpo(run: GRPORun, on_step: Callable[[Step], None] | None = None) -> GRPOResult:
    """Train a policy with GRPO on fresh pairs under the curriculum.

    Args:
        run: the settings.
        on_step: called after every optimiser step, for progress.

    Raises:
        FileNotFoundError: there is no such model.
        scenes.RenderError: Blender is missing or failed.
    """
    _keep_freed_memory()
    out = Path(run.out)
    out.mkdir(parents=True, exist_ok=True)
    path = str(TINY_PATH) if run.model == "tiny" else run.model
    policy = MLLMPolicy.from_pretrained(
        path,
        # AdamW's small steps are lost to rounding in bfloat16 weights; autocast with trl={"bf16":
        # True} is what saves time.
        dtype="float32",
        max_new_tokens=run.max_completion_length,
        batch_size=32,
    )
    curriculum = Curriculum(run.stages, run.promote_at, run.demote_below, run.window)
    settings = RenderSettings(run.width, run.height, run.quality)
    with Renderer(settings, run.workers or available_cores()) as renderer:
        held_out = {
            stage: list(held_out_pairs(renderer, stage, run.eval_pairs)) for stage in run.stages
        }
        before = play_held_out(policy, held_out, run)
        sampled = {"before": play_sampled(policy, held_out, run)}
        stream = PairStream(renderer, curriculum, run)
        reward = GroupReward(curriculum, run.reward, policy.opening)
        monitor = _Monitor(run, stream, reward, curriculum, on_step)
        trainer = GRPOTrainer(
            model=policy.model,
            reward_funcs=reward,
            args=_trl_config(run, out),
            train_dataset=IterableDataset.from_generator(stream.rows),
            processing_class=policy.processor,
            callbacks=[monitor],
        )
        for printer in (PrinterCallback, ProgressCallback):
            trainer.remove_callback(printer)
        monitor.begun = time.monotonic()
        trainer.train()
        seconds = time.monotonic() - monitor.begun
        policy.model.eval()
        after = play_held_out(policy, held_out, run)
        sampled["after"] = play_sampled(policy, held_out, run)
        renderer_versions = renderer.versions
    checkpoint = out / "checkpoint"
    write_folder_whole(checkpoint, lambda folder: _save(folder, policy, curriculum))
    result = GRPOResult(
        run=run,
        checkpoint=checkpoint,
        steps=monitor.steps,
        promotions=curriculum.history,
        before=before,
        after=after,
        sampled=sampled,
        seconds=seconds,
        renderer_versions=renderer_versions,
    )
    history = json.dumps([asdict(step) for step in monitor.steps])
    write_whole(out / "history.json", history.encode() + b"\n")
    return result


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


def _keep_freed_memory() -> None:
    """Let glibc keep what one step frees for the next (a fifth of a step's time on two cores)."""
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt"):  # glibc
        m_trim_threshold, m_mmap_threshold = -1, -3  # as in malloc.h
        libc.mallopt(m_mmap_threshold, 2**30)
        libc.mallopt(m_trim_threshold, 2**31 - 1)


def _save(folder: Path, policy: MLLMPolicy, curriculum: Curriculum) -> None:
    policy.model.save_pretrained(folder)
    policy.processor.save_pretrained(folder)
    (folder / "curriculum.json").write_text(json.dumps(curriculum.state_dict()))


def _trl_config(run: GRPORun, out: Path) -> GRPOConfig:
    os.environ["WANDB_MODE"] = run.wandb
    os.environ.setdefault("WANDB_DIR", str(out))
    os.environ.setdefault("WANDB_PROJECT", "dig-env")
    settings: dict[str, Any] = {
        "output_dir": str(out / "trainer"),
        "per_device_train_batch_size": run.pairs_per_step * run.rollouts,
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
        "dataloader_pin_memory": False,
        "logging_steps": 1,
        "save_strategy": "no",
        "report_to": [] if run.wandb == "disabled" else ["wandb"],
        "bf16": False,
        "gradient_checkpointing": False,
        "remove_unused_columns": False,
    }
    return GRPOConfig(**(settings | run.trl))
