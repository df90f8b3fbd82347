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
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from dig_env import RewardLike, StageCurriculum, observe, resolve_reward, score
from dig_env.agents.integrations.trl_zoom import ZoomEnvironment
from dig_env.envs.pairs import PairSource, stages_of
from dig_env.scenes import SEEDS_PER_SPLIT, Pair

_HOW = " Give the list to the tool answer, once; what you write as text does not count."


@dataclass
class _Group:
    """A pair that is under way, its stage, and what its rollouts earned so far."""

    stage: str
    pair: Future[Pair]
    rewards: list[float] = field(default_factory=list)


class LivePairs:
    """Pairs at the stages that a curriculum chooses, one for each key.

    The pair of a key depends on the key, the seed and the stage alone. The next pairs are made
    while the model learns, so a stage begins a few pairs after it was reached.

    Args:
        source: makes the pairs; the caller closes it.
        curriculum: chooses each pair's stage, and gets the mean reward of its rollouts.
        rollouts: of each pair: TRL's ``num_generations``.
        seed: of the draw of pairs.
        ahead: pairs to ask for in advance.
    """

    def __init__(
        self,
        source: PairSource,
        curriculum: StageCurriculum,
        rollouts: int,
        seed: int = 0,
        ahead: int = 8,
    ) -> None:
        self._source, self._curriculum = source, curriculum
        self._rollouts, self._seed, self._ahead = rollouts, seed, ahead
        self._stages = stages_of(source)
        self._groups: dict[int, _Group] = {}

    def rows(self, pairs: int) -> list[dict[str, Any]]:
        """Rows for ``datasets.Dataset.from_list``: an empty prompt, and the key 0, 1, ..."""
        prompt = [{"role": "user", "content": ""}]
        return [{"prompt": prompt, "key": key} for key in range(pairs)]

    def pair(self, key: int) -> Pair:
        """The pair of a key, the same until all its rollouts have earned their reward."""
        for wanted in range(key, key + self._ahead + 1):
            if wanted not in self._groups:
                stage = self._curriculum.choose()
                drawn = int(np.random.default_rng([self._seed, wanted]).integers(SEEDS_PER_SPLIT))
                pair_seed = self._source.pair_seed(drawn, stage)
                made = self._source.submit(pair_seed, self._stages[stage])
                self._groups[wanted] = _Group(stage, made)
        return self._groups[key].pair.result()

    def earned(self, key: int, reward: float) -> None:
        """Count the reward of one of a key's rollouts; the last updates the curriculum."""
        group = self._groups[key]
        group.rewards.append(reward)
        if len(group.rewards) == self._rollouts:
            self._curriculum.update(float(np.mean(group.rewards)), group.stage)
            del self._groups[key]


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
