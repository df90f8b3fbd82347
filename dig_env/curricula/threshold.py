"""What a curriculum is, and the threshold one: advance when the recent rewards are good enough."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Protocol

from dig_env.scenes.arguments import real, whole


class StageCurriculum(Protocol):
    """Chooses the stage of each episode, and learns from the rewards.

    What it chooses depends on its settings and on the calls of ``choose`` and ``update`` so far,
    and on nothing else: copies that are called alike, one in each process, choose alike. Where
    several environments run side by side, let them share one.
    """

    @property
    def stages(self) -> tuple[str, ...]:
        """Names of all stages that it may choose."""

    @property
    def mean(self) -> float | None:
        """The mean reward of the latest episodes counted; None when there are none."""

    @property
    def history(self) -> list[tuple[int, str, str]]:
        """Every change so far: (episodes counted when it came, stage left, stage entered)."""

    def choose(self) -> str:
        """Choose the stage of the next episode that is planned; to be called once for each."""

    def update(self, reward: float, stage: str | None = None) -> str | None:
        """Take the reward of one finished episode; whether it counts is decided here.

        Args:
            reward: The episode's reward; finite.
            stage: That it was planned at; None: the present one.

        Returns:
            The name of the stage entered, or None where the stage stays as it is.

        Raises:
            ValueError: ``reward`` is not finite. Nothing is counted then.
        """

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has happened, as JSON's types; the settings are not in it."""

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from where a ``state_dict`` was taken.

        Raises:
            ValueError: the state is of another kind of curriculum, or of other stages. Nothing is
                changed then.
        """


class BaseCurriculum:
    """What the curricula of this package share: a present stage, and a record of what happened.

    A curriculum of your own names its ``kind`` and writes ``update``, with ``count`` and ``enter``.

    Args:
        stages: Names of the stages, from first to last; opaque here.
        window: How many of the latest rewards, since the last change of stage, are kept.

    Attributes:
        index: Place of the present stage in ``stages``.
        rewards: The latest rewards, at most ``window``; empty after a change of stage.
    """

    kind: ClassVar[str]

    def __init__(self, stages: Sequence[str], window: int) -> None:
        if isinstance(stages, str) or not stages or len(set(stages)) < len(stages):
            raise ValueError(f"stages={stages!r}: give a sequence of different names")
        self.stages = tuple(stages)
        self.window = window = whole("window", window, 1)
        self.index = 0
        self.rewards: deque[float] = deque(maxlen=window)
        self._episodes = 0
        self._history: list[tuple[int, str, str]] = []

    @property
    def stage(self) -> str:
        """The present stage."""
        return self.stages[self.index]

    @property
    def mean(self) -> float | None:
        """The mean reward of the window as it stands, full or not; None when it is empty."""
        if not self.rewards:
            return None
        return math.fsum(self.rewards) / len(self.rewards)

    @property
    def episodes(self) -> int:
        """How many episodes have been counted, over all stages."""
        return self._episodes

    @property
    def history(self) -> list[tuple[int, str, str]]:
        """Every change so far: (episodes counted when it came, stage left, stage entered)."""
        return list(self._history)

    def choose(self) -> str:
        """Return the present stage: the next episode is to be of it."""
        return self.stage

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has happened, as JSON's types; the settings are not in it."""
        return {
            "kind": self.kind,
            "stages": list(self.stages),
            "stage": self.stage,
            "episodes": self._episodes,
            "rewards": list(self.rewards),
            "history": [list(change) for change in self._history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from where a ``state_dict`` was taken, under this curriculum's own settings.

        With a smaller ``window`` than the state's, the latest rewards are kept.

        Raises:
            ValueError: the state is of another kind of curriculum, or of other stages. Nothing is
                changed then.
        """
        if state["kind"] != self.kind:
            raise ValueError(
                f"the state is of a {state['kind']} curriculum, this is a {self.kind} one; "
                "build one of the state's kind to load it"
            )
        if tuple(state["stages"]) != self.stages:
            raise ValueError(
                f"the state is of stages {tuple(state['stages'])!r}, this curriculum of "
                f"{self.stages!r}; build it with the same stages to load it"
            )
        self.index = self.stages.index(state["stage"])
        self.rewards = deque(map(float, state["rewards"]), maxlen=self.window)
        self._episodes = int(state["episodes"])
        self._history = [(int(n), str(left), str(entered)) for n, left, entered in state["history"]]

    def count(self, reward: float) -> None:
        """Count an episode; ValueError where its reward is not finite."""
        self.rewards.append(real("reward", float(reward)))
        self._episodes += 1

    def _count_known(self, reward: float, stage: str | None) -> str | None:
        """Count an episode of one of the stages, None being the present one.

        Returns:
            Its stage; None if that is not one of them, and then nothing is counted.

        Raises:
            ValueError: ``reward`` is not finite. Nothing is counted then.
        """
        stage = self.stage if stage is None else stage
        if stage not in self.stages:
            real("reward", float(reward))
            return None
        self.count(reward)
        return stage

    def enter(self, index: int) -> str | None:
        """Make a stage the present one; its name, or None if it was that already."""
        if index == self.index:
            return None
        left, self.index = self.stage, index
        self.rewards.clear()
        self._history.append((self._episodes, left, self.stage))
        return self.stage


class Curriculum(BaseCurriculum):
    """Choose the stage by the mean reward of the last ``window`` episodes.

    Nothing is decided before the window is full, and the window is cleared at every change:
    a stage is judged only by its own episodes (the rules of ML-Agents' curricula). A full
    window slides, so after each further episode the question is asked again. An episode that
    was planned at another stage than the present one is not counted.

    >>> curriculum = Curriculum(promote_at=0.7, window=2)
    >>> [curriculum.update(reward) for reward in (0.9, 0.4, 1.0)]
    [None, None, 'dual']
    >>> curriculum.choose()
    'dual'

    Args:
        stages: Names of the stages, from first to last; opaque here.
        promote_at: Go one stage up when the window's mean is at least this.
        demote_below: Go one stage down when the window's mean is less than this;
            None never goes down. Must be less than ``promote_at``.
        window: How many episodes of a stage are needed before a decision, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    kind = "threshold"

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        promote_at: float = 0.7,
        demote_below: float | None = None,
        window: int = 64,
    ) -> None:
        super().__init__(stages, window)
        real("promote_at", promote_at)
        if demote_below is not None and real("demote_below", demote_below) >= promote_at:
            raise ValueError(
                f"demote_below={demote_below!r}: give None or a number below {promote_at=}"
            )
        self.promote_at = promote_at
        self.demote_below = demote_below

    def update(self, reward: float, stage: str | None = None) -> str | None:
        """Count one finished episode, if it was of the present stage.

        See ``StageCurriculum.update``.
        """
        reward = real("reward", float(reward))
        if stage is not None and stage != self.stage:
            return None
        self.count(reward)
        return self.enter(self._target())

    def _target(self) -> int:
        """Return the index of the stage that the window calls for."""
        mean = self.mean
        if mean is None or len(self.rewards) < self.window:
            return self.index
        if mean >= self.promote_at:
            return min(self.index + 1, len(self.stages) - 1)
        if self.demote_below is not None and mean < self.demote_below:
            return max(self.index - 1, 0)
        return self.index
