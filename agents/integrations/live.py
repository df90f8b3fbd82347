"""Pairs that are drawn while a trainer trains, at the stages of a curriculum."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image

from dig_env import StageCurriculum, observe
from dig_env.agents.integrations.verl import LIVE_PAIRS, verl_row
from dig_env.envs.pairs import PairSource, pair_source, stages_of
from dig_env.scenes import SEEDS_PER_SPLIT, Pair


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
        rollouts: of each pair.
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
        """TRL's rows, for ``datasets.Dataset.from_list``: an empty prompt, and the key 0, 1, ..."""
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

    def earned(self, key: int, reward: float) -> str | None:
        """Count the reward of one of a key's rollouts; the last updates the curriculum.

        Returns:
            The name of the stage entered, or None where the stage stays as it is.

        Raises:
            KeyError: the key has no rollouts under way.
        """
        group = self._groups[key]
        group.rewards.append(reward)
        if len(group.rewards) < self._rollouts:
            return None
        del self._groups[key]
        return self._curriculum.update(float(np.mean(group.rewards)), group.stage)


@dataclass(frozen=True)
class LiveSettings:
    """What verl's ``data.dig`` may hold.

    Attributes:
        rollouts: of each pair: ``${actor_rollout_ref.rollout.n}``.
        curriculum: what Hydra makes a curriculum of: its class, and its arguments.
        count: pairs of an epoch.
        ahead: pairs to ask for in advance; as many as a batch keep Blender busy as the model
            learns, and let a stage begin a batch after it was reached.
        coordinates: frame to answer in, one of ``dig_env.COORDINATES``.
        split: "train", "validation" or "test".
        seed: of the draw of pairs.
        workers: Blender processes, and CPUs of the cluster that they take.
        resources: what else of the cluster they take, such as {"render": 1}, which only nodes have
            that were started by ``ray start --resources='{"render": 1}'``: so the others are left
            to the trainer.
        render: "width", "height", "quality" and "device" of fresh pairs.
    """

    rollouts: int
    curriculum: dict[str, Any] = field(default_factory=lambda: {"_target_": "dig_env.Curriculum"})
    count: int = 100_000
    ahead: int = 8
    coordinates: str = "norm1000"
    split: str = "train"
    seed: int = 0
    workers: int = 1
    resources: dict[str, float] = field(default_factory=dict)
    render: dict[str, Any] = field(default_factory=dict)


class PairActor:
    """A run's pairs and curriculum, for all its processes: a Ray actor's class.

    Args:
        dataset: folder of stored pairs; None renders fresh ones.
        curriculum: chooses each pair's stage.
        settings: the rest.
    """

    def __init__(
        self, dataset: str | None, curriculum: StageCurriculum, settings: LiveSettings
    ) -> None:
        self._curriculum, self._coordinates = curriculum, settings.coordinates
        source = pair_source(settings.render, dataset, settings.split, settings.workers)
        self._pairs = LivePairs(
            source, curriculum, settings.rollouts, settings.seed, settings.ahead
        )
        self._drawn = 0

    def row(self) -> dict[str, Any]:
        """The next pair, as a row of a data set for verl."""
        key, self._drawn = self._drawn, self._drawn + 1
        pair = self._pairs.pair(key)
        seen = observe(pair, self._coordinates)
        images = [Image.fromarray(seen[name]) for name in ("image_a", "image_b")]
        return verl_row(seen["prompt"], images, pair.boxes_unit, {"index": key, LIVE_PAIRS: True})

    def earned(self, key: int, reward: float) -> None:
        """Count a reward; what a run that was resumed left under way does not count."""
        try:
            entered = self._pairs.earned(key, reward)
        except KeyError:
            return
        if entered is not None:
            print(f"dig-env: stage {entered} from pair {self._drawn} on")

    def state_dict(self) -> dict[str, Any]:
        """How many pairs were drawn, and what the curriculum has seen."""
        return {"drawn": self._drawn, "curriculum": self._curriculum.state_dict()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume: the pairs that follow are new ones, at the stage that was reached."""
        self._drawn = state["drawn"]
        self._curriculum.load_state_dict(state["curriculum"])
