"""What `ppo.py` adds to Stable-Baselines3: pairs in memory, a network, a policy, a curve."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from stable_baselines3 import PPO
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.logger import KVWriter
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import nn

from agents.evaluation import play
from dig_env import NumericView
from dig_env.pairs import StoredPairs
from scenes import Difficulty, Pair


class PairsInMemory(StoredPairs):
    """Pairs of a dataset that are decoded once: reading one takes longer than learning from it.

    6,000 pairs at 128x96 take 660 MB.
    """

    look_ahead = 0  # nothing is to be gained, and what is drawn ahead may be cancelled

    def __init__(self, folder: Path, split: str) -> None:
        super().__init__(folder, split)
        self._read: dict[int, Future[Pair]] = {}

    def submit(self, pair_seed: int, difficulty: Difficulty) -> Future[Pair]:
        """The pair, read now if it was never asked for."""
        if pair_seed not in self._read:
            self._read[pair_seed] = super().submit(pair_seed, difficulty)
        return self._read[pair_seed]


class SpatialMoments(BaseFeaturesExtractor):
    """Two convolutions, then where each channel is active: mean and spread of its softmax.

    The mean is the spatial softmax of deep spatial autoencoders (arXiv 1509.06113) and tells the
    place. The spread, as a logarithm, tells the size, and log-sum-exp how strong the response is.

    Args:
        space: (C, H, W) images.
        channels: of both convolutions.
    """

    def __init__(self, space: gym.spaces.Box, channels: int = 16) -> None:
        super().__init__(space, features_dim=5 * channels)
        _, height, width = space.shape
        self.convolutions = nn.Sequential(
            nn.Conv2d(space.shape[0], channels, 5, stride=2, padding=2),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        y, x = torch.meshgrid(
            torch.linspace(-1, 1, (height + 1) // 2),
            torch.linspace(-1, 1, (width + 1) // 2),
            indexing="ij",
        )
        moments = torch.stack([x, y, x**2, y**2], dim=-1).reshape(-1, 4)
        self.register_buffer("moments", moments)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) in [0, 1] to (N, 5 channels)."""
        logits = self.convolutions(images).flatten(2)
        moments = logits.softmax(dim=-1) @ self.moments
        mean = moments[..., :2]
        variance = (moments[..., 2:] - mean**2).clamp_min(1e-5)
        strength = logits.logsumexp(dim=-1) / 10
        return torch.cat([mean.flatten(1), variance.log().flatten(1) / 2, strength], dim=1)


class NumericPolicy:
    """A trained model as a policy like any other: greedy answers in text."""

    def __init__(self, model: PPO, view: NumericView) -> None:
        self._model, self._view = model, view

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """Answer each observation of the environment."""
        arrays = np.stack([self._view.observation(observation) for observation in observations])
        actions, _ = self._model.predict(arrays, deterministic=True)
        return [self._view.answer(action) for action in actions]


class Curve(BaseCallback):
    """The learning curve: sampled answers to training pairs, greedy ones to validation pairs.

    Training pairs by their reward alone: the F1 in `info` is the reward's own, and "dense" counts
    an overlap below IoU 0.5 in part. Validation pairs are scored by the default settings.

    Args:
        view: that the model answers through.
        pairs: for validation.
        every: rollouts between two points.
    """

    def __init__(self, view: NumericView, pairs: Sequence[Pair], every: int) -> None:
        super().__init__()
        self.points: list[dict[str, float]] = []
        self._view, self._pairs, self._every = view, pairs, every
        self._rollouts = 0

    def _on_training_start(self) -> None:
        self._began = time.perf_counter()

    def _on_rollout_start(self) -> None:
        if self._rollouts % self._every == 0:
            self._earned: list[float] = []  # since the last point

    def _on_step(self) -> bool:
        self._earned += self.locals["rewards"].tolist()
        return True

    def _on_rollout_end(self) -> None:
        self._rollouts += 1
        if self._rollouts % self._every == 0:
            self._add_point()

    def _on_training_end(self) -> None:
        # A rollout ends before its update: without this the last update would be in no point.
        self._add_point()

    def _add_point(self) -> None:
        policy = NumericPolicy(self.model, self._view)
        answered = [episode.score for episode in play(policy, self._pairs, batch_size=64)]
        point = {
            "train_reward": float(np.mean(self._earned)),
            "validation_f1": float(np.mean([score.f1 for score in answered])),
            "validation_iou": float(np.mean([score.iou for score in answered])),
            "std": float(self.model.policy.log_std.detach().exp().mean()),
        }
        for name, value in point.items():
            self.logger.record(f"dig/{name}", value)
        seconds = time.perf_counter() - self._began
        self.points.append({"steps": self.num_timesteps, "seconds": round(seconds, 1)} | point)
        print(
            " ".join(f"{name} {value:.4g}" for name, value in self.points[-1].items()), flush=True
        )


class WandbWriter(KVWriter):
    """Sends what Stable-Baselines3 logs to the Weights & Biases run that is open."""

    def write(
        self, key_values: dict[str, Any], key_excluded: dict[str, tuple[str, ...]], step: int = 0
    ) -> None:
        """Log the numbers of one rollout."""
        import wandb  # here: it takes a second to import

        wandb.log(
            {key: value for key, value in key_values.items() if not isinstance(value, str)}, step
        )

    def close(self) -> None:
        """End the run."""
        import wandb

        wandb.finish()
