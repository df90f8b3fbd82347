"""Where an environment's pairs come from: a renderer, or a dataset on disk."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any, Protocol

from dig_env.scenes import (
    STAGES,
    Difficulty,
    Pair,
    PairDataset,
    Renderer,
    RenderSettings,
    available_cores,
    pair_seed_range,
    plan_pair,
)
from dig_env.scenes.forks import NO_FORK, reset_after_fork


class PairSource(Protocol):
    """What an environment asks of a source.

    Attributes:
        settings: size and quality of its images.
        prefetch_count: number of pairs that are worth asking for in advance.
        stages: difficulty by name of the stages that only this source knows.
    """

    settings: RenderSettings
    prefetch_count: int

    @property
    def stages(self) -> dict[str, Difficulty]: ...

    @property
    def versions(self) -> dict[str, str]:
        """Versions, device and processor that decided the pixels."""
        ...

    def pair_seed(self, drawn: int, stage: str) -> int:
        """The pair seed that a drawn number, 0 <= drawn < 2**48, stands for."""
        ...

    def submit(self, pair_seed: int, difficulty: Difficulty) -> Future[Pair]:
        """Start making a pair. The future is the caller's: others are not harmed if it is
        cancelled."""
        ...

    def close(self) -> None:
        """Give back what it holds; safe to call twice. Only who made the source calls it."""
        ...


class FreshPairs:
    """Pairs that are rendered as they are asked for.

    Args:
        settings: image size, quality and device.
        split: "train", "validation" or "test".
        workers: Blender processes; or a renderer of this quality and device, which is the caller's
            to close, and of which several sources may take pairs of several sizes.
    """

    stages: dict[str, Difficulty] = {}

    def __init__(self, settings: RenderSettings, split: str, workers: int | Renderer) -> None:
        self._seeds = pair_seed_range(split)
        self._is_own = not isinstance(workers, Renderer)
        self._renderer = workers if isinstance(workers, Renderer) else Renderer(settings, workers)
        self.settings = settings
        self.prefetch_count = self._renderer.workers

    @property
    def versions(self) -> dict[str, str]:
        """Those of the renderer; starts one if none runs."""
        return self._renderer.versions

    def pair_seed(self, drawn: int, stage: str) -> int:
        """The drawn number itself, counted from the start of the split's range."""
        return self._seeds[drawn]

    def submit(self, pair_seed: int, difficulty: Difficulty) -> Future[Pair]:
        """Plan a pair and start rendering it; whatever goes wrong is raised by the future."""
        try:
            size = (self.settings.width, self.settings.height)
            return self._renderer.submit(plan_pair(pair_seed, difficulty), size)
        except ValueError as error:
            failed: Future[Pair] = Future()
            failed.set_exception(error)
            return failed

    def close(self) -> None:
        """End the Blender processes, if they are its own."""
        if self._is_own:
            self._renderer.close()


class StoredPairs:
    """Pairs of a folder that ``dig-env render`` wrote, drawn with replacement."""

    prefetch_count = 1

    def __init__(self, folder: str | Path, split: str) -> None:
        self._dataset = PairDataset(folder)
        self._split = split
        self._seeds: dict[str, Sequence[int]] = {}
        self._open()
        reset_after_fork(self, StoredPairs._open)
        self.settings = self._dataset.settings

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self._dataset.folder, self._split)

    def _open(self) -> None:
        # A thread a core: the decoders release Python's lock. Threads start as they are needed.
        self._readers = ThreadPoolExecutor(available_cores(), thread_name_prefix="dig-env-read")

    def __len__(self) -> int:
        """Pairs of the folder, of all splits."""
        return len(self._dataset)

    @property
    def stages(self) -> dict[str, Difficulty]:
        """Difficulty of each stage of the folder, by name."""
        return self._dataset.stages

    @property
    def versions(self) -> dict[str, str]:
        """Those that the folder remembers."""
        return dict(self._dataset.manifest.made_with)

    def pair_seed(self, drawn: int, stage: str) -> int:
        """One of the stage's pairs; ValueError when the folder has none."""
        if stage not in self._seeds:
            self._seeds[stage] = self._dataset.pair_seeds(stage, self._split)
        return self._seeds[stage][drawn % len(self._seeds[stage])]

    def submit(self, pair_seed: int, difficulty: Difficulty) -> Future[Pair]:
        """Start reading a pair from disk."""
        return self._readers.submit(self._read, pair_seed)

    def _read(self, pair_seed: int) -> Pair:
        with NO_FORK:
            return self._dataset.pair(pair_seed)

    def close(self) -> None:
        """End the reading threads."""
        self._readers.shutdown(wait=False, cancel_futures=True)


class PairCache:
    """The latest pairs, each made once for all that ask for it at about the same time.

    Args:
        size: pairs that are kept.
    """

    def __init__(self, size: int = 64) -> None:
        self._size = size
        self._open()
        reset_after_fork(self, PairCache._open)

    def _open(self) -> None:
        self._made: OrderedDict[Any, Future[Pair]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Any, make: Callable[[], Future[Pair]]) -> Future[Pair]:
        """The pair of a key; ``make`` starts making it where it is not there, or has failed.

        Each caller gets its own future, and may cancel it.
        """
        with self._lock:
            made = self._made.pop(key, None)
            is_new = made is None or (made.done() and made.exception() is not None)
            made = Future() if made is None or is_new else made
            self._made[key] = made
            while len(self._made) > self._size:
                self._made.popitem(last=False)
        if is_new:  # without the lock, since planning may take seconds
            try:
                make().add_done_callback(partial(_hand_on, made))
            except BaseException as error:
                made.set_exception(error)
        own: Future[Pair] = Future()
        made.add_done_callback(partial(_hand_on, own))
        return own


def _hand_on(own: Future[Pair], made: Future[Pair]) -> None:
    if own.set_running_or_notify_cancel():
        try:
            own.set_result(made.result())
        except BaseException as error:  # cancelled too: what makes the pairs was closed
            own.set_exception(error)


class SharedPairs:
    """A source that many environments draw from at once, as on a server.

    The members of a GRPO group ask for the same pair, and it is made once. None is made in advance:
    what one might ask for later would delay what another waits for now.

    Args:
        source: where the pairs come from; the caller's to close.
        cache: may be shared with other sources.
        name: distinguishes the source from others that share the cache and have equal ``settings``.
    """

    prefetch_count = 0

    def __init__(self, source: PairSource, cache: PairCache, name: str = "") -> None:
        self.source, self._cache, self._name = source, cache, name
        self.settings = source.settings

    @property
    def stages(self) -> dict[str, Difficulty]:
        """As the source has them."""
        return self.source.stages

    @property
    def versions(self) -> dict[str, str]:
        """As the source has them."""
        return self.source.versions

    def pair_seed(self, drawn: int, stage: str) -> int:
        """As the source has it."""
        return self.source.pair_seed(drawn, stage)

    def submit(self, pair_seed: int, difficulty: Difficulty) -> Future[Pair]:
        """Start making the pair, unless it is there or under way."""
        key = (self._name, self.settings, pair_seed, difficulty)
        return self._cache.get(key, lambda: self.source.submit(pair_seed, difficulty))

    def __str__(self) -> str:
        return self._name or "this server"

    def close(self) -> None:
        """Nothing: what it shares belongs to others."""


def stages_of(source: PairSource) -> dict[str, Difficulty]:
    """The stages that a source makes pairs of, by name: its own come before ``STAGES``."""
    return {**source.stages, **STAGES, **source.stages}


def pair_source(
    asked: dict[str, Any], dataset: str | Path | PairSource | None, split: str, workers: int
) -> PairSource:
    """The renderer, the dataset or the source that an environment's arguments mean.

    Args:
        asked: "width", "height", "quality" and "device"; None is left to the source.
        dataset: folder of stored pairs, or a source; None renders fresh ones.
        split: "train", "validation" or "test".
        workers: Blender processes.

    Raises:
        ValueError: an argument is out of its range, or not what stored pairs were rendered with.
    """
    given = {name: value for name, value in asked.items() if value is not None}
    if dataset is None:
        return FreshPairs(RenderSettings(**given), split, workers)
    source = StoredPairs(dataset, split) if isinstance(dataset, (str, Path)) else dataset
    for name, value in given.items():
        if value != getattr(source.settings, name):
            raise ValueError(
                f"{name}={value!r}, but the pairs of {dataset} were rendered with "
                f"{name}={getattr(source.settings, name)!r}: leave {name} out"
            )
    return source
