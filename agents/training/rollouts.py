"""What a GRPO step is made of: rows that ask, and the reward of the answers to them."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from dig_env import PARTS, StageCurriculum
from dig_env.agents.evaluation.asked import FRAME, Answered, Asked, ask
from dig_env.agents.evaluation.episodes import means
from dig_env.agents.policies.mllm import pair_messages
from dig_env.agents.training.settings import GRPORun, task_and_stage
from dig_env.envs.align import MAX_PAIRS, align_settings
from dig_env.envs.pairs import PairSource, stages_of
from dig_env.scenes import SEEDS_PER_SPLIT, Difficulty, Pair
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
    """The endless training rows: a pair each, and what the stage that the curriculum chooses for
    it asks about it: its differences, or a task's question.

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
        self._settings = align_settings(FRAME, run.filters)
        self._process = process
        self._rng = np.random.default_rng(run.seed)
        self._ahead: deque[_Planned] = deque()
        self._handed: deque[_Planned] = deque()
        self._planned = 0
        self._ended = False
        self.wait_s = 0.0
        self.count = 0

    def __reduce__(self) -> tuple[Any, ...]:
        # `datasets` names a generator by the hash of its pickle, and Blender does not pickle.
        return str, (f"PairStream of {self._run}",)

    def rows(self) -> Iterator[dict[str, Any]]:
        """Rows for TRL: a conversational prompt, its images, and what is asked, for the reward."""
        settings = self._source.settings
        blank = Image.new("RGB", (settings.width, settings.height))
        while not self._ended:
            while len(self._ahead) <= self._batch:
                drawn = int(self._rng.integers(SEEDS_PER_SPLIT))
                self._ahead.append(self._plan(drawn, self._curriculum.choose()))
            planned = self._ahead.popleft()
            self._handed.append(planned)
            self.count += 1
            messages, images, asked = pair_messages(""), [blank, blank], None
            if planned.pair is not None:
                asked = self._ask(planned.stage, planned.drawn, planned.pair)
                messages, images = asked.chat()
            yield {
                "prompt": messages,
                "images": images,
                "asked": asked,
                "stage": planned.stage,
                "pair_seed": planned.pair_seed,
            }

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

    def _ask(self, stage: str, drawn: int, future: Future[Pair]) -> Asked:
        """What is asked about a pair; about another one where it gives nothing to ask.

        That one is drawn from the first one's number: no other process sees that it is needed, so
        it may not come from the generator whose numbers all of them have in common.
        """
        task, _ = task_and_stage(stage)
        for _ in range(MAX_PAIRS):
            begun = time.monotonic()
            pair = future.result()
            self.wait_s += time.monotonic() - begun
            asked = ask(pair, task, drawn, self._run.reward, self._settings)
            if asked is not None:
                return asked
            drawn = int(np.random.default_rng((drawn, 1)).integers(SEEDS_PER_SPLIT))
            future = self._source.submit(*self._wanted(drawn, stage))
        raise ValueError(
            f"none of {MAX_PAIRS} pairs gives anything to ask for {stage}: loosen the filters, or "
            "take pairs of a stage with more objects"
        )

    def _wanted(self, drawn: int, stage: str) -> tuple[int, Difficulty]:
        """The seed and the difficulty of the pair that a drawn number means at a stage."""
        _, pairs = task_and_stage(stage)
        return self._source.pair_seed(drawn, pairs), self._stages[pairs]

    def _plan(self, drawn: int, stage: str) -> _Planned:
        """Ask for a pair, if any of its rollouts are this process's."""
        pair_seed, difficulty = self._wanted(drawn, stage)
        rank, processes = self._process
        # Of a batch's rollouts, pair by pair, each process gets a contiguous share.
        share = self._batch * self._run.rollouts // processes
        first = self._planned % self._batch * self._run.rollouts
        self._planned += 1
        ours = first < (rank + 1) * share and rank * share < first + self._run.rollouts
        pair = self._source.submit(pair_seed, difficulty) if ours else None
        return _Planned(drawn, stage, pair_seed, pair)


class GroupReward:
    """TRL's reward function: what each rollout earns in its environment; updates the curriculum.

    Where several processes train together, each scores its own rollouts, and all update their
    curriculum with all groups in one order: the stages change at the same pair everywhere.

    Args:
        curriculum: gets one episode a pair: the mean reward of its rollouts.
        rollouts: answers to each pair; those of one pair are contiguous.
        opening: what the chat template wrote of every answer; see ``MLLMPolicy.opening``.
        min_group_std: see ``GRPORun``.

    Attributes:
        stage: of the latest pair; "" before the first.
        zero_variance: of each group of the latest batch, over all processes: whether its rollouts
            all earned the same, or nearly so by ``min_group_std``.
        means: of the latest batch: "reward", the parts of the score over its pairs, if it has any,
            and "zero_variance_groups", the share of such groups.
        stages: of the latest batch: the means of each stage in it; see ``Answered``.
        answered: this process's latest rollouts.
    """

    __name__ = "dig"  # TRL names a reward function's metrics after it

    def __init__(
        self,
        curriculum: StageCurriculum,
        rollouts: int,
        opening: str = "",
        min_group_std: float = 0.0,
    ) -> None:
        self._curriculum = curriculum
        self._rollouts, self._opening = rollouts, opening
        self._min_group_std = min_group_std
        self.stage = ""
        self.zero_variance: list[bool] = []
        self.means: dict[str, float] = {}
        self.stages: dict[str, dict[str, float]] = {}
        self.answered: list[Answered] = []

    def __call__(
        self,
        completions: list[Any],
        asked: list[Asked],
        stage: list[str],
        log_metric: Callable[[str, float], None],
        **_: Any,
    ) -> list[float]:
        """Rewards of the completions; all columns are parallel lists."""
        texts = [self._opening + completion[0]["content"] for completion in completions]
        self.answered = [row.answered(text) for row, text in zip(asked, texts, strict=True)]
        rollouts = [(at, of.metrics) for at, of in zip(stage, self.answered, strict=True)]
        self._count(gather_object(rollouts))
        for name in (*PARTS, "zero_variance_groups"):
            if name in self.means:
                log_metric(f"dig/{name}", self.means[name])
        for at, values in self.stages.items():
            for name, value in values.items():
                log_metric(f"dig/{name}/{at}", value)
        return [of.reward for of in self.answered]

    def _count(self, rollouts: Sequence[tuple[str, dict[str, float]]]) -> None:
        """Update the curriculum with a batch's groups, and take the means."""
        starts = range(0, len(rollouts), self._rollouts)
        groups = [rollouts[start : start + self._rollouts] for start in starts]
        rewards = [[values["reward"] for _, values in group] for group in groups]
        self.stage = groups[-1][0][0]
        for group, earned in zip(groups, rewards, strict=True):
            self._curriculum.update(float(np.mean(earned)), group[0][0])
        self.zero_variance = [
            bool(np.ptp(earned) < LEAST_SPREAD or np.std(earned, ddof=1) < self._min_group_std)
            for earned in rewards
        ]
        rows_of: dict[str, list[dict[str, float]]] = {}
        for stage, values in rollouts:
            rows_of.setdefault(stage, []).append(values)
        self.stages = {stage: means(rows) for stage, rows in rows_of.items()}
        pairs = [values for stage, values in rollouts if task_and_stage(stage)[0] is None]
        parts = means(pairs) if pairs else {}
        self.means = {"reward": means([values for _, values in rollouts])["reward"]}
        self.means |= {name: parts[name] for name in PARTS if name in parts}
        self.means["zero_variance_groups"] = float(np.mean(self.zero_variance))
