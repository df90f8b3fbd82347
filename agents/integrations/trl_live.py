"""``DiG-v0`` for TRL without a data set: an environment that draws its pairs as it is trained on::

    pairs = LivePairs(FreshPairs(RenderSettings(), "train", workers=4), Curriculum(), rollouts=8)
    GRPOTrainer(
        environment_factory=partial(DiGEnvironment, pairs),
        args=GRPOConfig(num_generations=8, shuffle_dataset=False, ...),
        train_dataset=Dataset.from_list(pairs.rows(1000)),
    )

TRL (1.16) shows the environment's public methods to the model as tools. It never shows it the text
after the last call, so the model answers by a call of ``answer``; an answer in text earns 0. The
rows are nothing but keys: rollouts of one key, a group, see one pair. One process only: several
would each have a curriculum of their own; ``dig-env train`` has one for all.
"""

from __future__ import annotations

import json
from typing import Any

from PIL import Image

from dig_env import RewardLike, observe, resolve_reward, score
from dig_env.agents.integrations.live import LivePairs
from dig_env.agents.integrations.trl_zoom import ZoomEnvironment

_HOW = " Give the list to the tool answer, once; what you write as text does not count."


class DiGEnvironment:
    """One rollout's environment, for TRL's ``environment_factory``.

    Args:
        pairs: shared by all environments of a run.
        reward: the reward's settings, or its name; see ``dig_env.resolve_reward``.
        coordinates: frame to answer in, one of ``dig_env.COORDINATES``.
    """

    def __init__(
        self, pairs: LivePairs, reward: RewardLike = "full", coordinates: str = "norm1000"
    ) -> None:
        self._pairs, self._reward = pairs, resolve_reward(reward)
        self._coordinates = coordinates
        self._key = 0
        self._said: str | None = None

    def reset(self, key: int, **_: Any) -> list[dict[str, Any]]:
        """Begin a rollout: the two images and the instruction of the key's pair, as content."""
        self._key, self._said = key, None
        self._pair = self._pairs.pair(key)
        seen = observe(self._pair, self._coordinates)
        images = [Image.fromarray(seen[name]) for name in ("image_a", "image_b")]
        return [
            *({"type": "image", "image": image} for image in images),
            {"type": "text", "text": seen["prompt"] + _HOW},
        ]

    def answer(self, boxes: list[list[float]]) -> str:
        """Give the answer: one box around each difference. Only the first answer counts.

        Args:
            boxes: The list [[x_min, y_min, x_max, y_max], ...].

        Returns:
            That the answer was taken.
        """
        if self._said is not None:
            raise ValueError("the answer has been given already")
        self._said = boxes if isinstance(boxes, str) else json.dumps(boxes)
        return "The answer is taken."

    def get_reward(self) -> float:
        """What ``dig_env.score`` gives for the answer; 0.0 without one."""
        height, width = self._pair.image_a.shape[:2]
        earned = score(
            self._said or "",
            self._pair.boxes_unit,
            self._reward,
            coordinates=self._coordinates,
            size=(width, height),
        ).total
        self._pairs.earned(self._key, earned)
        return earned


class DiGZoomEnvironment(DiGEnvironment):
    """The same with the tool ``zoom``, as in ``ZoomEnvironment``.

    Args:
        pairs, reward, coordinates: as of ``DiGEnvironment``.
        turns: most turns, the answer's included.
    """

    zoom = ZoomEnvironment.zoom

    def __init__(
        self,
        pairs: LivePairs,
        reward: RewardLike = "full",
        coordinates: str = "norm1000",
        turns: int = 4,
    ) -> None:
        super().__init__(pairs, reward, coordinates)
        self._turns = turns

    def reset(self, key: int, **_: Any) -> list[dict[str, Any]]:
        """Begin a rollout; see ``DiGEnvironment``."""
        content = super().reset(key)
        self._images = [self._pair.image_a, self._pair.image_b]
        self._left = self._turns - 1
        text = f" Before that you may look closer: call zoom up to {self._left} times."
        return [*content, {"type": "text", "text": text}]
