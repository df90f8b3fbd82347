"""Pictures for people: both images side by side, with true and answered boxes."""

from __future__ import annotations

import io
from collections.abc import Callable
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike
from PIL import Image, ImageDraw

from dig_env.scenes import Pair
from dig_env.scenes.extras import extra

RENDER_MODES = ("rgb_array", "human")
TRUE_COLOR = (0, 160, 60)
ANSWERED_COLOR = (230, 30, 60)
GUTTER_PX = 4
MIN_HEIGHT_PX = 240
"""Smaller images are enlarged by a whole factor, so that one-pixel outlines stay readable."""


def draw_pair(
    image_a: np.ndarray,
    image_b: np.ndarray,
    true_boxes: ArrayLike = (),
    answered_boxes: ArrayLike = (),
    true_boxes_b: ArrayLike | None = None,
) -> np.ndarray:
    """Draw a pair with its boxes: true ones green, answered ones red.

    Args:
        image_a, image_b: (H, W, 3) uint8.
        true_boxes, answered_boxes: (N, 4) xyxy in the unit frame; none by default.
        true_boxes_b: those of image B, where the camera moved between the images.

    Returns:
        (H', W', 3) uint8: the images side by side, enlarged if they are small.
    """
    shown_b = true_boxes if true_boxes_b is None else true_boxes_b
    panels = [
        draw_image(image_a, true_boxes, answered_boxes),
        draw_image(image_b, shown_b, answered_boxes),
    ]
    gutter = np.full((panels[0].shape[0], GUTTER_PX, 3), 255, dtype=np.uint8)
    return np.concatenate([panels[0], gutter, panels[1]], axis=1)


def draw_answer(pair: Pair, answered_boxes: ArrayLike) -> np.ndarray:
    """``draw_pair`` with the true boxes of each image; answered ones as there."""
    shown_a, shown_b = pair.boxes_shown
    return draw_pair(pair.image_a, pair.image_b, shown_a, answered_boxes, shown_b)


def draw_image(
    image: np.ndarray, true_boxes: ArrayLike = (), answered_boxes: ArrayLike = ()
) -> np.ndarray:
    """The same for one image."""
    factor = max(1, -(-MIN_HEIGHT_PX // image.shape[0]))
    height, width = image.shape[0] * factor, image.shape[1] * factor
    panel = Image.fromarray(image).resize((width, height), Image.Resampling.NEAREST)
    draw = ImageDraw.Draw(panel)
    for boxes, color in ((true_boxes, TRUE_COLOR), (answered_boxes, ANSWERED_COLOR)):
        corners = np.asarray(boxes, dtype=np.float64).reshape(-1, 4)
        for x0, y0, x1, y1 in corners * (width, height, width, height):
            draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=color, width=2)
    return np.array(panel)


class Display:
    """Shows an environment's pictures as its render mode says; a window opens with the first.

    Args:
        mode: one of ``RENDER_MODES``, or None.

    Raises:
        ValueError: another mode.
    """

    def __init__(self, mode: str | None) -> None:
        if mode is not None and mode not in RENDER_MODES:
            raise ValueError(
                f"render_mode={mode!r}: give None, {' or '.join(map(repr, RENDER_MODES))}"
            )
        self._mode = mode
        self._screen: Any = None

    def show(self, draw: Callable[[], np.ndarray]) -> np.ndarray | None:
        """Draw a (H, W, 3) uint8 picture, and return it or show it; warns if there is no mode.

        All pictures of a window are of one size.
        """
        if self._mode is None:
            gym.logger.warn(
                'render() without a render mode: make the env with render_mode="rgb_array"'
            )
            return None
        frame = draw()
        if self._mode == "rgb_array":
            return frame
        with extra("play"):
            import pygame

        height, width = frame.shape[:2]
        if self._screen is None:
            pygame.display.init()
            pygame.display.set_caption("DiG")
            self._screen = pygame.display.set_mode((width, height))
        self._screen.blit(pygame.surfarray.make_surface(frame.swapaxes(0, 1)), (0, 0))
        pygame.event.pump()
        pygame.display.flip()
        return None

    def close(self) -> None:
        """Close the window, if it is open."""
        if self._screen is not None:
            import pygame

            pygame.display.quit()
            self._screen = None


def png(image: np.ndarray, compress_level: int = 6) -> bytes:
    """A (H, W, 3) uint8 image as a PNG file.

    Args:
        image: the pixels.
        compress_level: 0 to 9; 1 takes a quarter of the time of 6, and a third more room.
    """
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="PNG", compress_level=compress_level)
    return buffer.getvalue()
