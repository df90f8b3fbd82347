"""What is watched, and kept, of a GRPO run under way."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from transformers import TrainerCallback

from agents.episodes import Episode, mean_metrics
from agents.rollouts import GroupReward, PairStream
from agents.settings import GRPORun
from dig_env import StageCurriculum, parse_boxes
from dig_env.drawing import draw_answer
from scenes.files import write_whole

PROGRESS = "progress.json"


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
        pairs: pairs that the learner took so far.
        pairs_per_s: in this step.
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
    equal_groups: float
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
            answered greedily. Empty in a run without ``eval_pairs``.
        sampled: the same pairs answered at the rollouts' temperature, by "before" and "after" and
            stage: the stochastic policy whose expected reward GRPO raises.
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
    finished: bool = False

    @property
    def seconds(self) -> float:
        """Wall time of the training itself."""
        return self.steps[-1].elapsed_s if self.steps else 0.0

    def metrics(self, when: str, stage: str) -> dict[str, float]:
        """Held-out means of a stage, ``when`` being "before" or "after".

        Those of ``mean_metrics`` for greedy answers, and "sampled_reward" and "sampled_f1".
        """
        sampled = mean_metrics(self.sampled[when][stage])
        return mean_metrics({"before": self.before, "after": self.after}[when][stage]) | {
            "sampled_reward": sampled["reward"],
            "sampled_f1": sampled["f1"],
        }


class Monitor(TrainerCallback):
    """Watches a run: keeps a ``Step`` of each step, evaluates, saves, and stops it in time.

    Beside each of the trainer's checkpoints it writes ``progress.json`` last of all: a checkpoint
    without one was cut off. It holds what the trainer does not know of: curriculum, stream, steps.

    Args:
        run: the settings.
        stream: where the rows come from.
        reward: what scores them.
        curriculum: what the reward tells.
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
        stream: PairStream,
        reward: GroupReward,
        curriculum: StageCurriculum,
        evaluate: Callable[[], dict[str, float]],
        report: Callable[[list[Step]], None],
        on_step: Callable[[Step], None] | None,
    ) -> None:
        self._run, self._stream, self._reward = run, stream, reward
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
        """Go on from a checkpoint.

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
        if state.is_world_process_zero:
            progress = {
                "run": asdict(self._run),
                "curriculum": self._curriculum.state_dict(),
                "stream": self._stream.state_dict(),
                "steps": [asdict(step) for step in self.steps],
            }
            path = Path(args.output_dir, f"checkpoint-{state.global_step}", PROGRESS)
            write_whole(path, json.dumps(progress).encode())

    def on_log(self, args: Any, state: Any, control: Any, logs: Any = None, **_: Any) -> None:
        """Make a ``Step`` of TRL's log line."""
        if not logs or "reward" not in logs:
            return
        seconds = time.monotonic() - self._last
        self._last += seconds
        pairs = self._run.pairs_per_step
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
            pairs=pairs * state.global_step,
            pairs_per_s=pairs / seconds,
            pair_wait_s=self._stream.wait_s - self._wait_before,
            seconds=seconds,
            elapsed_s=self.seconds + seconds,
            held_out=self._held_out(state.global_step),
        )
        self._wait_before = self._stream.wait_s
        self.steps.append(step)
        self._log_wandb(step)
        begun = time.monotonic()
        self._report(self.steps)
        self._last += time.monotonic() - begun  # not training's time
        if self._on_step is not None:
            self._on_step(step)

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Note that the step's rows are learned, and stop when the time is over."""
        self._stream.learned(self._run.pairs_per_step)
        minutes = (self.seconds + time.monotonic() - self._last) / 60
        if self._run.minutes is not None and minutes >= self._run.minutes:
            control.should_training_stop = True

    def _held_out(self, step: int) -> dict[str, float] | None:
        """The validation F1, where it is due; its time is not training's."""
        if not self._run.eval_every or step % self._run.eval_every:
            return None
        begun = time.monotonic()
        result = self._evaluate()
        self._last += time.monotonic() - begun
        return result

    def _log_wandb(self, step: Step) -> None:
        if self._run.wandb == "disabled":
            return
        import wandb  # here: it takes a second to import, and most tests do without it

        entry: dict[str, Any] = {
            "dig/stage": self._run.stages.index(step.stage),
            "dig/pairs_per_s": step.pairs_per_s,
            "dig/pair_wait_s": step.pair_wait_s,
        }
        for stage, f1 in (step.held_out or {}).items():
            entry[f"dig/validation_f1/{stage}"] = f1
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
            yield (
                draw_answer(pair, parse_boxes(text).boxes),
                f"seed {pair_seed}, reward {reward:.2f}: {text}",
            )
