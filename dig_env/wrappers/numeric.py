"""The environment in numbers: images as arrays, boxes as actions, for PPO and other classic RL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike

from dig_env.wrappers.curriculum import check_one, check_vector
from dig_env.wrappers.numeric_format import NumericFormat, finite_numbers


class NumericView(NumericFormat, gym.Wrapper):
    """Images as ``Box`` observations, and boxes as ``Box`` or ``MultiDiscrete`` actions.

    ## Description
    A wrapper of ``DiG-v0`` for PPO and other classic RL. An action is translated to the text answer
    that says the same, and the text goes through ``env.step``. The prompt is left out, and nothing
    but the images goes into the observation.

    ## Action Space
    ``Box(-1, 1, (4,), float32)``: x and y of the box's centre, its width and its height, in the
    unit frame as ``(action + 1) / 2`` and ``SMALLEST_SIDE ** ((1 - action) / 2)``. So every
    action is a valid box (it is cut at the image's edge), 0 is a box of usual size in the centre,
    and equal steps of a size are equal ratios, as in the parametrisation of R-CNN (arXiv
    1311.2524). Values beyond [-1, 1] are clipped.

    With ``max_boxes`` above 1 there are five values a box, one box after the other. The fifth says
    whether the box is part of the answer: above 0, it is. An answer may be empty.

    With ``bins`` it is ``MultiDiscrete``: value k of a coordinate's n bins stands for
    ``2 k / (n - 1) - 1``. The fifth value is 0 or 1.

    ## Observation Space
    With ``stack``, ``Box(0, 255, (6 or 7, H, W), uint8)``: image A, image B and the difference
    channel. Otherwise ``Dict(image_a=Box((3, H, W)), image_b=..., difference=Box((1, H, W)))``. The
    difference channel is ``|A - B|`` in the colour channel that differs most.

    ## Rewards
    Those of the text, and so is ``info``.

    ## Starting State
    That of the environment.

    ## Episode End
    That of the environment: one action ends the episode.

    ## Arguments
    - ``env``: a ``DiG-v0`` environment, or another that shows both images: of ``DiG-Zoom-v0``
      it answers at once. A vector of them goes into a ``NumericVectorView``.
    - ``shape``: (height, width) to which images are resized, by the mean over each pixel's area;
      None (default) leaves them as they are. The difference is taken before.
    - ``stack``: one array (default), or a dictionary.
    - ``difference``: whether there is a difference channel (True).
    - ``channel_first``: (C, H, W) as PyTorch has it (default), or (H, W, C).
    - ``max_boxes``: most boxes in an answer, at least 1 (1).
    - ``bins``: number of bins a coordinate, at least 2; None (default) for ``Box`` actions.

    A value out of its range raises ``ValueError``, an environment without two images or without
    texts as actions ``TypeError``.

    ## Example
    The action 0, and the one that stands for a box:

    ```python
    >>> import gymnasium as gym
    >>> from dig_env import NumericView
    >>> view = NumericView(gym.make("DiG-v0", width=128, height=96, quality="draft"))
    >>> observation, info = view.reset(seed=9)
    >>> observation.shape
    (7, 96, 128)
    >>> view.answer([0, 0, 0, 0])
    '[[438, 438, 562, 562]]'
    >>> action = view.encode([[0.44, 0.51, 0.62, 0.75]])
    >>> observation, reward, terminated, truncated, info = view.step(action)
    >>> info["f1"], terminated
    (1.0, True)
    >>> view.close()

    ```

    ## Version History
    - 0.1: first version.
    """

    def __init__(
        self,
        env: gym.Env,
        shape: tuple[int, int] | None = None,
        stack: bool = True,
        difference: bool = True,
        channel_first: bool = True,
        max_boxes: int = 1,
        bins: int | None = None,
    ) -> None:
        check_one(self, env, "coordinates", "NumericVectorView(envs)")
        NumericFormat.__init__(
            self,
            env,
            env.observation_space,
            env.action_space,
            shape,
            stack,
            difference,
            channel_first,
            max_boxes,
            bins,
        )
        gym.Wrapper.__init__(self, env)
        self._coordinates = env.get_wrapper_attr("coordinates")
        self.observation_space, self.action_space = self._arrays, self._actions

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environment; see ``observation``."""
        observation, info = self.env.reset(seed=seed, options=options)
        return self.observation(observation), info

    def step(self, action: ArrayLike) -> tuple[Any, float, bool, bool, dict[str, Any]]:
        """Give the environment the answer that the action stands for.

        Raises:
            ValueError: see ``answer``.
        """
        observation, reward, terminated, truncated, info = self.env.step(self.answer(action))
        return self.observation(observation), float(reward), terminated, truncated, info


class NumericVectorView(NumericFormat, VectorWrapper):
    """``NumericView`` of a vector of environments, whichever renders them.

    So classic RL on fresh pairs needs one renderer: ``NumericVectorView(gym.make_vec("DiG-v0"))``.
    ``observation``, ``answer`` and ``encode`` are those of one environment, as in ``NumericView``.

    Args:
        env: a vector of ``DiG-v0`` environments, or of others that show both images.
        **view: those of ``NumericView``.

    Raises:
        TypeError: no such vector.
        ValueError: a value out of its range.
    """

    def __init__(self, env: VectorEnv, **view: Any) -> None:
        check_vector(self, env, "coordinates", "NumericView(env)")
        NumericFormat.__init__(
            self, env, env.single_observation_space, env.single_action_space, **view
        )
        VectorWrapper.__init__(self, env)
        vector: Any = env.unwrapped
        self._coordinates = vector.get_attr("coordinates")[0]
        self.single_observation_space, self.single_action_space = self._arrays, self._actions
        self.observation_space = batch_space(self._arrays, self.num_envs)
        self.action_space = batch_space(self._actions, self.num_envs)

    def reset(
        self,
        *,
        seed: int | Sequence[int | None] | None = None,
        options: dict[str, Any] | None = None,
    ) -> tuple[Any, dict[str, Any]]:
        """Reset the environments; see ``NumericView.observation``."""
        seen, infos = self.env.reset(seed=seed, options=options)  # type: ignore[arg-type]
        return self._observations(seen), infos

    def step(
        self, actions: ArrayLike
    ) -> tuple[Any, np.ndarray, np.ndarray, np.ndarray, dict[str, Any]]:
        """Give each environment the answer that its action stands for.

        Raises:
            ValueError: not one action for each environment, finite.
        """
        values, wanted = finite_numbers(actions), (self.num_envs, *cast(tuple, self._actions.shape))
        if values is None or values.shape != wanted:
            given = "no finite numbers" if values is None else f"of shape {values.shape}"
            raise ValueError(
                f"the actions are {given}; give {wanted}: for each of {self.num_envs} environments "
                f"one of {self._actions}"
            )
        answers = tuple(self.answer(action) for action in values)
        seen, rewards, terminations, truncations, infos = self.env.step(answers)
        if "final_obs" in infos:
            last = np.full(self.num_envs, None, dtype=object)
            for index in np.flatnonzero(infos["_final_obs"]):
                last[index] = self.observation(infos["final_obs"][index])
            infos = infos | {"final_obs": last}
        return self._observations(seen), rewards, terminations, truncations, infos

    def _observations(self, seen: Any) -> Any:
        pairs = zip(seen["image_a"], seen["image_b"], strict=True)
        each = [self.observation({"image_a": a, "image_b": b}) for a, b in pairs]
        if self._stack:
            return _stacked(each)
        return {name: _stacked([one[name] for one in each]) for name in each[0]}


def _stacked(arrays: Sequence[Any]) -> np.ndarray:
    """In C order, as Gymnasium's own: a network sums other orders up otherwise."""
    return np.ascontiguousarray(np.stack(arrays))
