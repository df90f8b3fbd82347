"""The pairs that an environment shows, one after the other, the next ones made in advance."""

from __future__ import annotations

import copy
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any, SupportsIndex

import numpy as np

from dig_env.envs.pairs import PairSource, pair_source, stages_of
from dig_env.scenes import SEEDS_PER_SPLIT, Difficulty, Pair, resolve_stage
from dig_env.scenes.arguments import whole
from dig_env.scenes.forks import reset_after_fork
from dig_env.scenes.render.renderer import wait_for


@dataclass(frozen=True, eq=False)
class DrawnPair:
    """A pair of the stream.

    Attributes:
        pair: images and truth.
        stage: name of its stage.
        drawn: the number that was drawn for it, 0 to 2**48 - 1.
    """

    pair: Pair
    pair_seed: int
    stage: str
    drawn: int

    @property
    def info(self) -> dict[str, Any]:
        """What every environment says of it: "pair_seed" and "stage"."""
        return {"pair_seed": self.pair_seed, "stage": self.stage}


class PairSampler:
    """Draws pair seeds, has the source make the pairs, and the next ones while the policy thinks.

    The generator is the environment's, so that equal seeds give equal pairs.

    Args:
        stage, dataset, split, workers, width, height, quality, device: as for ``DiGEnv``.

    Attributes:
        source: makes the pairs. If it was given as ``dataset``, it stays the caller's to close.
        prefetch_count: how many pairs ``next`` asks for in advance; the source's unless changed.

    Raises:
        ValueError: see ``pair_source`` and ``dig_env.scenes.resolve_stage``.
    """

    def __init__(
        self,
        stage: str | dict[str, Any] | Difficulty,
        dataset: str | Path | PairSource | None = None,
        split: str = "train",
        workers: int = 1,
        *,
        width: int | None = None,
        height: int | None = None,
        quality: str | None = None,
        device: str | None = None,
    ) -> None:
        asked = {"width": width, "height": height, "quality": quality, "device": device}
        self.source = pair_source(asked, dataset, split, workers)
        self._is_own = dataset is None or isinstance(dataset, (str, Path))
        self._stage, self._difficulty = resolve_stage(stage, stages_of(self.source))
        self.prefetch_count = self.source.prefetch_count
        self._forget()
        reset_after_fork(self, PairSampler._forget)

    def _forget(self) -> None:
        self._ahead: dict[tuple[int, Difficulty], Future[Pair]] = {}

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the images in pixels."""
        return self.source.settings.width, self.source.settings.height

    @property
    def stage(self) -> str:
        """Name of the stage of the next pair; "custom" for a difficulty without a name.

        Set it to a name, a Difficulty or a dictionary of its fields.
        """
        return self._stage

    @stage.setter
    def stage(self, stage: str | dict[str, Any] | Difficulty) -> None:
        self._stage, self._difficulty = self._resolved(stage)

    @property
    def difficulty(self) -> Difficulty:
        """Difficulty of the next pair."""
        return self._difficulty

    def next(self, rng: np.random.Generator, options: dict[str, Any] | None = None) -> DrawnPair:
        """Take the next pair, and ask for those after it.

        Args:
            rng: draws one number, also where an option replaces it: replays shift no stream.
            options: "stage": of this pair; "pair_seed": the pair to take, from any split.

        Raises:
            ValueError, dig_env.scenes.DifficultyError, dig_env.scenes.RenderError: as
                ``DiGEnv.reset``.
        """
        drawn = int(rng.integers(SEEDS_PER_SPLIT))
        stage, difficulty, replayed = self._asked(options)
        pair_seed = self.source.pair_seed(drawn, stage) if replayed is None else replayed
        future = self._ahead.pop((pair_seed, difficulty), None)
        if future is None:
            future = self.source.submit(pair_seed, difficulty)
        if replayed is None:
            self._submit_next(rng, stage, difficulty, self.prefetch_count)
        return DrawnPair(wait_for(future), pair_seed, stage, drawn)

    def prefetch(self, rng: np.random.Generator, options: dict[str, Any] | None = None) -> None:
        """Start on the pair that ``next`` with these arguments will give; draws nothing."""
        stage, difficulty, replayed = self._asked(options)
        if replayed is None:
            self._submit_next(rng, stage, difficulty, max(1, self.prefetch_count))
        elif (replayed, difficulty) not in self._ahead:
            self._ahead[replayed, difficulty] = self.source.submit(replayed, difficulty)

    def close(self) -> None:
        """Cancel what was asked for in advance, and close the source unless it was given."""
        for future in self._ahead.values():
            future.cancel()
        self._ahead.clear()
        if self._is_own:
            self.source.close()

    def _asked(self, options: dict[str, Any] | None) -> tuple[str, Difficulty, int | None]:
        """The stage, its difficulty and the pair seed, if any, that options mean."""
        options = dict(options or {})
        replayed = options.pop("pair_seed", None)
        if replayed is not None:
            replayed = whole("pair_seed", replayed)
        stage, difficulty = self._resolved(options.pop("stage", self._stage))
        if options:
            raise ValueError(
                f"unknown reset option {', '.join(map(repr, options))}; "
                'the options are "stage" and "pair_seed"'
            )
        return stage, difficulty, replayed

    def _resolved(self, stage: str | dict[str, Any] | Difficulty) -> tuple[str, Difficulty]:
        """Name and difficulty of a stage; "custom" is the present one if that has no name."""
        if stage == self._stage:
            return self._stage, self._difficulty
        return resolve_stage(stage, stages_of(self.source))

    def _submit_next(
        self, rng: np.random.Generator, stage: str, difficulty: Difficulty, count: int
    ) -> None:
        """Ask for the next pairs that ``rng`` will draw if the stage stays as it is."""
        if not count and not self._ahead:
            return  # without a copy of the generator, which a reset from memory would feel
        rng = copy.deepcopy(rng)
        upcoming = [
            (self.source.pair_seed(int(rng.integers(SEEDS_PER_SPLIT)), stage), difficulty)
            for _ in range(count)
        ]
        for key in [key for key in self._ahead if key not in upcoming]:
            self._ahead.pop(key).cancel()
        for key in upcoming:
            if key not in self._ahead:
                self._ahead[key] = self.source.submit(*key)


def plain_seed(seed: Any) -> Any:
    """A whole number as the int that Gymnasium wants; anything else is Gymnasium's to refuse."""
    return whole("seed", seed) if isinstance(seed, SupportsIndex) else seed


def absolute(dataset: str | Path | PairSource | None) -> str | PairSource | None:
    """A folder's absolute path, for copies of an environment in other working directories."""
    return str(Path(dataset).absolute()) if isinstance(dataset, (str, Path)) else dataset
