"""The alignment tasks as an environment: ``gym.make("DiG-Align-v0")``."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
from gymnasium import spaces
from gymnasium.utils import EzPickle

from dig_env.align.drawing import draw_question
from dig_env.align.grading import grade
from dig_env.align.questions import Question, write_answer
from dig_env.align.settings import AlignSettings
from dig_env.align.tasks import pose, resolve_tasks
from dig_env.drawing import RENDER_MODES, Display
from dig_env.envs.pairs import PairSource
from dig_env.envs.sampler import PairSampler, absolute, plain_seed
from dig_env.envs.spaces import AnswerText
from dig_env.scenes import Difficulty, views

MAX_PROMPT_LENGTH = 1024
MAX_PAIRS = 50
"""Pairs that a ``reset`` tries before it says that the task cannot be asked."""


class DiGAlignEnv(gym.Env[dict[str, Any], str], EzPickle):
    """Questions about one image: text, coordinates and crops of its objects, in every direction.

    ## Description
    One image of a rendered pair is shown, and a question is asked about it; docs/align.md shows
    one of each task. Questions and answers are exact, since the scene is known.

    ## Action Space
    Any text. What is read of it is in ``dig_env.align.grading``.

    ## Observation Space
    - ``image``: the image, (H, W, 3) uint8, sRGB.
    - ``crops``: (N, S, S, 3) uint8, black from ``crop_count`` on.
    - ``crop_count``: how many crops this prompt shows.
    - ``prompt``: the question, with ``<image>`` where the image is shown and ``<object>`` where
      each crop is. In a later turn of a conversation the earlier messages are the policy's to
      remember; the image is still there.

    ## Rewards
    ``dig_env.align.grade(answer, ...).reward`` over the number of turns: an episode's sum is from 0
    to 1.

    ## Starting State
    A pair as in ``DiG-v0``; the number that was drawn for it also decides which of its images is
    shown and what is asked. Where an image gives nothing to ask the other one is taken, then the
    next pair. ``options={"pair_seed": ...}`` asks about that pair, ``{"task": ...}`` sets
    the task of this episode, ``{"stage": ...}`` the stage. ``info`` holds "task", "pair_seed",
    "stage", "image" ("a" or "b"), "turns" and what else is known of the question, such as "kind".

    ## Episode End
    One answer ends the episode (``terminated``); in a conversation, the answer to its last turn.
    ``info`` after an answer adds "right" and "iou" (floats), "read" and "error" (what was
    understood, or why nothing was), and "truth", the right answer in words.

    ## Arguments
    - ``task``: a name in ``dig_env.align.TASKS`` ("text_to_box"), or several, of which each episode
      draws one.
    - ``coordinates``: frame of all boxes: "norm1000" (default), "unit" (0.000 to 1.000, as in
      TinyGroundingGPT), "pixel" or "resized_pixel".
    - ``filters``: dictionary of further ``dig_env.align.AlignSettings`` fields, such as
      ``{"crop_px": 336}``. N is its ``options``, S its ``crop_px``.
    - ``stage`` ("mixed"), ``width``, ``height``, ``quality``, ``device``, ``workers``,
      ``dataset``, ``split``, ``render_mode``: as in ``DiG-v0``. The stage matters little: either
      image of a pair is a scene like any other.

    ## Example
    A box by words:

    ```python
    >>> import gymnasium as gym
    >>> import dig_env
    >>> env = gym.make("DiG-Align-v0", width=128, height=96, quality="draft")
    >>> observation, info = env.reset(seed=9)
    >>> observation["prompt"].partition(" Answer")[0]
    '<image>\\nFind the shiny sphere.'
    >>> observation, reward, terminated, truncated, info = env.step("[[250, 550, 330, 660]]")
    >>> info["right"], terminated, info["truth"]
    (1.0, True, '[[250, 552, 328, 656]]')
    >>> env.close()

    ```

    ## Registered Configurations
    ``DiG-Align-v0``. In Gymnasium's ``AsyncVectorEnv`` give ``shared_memory=False``: it cannot
    share texts that change.

    ## Version History
    - v0: first version.
    """

    metadata = {"render_modes": list(RENDER_MODES), "render_fps": 1}

    def __init__(
        self,
        task: str | Sequence[str] = "text_to_box",
        coordinates: str = "norm1000",
        filters: dict[str, Any] | None = None,
        stage: str | dict[str, Any] | Difficulty = "mixed",
        width: int | None = None,
        height: int | None = None,
        quality: str | None = None,
        device: str | None = None,
        workers: int = 1,
        dataset: str | Path | PairSource | None = None,
        split: str = "train",
        render_mode: str | None = None,
    ) -> None:
        pairs: dict[str, Any] = {"stage": stage, "width": width, "height": height}
        pairs |= {"quality": quality, "device": device, "workers": workers, "split": split}
        pairs |= {"dataset": absolute(dataset)}
        EzPickle.__init__(self, task, coordinates, filters, render_mode=render_mode, **pairs)
        self._tasks = resolve_tasks(task)
        self._settings = align_settings(coordinates, filters)
        self.coordinates = coordinates
        self.render_mode, self._display = render_mode, Display(render_mode)
        self.pairs = PairSampler(**pairs)
        self._question: Question | None = None
        self._answers: list[str] = []
        crops, side = self._settings.options, self._settings.crop_px
        width, height = self.pairs.size
        self.action_space = AnswerText()
        self.observation_space = spaces.Dict(
            image=spaces.Box(0, 255, (height, width, 3), np.uint8),
            crops=spaces.Box(0, 255, (crops, side, side, 3), np.uint8),
            crop_count=spaces.Discrete(crops + 1),
            prompt=spaces.Text(MAX_PROMPT_LENGTH, charset=string.printable),
        )

    @property
    def stage(self) -> str:
        """Name of the stage that the next ``reset`` plays; see ``PairSampler.stage``."""
        return self.pairs.stage

    @stage.setter
    def stage(self, stage: str | dict[str, Any] | Difficulty) -> None:
        self.pairs.stage = stage

    @property
    def question(self) -> Question:
        """The current question, truth included: for oracles, inspectors and tests.

        Raises:
            gymnasium.error.ResetNeeded: there is none before the first ``reset``.
        """
        if self._question is None:
            raise gym.error.ResetNeeded("there is no question yet: call reset() first")
        return self._question

    @property
    def settings(self) -> AlignSettings:
        """How questions are posed."""
        return self._settings

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[dict[str, Any], dict[str, Any]]:
        """Take the next pair and ask about it.

        Args:
            seed: reseeds the generator that draws pair seeds.
            options: "task", "pair_seed" and "stage"; see the class.

        Raises:
            ValueError: an unknown option, task, stage or seed; or the task cannot be asked about
                the pair that was given, or about ``MAX_PAIRS`` drawn ones.
            dig_env.scenes.DifficultyError, dig_env.scenes.RenderError: as in ``DiG-v0``.
        """
        super().reset(seed=plain_seed(seed))
        options = dict(options or {})
        names = resolve_tasks(options.pop("task", self._tasks))
        self._question, self._answers = None, []
        task = ""
        for _ in range(1 if "pair_seed" in options else MAX_PAIRS):
            drawn = self.pairs.next(self.np_random, options)
            rng = np.random.default_rng(drawn.drawn)
            asked = names[rng.integers(len(names))]
            # The first draw counts, or tasks that are hard to ask would be asked less often.
            task = task or asked
            posed = pose(views(drawn.pair), task, rng, self._settings)
            if posed is not None:
                break
        else:
            raise ValueError(_nothing_to_ask(task, drawn.pair_seed, options))
        image, self._question = posed
        turns = len(self._question.turns)
        known = {"task": task, "image": image, "turns": turns}
        self._info = drawn.info | known | self._question.info
        if self.render_mode == "human":
            self.render()
        return observe_turn(self._question, 0, self._settings), dict(self._info)

    def step(self, action: str) -> tuple[dict[str, Any], float, bool, bool, dict[str, Any]]:
        """Grade the answer to the current turn.

        Raises:
            TypeError: the action is not a string.
            gymnasium.error.ResetNeeded: no question is open: call ``reset`` first.
        """
        question, turn = self.question, len(self._answers)
        if turn == len(question.turns):
            raise gym.error.ResetNeeded("this question has had its answer: call reset() first")
        truth = question.turns[turn].truth
        graded = grade(action, truth, self.coordinates, question.size)
        self._answers.append(action)
        info = self._info | {
            "right": float(graded.right),
            "iou": float(graded.iou),
            "read": graded.read,
            "error": graded.error,
            "truth": write_answer(truth, self.coordinates, question.size),
        }
        if self.render_mode == "human":
            self.render()
        last = turn + 1 == len(question.turns)
        observation = observe_turn(question, turn if last else turn + 1, self._settings)
        return observation, graded.reward / len(question.turns), last, False, info

    def render(self) -> np.ndarray | None:
        """The question; with the answers so far, their boxes and the true ones.

        Returns:
            (H', W', 3) uint8 for "rgb_array"; None for "human", which shows it in a window.
        """
        return self._display.show(
            lambda: draw_question(self.question, self._answers, self.coordinates)
        )

    def close(self) -> None:
        """Close the window, and what the environment started; safe to call twice."""
        self.pairs.close()
        self._display.close()


def align_settings(coordinates: str, filters: dict[str, Any] | None = None) -> AlignSettings:
    """The settings that a frame and a dictionary of further fields mean.

    Raises:
        ValueError: an unknown field, or a value out of its range.
    """
    fields = {field.name for field in dataclasses.fields(AlignSettings)} - {"coordinates"}
    unknown = sorted(set(filters or {}) - fields)
    if unknown:
        raise ValueError(
            f"filters has {', '.join(map(repr, unknown))}; the fields are {', '.join(fields)}"
        )
    return AlignSettings(coordinates, **(filters or {}))


def observe_turn(question: Question, turn: int, settings: AlignSettings) -> dict[str, Any]:
    """The observation of one turn of a question, as ``DiG-Align-v0`` shows it."""
    asked = question.turns[turn]
    side = settings.crop_px
    crops = np.zeros((settings.options, side, side, 3), np.uint8)
    for index, crop in enumerate(asked.crops):
        crops[index] = crop
    return {
        "image": question.image.copy(),
        "crops": crops,
        "crop_count": np.int64(len(asked.crops)),
        "prompt": asked.prompt,
    }


def _nothing_to_ask(task: str, pair_seed: int, options: dict[str, Any]) -> str:
    remedy = "loosen the filters, or take a stage with more objects"
    if "pair_seed" in options:
        return f"pair_seed={pair_seed} gives nothing to ask for {task}: take another, {remedy}"
    return f"none of {MAX_PAIRS} pairs gives anything to ask for {task}: {remedy}"
