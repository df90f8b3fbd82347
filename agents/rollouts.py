"""What a GRPO step is made of: rows of fresh pairs, and the reward of the answers to them."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from PIL import Image

from agents.evaluation import pair_seeds
from agents.mllm import pair_messages
from agents.settings import GRPORun
from dig_env import Curriculum, RewardConfig, instruction, score_batch
from scenes import STAGES, Pair, Renderer, plan_pair


class PairStream:
    """The endless training rows: pairs at the stage where the curriculum stands when planned."""

    def __init__(self, renderer: Renderer, curriculum: Curriculum, run: GRPORun) -> None:
        self._renderer, self._curriculum, self._run = renderer, curriculum, run
        self.wait_s = 0.0
        self.count = 0
        self.latest: dict[int, Pair] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # `datasets` names a generator by the hash of its pickle, and Blender does not pickle.
        return str, (f"PairStream of {self._run}",)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows for TRL: a conversational prompt, two images, and the truth for the reward."""
        messages = pair_messages(instruction("norm1000"))
        planned: dict[int, str] = {}

        def plans() -> Iterator[Any]:
            for seed in pair_seeds(self._run.seed, "train"):
                planned[seed] = self._curriculum.stage
                yield plan_pair(seed, STAGES[planned[seed]])

        # A whole step ahead: the renderer works while the model learns.
        pairs = self._renderer.imap(plans(), look_ahead=self._run.pairs_per_step)
        while True:
            begun = time.monotonic()
            pair = next(pairs)
            self.wait_s += time.monotonic() - begun
            self.count += 1
            self._remember(pair)
            yield {
                "prompt": messages,
                "images": [Image.fromarray(pair.image_a), Image.fromarray(pair.image_b)],
                "truth": pair.boxes_unit.tolist(),
                "stage": planned.pop(pair.plan.seed),
                "pair_seed": pair.plan.seed,
            }

    def _remember(self, pair: Pair) -> None:
        """Keep the last few steps' pairs, for pictures."""
        self.latest[pair.plan.seed] = pair
        while len(self.latest) > 4 * self._run.pairs_per_step:
            del self.latest[next(iter(self.latest))]


class GroupReward:
    """TRL's reward function: ``dig_env.score`` of each rollout; tells the curriculum."""

    __name__ = "dig"  # TRL names a reward function's metrics after it

    def __init__(self, curriculum: Curriculum, config: RewardConfig, opening: str = "") -> None:
        self._curriculum, self._config, self._opening = curriculum, config, opening
        self.stage = curriculum.stage
        self.means: dict[str, float] = {}
        self.answers: list[tuple[int, str, float]] = []

    def __call__(
        self,
        completions: list[Any],
        truth: list[list[list[float]]],
        stage: list[str],
        pair_seed: list[int],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """Rewards of the completions; all columns are parallel lists, groups contiguous."""
        texts = [self._opening + completion[0]["content"] for completion in completions]
        scores = score_batch(texts, truth, self._config)
        rewards = [result.total for result in scores]
        self.stage = stage[-1]
        groups = [
            (name, [rewards[index] for index in members])
            for name, members in _groups(stage, pair_seed)
        ]
        for name, group in groups:
            if name == self._curriculum.stage:
                self._curriculum.update(float(np.mean(group)))
        self.means = {
            part: float(np.mean([getattr(result, part) for result in scores]))
            for part in ("format", "f1", "iou", "precision", "recall")
        }
        self.means["equal_groups"] = float(np.mean([np.ptp(group) < 1e-9 for _, group in groups]))
        for name, value in self.means.items():
            log_metric(f"dig/{name}", value)
        self.answers = list(zip(pair_seed, texts, rewards, strict=True))
        return rewards


def _groups(stage: list[str], pair_seed: list[int]) -> Iterator[tuple[str, list[int]]]:
    """(stage, indices of the rollouts) of each pair in a batch."""
    for _, members in itertools.groupby(range(len(pair_seed)), key=pair_seed.__getitem__):
        indices = list(members)
        yield stage[indices[0]], indices
