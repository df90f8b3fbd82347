"""A curriculum around environments: it picks each episode's stage and learns from each reward."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np

from dig_env.curriculum import Curriculum


class CurriculumWrapper(gym.Wrapper):
    """Plays every episode at the curriculum's stage and tells it the reward.

    One curriculum may be shared by any number of environments: give the same object to each
    wrapper. The wrapper never touches the stream of pair seeds. An episode that began at another
    stage than the curriculum's present one is not counted.

    Args:
        env: a ``DiG-v0`` environment, or a vector of them (then a
            ``VectorCurriculumWrapper`` is returned).
        curriculum: chooses the stage; its ``state_dict`` is the caller's to save.
    """

    def __new__(cls, env: Any, curriculum: Curriculum) -> Any:
        if isinstance(env, gym.vector.VectorEnv):
            return VectorCurriculumWrapper(env, curriculum)
        return super().__new__(cls)

    def __init__(self, env: gym.Env, curriculum: Curriculum) -> None:
        super().__init__(env)
        self.curriculum = curriculum

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset at the curriculum's stage, unless ``options`` names another."""
        self.env.set_wrapper_attr("stage", self.curriculum.stage)
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and update the curriculum with the reward of a finished episode."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if (terminated or truncated) and info["stage"] == self.curriculum.stage:
            self.curriculum.update(float(reward))
        return observation, float(reward), terminated, truncated, info


class VectorCurriculumWrapper(gym.vector.VectorWrapper):
    """``CurriculumWrapper`` for a vector of environments, which all share the curriculum."""

    def __init__(self, env: gym.vector.VectorEnv, curriculum: Curriculum) -> None:
        super().__init__(env)
        self.curriculum = curriculum
        self._set_stage()

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments at the curriculum's stage."""
        self._set_stage()
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step, and update the curriculum with the finished episodes in the order of the envs."""
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        before = self.curriculum.stage
        for index in np.flatnonzero(terminations | truncations):
            if infos["stage"][index] == self.curriculum.stage:
                self.curriculum.update(float(rewards[index]))
        if self.curriculum.stage != before:
            self._set_stage()
        return observations, rewards, terminations, truncations, infos

    def _set_stage(self) -> None:
        self.env.set_attr("stage", self.curriculum.stage)
