"""The environment: ``gym.make("DiG-v0")``."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle, seeding

from dig_env.drawing import RENDER_MODES, Display, draw_pair
from dig_env.envs.pairs import PairSource
from dig_env.envs.sampler import PairSampler, absolute, plain_seed
from dig_env.envs.spaces import AnswerText, FixedTexts
from dig_env.frames import COORDINATES
from dig_env.observation import instructions, observe
from dig_env.reward import score
from dig_env.reward_config import RewardLike, resolve_reward
from dig_env.scenes import Difficulty, Pair
from dig_env.scenes.arguments import one_of


def spaces_of(coordinates: str, size: tuple[int, int]) -> tuple[spaces.Dict, AnswerText]:
    """The observation and the action space of ``DiG-v0``, for images of (width, height) pixels."""
    width, height = size
    observation = spaces.Dict(
        image_a=spaces.Box(0, 255, (height, width, 3), np.uint8),
        image_b=spaces.Box(0, 255, (height, width, 3), np.uint8),
        prompt=FixedTexts(instructions(coordinates, size)),
    )
    return observation, AnswerText()


def check_action(action: Any) -> None:
    """Raise TypeError unless it is a text."""
    if not isinstance(action, str):
        raise TypeError(
            f"an action is the policy's answer as a str, such as '[[120, 300, 210, 400]]', "
            f"not a {type(action).__name__}"
        )


class DiGEnv(gym.Env[dict[str, Any], str], EzPickle):
    """Spot the difference, as one-step episodes over freshly rendered pairs of images.

    ## Description
    Two images of the same scene differ in K objects, each in its colour, shape, size or material,
    or by being added or deleted. Blender renders them as they are asked for. The policy answers in
    text with a box around every difference; it is not told how many there are. The task is that of
    Differential Grounding (DiG, arXiv 2512.12633).

    ## Action Space
    Any text. ``[[x_min, y_min, x_max, y_max], ...]`` is the plain answer;
    ``dig_env.answers`` lists what else is understood. A text without a valid list is a legal
    action that earns 0.

    ## Observation Space
    - ``image_a``, ``image_b``: the images, (H, W, 3) uint8, sRGB.
    - ``prompt``: a text that asks for the boxes and names the coordinate frame. It says more where
      the stage lets images be equal, has nuisances or moves the camera, and is the same for all
      pairs of a stage.

    ## Rewards
    ``dig_env.score(answer, truth).total``, from 0 to 1: format, F1 and mean IoU after Hungarian
    matching, by default as 0.1 format + 0.45 F1 + 0.45 IoU. ``reward`` sets the weights. Where
    nothing differs, the empty list ``[]`` earns 1. Where the camera moves, the box of a difference
    is that in image A, or in image B if only that one shows the object.

    ## Starting State
    A pair whose seed is drawn from ``split``'s range by the environment's own generator, or is
    ``options={"pair_seed": ...}``. ``options={"stage": ...}`` sets the stage of this episode.
    ``info`` holds "pair_seed" and "stage", and never the truth.

    ## Episode End
    One answer ends the episode (``terminated``). Its ``info`` adds the floats "format", "f1",
    "iou", "precision" and "recall", "error" (what is wrong with the answer, or ""), and
    "truth": one {"change": name, "box": [x_min, y_min, x_max, y_max] in pixels} a difference.

    ## Arguments
    - ``stage``: "single" (default), "dual", "mixed", "subtle", "cluttered", "nuisance", "extreme",
      a stage of the dataset, a name given to ``dig_env.scenes.register_stage``, or a dictionary
      of ``dig_env.scenes.Difficulty`` fields, such as
      ``{"differences": (2, 3), "changes": ["color"]}``.
    - ``width``, ``height``: image size in pixels (320, 240).
    - ``quality``: "draft", "standard" (default) or "high".
    - ``device``: "auto" (default), "cpu" or "gpu": where Cycles renders.
    - ``workers``: Blender processes (1). While the policy thinks, as many of the next pairs are
      rendered in advance.
    - ``dataset``: folder that ``dig-env render`` wrote; its pairs are drawn, with replacement,
      instead of rendered. It decides size and quality, which are then left out. Its stages are
      chosen by name. Or a ``dig_env.envs.pairs.PairSource``, which stays yours to close.
    - ``coordinates``: frame of the answer: "norm1000" (default), "unit", "pixel" or
      "resized_pixel"; see ``dig_env.COORDINATES``.
    - ``reward``: name of one of ``dig_env.REWARDS`` ("full"), ``dig_env.RewardConfig`` fields, or a
      RewardConfig.
    - ``split``: "train" (default), "validation" or "test": disjoint ranges of pair seeds.
    - ``render_mode``: None, "rgb_array" or "human": both images side by side, after the answer
      with the true boxes (green) and the answered ones (red).

    ## Example
    One of two differences is found:

    ```python
    >>> import gymnasium as gym
    >>> import dig_env
    >>> env = gym.make("DiG-v0", stage="dual", width=128, height=96, quality="draft")
    >>> observation, info = env.reset(seed=9)
    >>> observation["image_a"].shape, observation["image_b"].shape
    ((96, 128, 3), (96, 128, 3))
    >>> observation, reward, terminated, truncated, info = env.step("[[440, 510, 620, 750]]")
    >>> info["precision"], info["recall"], terminated
    (1.0, 0.5, True)
    >>> [difference["change"] for difference in info["truth"]]
    ['shape', 'size']
    >>> env.close()

    ```

    ## Registered Configurations
    ``DiG-v0`` has single differences unless ``stage`` says otherwise. ``gym.make_vec`` makes a
    ``dig_env.envs.vector.DiGVectorEnv`` of each.

    ### DiG-Single-v0
    One difference.

    ### DiG-Dual-v0
    Two differences.

    ### DiG-Mixed-v0
    One to four differences, each number equally often.

    ## Pickling
    A copy is made from the same arguments and starts over: ``reset`` it with a seed.

    ## Version History
    - v0: first version.
    """

    observation_space: spaces.Dict
    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 1}

    def __init__(
        self,
        stage: str | dict[str, Any] | Difficulty = "single",
        width: int | None = None,
        height: int | None = None,
        quality: str | None = None,
        device: str | None = None,
        workers: int = 1,
        dataset: str | Path | PairSource | None = None,
        coordinates: str = "norm1000",
        reward: RewardLike | None = None,
        split: str = "train",
        render_mode: str | None = None,
    ) -> None:
        dataset = absolute(dataset)
        arguments = (stage, width, height, quality, device, workers, dataset, coordinates, reward)
        EzPickle.__init__(self, *arguments, split, render_mode)
        one_of("coordinates", coordinates, COORDINATES)
        self.render_mode, self._display = render_mode, Display(render_mode)
        self.coordinates = coordinates
        self.reward_config = resolve_reward(reward)
        render: dict[str, Any] = {"width": width, "height": height}
        render |= {"quality": quality, "device": device}
        self.pairs = PairSampler(stage, dataset, split, workers, **render)
        self._pair: Pair | None = None
        self._answered_boxes: np.ndarray | None = None
        self.observation_space, self.action_space = spaces_of(coordinates, self.pairs.size)

    @property
    def stage(self) -> str:
        """Name of the stage that the next ``reset`` plays; see ``PairSampler.stage``."""
        return self.pairs.stage

    @stage.setter
    def stage(self, stage: str | dict[str, Any] | Difficulty) -> None:
        self.pairs.stage = stage

    @property
    def pair(self) -> Pair:
        """The current pair, truth included: for oracles, inspectors and tests.

        Raises:
            gymnasium.error.ResetNeeded: there is none before the first ``reset``.
        """
        if self._pair is None:
            raise gym.error.ResetNeeded("there is no pair yet: call reset() first")
        return self._pair

    @property
    def boxes_drawn(self) -> tuple[np.ndarray, ...]:
        """What ``render`` draws: () before the answer; then (N, 4) xyxy in the unit frame of true
        boxes in image A, answered boxes, and true boxes in image B."""
        if self._answered_boxes is None:
            return ()
        shown_a, shown_b = self.pair.boxes_shown
        return shown_a, self._answered_boxes, shown_b

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Render the next pair.

        Args:
            seed: reseeds the generator that draws pair seeds.
            options: "stage": this episode's stage; "pair_seed": the pair to show, from any split.

        Raises:
            ValueError: an unknown option, stage or seed.
            dig_env.scenes.DifficultyError: no pair of this seed satisfies the difficulty.
            dig_env.scenes.RenderError: Blender is missing or failed.
        """
        super().reset(seed=plain_seed(seed))
        self._pair = self._answered_boxes = None  # a reset that fails leaves no pair to answer
        drawn = self.pairs.next(self.np_random, options)
        self._pair, self._info = drawn.pair, drawn.info
        if self.render_mode == "human":
            self.render()
        return observe(self.pair, self.coordinates), dict(self._info)

    def prefetch(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Start on the pair that ``reset`` with these arguments will show, without waiting for it.

        Where environments share a source, no reset then waits for what another one looks ahead to.
        Which pairs are shown does not depend on it. Same errors as ``reset``.
        """
        rng = self.np_random if seed is None else seeding.np_random(plain_seed(seed))[0]
        self.pairs.prefetch(rng, options)

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Score the answer; the episode is over.

        Raises:
            TypeError: the action is not a string.
            gymnasium.error.ResetNeeded: no pair is open: call ``reset`` first.
        """
        if self._answered_boxes is not None:
            raise gym.error.ResetNeeded("this pair has had its answer: call reset() for the next")
        pair = self.pair
        check_action(action)
        result = score(
            action,
            pair.boxes_unit,
            self.reward_config,
            coordinates=self.coordinates,
            size=self.pairs.size,
        )
        self._answered_boxes = result.answer.boxes
        info = self._info | {
            "format": result.format,
            "f1": result.f1,
            "iou": result.iou,
            "precision": result.precision,
            "recall": result.recall,
            "error": result.answer.error,
            "truth": [{"change": diff.change, "box": list(diff.box)} for diff in pair.differences],
        }
        if self.render_mode == "human":
            self.render()
        return observe(pair, self.coordinates), result.total, True, False, info

    def render(self) -> np.ndarray | None:
        """Both images side by side; boxes appear once the answer is in.

        Returns:
            (H', W', 3) uint8 for "rgb_array"; None for "human", which shows it in a window.
        """
        return self._display.show(
            lambda: draw_pair(self.pair.image_a, self.pair.image_b, *self.boxes_drawn)
        )

    def close(self) -> None:
        """Close the window, and what the environment started; safe to call twice.

        A ``PairSource`` that was given as ``dataset`` stays open.
        """
        self.pairs.close()
        self._display.close()
