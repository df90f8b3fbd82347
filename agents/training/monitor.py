"""Monitoring of a GRPO run: its steps, checkpoints, evaluations and result."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from dig_env import StageCurriculum, parse_boxes
from dig_env.agents.evaluation.episodes import Episode, mean_metrics
from dig_env.agents.training.grpo_trainer import pairs_per_batch, steps_per_batch
from dig_env.agents.training.rollouts import GroupReward, PairStream
from dig_env.agents.training.settings import GRPORun
from dig_env.agents.training.trainer_settings import this_process
from dig_env.drawing import draw_answer
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole

with extra("train"):
    from accelerate.utils import broadcast_object_list
    from transformers import TrainerCallback
    from trl import GRPOConfig

PROGRESS = "progress.json"
PICTURES_EVERY = 20
"""Steps between pictures in wandb."""


@dataclass(frozen=True)
class Step:
    """What one optimizer step saw; rewards and their parts are means over its batch of rollouts.

    Attributes:
        step: counted from 1.
        stage: at which its (last) pair was planned.
        reward, format, f1, iou: see ``dig_env.score``.
        zero_variance_groups: share of the groups whose rollouts all earned the same, or nearly
            so by the run's ``min_group_std``.
        completion_length: mean tokens of an answer.
        window_mean: mean of the curriculum's window; None when it is empty.
        pairs: pairs that the learner took so far.
        pairs_per_s: learned from in this step.
        pair_wait_s: seconds of this step in which the learner waited for a pair.
        seconds: wall time of this step.
        elapsed_s: wall time of training so far, interruptions left out.
        held_out: mean F1 by stage on validation pairs after this step; None where it is not due.
    """

    step: int
    stage: str
    reward: float
    format: float
    f1: float
    iou: float
    zero_variance_groups: float
    completion_length: float
    window_mean: float | None
    pairs: int
    pairs_per_s: float
    pair_wait_s: float
    seconds: float
    elapsed_s: float
    held_out: dict[str, float] | None = None

    def __str__(self) -> str:
        """In a line, for logs and progress bars."""
        return (
            f"{self.stage:6} reward {self.reward:.2f}  F1 {self.f1:.2f}  IoU {self.iou:.2f}  "
            f"{self.pairs_per_s:.1f} pairs/s"
        )


@dataclass(frozen=True)
class GRPOResult:
    """What a run leaves behind, or has so far.

    Attributes:
        run: its settings.
        checkpoint: folder with model, processor and curriculum.json.
        before, after: the held-out episodes of each stage, by the starting and the trained policy,
            answered greedily. Empty in a run without ``eval_pairs``, and where it had finished
            before ``train_grpo`` was called.
        sampled: the same pairs answered at the rollouts' temperature, by "before" and "after" and
            stage: the stochastic policy whose expected reward GRPO raises.
        recorded: of a run that had finished before: its held-out means by stage and "before" or
            "after".
        steps: one entry an optimiser step.
        promotions: (episodes counted, stage left, stage entered).
        renderer_versions: ``Renderer.versions`` of the Blender that rendered its pairs.
        finished: False while the run is under way: there is no "after" yet.
    """

    run: GRPORun
    checkpoint: Path
    before: dict[str, list[Episode]]
    sampled: dict[str, dict[str, list[Episode]]]
    after: dict[str, list[Episode]] = field(default_factory=dict)
    steps: list[Step] = field(default_factory=list)
    promotions: list[tuple[int, str, str]] = field(default_factory=list)
    renderer_versions: dict[str, str] = field(default_factory=dict)
    recorded: dict[str, dict[str, dict[str, float]]] = field(default_factory=dict)
    finished: bool = False

    @property
    def seconds(self) -> float:
        """Wall time of the training itself."""
        return self.steps[-1].elapsed_s if self.steps else 0.0

    @property
    def stages(self) -> list[str]:
        """The stages with held-out pairs."""
        return list(self.recorded or self.before)

    @property
    def evaluated_after(self) -> bool:
        """Whether the trained policy answered the held-out pairs."""
        return bool(self.recorded or self.after)

    def metrics(self, when: str, stage: str) -> dict[str, float]:
        """Held-out means of a stage, ``when`` being "before" or "after".

        Those of ``mean_metrics`` for greedy answers, and "sampled_reward" and "sampled_f1".
        """
        if self.recorded:
            return self.recorded[stage][when]
        sampled = mean_metrics(self.sampled[when][stage])
        return mean_metrics({"before": self.before, "after": self.after}[when][stage]) | {
            "sampled_reward": sampled["reward"],
            "sampled_f1": sampled["f1"],
        }


class Monitor(TrainerCallback):
    """Watches a run: keeps a ``Step`` of each step, evaluates, saves, and stops it in time.

    Beside each of the trainer's checkpoints it writes ``progress.json`` last of all: a checkpoint
    without one was cut off. It holds what the trainer does not know of: curriculum, stream, steps.

    It must be the first of the trainer's callbacks, so that what it adds to a log line reaches
    those that report it.

    Args:
        run: the settings.
        config: TRL's.
        stream: where the rows come from.
        reward: what scores them.
        curriculum: what the reward updates.
        evaluate: gives the mean F1 of validation pairs by stage.
        report: called after each step with all so far, to write a report.
        on_step: called after each step.

    Attributes:
        steps: so far.
        seconds: wall time of training so far.
    """

    def __init__(
        self,
        run: GRPORun,
        config: GRPOConfig,
        stream: PairStream,
        reward: GroupReward,
        curriculum: StageCurriculum,
        evaluate: Callable[[], dict[str, float]],
        report: Callable[[list[Step]], None],
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self._run, self._stream, self._reward = run, stream, reward
        self._steps_per_batch = steps_per_batch(config)
        self._pairs_per_batch = pairs_per_batch(config)
        self._completion_length = 0.0
        self._curriculum, self._evaluate = curriculum, evaluate
        self._report, self._on_step = report, on_step
        self._restore_random: Callable[[], None] | None = None
        self.steps: list[Step] = []
        self._last = time.monotonic()
        self._wait_before = 0.0

    @property
    def seconds(self) -> float:
        return self.steps[-1].elapsed_s if self.steps else 0.0

    def load(self, checkpoint: Path, restore_random: Callable[[], None]) -> None:
        """Resume from a checkpoint.

        Args:
            checkpoint: its folder, with ``progress.json``.
            restore_random: puts the random numbers back where they were. Called when the first
                step begins: on the way there the trainer draws some that it drew long ago.
        """
        self._restore_random = restore_random
        progress = json.loads((checkpoint / PROGRESS).read_text())
        self._curriculum.load_state_dict(progress["curriculum"])
        self._stream.load_state_dict(progress["stream"])
        self.steps = [Step(**step) for step in progress["steps"]]
        if len(self.steps) >= self._run.steps:  # it was stopped after its last step
            self._stream.end()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the clock."""
        self._last = time.monotonic()

    def on_step_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Begin as the interrupted run would have."""
        if self._restore_random is not None:
            self._restore_random()
            self._restore_random = None

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Add what the trainer does not know of to its checkpoint."""
        this_process().wait_for_everyone()  # each process writes its own random numbers
        if state.is_world_process_zero:
            progress = {
                "curriculum": self._curriculum.state_dict(),
                "stream": self._stream.state_dict(),
                "steps": [asdict(step) for step in self.steps],
            }
            path = Path(args.output_dir, f"checkpoint-{state.global_step}", PROGRESS)
            write_whole(path, json.dumps(progress).encode())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Make a ``Step`` of TRL's log line, and add what TRL does not know of to the line."""
        if not logs or "loss" not in logs:
            return
        # A step that learns from the rollouts of the one before has no line on rollouts.
        self._completion_length = logs.get("completions/mean_length", self._completion_length)
        step = self._step(state.global_step)
        self.steps.append(step)
        if state.is_world_process_zero:
            logs |= self._metrics(step)
            self._log_pictures(step.step)
        begun = time.monotonic()
        self._report(self.steps)
        self._last += time.monotonic() - begun  # not training's time
        if self._on_step is not None:
            self._on_step(step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note that the batch's rows are learned, and stop when the time is over."""
        if state.global_step % self._steps_per_batch == 0:
            self._stream.learned(self._pairs_per_batch)
        if self._run.minutes is not None and self._first_process_says(self._time_is_over()):
            control.should_training_stop = True

    def _step(self, number: int) -> Step:
        """What there is to say of a step that has just ended; evaluates, where that is due."""
        seconds = time.monotonic() - self._last
        self._last += seconds
        waited, self._wait_before = self._stream.wait_s - self._wait_before, self._stream.wait_s
        means = self._reward.means
        return Step(
            step=number,
            stage=self._reward.stage,
            reward=means["reward"],
            format=means["format"],
            f1=means["f1"],
            iou=means["iou"],
            zero_variance_groups=means["zero_variance_groups"],
            completion_length=float(self._completion_length),
            window_mean=self._curriculum.mean,
            pairs=self._pairs_per_batch * math.ceil(number / self._steps_per_batch),
            pairs_per_s=self._run.pairs_per_step / seconds,
            pair_wait_s=waited,
            seconds=seconds,
            elapsed_s=self.seconds + seconds,
            held_out=self._held_out(number),
        )

    def _time_is_over(self) -> bool:
        minutes = (self.seconds + time.monotonic() - self._last) / 60
        return self._run.minutes is not None and minutes >= self._run.minutes

    @staticmethod
    def _first_process_says(decision: bool) -> bool:
        """The first process's decision, in all: their clocks differ, and one cannot stop alone."""
        decisions = [decision]
        broadcast_object_list(decisions)
        return decisions[0]

    def _held_out(self, step: int) -> dict[str, float] | None:
        """The validation F1, where it is due; its time is not training's."""
        if not self._run.eval_every or step % self._run.eval_every:
            return None
        begun = time.monotonic()
        result = self._evaluate()
        self._last += time.monotonic() - begun
        return result

    def _metrics(self, step: Step) -> dict[str, float]:
        """What a log line gets beside TRL's own metrics and the reward's."""
        metrics = {
            "dig/stage": self._run.stages.index(step.stage),
            "dig/pairs_per_s": step.pairs_per_s,
            "dig/pair_wait_s": step.pair_wait_s,
        }
        held_out = step.held_out or {}
        return metrics | {f"dig/validation_f1/{stage}": f1 for stage, f1 in held_out.items()}

    def _log_pictures(self, step: int) -> None:
        """Show wandb some answered pairs; its line is completed by the callback that reports it."""
        if self._run.wandb == "disabled" or step % PICTURES_EVERY != 1:
            return
        import wandb  # here: it takes a second to import, and most tests do without it

        pictures = self._pictures(count=4)
        images = [wandb.Image(picture, caption=caption) for picture, caption in pictures]
        wandb.log({"dig/pairs": images}, commit=False)

    def _pictures(self, count: int) -> Iterator[tuple[np.ndarray, str]]:
        """Drawings of the first rollout of the step's first pairs."""
        first_rollouts = self._reward.answers[:: self._run.rollouts]
        for pair_seed, text, reward in first_rollouts[:count]:
            pair = self._stream.latest[pair_seed]
            yield (
                draw_answer(pair, parse_boxes(text).boxes),
                f"seed {pair_seed}, reward {reward:.2f}: {text}",
            )
