"""``DiG-Zoom-v0`` for TRL: an environment whose tool zooms, and the reward of what was answered::

    GRPOTrainer(
        environment_factory=partial(ZoomEnvironment, turns=4),
        reward_funcs=zoom_reward(turns=4),
        args=GRPOConfig(max_tool_calling_iterations=4, ...),
        train_dataset=...,   # columns of dig-env export --format trl
    )

TRL (1.16) shows the environment's public methods to the model as tools and runs its tool calls. It
never shows it the answer, the text after the last call, so a reward function scores it. The
images are the row's, so nothing renders, and all rollouts of a group have the same pair. A tool
call that is not valid JSON is an answer to TRL, and earns 0, where ``DiG-Zoom-v0`` continues.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from PIL import Image

from dig_env import RewardLike
from dig_env.agents.integrations import score_responses
from dig_env.agents.integrations.trl import RewardFunction, final_answer, log_parts
from dig_env.envs.zoom import zoom_request


class ZoomEnvironment:
    """One rollout's environment, for TRL's ``environment_factory``.

    Args:
        turns: most turns, the answer's included.
        coordinates: frame that the prompt asks for, one of ``dig_env.COORDINATES``.
    """

    def __init__(self, turns: int = 4, coordinates: str = "norm1000") -> None:
        self._turns, self._coordinates = turns, coordinates
        self._left = 0
        self._images: list[np.ndarray] = []

    def reset(self, images: Sequence[Image.Image], **_: Any) -> str:
        """Begin a rollout on a row; TRL appends what is returned to the prompt."""
        self._images = [np.asarray(image.convert("RGB")) for image in images]
        self._left = self._turns - 1
        return f" Before that you may look closer: call zoom up to {self._left} times."

    def zoom(self, image: str, bbox_2d: list[float]) -> list[dict[str, Any]]:
        """See a region of one of the two images enlarged.

        Args:
            image: The image: "A" is the first, "B" the second. (choices: ["A", "B"])
            bbox_2d: The region as [x_min, y_min, x_max, y_max], in the frame of the answer.

        Returns:
            The region, and how many calls are left.
        """
        self._left -= 1
        if self._left < 0:
            raise ValueError("no zoom is left")
        height, width = self._images[0].shape[:2]
        asked = zoom_request(image, bbox_2d, self._coordinates, (width, height))
        if asked.region is None:
            raise ValueError(asked.error)
        shown = asked.region.resampled(self._images["AB".index(asked.image)])
        return [
            {"type": "image", "image": Image.fromarray(shown)},
            {"type": "text", "text": f"{self._left} zooms are left."},
        ]


def zoom_reward(
    turns: int = 4, turn_cost: float = 0.0, reward: RewardLike = "full", **options: Any
) -> RewardFunction:
    """The reward of whole rollouts: what the answer earns, less ``turn_cost`` for each call.

    Without an answer in ``turns`` turns that is 0 less the cost. It is the sum of the rewards that
    ``DiG-Zoom-v0`` gives for the same texts.

    Args:
        turns, turn_cost: those of ``DiG-Zoom-v0``; ``turns`` as in ``ZoomEnvironment``.
        reward, options: see ``dig_env.agents.integrations``.
    """

    def dig(
        *,
        completions: list[list[dict[str, Any]]],
        truth: list[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float]:
        calls = [
            sum(len(turn.get("tool_calls") or ()) for turn in turns_) for turns_ in completions
        ]
        answers = [
            final_answer(completion) if count < turns else ""
            for completion, count in zip(completions, calls, strict=True)
        ]
        scores = score_responses(answers, truth, reward=reward, **options)
        if log_metric is not None:
            log_parts(scores, log_metric)
            log_metric("dig/zooms", sum(calls) / len(calls))
        return [
            result.total - turn_cost * min(count, turns)
            for result, count in zip(scores, calls, strict=True)
        ]

    return dig
