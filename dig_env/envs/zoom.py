"""The look-closer variant, ``gym.make("DiG-Zoom-v0")``: up to T turns, with zooms on request.

``DiGZoomEnv`` says how a request is spelled. Thoughts are no requests, as ``parse_boxes`` has it,
which also reads the request's box.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle
from PIL import Image

from dig_env.answers import after_thoughts, format_boxes, parse_boxes
from dig_env.boxes import Boxes
from dig_env.envs.dig import DiGEnv
from dig_env.envs.sampler import absolute, plain_seed
from dig_env.envs.spaces import FixedTexts
from dig_env.observation import instructions, observe
from dig_env.scenes import Difficulty, Pair
from dig_env.scenes.arguments import real, whole

MAX_FACTOR = 8
"""Largest enlargement along each axis."""
MAX_TURNS = 64
_MAX_REQUEST = 1000
_PLAIN = re.compile(
    r"""\s*(?:image\s*=\s*)?["']?([AaBb])["']?\s*,\s*(?:bbox_2d\s*=\s*)?(\[[^\[\]]*\])\s*"""
)
_UNREADABLE = 'a request is zoom(A, [x_min, y_min, x_max, y_max]), or B, or a tool call "zoom"'


@dataclass(frozen=True)
class ZoomRegion:
    """A window of the image enlarged ``factor`` times; it is as large as the image itself.

    Attributes:
        size: (width, height) of the image in pixels.
        factor: 1 to ``MAX_FACTOR``.
        corner: (x, y) of the upper left pixel in the enlarged image.
    """

    size: tuple[int, int]
    factor: int
    corner: tuple[int, int]

    @classmethod
    def around(cls, box: Boxes, size: tuple[int, int]) -> ZoomRegion:
        """The most enlarged window that holds a box and is not off the image.

        Args:
            box: (4,) xyxy in the unit frame, of some area.
            size: (width, height) of the image in pixels.
        """
        side = float(max(box[2] - box[0], box[3] - box[1]))
        # Differences of decimals are off in the last bit: 0.8 - 0.6 still fits five times.
        factor = min(MAX_FACTOR, math.floor(1 / side + 1e-9))
        centers = (box[:2] + box[2:]) / 2
        corner = tuple(
            min(max(round(center * factor * pixels - pixels / 2), 0), (factor - 1) * pixels)
            for center, pixels in zip(centers.tolist(), size, strict=True)
        )
        return cls(size, factor, corner)

    @property
    def box(self) -> Boxes:
        """(4,) float64 xyxy in the unit frame."""
        low = np.array(self.corner, dtype=np.float64)
        return np.concatenate([low, low + self.size]) / (self.size * 2) / self.factor

    def resampled(self, image: np.ndarray) -> np.ndarray:
        """The window's part of an (H, W, 3) uint8 image, enlarged to its size (bicubic)."""
        box = tuple(self.box * (self.size * 2))
        return np.array(Image.fromarray(image).resize(self.size, Image.Resampling.BICUBIC, box))


@dataclass(frozen=True)
class ZoomRequest:
    """A request as it was read: ``image`` is "A" or "B"; with an ``error``, it was not readable."""

    image: str = "A"
    region: ZoomRegion | None = None
    error: str = ""


def read_request(text: str, coordinates: str, size: tuple[int, int]) -> ZoomRequest | None:
    """The request in which a turn's text ends; None if the text is an answer.

    Args:
        text: anything; the time is linear in its length.
        coordinates: frame of the numbers, one of ``dig_env.COORDINATES``.
        size: (width, height) of the images in pixels.

    >>> read_request("The cube? zoom(A, [400, 300, 600, 500])", "norm1000", (320, 240)).region
    ZoomRegion(size=(320, 240), factor=5, corner=(640, 360))
    >>> read_request("[[400, 300, 600, 500]]", "norm1000", (320, 240)) is None
    True
    """
    said = after_thoughts(text).rstrip("`. \t\r\n")
    if said.endswith("</tool_call>"):
        body = said[: -len("</tool_call>")].rpartition("<tool_call>")[2]
        read = _tool_arguments
    elif said.endswith(")") and "zoom(" in said:
        body = said[:-1].rpartition("zoom(")[2]
        if ")" in body:
            return None
        read = _plain_arguments
    else:
        return None
    if len(body) > _MAX_REQUEST:
        return ZoomRequest(error=f"the request has more than {_MAX_REQUEST} characters")
    arguments = read(body)
    if arguments is None:
        return ZoomRequest(error=_UNREADABLE)
    return zoom_request(*arguments, coordinates, size)


def zoom_request(image: Any, bbox_2d: Any, coordinates: str, size: tuple[int, int]) -> ZoomRequest:
    """The request that a call's arguments make; whatever they are, nothing raises."""
    name = image.strip().upper() if isinstance(image, str) else ""
    if name not in ("A", "B"):
        return ZoomRequest(error='image is "A" or "B"')
    if not isinstance(bbox_2d, list) or not all(isinstance(n, (int, float)) for n in bbox_2d):
        return ZoomRequest(error="bbox_2d is four numbers, [x_min, y_min, x_max, y_max]")
    parsed = parse_boxes(json.dumps([bbox_2d]), coordinates, size)
    if not parsed.ok:
        return ZoomRequest(error=parsed.error)
    return ZoomRequest(name, ZoomRegion.around(parsed.boxes[0], size))


def zoom_offer(turns: int) -> str:
    """What the prompt says of zooms, behind the instruction of ``DiG-v0``.

    Args:
        turns: most turns, the answer's included.
    """
    if turns == 1:
        return ""
    return (
        f" Before that you may look closer, up to {turns - 1} time{'s'[: turns > 2]}: end a turn "
        "with zoom(A, [x_min, y_min, x_max, y_max]), or B, to see that region of the first (A) or "
        "the second image (B) enlarged. Boxes are always those of the whole image."
    )


def zoom_shown(asked: ZoomRequest, images: Sequence[np.ndarray]) -> dict[str, Any]:
    """What an observation has of a request: ``zoom``, ``shown`` and ``region``.

    Args:
        asked: the request; nothing is shown of one without a region.
        images: A and B, (H, W, 3) uint8.
    """
    if asked.region is None:
        return {"zoom": np.zeros_like(images[0]), "shown": np.int64(0), "region": np.zeros(4)}
    which = "AB".index(asked.image)
    return {
        "zoom": asked.region.resampled(images[which]),
        "shown": np.int64(which + 1),
        "region": asked.region.box,
    }


def zoom_message(observation: dict[str, Any], coordinates: str = "norm1000") -> str:
    """What the user's turn after a request says: what the zoom shows, and how many turns are left.

    Args:
        observation: of ``DiG-Zoom-v0``, after a request.
        coordinates: frame of the answer.
    """
    left = int(observation["turns_left"])
    then = "This is the last turn: answer." if left == 1 else f"{left} turns are left."
    if not observation["shown"]:
        return f"The request could not be read; {_UNREADABLE}. {then}"
    height, width = observation["image_a"].shape[:2]
    (box,) = json.loads(format_boxes(observation["region"][None], coordinates, (width, height)))
    return f"This is {box} of image {' AB'[int(observation['shown'])]}, enlarged. {then}"


def _plain_arguments(body: str) -> tuple[Any, Any] | None:
    match = _PLAIN.fullmatch(body)
    try:
        return (match[1], json.loads(match[2])) if match else None
    except ValueError:
        return None


def _tool_arguments(body: str) -> tuple[Any, Any] | None:
    try:
        call = json.loads(body)
    except (ValueError, RecursionError):
        return None
    arguments = call.get("arguments") if isinstance(call, dict) else None
    if not isinstance(arguments, dict) or call.get("name") != "zoom":
        return None
    return arguments.get("image"), arguments.get("bbox_2d")


class DiGZoomEnv(gym.Env[dict[str, Any], str], EzPickle):
    """``DiG-v0`` with a closer look: zooms on request, then the answer.

    ## Description
    As in ``DiG-v0``, but a turn's text may end in a request for a zoom instead of being the
    answer. A zoom shows the largest enlargement of image A or B, by a whole factor up to 8, in
    which the asked box fits.

    ## Action Space
    Any text. One that ends in a request is a request, spelled in one of two ways:

    - ``zoom(A, [x_min, y_min, x_max, y_max])``
    - ``<tool_call>{"name": "zoom", "arguments": {"image": "A", "bbox_2d": [...]}}</tool_call>``,
      as Qwen3-VL and others call tools.

    "A" is the first image, "B" the second, and the box is in the frame of the answer. Any other
    text is the answer, as in ``DiG-v0``. What counts is what follows the last thought.

    ## Observation Space
    That of ``DiG-v0``, its ``prompt`` with the first spelling, and what the last turn asked for;
    earlier zooms are the policy's to remember:

    - ``zoom``: the enlarged region, as large as the images; black if nothing is shown.
    - ``shown``: 0 nothing, 1 image A, 2 image B.
    - ``region``: what ``zoom`` shows, xyxy in the unit frame.
    - ``turns_left``: how many turns are left, the answer's included.

    ## Rewards
    The answer earns what it earns in ``DiG-v0``. A request earns ``-turn_cost``, whether or not
    it could be read.

    ## Starting State
    That of ``DiG-v0``, with nothing shown.

    ## Episode End
    The answer ends the episode (``terminated``). A request in the last turn is not granted and
    ends it too (``truncated``). ``info`` is that of ``DiG-v0`` then, with zeros after a request.
    ``info`` after any turn holds "error": why the text could not be read, or "".

    ## Arguments
    - ``turns``: most turns, the answer's included, 1 to 64 (4).
    - ``turn_cost``: what a request costs, at least 0 (0.0).
    - all those of ``DiG-v0``.

    ## Example
    One look at the region of a difference, then the answer:

    ```python
    >>> import gymnasium as gym
    >>> import dig_env
    >>> env = gym.make("DiG-Zoom-v0", turn_cost=0.02, width=128, height=96, quality="draft")
    >>> observation, info = env.reset(seed=9)
    >>> observation, reward, *_ = env.step("The cube? zoom(A, [440, 510, 620, 750])")
    >>> observation["zoom"].shape, reward
    ((96, 128, 3), -0.02)
    >>> observation, reward, terminated, truncated, info = env.step("[[440, 510, 620, 750]]")
    >>> info["f1"], terminated, int(observation["turns_left"])
    (1.0, True, 2)
    >>> env.close()

    ```

    ## Registered Configurations
    ``DiG-Zoom-v0``.

    ## Version History
    - v0: first version.
    """

    metadata = DiGEnv.metadata

    def __init__(self, *, turns: int = 4, turn_cost: float = 0.0, **settings: Any) -> None:
        turns = whole("turns", turns, 1, MAX_TURNS)
        settings["dataset"] = absolute(settings.get("dataset"))
        EzPickle.__init__(self, turns=turns, turn_cost=turn_cost, **settings)
        self._game = DiGEnv(**settings)
        self.render_mode, self.coordinates = self._game.render_mode, self._game.coordinates
        self._turns, self._turn_cost = turns, float(real("turn_cost", turn_cost, 0))
        self._turns_left, self._is_open = turns, False
        self.reward_config = self._game.reward_config
        self._size = self._game.pairs.size
        seen = self._game.observation_space
        prompts = instructions(self.coordinates, self._size)
        self.observation_space = spaces.Dict(
            seen.spaces
            | {
                "prompt": FixedTexts([prompt + zoom_offer(turns) for prompt in prompts]),
                "zoom": seen["image_a"],
                "shown": spaces.Discrete(3),
                "region": spaces.Box(0.0, 1.0, (4,), np.float64),
                "turns_left": spaces.Discrete(turns + 1),
            }
        )
        self.action_space = self._game.action_space

    @property
    def stage(self) -> str:
        """As in ``DiG-v0``."""
        return self._game.stage

    @stage.setter
    def stage(self, stage: str | dict[str, Any] | Difficulty) -> None:
        self._game.stage = stage

    @property
    def pair(self) -> Pair:
        """As in ``DiG-v0``."""
        return self._game.pair

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """As in ``DiG-v0``."""
        super().reset(seed=plain_seed(seed))
        self._is_open = False
        self._game.np_random = self.np_random
        _, self._info = self._game.reset(options=options)
        self._turns_left, self._is_open = self._turns, True
        return self._observation(), dict(self._info)

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Grant a request, or score the answer. Raises what ``DiG-v0`` raises."""
        asked = None
        if self._is_open and isinstance(action, str):
            asked = read_request(action, self.coordinates, self._size)
        if asked is None:
            _, reward, terminated, truncated, info = self._game.step(action)
            self._turns_left, self._is_open = self._turns_left - 1, False
            return self._observation(), reward, terminated, truncated, info
        self._turns_left -= 1
        if self._turns_left == 0:
            *_, info = self._game.step("")
            self._is_open = False
            info["error"] = f"no answer in {self._turns} turns"
            return self._observation(), -self._turn_cost, False, True, info
        info = self._info | {"error": asked.error}
        return self._observation(asked), -self._turn_cost, False, False, info

    def render(self) -> np.ndarray | None:
        """As in ``DiG-v0``."""
        return self._game.render()

    def close(self) -> None:
        """As in ``DiG-v0``."""
        self._game.close()

    def _observation(self, asked: ZoomRequest = ZoomRequest()) -> dict[str, Any]:
        seen = observe(self.pair, self.coordinates)
        left = {"turns_left": np.int64(self._turns_left)}
        zoomed = zoom_shown(asked, (self.pair.image_a, self.pair.image_b))
        return seen | {"prompt": seen["prompt"] + zoom_offer(self._turns)} | zoomed | left
