"""A supervised pool of Blender processes that turns plans into certified pairs."""

from __future__ import annotations

import collections
import os
import queue
import weakref
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from scenes.blender.process import Rendered, WorkerDied, WorkerProcess
from scenes.difficulty import DifficultyError
from scenes.labels import label_pair
from scenes.pair import Pair
from scenes.plan import PairPlan
from scenes.planner import plan_pair
from scenes.settings import RenderSettings

MAX_ATTEMPTS = 50
"""Plans of one seed's stream that may fail the visibility rule before it is an error."""
MAX_DEATHS = 3
"""Workers that one plan may cost before it is an error."""
RECYCLE_AFTER = 2000
"""Pairs after which a worker is replaced, since long-running Blenders slow down and grow."""


class Renderer:
    """Renders plans in ``workers`` Blender processes.

    A worker that crashes or hangs is replaced and the same plan rendered again. Workers start
    with the first plan they get, and end with the renderer or with this process.

    Args:
        settings: image size, quality and device.
        workers: number of Blender processes, at least 1. The CPU cores of this process are
            shared out among them. The pairs do not depend on it.

    Example:
        >>> with Renderer(RenderSettings(width=64, height=48, quality="draft")) as renderer:
        ...     pair = renderer.render(plan_pair(7, STAGES["single"]))   # doctest: +SKIP
    """

    def __init__(self, settings: RenderSettings = RenderSettings(), workers: int = 1) -> None:
        if not isinstance(workers, int) or isinstance(workers, bool) or workers < 1:
            raise ValueError(f"workers={workers!r}: give a whole number of processes, 1 or more")
        self.settings = settings
        self.workers = workers
        self._threads = max(1, available_cores() // workers)
        self._executor = ThreadPoolExecutor(workers, thread_name_prefix="dig-env-render")
        # A slot holds a running worker, or None where one has yet to start.
        self._slots: queue.SimpleQueue[WorkerProcess | None] = queue.SimpleQueue()
        for _ in range(workers):
            self._slots.put(None)
        self._living: set[WorkerProcess] = set()
        self._finalizer = weakref.finalize(self, _shut_down, self._executor, self._living)

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [worker.pid for worker in list(self._living)]

    def submit(self, plan: PairPlan) -> Future[Pair]:
        """Start rendering a plan; the future gives what ``render`` would return or raise."""
        if not self._finalizer.alive:
            raise RuntimeError("this Renderer is closed; make a new one")
        return self._executor.submit(self._certified_pair, plan)

    def render(self, plan: PairPlan) -> Pair:
        """Render one plan, or the first later attempt of its seed that passes the visibility rule.

        Raises:
            DifficultyError: no attempt passed; the message says what broke the last one.
            BlenderNotFoundError: there is no Blender to import.
            RenderError: Blender failed or kept dying on this plan.
        """
        return self.submit(plan).result()

    def imap(self, plans: Iterable[PairPlan], look_ahead: int | None = None) -> Iterator[Pair]:
        """Render plans in parallel and yield the pairs in order.

        Args:
            plans: may be endless; it is read at most ``look_ahead`` plans ahead of the consumer.
            look_ahead: by default twice the number of workers.
        """
        ahead = 2 * self.workers if look_ahead is None else max(1, look_ahead)
        waiting: collections.deque[Future[Pair]] = collections.deque()
        try:
            for plan in plans:
                waiting.append(self.submit(plan))
                if len(waiting) >= ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the workers; renders under way fail. Safe to call twice."""
        self._finalizer()

    def _certified_pair(self, plan: PairPlan) -> Pair:
        problem = ""
        for attempt in range(plan.attempt, plan.attempt + MAX_ATTEMPTS):
            if attempt > plan.attempt:
                plan = plan_pair(plan.seed, plan.difficulty, attempt)
            pair, problem = label_pair(plan, *self._rendered(plan))
            if pair is not None:
                return pair
        raise DifficultyError(
            f"none of {MAX_ATTEMPTS} plans of pair seed {plan.seed} passed the visibility rule; "
            f"in the last, {problem}. Ask for fewer objects, or lower min_visible or min_contrast"
        )

    def _rendered(self, plan: PairPlan) -> Rendered:
        """Both images and ID masks, from a fresh worker whenever one dies."""
        worker = self._slots.get()
        try:
            for death in range(1, MAX_DEATHS + 1):
                try:
                    if worker is None:
                        worker = WorkerProcess(self.settings, self._threads)
                        self._living.add(worker)
                    return worker.render(plan)
                except WorkerDied:
                    worker = self._discard(worker)
                    if death == MAX_DEATHS or not self._finalizer.alive:
                        raise
            raise AssertionError("unreachable")
        finally:
            if worker is not None and worker.renders >= RECYCLE_AFTER:
                worker = self._discard(worker)
            self._slots.put(worker)

    def _discard(self, worker: WorkerProcess | None) -> None:
        if worker is not None:
            self._living.discard(worker)
            worker.kill()


def _shut_down(executor: ThreadPoolExecutor, living: set[WorkerProcess]) -> None:
    executor.shutdown(wait=False, cancel_futures=True)
    for worker in list(living):
        worker.kill()
    living.clear()


def available_cores() -> int:
    """CPU cores that this process may use."""
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1
