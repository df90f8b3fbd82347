"""A curriculum around environments: it picks each episode's stage and learns from each reward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import AutoresetMode, VectorEnv, VectorWrapper

from dig_env.curricula.threshold import StageCurriculum


class CurriculumWrapper(gym.Wrapper, RecordConstructorArgs):
    """Plays every episode at the stage that the curriculum chooses, and passes it the reward.

    One curriculum may be shared by any number of environments: give the same object to each
    wrapper. The wrapper never touches the stream of pair seeds. Environments that are made
    again from its ``spec`` share a copy of the curriculum as it was when it was given.

    Args:
        env: an environment with stages: ``DiG-v0`` or another of this package, wrapped or not.
        curriculum: chooses the stage; its ``state_dict`` is the caller's to save.

    Raises:
        TypeError: the environment is another one, or a vector: that takes a
            ``VectorCurriculumWrapper``.
    """

    def __init__(self, env: gym.Env, curriculum: StageCurriculum) -> None:
        check_one(self, env, "stage", "VectorCurriculumWrapper(envs, curriculum)")
        RecordConstructorArgs.__init__(self, curriculum=curriculum)
        gym.Wrapper.__init__(self, env)
        self.curriculum = curriculum
        self._earned = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset at the stage that the curriculum chooses, unless ``options`` names another."""
        self.env.set_wrapper_attr("stage", self.curriculum.choose())
        self._earned = 0.0
        return self.env.reset(seed=seed, options=options)

    def step(self, action: Any) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Step, and pass the curriculum what a finished episode earned in all its turns."""
        observation, reward, terminated, truncated, info = self.env.step(action)
        self._earned += float(reward)
        if terminated or truncated:
            self.curriculum.update(self._earned, info["stage"])
        return observation, float(reward), terminated, truncated, info


class VectorCurriculumWrapper(VectorWrapper, RecordConstructorArgs):
    """``CurriculumWrapper`` for a vector of environments, which all share the curriculum.

    Each environment plays a stage of its own choosing, also where Gymnasium resets it in the step
    after its episode's last.

    Args:
        env: a vector of environments of this package, wrapped or not.
        curriculum: as for ``CurriculumWrapper``.

    Raises:
        TypeError: no such vector.
        ValueError: the vector resets in the very step that ends an episode: the next stage would
            have to be chosen before the reward is known.
    """

    def __init__(self, env: VectorEnv, curriculum: StageCurriculum) -> None:
        check_vector(self, env, "stage", "CurriculumWrapper(env, curriculum)")
        if env.metadata.get("autoreset_mode") == AutoresetMode.SAME_STEP:
            raise ValueError(
                "the vector has autoreset_mode SAME_STEP, which leaves no time to choose a stage: "
                "make it with AutoresetMode.NEXT_STEP (the default) or AutoresetMode.DISABLED"
            )
        RecordConstructorArgs.__init__(self, curriculum=curriculum)
        VectorWrapper.__init__(self, env)
        self.curriculum = curriculum
        # Gymnasium's own vector wrappers hand no attributes on. Its types lack get_attr.
        self._vector = cast(Any, env.unwrapped)
        self._stages: list[str] = list(self._vector.get_attr("stage"))
        self._ended = np.zeros(self.num_envs, dtype=bool)
        self._earned = np.zeros(self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Reset all environments, or those of Gymnasium's ``options={"reset_mask": ...}``."""
        everywhere = np.ones(self.num_envs, dtype=bool)
        self._begin(np.asarray((options or {}).get("reset_mask", everywhere)))
        return self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]  # lists too

    def step(self, actions: Any) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Step, and update the curriculum with finished episodes in the order of the envs."""
        self._begin(self._ended)
        observations, rewards, terminations, truncations, infos = self.env.step(actions)
        self._earned += rewards
        self._ended = terminations | truncations
        for index in np.flatnonzero(self._ended):
            self.curriculum.update(float(self._earned[index]), infos["stage"][index])
        return observations, rewards, terminations, truncations, infos

    def _begin(self, which: np.ndarray) -> None:
        """Choose the stages of the environments that are about to be reset, (num_envs,) bool."""
        stages = list(self._stages)
        for index in np.flatnonzero(which):
            stages[index] = self.curriculum.choose()
        if stages != self._stages:  # with environments in processes, setting takes a round trip
            self._vector.set_attr("stage", stages)
        self._stages = stages
        self._ended = self._ended & ~which
        self._earned[which] = 0.0


def check_one(wrapper: gym.Wrapper, env: Any, attribute: str, for_a_vector: str) -> None:
    """Raise TypeError unless it is one environment, and no vector, that has an attribute."""
    name = type(wrapper).__name__
    if isinstance(env, VectorEnv):
        raise TypeError(f"{name} wraps one environment; for {env} give {for_a_vector}")
    if not isinstance(env, gym.Env) or not env.has_wrapper_attr(attribute):
        raise TypeError(f"{name} wraps environments of dig_env; {env} has no {attribute}")


def check_vector(wrapper: VectorWrapper, env: Any, attribute: str, for_one: str) -> None:
    """Raise TypeError unless it is a vector of environments that have an attribute."""
    name = type(wrapper).__name__
    if not isinstance(env, VectorEnv):
        raise TypeError(f"{name} wraps a vector of environments; for {env} give {for_one}")
    try:
        there = all(cast(Any, env.unwrapped).call("has_wrapper_attr", attribute))
    except AttributeError:  # no vector of single environments
        there = False
    if not there:
        raise TypeError(f"{name} wraps vectors of dig_env; those of {env} have no {attribute}")


def check_answered_in_text(wrapper: Any, env: Any, action_space: spaces.Space) -> None:
    """Raise TypeError unless the actions are texts."""
    if not isinstance(action_space, spaces.Text):
        name = type(wrapper).__name__
        raise TypeError(
            f"{name} wraps environments that are answered in text; the actions of {env} are "
            f"{action_space}: wrap with {name} before what changes them"
        )
