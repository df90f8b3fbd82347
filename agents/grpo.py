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

import itertools
import json
import os
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from datasets import IterableDataset
from PIL import Image
from transformers import PrinterCallback, ProgressCallback, TrainerCallback
from trl import GRPOConfig, GRPOTrainer

from agents.evaluation import Episode, held_out_pairs, mean_metrics, pair_seeds, play
from agents.files import write_folder_whole, write_whole
from agents.mllm import TINY_PATH, MLLMPolicy, pair_messages
from agents.settings import GRPORun
from dig_env import Curriculum, RewardConfig, draw_pair, instruction, parse_boxes, score
from scenes import STAGES, Pair, Renderer, RenderSettings, available_cores, plan_pair


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
        before, after: the held-out episodes of each stage, by the starting and the trained policy.
        seconds: wall time of the training itself.
    """

    run: GRPORun
    checkpoint: Path
    steps: list[Step]
    promotions: list[tuple[int, str, str]]
    before: dict[str, list[Episode]]
    after: dict[str, list[Episode]]
    seconds: float

    def metrics(self, when: str, stage: str) -> dict[str, float]:
        """Held-out means of a stage, ``when`` being "before" or "after"; see ``mean_metrics``."""
        return mean_metrics({"before": self.before, "after": self.after}[when][stage])


class PairStream:
    """The endless training rows: pairs at the stage where the curriculum stands when planned."""

    def __init__(self, renderer: Renderer, curriculum: Curriculum, run: GRPORun) -> None:
        self._renderer, self._curriculum, self._run = renderer, curriculum, run
        self.wait_s = 0.0
        self.count = 0
        self.latest: dict[int, Pair] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # `datasets` names a generator by the hash of its pickle, and Blender does not pickle.
        return str, (f"PairStream of {self._run}",)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows for TRL: a conversational prompt, two images, and the truth for the reward."""
        messages = pair_messages(instruction("norm1000"))
        planned: dict[int, str] = {}

        def plans() -> Iterator[Any]:
            for seed in pair_seeds(self._run.seed, "train"):
                planned[seed] = self._curriculum.stage
                yield plan_pair(seed, STAGES[planned[seed]])

        # A whole step ahead: the renderer works while the model learns.
        pairs = self._renderer.imap(plans(), look_ahead=self._run.pairs_per_step)
        while True:
            begun = time.monotonic()
            pair = next(pairs)
            self.wait_s += time.monotonic() - begun
            self.count += 1
            self._remember(pair)
            yield {
                "prompt": messages,
                "images": [Image.fromarray(pair.image_a), Image.fromarray(pair.image_b)],
                "truth": pair.boxes_unit.tolist(),
                "stage": planned.pop(pair.plan.seed),
                "pair_seed": pair.plan.seed,
            }

    def _remember(self, pair: Pair) -> None:
        """Keep the last few steps' pairs, for pictures."""
        self.latest[pair.plan.seed] = pair
        while len(self.latest) > 4 * self._run.pairs_per_step:
            del self.latest[next(iter(self.latest))]


class GroupReward:
    """TRL's reward function: ``dig_env.score`` of each rollout; tells the curriculum."""

    __name__ = "dig"  # TRL names a reward function's metrics after it

    def __init__(self, curriculum: Curriculum, config: RewardConfig, opening: str = "") -> None:
        self._curriculum, self._config, self._opening = curriculum, config, opening
        self.stage = curriculum.stage
        self.means: dict[str, float] = {}
        self.answers: list[tuple[int, str, float]] = []

    def __call__(
        self,
        completions: list[Any],
        truth: list[list[list[float]]],
        stage: list[str],
        pair_seed: list[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """Rewards of the completions; all columns are parallel lists, groups contiguous."""
        texts = [self._opening + completion[0]["content"] for completion in completions]
        scores = [
            score(text, boxes, self._config) for text, boxes in zip(texts, truth, strict=True)
        ]
        rewards = [result.total for result in scores]
        self.stage = stage[-1]
        groups = [
            (name, [rewards[index] for index in members])
            for name, members in _groups(stage, pair_seed)
        ]
        for name, group in groups:
            if name == self._curriculum.stage:
                self._curriculum.update(float(np.mean(group)))
        self.means = {
            part: float(np.mean([getattr(result, part) for result in scores]))
            for part in ("format", "f1", "iou", "precision", "recall")
        }
        self.means["equal_groups"] = float(np.mean([np.ptp(group) < 1e-9 for _, group in groups]))
        for name, value in self.means.items():
            log_metric(f"dig/{name}", value)
        self.answers = list(zip(pair_seed, texts, rewards, strict=True))
        return rewards


def _groups(stage: list[str], pair_seed: list[int]) -> Iterator[tuple[str, list[int]]]:
    """(stage, indices of the rollouts) of each pair in a batch."""
    for _, members in itertools.groupby(range(len(pair_seed)), key=pair_seed.__getitem__):
        indices = list(members)
        yield stage[indices[0]], indices


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
        before = {stage: play(policy, pairs) for stage, pairs in held_out.items()}
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
        after = {stage: play(policy, pairs) for stage, pairs in held_out.items()}
    checkpoint = out / "checkpoint"
    write_folder_whole(checkpoint, lambda folder: _save(folder, policy, curriculum))
    result = GRPOResult(run, checkpoint, monitor.steps, curriculum.history, before, after, seconds)
    history = json.dumps([asdict(step) for step in monitor.steps])
    write_whole(out / "history.json", history.encode() + b"\n")
    return result


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
