"""A threshold curriculum: go on to the next stage when the recent rewards are good enough."""

import math
from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any


class Curriculum:
    """Choose the stage by the mean reward of the last ``window`` episodes.

    Nothing is decided before the window is full, and the window is cleared at every change:
    a stage is judged only by its own episodes (the rules of ML-Agents' curricula). A full
    window slides, so after each further episode the question is asked again. Where several
    environments run side by side, let them share one curriculum.

    >>> curriculum = Curriculum(promote_at=0.7, window=2)
    >>> [curriculum.update(reward) for reward in (0.9, 0.4, 1.0)]
    [None, None, 'dual']

    Args:
        stages: Names of the stages, from first to last; opaque here.
        promote_at: Go one stage up when the window's mean is at least this.
        demote_below: Go one stage down when the window's mean is less than this;
            None never goes down. Must be less than ``promote_at``.
        window: How many episodes of a stage are needed before a decision, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        promote_at: float = 0.7,
        demote_below: float | None = None,
        window: int = 64,
    ) -> None:
        if isinstance(stages, str) or not stages or len(set(stages)) < len(stages):
            raise ValueError(f"stages is {stages!r}; it must be a sequence of different names")
        if not math.isfinite(promote_at):
            raise ValueError(f"promote_at is {promote_at!r}; it must be finite")
        if demote_below is not None and not -math.inf < demote_below < promote_at:
            raise ValueError(
                f"demote_below is {demote_below!r}; it must be None or a finite number less than "
                f"promote_at, {promote_at!r}"
            )
        if not isinstance(window, int) or window < 1:
            raise ValueError(f"window is {window!r}; it must be a whole number, at least 1")
        self.stages = tuple(stages)
        self.promote_at = promote_at
        self.demote_below = demote_below
        self.window = window
        self._index = 0
        self._rewards: deque[float] = deque(maxlen=window)
        self._episodes = 0
        self._history: list[tuple[int, str, str]] = []

    @property
    def stage(self) -> str:
        """The stage that the next episode should be of."""
        return self.stages[self._index]

    @property
    def mean(self) -> float | None:
        """The mean reward of the window as it stands, full or not; None when it is empty."""
        if not self._rewards:
            return None
        return math.fsum(self._rewards) / len(self._rewards)

    @property
    def episodes(self) -> int:
        """How many episodes have been counted, over all stages."""
        return self._episodes

    @property
    def history(self) -> list[tuple[int, str, str]]:
        """Every change so far: (episodes counted when it came, stage left, stage entered)."""
        return list(self._history)

    def update(self, reward: float) -> str | None:
        """Count one finished episode of the current stage.

        Args:
            reward: The episode's reward; finite.

        Returns:
            The name of the stage entered, or None where the stage stays as it is.

        Raises:
            ValueError: ``reward`` is not finite. Nothing is counted then.
        """
        reward = float(reward)
        if not math.isfinite(reward):
            raise ValueError(f"reward is {reward!r}; it must be finite")
        self._rewards.append(reward)
        self._episodes += 1
        target = self._target()
        if target == self._index:
            return None
        left, self._index = self.stage, target
        self._rewards.clear()
        self._history.append((self._episodes, left, self.stage))
        return self.stage

    def _target(self) -> int:
        """Return the index of the stage that the window calls for."""
        mean = self.mean
        if mean is None or len(self._rewards) < self.window:
            return self._index
        if mean >= self.promote_at:
            return min(self._index + 1, len(self.stages) - 1)
        if self.demote_below is not None and mean < self.demote_below:
            return max(self._index - 1, 0)
        return self._index

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has happened, as JSON's types; the settings are not in it."""
        return {
            "stages": list(self.stages),
            "stage": self.stage,
            "episodes": self._episodes,
            "rewards": list(self._rewards),
            "history": [list(change) for change in self._history],
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a ``state_dict`` was taken, under this curriculum's own settings.

        With a smaller ``window`` than the state's, the latest rewards are kept.

        Raises:
            ValueError: the state is of other stages. Nothing is changed then.
        """
        if tuple(state["stages"]) != self.stages:
            raise ValueError(
                f"the state is of stages {tuple(state['stages'])!r}, this curriculum of "
                f"{self.stages!r}; build it with the same stages to load it"
            )
        self._index = self.stages.index(state["stage"])
        self._rewards = deque(map(float, state["rewards"]), maxlen=self.window)
        self._episodes = int(state["episodes"])
        self._history = [(int(n), str(left), str(entered)) for n, left, entered in state["history"]]
