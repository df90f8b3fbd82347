"""The environment: ``gym.make("DiG-v0")``."""

from __future__ import annotations

import copy
from concurrent.futures import Future
from pathlib import Path
from typing import Any, SupportsIndex

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle, seeding

from dig_env.drawing import HumanWindow, draw_pair
from dig_env.envs.pairs import PairSource, pair_source, stages_of
from dig_env.envs.spaces import AnswerText, FixedTexts
from dig_env.frames import COORDINATES
from dig_env.observation import instructions, observe
from dig_env.reward import score
from dig_env.reward_config import RewardLike, resolve_reward
from dig_env.scenes import SEEDS_PER_SPLIT, Difficulty, Pair, resolve_stage
from dig_env.scenes.forks import start_anew_in_forks
from dig_env.scenes.integers import whole
from dig_env.scenes.render.renderer import wait_for

RENDER_MODES = ("rgb_array", "human")


def spaces_of(coordinates: str, size: tuple[int, int]) -> tuple[spaces.Dict, AnswerText]:
    """The observation and the action space of ``DiG-v0``, for images of (width, height) pixels."""
    width, height = size
    observation = spaces.Dict(
        image_a=spaces.Box(0, 255, (height, width, 3), np.uint8),
        image_b=spaces.Box(0, 255, (height, width, 3), np.uint8),
        prompt=FixedTexts(instructions(coordinates, size)),
    )
    return observation, AnswerText()


def check_render_mode(render_mode: str | None) -> None:
    """Raise ValueError unless it is None or one of ``RENDER_MODES``."""
    if render_mode is not None and render_mode not in RENDER_MODES:
        raise ValueError(
            f"render_mode={render_mode!r}: give None, {' or '.join(map(repr, RENDER_MODES))}"
        )


def check_action(action: Any) -> None:
    """Raise TypeError unless it is a text."""
    if not isinstance(action, str):
        raise TypeError(
            f"an action is the policy's answer as a str, such as '[[120, 300, 210, 400]]', "
            f"not a {type(action).__name__}"
        )


def plain_seed(seed: Any) -> Any:
    """A seed that is a whole number as the int that Gymnasium wants; the rest is its to refuse."""
    return whole("seed", seed) if isinstance(seed, SupportsIndex) else seed


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
    A copy is made from the same arguments and starts anew: ``reset`` it with a seed.

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
        if isinstance(dataset, (str, Path)):
            dataset = str(Path(dataset).absolute())  # for copies, wherever they are made
        made_of = (stage, width, height, quality, device, workers, dataset, coordinates, reward)
        EzPickle.__init__(self, *made_of, split, render_mode)
        if coordinates not in COORDINATES:
            raise ValueError(f"coordinates={coordinates!r}: give one of {', '.join(COORDINATES)}")
        check_render_mode(render_mode)
        self._coordinates = coordinates
        self._reward_config = resolve_reward(reward)
        asked = {"width": width, "height": height, "quality": quality, "device": device}
        self._pairs = pair_source(asked, dataset, split, workers)
        self._stage, self._difficulty = resolve_stage(stage, stages_of(self._pairs))
        width, height = self._pairs.settings.width, self._pairs.settings.height
        self._size = (width, height)
        self.prefetch_count = self._pairs.prefetch_count
        self._owns_pairs = dataset is None or isinstance(dataset, (str, Path))
        self._forget_ahead()
        start_anew_in_forks(self, DiGEnv._forget_ahead)
        self._pair: Pair | None = None
        self._answered_boxes: np.ndarray | None = None
        self._window = HumanWindow()
        self.render_mode = render_mode
        self.observation_space, self.action_space = spaces_of(coordinates, self._size)

    @property
    def stage(self) -> str:
        """Name of the stage that the next ``reset`` plays; "custom" for a difficulty of one's own.

        Set it to a name, a Difficulty or a dictionary of its fields.
        """
        return self._stage

    @stage.setter
    def stage(self, stage: str | dict[str, Any] | Difficulty) -> None:
        self._stage, self._difficulty = self._meant(stage)

    def _meant(self, stage: str | dict[str, Any] | Difficulty) -> tuple[str, Difficulty]:
        """Name and difficulty of a stage; "custom" is the present one where that has no name."""
        if stage == self._stage:
            return self._stage, self._difficulty
        return resolve_stage(stage, stages_of(self._pairs))

    @property
    def source(self) -> PairSource:
        """Where the pairs come from."""
        return self._pairs

    @property
    def coordinates(self) -> str:
        """Frame of the answers, as it was given."""
        return self._coordinates

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
        self._next_pair(seed, options)
        if self.render_mode == "human":
            self.render()
        return observe(self.pair, self._coordinates), dict(self._info)

    def _next_pair(self, seed: int | None, options: dict[str, Any] | None) -> int:
        """Take the next pair; returns the number that was drawn for it, 0 to 2**48 - 1."""
        super().reset(seed=plain_seed(seed))
        # Drawn even when an option replaces it, so that replays never shift the stream.
        drawn = int(self.np_random.integers(SEEDS_PER_SPLIT))
        stage, difficulty, replayed = self._asked(options)
        # A reset that fails must not leave the last pair open to a further answer.
        self._pair = self._answered_boxes = None
        pair_seed = self._pairs.pair_seed(drawn, stage) if replayed is None else replayed
        future = self._ahead.pop((pair_seed, difficulty), None)
        if future is None:
            future = self._pairs.submit(pair_seed, difficulty)
        if replayed is None:
            self._ask_ahead(self.np_random, stage, difficulty, self.prefetch_count)
        self._pair = wait_for(future)
        self._info: dict[str, Any] = {"pair_seed": pair_seed, "stage": stage}
        return drawn

    def prefetch(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> None:
        """Start on the pair that ``reset`` with these arguments will show, without waiting for it.

        Where environments share a source, no reset then waits for what another one looks ahead to.
        Which pairs are shown does not depend on it. Same errors as ``reset``.
        """
        stage, difficulty, replayed = self._asked(options)
        if replayed is None:
            generator = self.np_random if seed is None else seeding.np_random(plain_seed(seed))[0]
            self._ask_ahead(generator, stage, difficulty, max(1, self.prefetch_count))
        elif (replayed, difficulty) not in self._ahead:
            self._ahead[replayed, difficulty] = self._pairs.submit(replayed, difficulty)

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
            self._reward_config,
            coordinates=self._coordinates,
            size=self._size,
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
        return observe(pair, self._coordinates), result.total, True, False, info

    def render(self) -> np.ndarray | None:
        """Both images side by side; boxes appear once the answer is in.

        Returns:
            (H', W', 3) uint8 for "rgb_array"; None for "human", which shows it in a window.
        """
        if self.render_mode is None:
            gym.logger.warn(
                'render() without a render mode: make the env with render_mode="rgb_array"'
            )
            return None
        frame = self._frame()
        if self.render_mode == "rgb_array":
            return frame
        self._window.show(frame)
        return None

    def close(self) -> None:
        """End the window, and what the environment started; safe to call twice.

        A ``PairSource`` that it was given is left alone, but for the pairs that were asked for in
        advance.
        """
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()
        if self._owns_pairs:
            self._pairs.close()
        self._window.close()

    def _asked(self, options: dict[str, Any] | None) -> tuple[str, Difficulty, int | None]:
        """The stage, its difficulty and the pair seed, if any, that a reset's options mean."""
        options = dict(options or {})
        replayed = options.pop("pair_seed", None)
        if replayed is not None:
            replayed = whole("pair_seed", replayed)
        stage, difficulty = self._stage, self._difficulty
        if "stage" in options:
            stage, difficulty = self._meant(options.pop("stage"))
        if options:
            raise ValueError(
                f"unknown reset option {', '.join(map(repr, options))}; "
                'the options are "stage" and "pair_seed"'
            )
        return stage, difficulty, replayed

    def _ask_ahead(
        self, generator: np.random.Generator, stage: str, difficulty: Difficulty, count: int
    ) -> None:
        """Ask for the next pairs that the generator will draw if the stage stays as it is."""
        if not count and not self._ahead:
            return  # without a copy of the generator, which a reset from memory would feel
        generator = copy.deepcopy(generator)
        upcoming = [
            (self._pairs.pair_seed(int(generator.integers(SEEDS_PER_SPLIT)), stage), difficulty)
            for _ in range(count)
        ]
        for key in [key for key in self._ahead if key not in upcoming]:
            self._ahead.pop(key).cancel()
        for key in upcoming:
            if key not in self._ahead:
                self._ahead[key] = self._pairs.submit(*key)

    def _forget_ahead(self) -> None:
        self._ahead: dict[tuple[int, Difficulty], Future[Pair]] = {}

    def _frame(self) -> np.ndarray:
        """What ``render`` shows."""
        return draw_pair(self.pair.image_a, self.pair.image_b, *self.boxes_drawn)
