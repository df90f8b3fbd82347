"""The environment in numbers: images as arrays, boxes as actions, for PPO and other classic RL."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv, VectorWrapper
from gymnasium.vector.utils import batch_space
from numpy.typing import ArrayLike
from PIL import Image

from dig_env.answers import format_boxes
from dig_env.boxes import checked_boxes
from dig_env.scenes.integers import whole
from dig_env.wrappers.curriculum import check_answered_in_text, check_one, check_vector

SMALLEST_SIDE = 1 / 64
"""Least width and height of an answered box, as a fraction of the image's. The middle of the range
of actions is then 1/8, the geometric mean of that and 1, about the size of a rendered object."""


class _Numbers(RecordConstructorArgs):
    """What both views share: the spaces of one environment, and how its answers are written.

    Args:
        env: of which the view is, for errors.
        seen, answered: the spaces of one environment in it.
        others: those of ``NumericView``.
    """

    _coordinates: str

    def __init__(
        self,
        env: gym.Env | VectorEnv,
        seen: spaces.Space,
        answered: spaces.Space,
        shape: tuple[int, int] | None = None,
        stack: bool = True,
        difference: bool = True,
        channel_first: bool = True,
        max_boxes: int = 1,
        bins: int | None = None,
    ) -> None:
        check_answered_in_text(self, env, answered)
        if not isinstance(seen, spaces.Dict) or not {"image_a", "image_b"} <= seen.keys():
            shown = ", ".join(seen) if isinstance(seen, spaces.Dict) else seen
            raise TypeError(
                f"{type(self).__name__} shows image_a and image_b, as DiG-v0 has them; {env} has "
                f"{shown}"
            )
        RecordConstructorArgs.__init__(
            self,
            shape=shape,
            stack=stack,
            difference=difference,
            channel_first=channel_first,
            max_boxes=max_boxes,
            bins=bins,
        )
        height, width = cast(tuple[int, ...], seen["image_a"].shape)[:2]
        self._size = (width, height)
        self._shape = _checked_shape((height, width) if shape is None else shape)
        self._stack, self._difference, self._channel_first = stack, difference, channel_first
        self._max_boxes = whole("max_boxes", max_boxes, 1)
        # A box has a presence only where an answer may leave it out.
        self._values_per_box = 4 if max_boxes == 1 else 5
        self._steps = None
        if bins is not None:
            last = whole("bins", bins, 2) - 1
            self._steps = np.array([last, last, last, last, 1])[: self._values_per_box]
        self._arrays = self._space_of_observations()
        self._actions = self._space_of_actions()

    def observation(self, observation: dict[str, Any]) -> np.ndarray | dict[str, np.ndarray]:
        """The arrays of an observation of the environment: see the observation space."""
        image_a, image_b = observation["image_a"], observation["image_b"]
        images = {"image_a": image_a, "image_b": image_b}
        if self._difference:
            # The larger less the smaller: a plain difference of bytes would wrap around.
            apart = np.maximum(image_a, image_b) - np.minimum(image_a, image_b)
            red, green, blue = apart[..., :1], apart[..., 1:2], apart[..., 2:]
            images["difference"] = np.maximum(
                np.maximum(red, green), blue
            )  # .max() takes 5 times as long
        images = {name: self._resized(image) for name, image in images.items()}
        return np.concatenate(list(images.values()), self._channel_axis) if self._stack else images

    def answer(self, action: ArrayLike) -> str:
        """The text that an action stands for, in the environment's coordinates.

        Raises:
            ValueError: not of the action space's shape, or not finite.
        """
        values = _finite(action)
        if values is None or values.shape != self._actions.shape:
            raise ValueError(f"action is {action!r}; it must be finite, one of {self._actions}")
        values = values.reshape(self._max_boxes, self._values_per_box)
        if self._steps is not None:
            values = values * 2.0 / self._steps - 1.0
        if self._max_boxes > 1:
            values = values[values[:, 4] > 0.0]
        return format_boxes(_boxes(values[:, :4]), self._coordinates, self._size)

    def encode(self, boxes_unit: ArrayLike) -> np.ndarray:
        """The action that answers with given boxes: the inverse of ``answer``, but for rounding.

        Sides below ``SMALLEST_SIDE`` become that long.

        Args:
            boxes_unit: (N, 4) xyxy in the unit frame, N at most ``max_boxes``.

        Returns:
            An element of the action space.

        Raises:
            ValueError: not boxes in [0, 1], or a number of them that no action stands for.
        """
        boxes = checked_boxes(boxes_unit, "boxes_unit")
        least = 0 if self._max_boxes > 1 else 1
        if not least <= len(boxes) <= self._max_boxes:
            raise ValueError(
                f"{len(boxes)} boxes; an action has {least} to {self._max_boxes}: set max_boxes"
            )
        values = np.zeros((self._max_boxes, 5))
        values[: len(boxes), :4] = _numbers(boxes)
        values[:, 4] = np.where(np.arange(self._max_boxes) < len(boxes), 1.0, -1.0)
        values = values[:, : self._values_per_box]
        if self._steps is not None:
            values = np.rint((values + 1.0) / 2.0 * self._steps)
        return values.ravel().astype(self._actions.dtype)

    @property
    def _channel_axis(self) -> int:
        return 0 if self._channel_first else 2

    def _space_of_observations(self) -> spaces.Space:
        channels = {"image_a": 3, "image_b": 3} | ({"difference": 1} if self._difference else {})
        if self._stack:
            return self._image_space(sum(channels.values()))
        return spaces.Dict({name: self._image_space(count) for name, count in channels.items()})

    def _image_space(self, channels: int) -> spaces.Box:
        height, width = self._shape
        shape = (channels, height, width) if self._channel_first else (height, width, channels)
        return spaces.Box(0, 255, shape, np.uint8)

    def _space_of_actions(self) -> spaces.Space:
        if self._steps is None:
            return spaces.Box(-1.0, 1.0, (self._max_boxes * self._values_per_box,), np.float32)
        return spaces.MultiDiscrete(np.tile(self._steps + 1, self._max_boxes))

    def _resized(self, image: np.ndarray) -> np.ndarray:
        """(h, w, C) uint8 at this view's size and in its order of axes."""
        height, width = self._shape
        if image.shape[:2] != self._shape:
            # Pillow knows an image of one channel by its two axes.
            pixels = image[:, :, 0] if image.shape[2] == 1 else image
            resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BOX)
            image = np.asarray(resized).reshape(height, width, -1)
        return image.transpose(2, 0, 1) if self._channel_first else image


class NumericView(_Numbers, gym.Wrapper):
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
        _Numbers.__init__(
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


class NumericVectorView(_Numbers, VectorWrapper):
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
        _Numbers.__init__(self, env, env.single_observation_space, env.single_action_space, **view)
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
        values, wanted = _finite(actions), (self.num_envs, *cast(tuple, self._actions.shape))
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


def _boxes(numbers: np.ndarray) -> np.ndarray:
    """(N, 4) numbers of an action in [-1, 1] as xyxy boxes in the unit frame."""
    numbers = np.clip(numbers, -1.0, 1.0)
    center = (numbers[:, :2] + 1.0) / 2.0
    half = SMALLEST_SIDE ** ((1.0 - numbers[:, 2:]) / 2.0) / 2.0
    return np.clip(np.hstack([center - half, center + half]), 0.0, 1.0)


def _numbers(boxes: np.ndarray) -> np.ndarray:
    """The inverse of ``_boxes``."""
    center = (boxes[:, :2] + boxes[:, 2:]) / 2.0
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], SMALLEST_SIDE)
    return np.hstack([2.0 * center - 1.0, 1.0 - 2.0 * np.log(sides) / np.log(SMALLEST_SIDE)])


def _stacked(arrays: Sequence[Any]) -> np.ndarray:
    """In C order, as Gymnasium's own: a network sums other orders up otherwise."""
    return np.ascontiguousarray(np.stack(arrays))


def _finite(numbers: Any) -> np.ndarray | None:
    """As float64; None if they are not finite numbers."""
    try:
        values = np.asarray(numbers, dtype=np.float64)
    except (TypeError, ValueError):
        return None
    return values if np.isfinite(values).all() else None


def _checked_shape(shape: Any) -> tuple[int, int]:
    if not isinstance(shape, (tuple, list)) or len(shape) != 2:
        raise ValueError(f"shape={shape!r}: give (height, width) in pixels, such as (48, 64)")
    return whole("shape[0]", shape[0], 1), whole("shape[1]", shape[1], 1)
