"""Observations as arrays and boxes as numbers: what both numeric views have in common."""

from __future__ import annotations

from typing import Any, cast

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import RecordConstructorArgs
from gymnasium.vector import VectorEnv
from numpy.typing import ArrayLike
from PIL import Image

from dig_env.answers import format_boxes
from dig_env.boxes import checked_boxes
from dig_env.scenes.arguments import whole
from dig_env.wrappers.curriculum import check_answered_in_text

SMALLEST_SIDE = 1 / 64
"""Least width and height of an answered box, as a fraction of the image's. The middle of the range
of actions is then 1/8, the geometric mean of that and 1, about the size of a rendered object."""


class NumericFormat(RecordConstructorArgs):
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
        values = finite_numbers(action)
        if values is None or values.shape != self._actions.shape:
            raise ValueError(f"action={action!r}: give a finite one of {self._actions}")
        values = values.reshape(self._max_boxes, self._values_per_box)
        if self._steps is not None:
            values = values * 2.0 / self._steps - 1.0
        if self._max_boxes > 1:
            values = values[values[:, 4] > 0.0]
        return format_boxes(_boxes(values[:, :4]), self._coordinates, self._size)

    def encode(self, boxes_unit: ArrayLike) -> np.ndarray:
        """The action that answers with given boxes: the inverse of ``answer``, except for rounding.

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


def finite_numbers(numbers: Any) -> np.ndarray | None:
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
