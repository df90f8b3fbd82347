"""Curricula that do not look at the reward: fixed schedules, and stages at random."""

import math
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any

import numpy as np

from dig_env.curricula.threshold import BaseCurriculum
from dig_env.scenes.arguments import real, whole


class ScheduledCurriculum(BaseCurriculum):
    """Advance to the next stage after a fixed number of episodes.

    Every episode counts, whatever stage it was planned at: in training, where pairs are planned
    ahead, the first ones learned after a change are still of the stage before.

    >>> curriculum = ScheduledCurriculum(("single", "dual", "mixed"), episodes=(1, 2))
    >>> [curriculum.update(0.0) for _ in range(4)]
    ['dual', None, 'mixed', None]

    Args:
        stages: Names of the stages, from first to last; opaque here.
        episodes: How many episodes each stage lasts, at least 1; the last stage stays, so it has
            no number here. By default as many pairs as DiG has in a stage (arXiv 2512.12633),
            which it shows 15 times.
        window: How many of the latest rewards ``mean`` is of, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    kind = "scheduled"

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        episodes: Sequence[int] = (1600, 1600),
        window: int = 64,
    ) -> None:
        super().__init__(stages, window)
        wanted = len(self.stages) - 1
        if len(episodes) != wanted:
            raise ValueError(
                f"episodes={episodes!r}: for {len(self.stages)} stages give {wanted} whole "
                "numbers, each at least 1: how long every stage but the last is"
            )
        counts = (whole(f"episodes[{i}]", count, 1) for i, count in enumerate(episodes))
        self._ends = tuple(accumulate(counts))

    def update(self, reward: float, stage: str | None = None) -> str | None:
        """Count one finished episode, of any stage; see ``StageCurriculum.update``."""
        self.count(reward)
        return self.enter(bisect_right(self._ends, self.episodes))


_STREAM = int.from_bytes(b"stage", "big")


class DrawnStages(BaseCurriculum):
    """What curricula that draw share: a generator, and a draw from ``probabilities``.

    Its ``stage`` is that of the latest draw.

    Args:
        stages: Names of the stages, from first to last; opaque here.
        seed: Of its generator, at least 0. Equal seeds and calls draw equal stages.
        window: How many of the latest rewards ``mean`` is of, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    def __init__(self, stages: Sequence[str], seed: int, window: int) -> None:
        super().__init__(stages, window)
        # None would seed each process differently.
        seed = whole("seed", seed, 0)
        # Not the stream of default_rng(seed): what others draw from that, such as pair seeds, would
        # depend on the stages.
        self._rng = np.random.default_rng((seed, _STREAM))

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each of ``stages``, that ``choose`` draws it; the sum is 1."""
        raise NotImplementedError

    def choose(self) -> str:
        """Draw a stage."""
        self.index = int(self._rng.choice(len(self.stages), p=self.probabilities))
        return self.stage

    def update(self, reward: float, stage: str | None = None) -> None:
        """Count one finished episode, if it was of one of the stages.

        See ``StageCurriculum.update``; the present stage is that of the latest draw.
        """
        known = self._count_known(reward, stage)
        if known is not None:
            self._learn(self.stages.index(known))

    def _learn(self, index: int) -> None:
        """Take in the reward that was counted last, of the stage of this index."""

    def state_dict(self) -> dict[str, Any]:
        """Return everything that has happened, the generator included, as JSON's types."""
        return super().state_dict() | {"generator": self._rng.bit_generator.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from where a ``state_dict`` was taken, to the same draws.

        Raises:
            ValueError: the state is of another kind of curriculum, or of other stages. Nothing is
                changed then.
        """
        super().load_state_dict(state)
        self._rng.bit_generator.state = state["generator"]


class RandomCurriculum(DrawnStages):
    """Draw the stage of every episode uniformly, whatever was earned.

    Its ``history`` stays empty: no stage is entered to stay.

    Args:
        stages: Names of the stages; opaque here.
        seed: Of its generator, at least 0. Equal seeds draw equal stages.
        window: How many of the latest rewards ``mean`` is of, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    kind = "random"

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        seed: int = 0,
        window: int = 64,
    ) -> None:
        super().__init__(stages, seed, window)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each of ``stages``, that ``choose`` draws it: equal shares."""
        return (1.0 / len(self.stages),) * len(self.stages)


class EasyToHard(DrawnStages):
    """Draw from a bell around a place that moves from the first stage to the last (E2H-G).

    After t of T episodes stage k of K, from 0, has a share in proportion to

        exp(-(x - k)^2 / (2 spread^2)) with x = (K - 1) (t / T)^exponent

    so easy stages fade out and the last one stays (arXiv 2506.06632, its Gaussian schedule). Every
    episode counts, whatever stage it was planned at. ``history`` stays empty.

    >>> curriculum = EasyToHard(("single", "dual", "mixed"), episodes=4)
    >>> [round(share, 2) for share in curriculum.probabilities]
    [0.88, 0.12, 0.0]
    >>> _ = [curriculum.update(0.0) for _ in range(4)]
    >>> [round(share, 2) for share in curriculum.probabilities]
    [0.0, 0.12, 0.88]

    Args:
        stages: Names of the stages, from easiest to hardest; opaque here.
        episodes: T, after which the shares stay; at least 1.
        exponent: Below 1 the place moves fast at first, above 1 slowly; more than 0. The paper's
            code has 0.5.
        spread: Standard deviation of the bell in stages, more than 0; the paper's code has 0.5.
        seed: Of its generator, at least 0. Equal seeds draw equal stages.
        window: How many of the latest rewards ``mean`` is of, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above.
    """

    kind = "easy to hard"

    def __init__(
        self,
        stages: Sequence[str] = ("single", "dual", "mixed"),
        episodes: int = 4800,
        exponent: float = 0.5,
        spread: float = 0.5,
        seed: int = 0,
        window: int = 64,
    ) -> None:
        super().__init__(stages, seed, window)
        self._whole_run = whole("episodes", episodes, 1)
        self._exponent = real("exponent", exponent, 0, above=True)
        self._spread = real("spread", spread, 0, above=True)

    @property
    def probabilities(self) -> tuple[float, ...]:
        """Of each of ``stages``, that ``choose`` draws it."""
        done = min(self.episodes / self._whole_run, 1.0)
        place = (len(self.stages) - 1) * done**self._exponent
        # Less the least, so that a narrow bell between two stages does not round to nothing.
        far = [(place - k) ** 2 / (2 * self._spread**2) for k in range(len(self.stages))]
        bell = [math.exp(min(far) - distance) for distance in far]
        return tuple(height / math.fsum(bell) for height in bell)

    def update(self, reward: float, stage: str | None = None) -> None:
        """Count one finished episode, of any stage; see ``StageCurriculum.update``."""
        self.count(reward)
