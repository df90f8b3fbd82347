"""What the experiments with Stable-Baselines3 log: a learning curve, and to Weights & Biases."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import wandb
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter

from dig_env import NumericVectorView, NumericView
from dig_env.agents.evaluation.pairs import play_pairs
from dig_env.agents.integrations.sb3 import SB3Policy
from dig_env.scenes import Pair


class LearningCurve(BaseCallback):
    """The learning curve: rewards and stages of training, and greedy answers to other pairs.

    The others are scored by the default settings. Training pairs have their reward alone: the F1 in
    their ``info`` is the reward's own, and "dense" counts an overlap below IoU 0.5 in part.

    A point has "steps" (answers learned from), "seconds", "train_reward" and
    "played_<stage>" (its share of the episodes) since the last point, "std" (mean of the Gaussian
    policy's standard deviations, where it has them), and of each set of pairs "<name>_f1" and
    "<name>_iou". The logger gets all but the first two as "dig/...".

    Args:
        view: that the model answers through.
        pairs: sets of pairs by name.
        every: rollouts between two points.

    Attributes:
        points: so far; the last one is of the trained model.
    """

    def __init__(
        self,
        view: NumericView | NumericVectorView,
        pairs: Mapping[str, Sequence[Pair]],
        every: int,
    ) -> None:
        super().__init__()
        self.points: list[dict[str, float]] = []
        self._view, self._pairs, self._every = view, pairs, every
        self._rollouts = 0

    def _on_training_start(self) -> None:
        self._began = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self._rollouts % self._every == 0:
            self._rewards: list[float] = []  # since the last point
            self._stages: Counter[str] = Counter()

    def _on_step(self) -> bool:
        self._rewards += self.locals["rewards"].tolist()
        self._stages.update(info["stage"] for info in self.locals["infos"])
        return True

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        if self._rollouts % self._every == 0:
            self._add_point()

    def _on_training_end(self) -> None:
        # A rollout ends before its update: without this the last update would be in no point.
        self._add_point()
        self.logger.dump(self.num_timesteps)

    def _add_point(self) -> None:
        point = {"train_reward": float(np.mean(self._rewards))}
        for stage, count in self._stages.items():
            point[f"played_{stage}"] = count / self._stages.total()
        policy = SB3Policy(self.model, self._view)
        for name, pairs in self._pairs.items():
            scores = [episode.score for episode in play_pairs(policy, pairs, batch_size=64)]
            point[f"{name}_f1"] = float(np.mean([score.f1 for score in scores]))
            point[f"{name}_iou"] = float(np.mean([score.iou for score in scores]))
        if hasattr(self.model.policy, "log_std"):
            point["std"] = float(self.model.policy.log_std.detach().exp().mean())
        for name, value in point.items():
            self.logger.record(f"dig/{name}", value)
        seconds = round(time.perf_counter() - self._began, 1)
        self.points.append({"steps": self.num_timesteps, "seconds": seconds} | point)
        print(
            " ".join(f"{name} {value:.4g}" for name, value in self.points[-1].items()), flush=True
        )


class WandbWriter(KVWriter):
    """Sends what Stable-Baselines3 logs to the Weights & Biases run that is open, and ends it.

    ``model.set_logger(Logger(folder, [WandbWriter()]))``, after ``wandb.init(...)``.
    """

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Log the numbers of one rollout."""
        wandb.log(
            {key: value for key, value in key_values.items() if not isinstance(value, str)}, step
        )

    def close(self) -> None:
        """End the run."""
        wandb.finish()
