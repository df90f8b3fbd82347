"""What is exported: the settings, and the dataset's pairs by split and stage."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dig_env import RewardLike, instruction, resolve_reward
from dig_env.scenes import Pair, PairDataset
from dig_env.scenes.plans.splits import SPLITS
from dig_env.scenes.plans.stages import BUILT_IN_STAGES

DEFAULT_MODEL = "Qwen/Qwen3-VL-4B-Thinking"
"""One of the paper's two models."""


@dataclass(frozen=True)
class ExportSettings:
    """How a dataset is exported.

    Attributes:
        reward: what ``dig_env.resolve_reward`` takes.
        coordinates: frame that the prompt asks for, one of ``dig_env.COORDINATES``.
        model: folder or hub name that the training configs start from; a folder is made absolute.
        thinking: whether its chat template opens the answer with "<think>". None: as the template
            says; where that is not on this machine, by the name
            (``dig_env.agents.policies.thinking``).

    Raises:
        ValueError, TypeError: an unknown reward.
    """

    reward: RewardLike = "full"
    coordinates: str = "norm1000"
    model: str = DEFAULT_MODEL
    thinking: bool | None = None

    def __post_init__(self) -> None:
        config = resolve_reward(self.reward)
        if not isinstance(self.reward, str):  # it goes into JSON and YAML
            object.__setattr__(self, "reward", dataclasses.asdict(config))
        if Path(self.model).is_dir():
            object.__setattr__(self, "model", str(Path(self.model).resolve()))
        if self.thinking is None:
            object.__setattr__(self, "thinking", self.model == DEFAULT_MODEL or _thinks(self.model))


def _thinks(model: str) -> bool:
    from dig_env.agents.policies.thinking import (
        opening_of_model,  # here, since transformers takes seconds
    )

    return bool(opening_of_model(model))


class Source:
    """A dataset's pairs, one after the other.

    Args:
        dataset: whose pairs.
        settings: see there.
        on_pair: called with (pairs handed out, pairs in all).

    Raises:
        ValueError: unknown ``coordinates``, or an empty dataset.
    """

    def __init__(
        self,
        dataset: PairDataset,
        settings: ExportSettings,
        on_pair: Callable[[int, int], None] | None = None,
    ) -> None:
        self.dataset, self.settings = dataset, settings
        self.size = (dataset.settings.width, dataset.settings.height)
        instruction(settings.coordinates, self.size)  # says which frames there are
        self._on_pair, self._done = on_pair, 0
        if not len(dataset):
            raise ValueError(f"{dataset.folder} holds no pairs: 'dig-env render' makes some")

    def counts(self) -> dict[str, dict[str, int]]:
        """Number of pairs by split and stage, in the order of splits and of the curriculum."""
        files = self.dataset.manifest.files
        own = sorted(self.dataset.stages.keys() - {*BUILT_IN_STAGES})
        stages = [stage for stage in (*BUILT_IN_STAGES, *own) if stage in self.dataset.stages]
        there = {
            split: {
                stage: sum(
                    file.rows for file in files if (file.split, file.stage) == (split, stage)
                )
                for stage in stages
            }
            for split in SPLITS
        }
        return {
            split: {stage: rows for stage, rows in counts.items() if rows}
            for split, counts in there.items()
            if any(counts.values())
        }

    def prompt(self, pair: Pair) -> str:
        """The instruction of a pair."""
        return instruction(self.settings.coordinates, self.size, pair.plan.difficulty)

    def pairs(self, split: str, stage: str) -> Iterator[Pair]:
        """The pairs of a stage in a split, by pair seed."""
        for seed in self.dataset.pair_seeds(stage, split):
            yield self.dataset.pair(seed)
            self._done += 1
            if self._on_pair is not None:
                self._on_pair(self._done, len(self.dataset))

    def reward_options(self) -> dict[str, Any]:
        """The options of every adapter in ``dig_env.agents.integrations``."""
        return {
            "reward": self.settings.reward,
            "coordinates": self.settings.coordinates,
            "size": list(self.size),
            "opening": "<think>" if self.settings.thinking else "",
        }
