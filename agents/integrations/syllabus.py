"""Curricula of Syllabus, the package ``syllabus-rl`` (arXiv 2411.11318), as ``StageCurriculum``s.

    from syllabus.curricula import SequentialCurriculum
    from syllabus.task_space import DiscreteTaskSpace

    def make():
        tasks = DiscreteTaskSpace(3, ["single", "dual", "mixed"])
        return SequentialCurriculum(
            ["single", ["single", "dual"], "mixed"],
            ["episode_return>0.7&episodes>=64", "episode_return>0.7&episodes>=64"],
            tasks,
        )

    curriculum = SyllabusCurriculum(make)

It differs from Syllabus's own way of running them:

1. No wrapper puts queues between environments and curriculum: whoever calls ``choose`` and
   ``update`` does.
2. Syllabus draws from NumPy's global generator. Here its draws have a state of their own, so that
   they neither depend on other code's nor change them.
3. Syllabus saves no curriculum. Here the calls so far are the state, and loading repeats them: some
   30 bytes of JSON an episode.

With NumPy 1.25 or newer, ``OnlineLearningProgress`` of Syllabus 0.7 cannot draw: it compares an
array with an empty list. A subclass whose ``_sample_distribution`` returns a list can.
"""

# ruff: noqa: NPY002 - it is the global generator that Syllabus draws from

import contextlib
import io
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import numpy as np

from dig_env.curricula.threshold import CountedStages


class SyllabusCurriculum(CountedStages):
    """Asks a Syllabus curriculum for each episode's stage, and tells it of each episode.

    Those will do that learn from whole episodes: ``DomainRandomization``, ``SequentialCurriculum``,
    ``OnlineLearningProgress``, ``Constant`` and the like. Its ``stage`` is that of the latest draw,
    and its ``history`` stays empty.

    Args:
        make: Makes the curriculum, with a task space whose tasks are names of stages. Called again
            to load a state, so it must make the same each time.
        success_at: An episode that earns at least this is a success: progress 1, any other 0.
        seed: Of Syllabus's draws, at least 0, below 2**32.
        window: How many of the latest rewards ``mean`` is of, at least 1.

    Raises:
        ValueError: a setting outside what is allowed above, or a curriculum that wants every step,
            such as Syllabus's prioritized level replay, which needs a critic's values.
    """

    kind = "syllabus"

    def __init__(
        self,
        make: Callable[[], Any],
        success_at: float = 0.7,
        seed: int = 0,
        window: int = 64,
    ) -> None:
        self._make, self._success_at, self._seed = make, success_at, seed
        # None would seed each process differently.
        if not isinstance(seed, int) or not 0 <= seed < 2**32:
            raise ValueError(
                f"seed is {seed!r}; it must be a whole number, at least 0, below 2**32"
            )
        self._draws = np.random.RandomState(seed).get_state()
        with self._own_draws():
            self._curriculum = make()
        self._tasks = self._curriculum.task_space
        self._tasks.gym_space.seed(seed)
        if self._curriculum.requires_step_updates:
            raise ValueError(
                f"{type(self._curriculum).__name__} wants every step; give one that learns from "
                "episodes, or dig_env.curricula.adaptive.PrioritizedStageReplay for level replay"
            )
        super().__init__(list(self._tasks.tasks), window)
        self._calls: list[str | list[Any]] = []

    def choose(self) -> str:
        """Draw a stage."""
        with self._own_draws():
            (task,) = self._curriculum.sample(k=1)
        self._index = self.stages.index(self._tasks.decode(task))
        self._calls.append(self.stage)
        return self.stage

    def update(self, reward: float, stage: str | None = None) -> None:
        """Tell it of one finished episode, if it was of one of the stages.

        See ``StageCurriculum.update``; the present stage is that of the latest draw.
        """
        stage = self._count_known(reward, stage)
        if stage is None:
            return
        self._calls.append([float(reward), stage])
        task, progress = self._tasks.encode(stage), float(reward >= self._success_at)
        with self._own_draws():
            # First the progress: an evaluation at the end of this episode is to have it in.
            self._curriculum.update_task_progress(task, progress)
            self._curriculum.update_on_episode(float(reward), 1, task, progress)

    def state_dict(self) -> dict[str, Any]:
        """Return every call so far, as JSON's types."""
        return super().state_dict() | {"calls": list(self._calls)}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from where a ``state_dict`` was taken, by a new curriculum that is told the same.

        Raises:
            ValueError: the state is of another kind of curriculum, of other stages, or of a
                curriculum that chose otherwise. Nothing is changed then.
        """
        other = SyllabusCurriculum(self._make, self._success_at, self._seed, self.window)
        CountedStages.load_state_dict(other, state)
        other = SyllabusCurriculum(self._make, self._success_at, self._seed, self.window)
        for number, call in enumerate(state["calls"]):
            if isinstance(call, str):
                if (chosen := other.choose()) != call:
                    raise ValueError(
                        f"call {number} of the state chose {call!r}, this curriculum {chosen!r}; "
                        "give the make, success_at and seed that it was saved with"
                    )
            else:
                other.update(*call)
        vars(self).update(vars(other))

    @contextlib.contextmanager
    def _own_draws(self) -> Iterator[None]:
        """NumPy's global generator in this curriculum's state, and nothing printed.

        Syllabus 0.7 prints a line at every draw of a sequence.
        """
        outside = np.random.get_state()
        np.random.set_state(self._draws)
        try:
            with contextlib.redirect_stdout(io.StringIO()):
                yield
        finally:
            self._draws = np.random.get_state()
            np.random.set_state(outside)
