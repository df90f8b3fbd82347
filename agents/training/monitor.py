"""Monitoring of a GRPO run: its steps, checkpoints, evaluations and result."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from dig_env import StageCurriculum
from dig_env.agents.evaluation.align import AlignEpisode
from dig_env.agents.evaluation.asked import FRAME, Answered
from dig_env.agents.evaluation.episodes import means
from dig_env.agents.reporting.align import question_picture
from dig_env.agents.reporting.evaluation import episode_picture
from dig_env.agents.reporting.report import Picture
from dig_env.agents.training.grpo_trainer import pairs_per_batch, steps_per_batch
from dig_env.agents.training.rollouts import GroupReward, PairStream
from dig_env.agents.training.settings import GRPORun, measure_of
from dig_env.agents.training.trainer_settings import this_process
from dig_env.scenes.extras import extra
from dig_env.scenes.files import write_whole

with extra("train"):
    from accelerate.utils import broadcast_object_list
    from transformers import TrainerCallback
    from trl import GRPOConfig

PROGRESS = "progress.json"
PICTURES_EVERY = 20
"""Steps between pictures in wandb, PICTURES at a time."""
PICTURES = 4


@dataclass(frozen=True)
class Step:
    """What one optimizer step saw; rewards are means over its batch of rollouts.

    Attributes:
        step: counted from 1.
        stage: at which its (last) pair was planned.
        reward: of all of them.
        format, f1, iou: of those that answer pairs, see ``dig_env.score``; None if none do.
        zero_variance_groups: share of the groups whose rollouts all earned the same, or nearly
            so by the run's ``min_group_std``.
        completion_length: mean tokens of an answer.
        window_mean: mean of the curriculum's window; None when it is empty.
        pairs: pairs that the learner took so far.
        pairs_per_s: learned from in this step.
        pair_wait_s: seconds of this step in which the learner waited for a pair.
        seconds: wall time of this step.
        elapsed_s: wall time of training so far, interruptions left out.
        held_out: by stage, mean F1 on validation pairs, or accuracy on a task's questions about
            them, after this step; None where it is not due.
        stages: of each stage in the batch the means of "reward" and so on: of pairs those of
            ``dig_env.agents.evaluation.episodes.METRICS``, of questions those of ``align_metrics``.
    """

    step: int
    stage: str
    reward: float
    format: float | None
    f1: float | None
    iou: float | None
    zero_variance_groups: float
    completion_length: float
    window_mean: float | None
    pairs: int
    pairs_per_s: float
    pair_wait_s: float
    seconds: float
    elapsed_s: float
    held_out: dict[str, float] | None = None
    stages: dict[str, dict[str, float]] = field(default_factory=dict)

    def __str__(self) -> str:
        """In a line, for logs and progress bars."""
        shown = [f"{self.stage:6} reward {self.reward:.2f}"]
        if self.f1 is not None:
            shown += [f"F1 {self.f1:.2f}", f"IoU {self.iou:.2f}"]
        right = [of["accuracy"] for of in self.stages.values() if "accuracy" in of]
        if right:
            shown.append(f"right {sum(right) / len(right):.2f}")
        return "  ".join([*shown, f"{self.pairs_per_s:.1f} pairs/s"])


@dataclass(frozen=True)
class GRPOResult:
    """What a run leaves behind, or has so far.

    Attributes:
        run: its settings.
        checkpoint: folder with model, processor and curriculum.json.
        before, after: the held-out episodes of each stage, pairs or questions, by the starting and
            the trained policy, answered greedily. Empty in a run without ``eval_pairs``, and where
            it had finished before ``train_grpo`` was called.
        sampled: the same answered at the rollouts' temperature, by "before" and "after" and
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
    before: dict[str, list[Answered]]
    sampled: dict[str, dict[str, list[Answered]]]
    after: dict[str, list[Answered]] = field(default_factory=dict)
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

        Those of the episodes' ``metrics`` for greedy answers, and "sampled_reward" and
        "sampled_f1", in a task "sampled_accuracy".
        """
        if self.recorded:
            return self.recorded[stage][when]
        greedy = {"before": self.before, "after": self.after}[when][stage]
        sampled = means([episode.metrics for episode in self.sampled[when][stage]])
        return means([episode.metrics for episode in greedy]) | {
            f"sampled_{name}": sampled[name] for name in ("reward", measure_of(stage))
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
        evaluate: gives the ``held_out`` of a step.
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
        earned = self._reward.means
        return Step(
            step=number,
            stage=self._reward.stage,
            reward=earned["reward"],
            format=earned.get("format"),
            f1=earned.get("f1"),
            iou=earned.get("iou"),
            zero_variance_groups=earned["zero_variance_groups"],
            completion_length=float(self._completion_length),
            window_mean=self._curriculum.mean,
            pairs=self._pairs_per_batch * math.ceil(number / self._steps_per_batch),
            pairs_per_s=self._run.pairs_per_step / seconds,
            pair_wait_s=waited,
            seconds=seconds,
            elapsed_s=self.seconds + seconds,
            held_out=self._held_out(number),
            stages=self._reward.stages,
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
        """The results of validation, where it is due; its time is not training's."""
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
        return metrics | {
            f"dig/validation_{measure_of(stage)}/{stage}": mean for stage, mean in held_out.items()
        }

    def _log_pictures(self, step: int) -> None:
        """Show wandb the first rollout of the step's first pairs and questions; its line is
        completed by the callback that reports it."""
        if self._run.wandb == "disabled" or step % PICTURES_EVERY != 1:
            return
        import wandb  # here: it takes a second to import, and most tests do without it

        first_rollouts = self._reward.answered[:: self._run.rollouts]
        pictures = map(answer_picture, first_rollouts[:PICTURES])
        images = [wandb.Image(of.image, caption=f"{of.caption} {of.answer}") for of in pictures]
        wandb.log({"dig/pairs": images}, commit=False)


def answer_picture(episode: Answered) -> Picture:
    """A pair or a question with the boxes of its answer, and what that earned."""
    if isinstance(episode, AlignEpisode):
        return question_picture(episode, FRAME)
    return episode_picture(episode)
