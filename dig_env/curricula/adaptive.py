"""Curricula that draw each stage from shares that follow the reward.

All three are of papers whose tasks are many. Here they are a few stages, and so they depart:

1. AdaRFT takes the problems nearest to its target difficulty; here the two stages around the target
   are mixed, so that the mean difficulty is the target.
2. Learning progress and prioritized level replay judge a stage by the last ``window`` rewards of
   its own. Until it has as many, it keeps an equal share of the episodes.
3. The levels of prioritized level replay are the stages, not single pairs: fresh pairs stay fresh.

An episode of a stage that is not among the curriculum's is not counted, and ``history`` stays
empty: no stage is entered to stay.
"""

import itertools
import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from dig_env.curricula.schedules import DrawnStages
from dig_env.scenes.arguments import real


class AdaptiveDifficulty(DrawnStages):
    """Keep the mean reward at a target, by a target difficulty that follows it (AdaRFT).

    After every ``window`` counted episodes, of whatever stage, the target difficulty T becomes

        clip(T + step * tanh(sensitivity * (R - target_reward)), d_min, d_max)

    with R the mean reward of those episodes (arXiv 2504.05520). T begins at the
    difficulty of the first stage. With T between two stages' difficulties, the nearer one is drawn
    more often, so that the mean difficulty of the draws is T.

    >>> curriculum = AdaptiveDifficulty(("single", "dual", "mixed"), window=2)
    >>> [curriculum.update(reward) for reward in (1.0, 0.0, 1.0, 1.0)]
    [None, None, None, None]
    >>> round(curriculum.target, 3), [round(share, 2) for share in curriculum.probabilities]
    (0.19, [0.81, 0.19, 0.0])

    Args:
        stages: Names of the stages, from easiest to hardest; opaque here.
        difficulties: Of the stages, on any scale, rising; None: 0, 1, 2 and so on.
        step: The most that T changes at a time, in units of difficulty; more than 0. The paper has
            half of the whole range, every 1024 episodes.
        sensitivity: How soon tanh saturates, more than 0; the paper's 2.
        target_reward: The mean reward to keep; the paper's 0.5.
        seed: Of its generator, at least 0. Equal seeds and calls draw equal stages.
        window: Episodes between two changes of T, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    kind = "target difficulty"

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        difficulties: Sequence[float] | None = None,
        step: float = 0.25,
        sensitivity: float = 2.0,
        target_reward: float = 0.5,
        seed: int = 0,
        window: int = 64,
    ) -> None:
        super().__init__(stages, seed, window)
        difficulties = range(len(self.stages)) if difficulties is None else difficulties
        rising = all(low < high for low, high in itertools.pairwise(difficulties))
        finite = all(map(math.isfinite, difficulties))
        if len(difficulties) != len(self.stages) or not rising or not finite:
            raise ValueError(
                f"difficulties={difficulties!r}: for {len(self.stages)} stages give as many "
                "finite numbers, each more than the one before"
            )
        self.difficulties = tuple(map(float, difficulties))
        self._step = real("step", step, 0, above=True)
        self._sensitivity = real("sensitivity", sensitivity, 0, above=True)
        self._target_reward = real("target_reward", target_reward)
        self._target = self.difficulties[0]

    @property
    def target(self) -> float:
        """The target difficulty T."""
        return self._target

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each of ``stages``, that ``choose`` draws it; at most two are more than 0."""
        # Where the target is among the stages: 0.25 is a quarter of the way to the second.
        place = float(np.interp(self._target, self.difficulties, range(len(self.stages))))
        return tuple(max(0.0, 1.0 - abs(place - index)) for index in range(len(self.stages)))

    def _learn(self, index: int) -> None:
        mean = self.mean
        if mean is None or self.episodes % self.window or len(self.rewards) < self.window:
            return
        change = self._step * math.tanh(self._sensitivity * (mean - self._target_reward))
        self._move(self._target + change)

    def _move(self, target: float) -> None:
        self._target = min(max(target, self.difficulties[0]), self.difficulties[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has happened, generator and target included, as JSON's types."""
        return super().state_dict() | {"target": self._target}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from where a ``state_dict`` was taken; see ``DrawnStages``.

        A target outside this curriculum's difficulties is moved to the nearest of them.
        """
        super().load_state_dict(state)
        self._move(float(state["target"]))


class _StageWindows(DrawnStages):
    """A window of rewards for each stage; shares for those whose window is full.

    A stage that has fewer rewards keeps its equal share, 1/n of n stages; the others divide the
    rest. (With k of n known, that is the original's "proportionate" schedule: a known one with
    probability k/n, else one of the unknown.)
    """

    def __init__(self, stages: Sequence[str], seed: int, window: int) -> None:
        super().__init__(stages, seed, window)
        self._windows = [deque[float](maxlen=self.window) for _ in self.stages]

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each of ``stages``, that ``choose`` draws it; the sum is 1."""
        count = len(self.stages)
        known = [index for index in range(count) if len(self._windows[index]) == self.window]
        shares = np.full(count, 1.0 / count)
        if known:
            shares[known] = self._shares(known) * (len(known) / count)
        return tuple(map(float, shares))

    def _shares(self, known: list[int]) -> np.ndarray:
        """Shares of the stages of these indices, whose windows are full; the sum is 1."""
        raise NotImplementedError

    def _learn(self, index: int) -> None:
        self._windows[index].append(self.rewards[-1])

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has happened, generator and windows too, as JSON's types."""
        return super().state_dict() | {"windows": [list(window) for window in self._windows]}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from where a ``state_dict`` was taken; see ``DrawnStages``.

        With a smaller ``window`` than the state's, the latest rewards are kept.
        """
        super().load_state_dict(state)
        self._windows = [
            deque(map(float, rewards), maxlen=self.window) for rewards in state["windows"]
        ]


class LearningProgress(_StageWindows):
    """Draw a stage the more often, the faster its rewards change, up or down.

    The absolute learning progress of a stage is how far the means of the older and of the newer
    half of its last ``window`` rewards are apart. Stages are drawn in proportion to it, except for
    a share of uniform draws; where none makes progress, all draws are uniform. After Teacher-
    Student Curriculum Learning (arXiv 1707.00183), whose teachers follow the absolute change of the
    score so that forgotten tasks return; in proportion, and with a fifth drawn uniformly, as in
    ALP-GMM (arXiv 1910.07224).

    Args:
        stages: Names of the stages; opaque here.
        explore: The share of uniform draws, more than 0, at most 1.
        seed: Of its generator, at least 0. Equal seeds and calls draw equal stages.
        window: How many of the latest rewards a stage's progress is of, at least 2. Where rewards
            have a standard deviation of s, the difference of two halves has 2 s / sqrt(window)
            without any progress.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    kind = "learning progress"

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        explore: float = 0.2,
        seed: int = 0,
        window: int = 64,
    ) -> None:
        super().__init__(stages, seed, window)
        if self.window < 2:
            raise ValueError(f"window={window!r}: give 2 or more, to have two halves")
        self._explore = real("explore", explore, 0, 1, above=True)

    def _shares(self, known: list[int]) -> np.ndarray:
        uniform = np.full(len(known), 1.0 / len(known))
        progress = np.array([self._progress(self._windows[index]) for index in known])
        if not progress.any():
            return uniform
        return (1.0 - self._explore) * progress / progress.sum() + self._explore * uniform

    def _progress(self, rewards: Sequence[float]) -> float:
        newer = list(rewards)[-(self.window // 2) :]
        older = list(rewards)[: self.window // 2]
        return abs(math.fsum(newer) - math.fsum(older)) / len(newer)


class PrioritizedStageReplay(_StageWindows):
    """Prioritized level replay (arXiv 2010.03934) with the stages as its levels.

    A stage's score is the mean of ``|reward - V|`` over its last ``window`` rewards, the paper's L1
    value loss with their mean as the value V: how far its pairs' outcomes are from settled. With
    rank 1 for the highest score (equal ones share a rank) and c episodes drawn so far, the
    last one of stage i at episode C_i, stage i is drawn with probability

        (1 - staleness) * P_S + staleness * P_C,
        P_S ~ (1 / rank_i) ** (1 / temperature),  P_C ~ c - C_i.

    Args:
        stages: Names of the stages; opaque here.
        temperature: More than 0; the lower, the more of P_S goes to the first in rank. The paper's
            0.1 is for 200 levels: of three stages it would leave 0.999 to one.
        staleness: The share of P_C, more than 0, at most 1; the paper's 0.1.
        seed: Of its generator, at least 0. Equal seeds and calls draw equal stages.
        window: How many of the latest rewards a stage's score is of, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    kind = "stage replay"

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        temperature: float = 0.5,
        staleness: float = 0.1,
        seed: int = 0,
        window: int = 64,
    ) -> None:
        super().__init__(stages, seed, window)
        self._temperature = real("temperature", temperature, 0, above=True)
        self._staleness = real("staleness", staleness, 0, 1, above=True)
        self._ages = [0] * len(self.stages)

    def choose(self) -> str:
        """Draw a stage."""
        chosen = super().choose()
        self._ages = [age + 1 for age in self._ages]
        self._ages[self.index] = 0
        return chosen

    def _shares(self, known: list[int]) -> np.ndarray:
        scores = np.array([_spread(self._windows[index]) for index in known])
        ranks = np.array([1.0 + np.sum(scores > score) for score in scores])
        by_score = ranks ** (-1.0 / self._temperature)
        by_score /= by_score.sum()
        ages = np.array([self._ages[index] for index in known], dtype=float)
        if not ages.any():
            return by_score
        return (1.0 - self._staleness) * by_score + self._staleness * ages / ages.sum()

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has happened, windows and ages included, as JSON's types."""
        return super().state_dict() | {"ages": list(self._ages)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from where a ``state_dict`` was taken; see ``_StageWindows``."""
        super().load_state_dict(state)
        self._ages = list(map(int, state["ages"]))


def _spread(rewards: Sequence[float]) -> float:
    """The mean absolute deviation of rewards from their mean."""
    mean = math.fsum(rewards) / len(rewards)
    return math.fsum(abs(reward - mean) for reward in rewards) / len(rewards)
