"""What a GRPO step is made of: rows of pairs, and the reward of the answers to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dig_env import PARTS, RewardLike, StageCurriculum, instruction, score_batch
from dig_env.agents.policies.mllm import pair_messages
from dig_env.agents.training.settings import GRPORun
from dig_env.envs.pairs import PairSource, stages_of
from dig_env.scenes import SEEDS_PER_SPLIT, Pair
from dig_env.scenes.extras import extra

with extra("train"):
    from accelerate.utils import gather_object

LEAST_SPREAD = 1e-6
"""A group whose rewards, from 0 to 1, differ by less than this has zero variance."""


@dataclass(frozen=True, eq=False)
class _Planned:
    """A row to come: what was drawn for it, at which stage, and its pair where it is ours."""

    drawn: int
    stage: str
    pair_seed: int
    pair: Future[Pair] | None


class PairStream:
    """The endless training rows: pairs at the stage that the curriculum chooses for each.

    Pairs are asked for a whole batch ahead, so that they are made while the model learns. What was
    planned does not depend on time, and ``state_dict`` holds it: a stream that is loaded resumes
    with the very rows that the old one would have handed out.

    Where several processes train together, each has its own stream with the same plan. TRL
    lets every process read all rows and keep its share; rows of the others' are placeholders.

    Args:
        source: makes the pairs.
        curriculum: chooses the stage of each pair, when it is planned.
        run: the settings.
        process: (this process's rank, number of processes).
        batch: pairs in a batch of rollouts, over all processes; None: those of a step.

    Attributes:
        count: rows handed out.
        wait_s: seconds for which the learner waited for pairs.
        latest: the last few batches' pairs by pair seed, for pictures.
    """

    def __init__(
        self,
        source: PairSource,
        curriculum: StageCurriculum,
        run: GRPORun,
        process: tuple[int, int] = (0, 1),
        batch: int | None = None,
    ) -> None:
        self._batch = run.pairs_per_step if batch is None else batch
        self._source, self._curriculum, self._run = source, curriculum, run
        self._stages = stages_of(source)
        self._process = process
        self._rng = np.random.default_rng(run.seed)
        self._ahead: deque[_Planned] = deque()
        self._handed: deque[_Planned] = deque()
        self._planned = 0
        self._ended = False
        self.wait_s = 0.0
        self.count = 0
        self.latest: dict[int, Pair] = {}

    def __reduce__(self) -> tuple[Any, ...]:
        # `datasets` names a generator by the hash of its pickle, and Blender does not pickle.
        return str, (f"PairStream of {self._run}",)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows for TRL: a conversational prompt, two images, and the truth for the reward."""
        settings = self._source.settings
        blank = Image.new("RGB", (settings.width, settings.height))
        while not self._ended:
            while len(self._ahead) <= self._batch:
                drawn = int(self._rng.integers(SEEDS_PER_SPLIT))
                self._ahead.append(self._plan(drawn, self._curriculum.choose()))
            planned = self._ahead.popleft()
            self._handed.append(planned)
            self.count += 1
            prompt = instruction("norm1000", difficulty=self._stages[planned.stage])
            row = {"prompt": pair_messages(prompt), "images": [blank, blank], "truth": []}
            if planned.pair is not None:
                begun = time.monotonic()
                pair = planned.pair.result()
                self.wait_s += time.monotonic() - begun
                self._remember(pair)
                row["images"] = [Image.fromarray(pair.image_a), Image.fromarray(pair.image_b)]
                row["truth"] = pair.boxes_unit.tolist()
            yield row | {"stage": planned.stage, "pair_seed": planned.pair_seed}

    def end(self) -> None:
        """Hand out no more rows, so that the trainer makes no step."""
        self._ended = True

    def learned(self, rows: int) -> None:
        """Forget the oldest ``rows`` rows: the model has learned from them."""
        for _ in range(rows):
            self._handed.popleft()

    def state_dict(self) -> dict[str, Any]:
        """What is planned and not yet learned from, and the generator, as JSON values."""
        return {
            "generator": self._rng.bit_generator.state,
            "open": [[entry.drawn, entry.stage] for entry in (*self._handed, *self._ahead)],
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume where a ``state_dict`` was taken, at the end of a batch."""
        self._rng.bit_generator.state = state["generator"]
        self._planned = 0
        self._handed.clear()
        self._ahead = deque(self._plan(drawn, stage) for drawn, stage in state["open"])

    def _plan(self, drawn: int, stage: str) -> _Planned:
        """Ask for a pair, if any of its rollouts are this process's."""
        pair_seed = self._source.pair_seed(drawn, stage)
        rank, processes = self._process
        # Of a batch's rollouts, pair by pair, each process gets a contiguous share.
        share = self._batch * self._run.rollouts // processes
        first = self._planned % self._batch * self._run.rollouts
        self._planned += 1
        ours = first < (rank + 1) * share and rank * share < first + self._run.rollouts
        pair = self._source.submit(pair_seed, self._stages[stage]) if ours else None
        return _Planned(drawn, stage, pair_seed, pair)

    def _remember(self, pair: Pair) -> None:
        self.latest.pop(pair.plan.seed, None)  # drawn again, it is the newest again
        self.latest[pair.plan.seed] = pair
        while len(self.latest) > 4 * self._batch:
            del self.latest[next(iter(self.latest))]


class GroupReward:
    """TRL's reward function: ``dig_env.score`` of each rollout; updates the curriculum.

    Where several processes train together, each scores its own rollouts, and all update their
    curriculum with all groups in one order: the stages change at the same pair everywhere.

    Args:
        curriculum: gets one episode a pair: the mean reward of its rollouts.
        config: the reward's settings.
        rollouts: answers to each pair; those of one pair are contiguous.
        opening: what the chat template wrote of every answer; see ``MLLMPolicy.opening``.
        min_group_std: see ``GRPORun``.

    Attributes:
        stage: of the latest pair; "" before the first.
        zero_variance: of each group of the latest batch, over all processes: whether its rollouts
            all earned the same, or nearly so by ``min_group_std``.
        means: of the latest batch: "reward", the parts of the score, and "zero_variance_groups",
            the share of such groups.
        answers: (pair seed, text, reward) of this process's latest rollouts.
    """

    __name__ = "dig"  # TRL names a reward function's metrics after it

    def __init__(
        self,
        curriculum: StageCurriculum,
        config: RewardLike,
        rollouts: int,
        opening: str = "",
        min_group_std: float = 0.0,
    ) -> None:
        self._curriculum, self._config = curriculum, config
        self._rollouts, self._opening = rollouts, opening
        self._min_group_std = min_group_std
        self.stage = ""
        self.zero_variance: list[bool] = []
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
        """Rewards of the completions; all columns are parallel lists."""
        texts = [self._opening + completion[0]["content"] for completion in completions]
        scores = score_batch(texts, truth, self._config)
        rewards = [result.total for result in scores]
        parts = [tuple(getattr(result, part) for part in PARTS) for result in scores]
        everywhere = gather_object(list(zip(stage, rewards, parts, strict=True)))
        self._count(everywhere)
        for name in (*PARTS, "zero_variance_groups"):
            log_metric(f"dig/{name}", self.means[name])
        self.answers = list(zip(pair_seed, texts, rewards, strict=True))
        return rewards

    def _count(self, rollouts: Sequence[tuple[str, float, tuple[float, ...]]]) -> None:
        """Update the curriculum with a batch's groups, and take the means."""
        starts = range(0, len(rollouts), self._rollouts)
        groups = [rollouts[start : start + self._rollouts] for start in starts]
        rewards = [[reward for _, reward, _ in group] for group in groups]
        self.stage = groups[-1][0][0]
        for group, earned in zip(groups, rewards, strict=True):
            self._curriculum.update(float(np.mean(earned)), group[0][0])
        self.zero_variance = [
            bool(np.ptp(earned) < LEAST_SPREAD or np.std(earned, ddof=1) < self._min_group_std)
            for earned in rewards
        ]
        means = np.mean([(reward, *parts) for _, reward, parts in rollouts], axis=0)
        self.means = dict(zip(("reward", *PARTS), map(float, means), strict=True))
        self.means["zero_variance_groups"] = float(np.mean(self.zero_variance))
