"""A curriculum around environments: it picks each episode's stage and learns from each reward."""

from __future__ import annotations

from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium.vector import AutoresetMode

from dig_env.curriculum import StageCurriculum


class CurriculumWrapper(gym.Wrapper):
    """Plays every episode at the stage that the curriculum chooses, and tells it the reward.

    One curriculum may be shared by any number of environments: give the same object to each
    wrapper. The wrapper never touches the stream of pair seeds.

    Args:
        env: a ``DiG-v0`` environment, or a vector of them (then a
            ``VectorCurriculumWrapper`` is returned).
        curriculum: chooses the stage; its ``state_dict`` is the caller's to save.
    """

    def __new__(cls, env: Any, curriculum: StageCurriculum) -> Any:
        if isinstance(env, gym.vector.VectorEnv):
            return VectorCurriculumWrapper(env, curriculum)
        return super().__new__(cls)

    def __init__(self, env: gym.Env, curriculum: StageCurriculum) -> None:
        super().__init__(env)
        self.curriculum = curriculum

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset at the stage that the curriculum chooses, unless ``options`` names another."""
        self.env.set_wrapper_attr("stage", self.curriculum.choose())
        return self.env.reset(seed=seed, options=options)

    def step(self, action: str) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and tell the curriculum of a finished episode."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        if terminated or truncated:
            self.curriculum.update(float(reward), info["stage"])
        return observation, float(reward), terminated, truncated, info


class VectorCurriculumWrapper(gym.vector.VectorWrapper):
    """``CurriculumWrapper`` for a vector of environments, which all share the curriculum.

    Each environment plays a stage of its own choosing, also where Gymnasium resets it in the step
    after its episode's last.

    Raises:
        ValueError: the vector resets in the very step that ends an episode: the next stage would
            have to be chosen before the reward is known.
    """

    # Gymnasium's type of it lacks get_attr, set_attr and lists of seeds, which its vectors have.
    env: Any

    def __init__(self, env: gym.vector.VectorEnv, curriculum: StageCurriculum) -> None:
        if env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
            raise ValueError(
                "the vector has autoreset_mode SAME_STEP, which leaves no time to choose a stage: "
                "make it with AutoresetMode.NEXT_STEP (the default) or AutoresetMode.DISABLED"
            )
        super().__init__(env)
        self.curriculum = curriculum
        self._stages: list[str] = list(self.env.get_attr("stage"))
        self._ended = np.zeros(self.num_envs, dtype=bool)

    def reset(
        self,
        *,
        seed: int | list[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments, or those of Gymnasium's ``options={"reset_mask": ...}``."""
        everywhere = np.ones(self.num_envs, dtype=bool)
        self._begin(np.asarray((options or {}).get("reset_mask", everywhere)))
        return self.env.reset(seed=seed, options=options)

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step, and tell the curriculum of finished episodes in the order of the envs."""
        self._begin(self._ended)
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        self._ended = terminations | truncations
        for index in np.flatnonzero(self._ended):
            self.curriculum.update(float(rewards[index]), infos["stage"][index])
        return observations, rewards, terminations, truncations, infos

    def _begin(self, which: np.ndarray) -> None:
        """Choose the stages of the environments that are about to be reset, (num_envs,) bool."""
        stages = list(self._stages)
        for index in np.flatnonzero(which):
            stages[index] = self.curriculum.choose()
        if stages != self._stages:  # with environments in processes, setting takes a round trip
            self.env.set_attr("stage", stages)
        self._stages = stages
        self._ended = self._ended & ~which
