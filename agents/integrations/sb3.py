"""Stable-Baselines3 on the numeric view: what a script adds to ``PPO(...)`` and ``learn``.

    envs = gym.make_vec("DiG-v0", 64, autoreset_mode="Disabled", dataset="pairs")
    view = NumericVectorView(envs, shape=(48, 64))
    extractor = {"features_extractor_class": SpatialMoments}
    model = PPO("CnnPolicy", SB3Vector(view), n_steps=16, batch_size=128, policy_kwargs=extractor)
    model.learn(80_000)
    report = evaluate_stored(SB3Policy(model, view), "pairs")

Without ``dataset`` the pairs are fresh, and all environments share ``workers`` Blender processes.
With ``dataset=PairsInMemory("pairs", "train")`` each pair is read once.

Episodes have one step: a rollout of ``n_steps`` holds as many episodes of each environment.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode
from gymnasium.wrappers.vector import DictInfoToList

from dig_env import NumericVectorView, NumericView
from dig_env.envs.pairs import PairCache, StoredPairs
from dig_env.scenes import Difficulty, Pair
from dig_env.scenes.extras import extra

with extra("sb3"):
    import torch
    from stable_baselines3.common.base_class import BaseAlgorithm
    from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
    from stable_baselines3.common.vec_env.base_vec_env import (
        VecEnv,
        VecEnvIndices,
        VecEnvStepReturn,
    )
    from torch import nn


class PairsInMemory(StoredPairs):
    """Pairs of a dataset that are decoded once: reading one takes longer than learning from it.

    Give one object to all environments of a process, as ``dataset``. 6,000 pairs at 128x96 take
    660 MB.
    """

    prefetch_count = 0  # nothing is to be gained

    def __init__(self, folder: str | Path, split: str) -> None:
        super().__init__(folder, split)
        self._cache = PairCache(size=len(self))

    def submit(self, pair_seed: int, difficulty: Difficulty) -> Future[Pair]:
        """The pair, read now if it was never asked for."""
        read = super().submit
        return self._cache.get(pair_seed, lambda: read(pair_seed, difficulty))


class SB3Vector(VecEnv):
    """A Gymnasium vector environment as a ``VecEnv`` of Stable-Baselines3.

    Args:
        vector: made with ``autoreset_mode="Disabled"``: Stable-Baselines3 takes an environment that
            has finished to be reset in the same step, and that is done here, once the reward is
            known. A ``VectorCurriculumWrapper`` may be inside.

    Raises:
        ValueError: the vector resets by itself.
    """

    def __init__(self, vector: gym.vector.VectorEnv) -> None:
        if vector.metadata.get("autoreset_mode") != AutoresetMode.DISABLED:
            raise ValueError(
                f"{vector} resets by itself: make it with "
                'gym.make_vec("DiG-v0", num_envs, autoreset_mode="Disabled")'
            )
        self._vector: Any = DictInfoToList(vector)
        self._base: Any = vector.unwrapped  # Gymnasium's wrappers hand no attributes on
        self._actions: np.ndarray | None = None
        super().__init__(
            vector.num_envs, vector.single_observation_space, vector.single_action_space
        )

    def reset(self) -> Any:
        """The first observations, with the seeds and options that were set."""
        if any(options != self._options[0] for options in self._options):
            raise ValueError(f"options={self._options!r}: give the same to all environments")
        seen, self.reset_infos = self._vector.reset(seed=self._seeds, options=self._options[0])
        self._reset_seeds()
        self._reset_options()
        return seen

    def step_async(self, actions: np.ndarray) -> None:
        """Take the actions that ``step_wait`` plays."""
        self._actions = actions

    def step_wait(self) -> VecEnvStepReturn:
        """Play them, and reset what has finished."""
        seen, rewards, terminations, truncations, infos = self._vector.step(self._actions)
        done = terminations | truncations
        if done.any():
            last = seen
            seen, reset_infos = self._vector.reset(options={"reset_mask": done.copy()})
            for index in np.flatnonzero(done):
                infos[index]["terminal_observation"] = (
                    {name: values[index] for name, values in last.items()}
                    if isinstance(last, dict)
                    else last[index]
                )
                infos[index]["TimeLimit.truncated"] = not terminations[index]
                self.reset_infos[index] = reset_infos[index]
        return seen, rewards.astype(np.float32), done, infos

    def close(self) -> None:
        """Close the vector."""
        self._vector.close()

    def get_images(self) -> Sequence[np.ndarray | None]:
        """What each environment's ``render`` gives."""
        return self._vector.render()

    def get_attr(self, attr_name: str, indices: VecEnvIndices = None) -> list[Any]:
        """An attribute of each environment."""
        values = self._base.get_attr(attr_name)
        return [values[index] for index in self._get_indices(indices)]

    def set_attr(self, attr_name: str, value: Any, indices: VecEnvIndices = None) -> None:
        """Set an attribute of the environments."""
        values = self.get_attr(attr_name)
        for index in self._get_indices(indices):
            values[index] = value
        self._base.set_attr(attr_name, values)

    def env_method(
        self, method_name: str, *args: Any, indices: VecEnvIndices = None, **kwargs: Any
    ) -> list[Any]:
        """Call a method of all environments; ValueError for only some of them."""
        if indices is not None and list(self._get_indices(indices)) != list(range(self.num_envs)):
            raise ValueError(f"indices={indices!r}: a vector calls a method of all environments")
        return list(self._base.call(method_name, *args, **kwargs))

    def env_is_wrapped(
        self, wrapper_class: type[gym.Wrapper], indices: VecEnvIndices = None
    ) -> list[bool]:
        """False: the wrappers of each environment in the vector are not known."""
        return [False for _ in self._get_indices(indices)]


class SpatialMoments(BaseFeaturesExtractor):
    """Two convolutions, then where each channel is active: mean and spread of its softmax.

    The mean is the spatial softmax of deep spatial autoencoders (arXiv 1509.06113) and gives the
    place. The spread, as a logarithm, gives the size, and log-sum-exp how strong the response is.

    A softmax over the image ends between two responses that are equally strong. With ``slope`` each
    channel's logits are tilted by a plane, learned as well, whose slopes at first point around the
    clock: one channel then finds the leftmost of several differences, another the topmost.

    Args:
        space: (C, H, W) images.
        channels: of both convolutions.
        stride: of the first one, whose kernel is 5x5.
        slope: of each plane at first, in logits from the image's centre to its edge.
    """

    def __init__(
        self, space: gym.spaces.Box, channels: int = 16, stride: int = 2, slope: float = 0.0
    ) -> None:
        super().__init__(space, features_dim=5 * channels)
        self.convolutions = nn.Sequential(
            nn.Conv2d(space.shape[0], channels, 5, stride, padding=2),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1),
        )
        y, x = torch.meshgrid(
            *(torch.linspace(-1, 1, -(-side // stride)) for side in space.shape[1:]), indexing="ij"
        )
        moments = torch.stack([x, y, x**2, y**2], dim=-1).reshape(-1, 4)
        self.register_buffer("moments", moments)
        angles = 2 * torch.pi * torch.arange(channels) / channels
        slopes = slope * torch.stack([angles.cos(), angles.sin()], dim=1)
        self.slopes = nn.Parameter(slopes, requires_grad=slope != 0.0)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) in [0, 1] to (N, 5 channels)."""
        logits = self.convolutions(images).flatten(2)
        planes = self.slopes @ self.moments[:, :2].T
        moments = (logits + planes).softmax(dim=-1) @ self.moments
        mean = moments[..., :2]
        variance = (moments[..., 2:] - mean**2).clamp_min(1e-5)
        strength = logits.logsumexp(dim=-1) / 10
        return torch.cat([mean.flatten(1), variance.log().flatten(1) / 2, strength], dim=1)


class SB3Policy:
    """A model of Stable-Baselines3 as a policy like any other: greedy answers in text.

    Args:
        model: PPO, or another algorithm, trained or loaded.
        view: that it acts through; its environment is not played.
    """

    def __init__(self, model: BaseAlgorithm, view: NumericView | NumericVectorView) -> None:
        self._model, self._view = model, view

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        """Answer each observation of the environment."""
        if not observations:
            return []
        arrays = np.stack([cast(np.ndarray, self._view.observation(seen)) for seen in observations])
        actions, _ = self._model.predict(arrays, deterministic=True)
        return [self._view.answer(action) for action in actions]
