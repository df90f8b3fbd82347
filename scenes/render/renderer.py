"""A supervised pool of Blender processes that turns plans into certified pairs."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import os
import platform
import queue
import sys
import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from typing import Any, TypeVar

from dig_env.scenes.arguments import whole
from dig_env.scenes.forks import reset_after_fork
from dig_env.scenes.machine import available_cores, default_workers, resources
from dig_env.scenes.measure.labels import label_pair, label_with_nuisance
from dig_env.scenes.measure.occlusion import thin_models
from dig_env.scenes.measure.pair import Pair
from dig_env.scenes.plans.difficulty import DifficultyError
from dig_env.scenes.plans.plan import PairPlan
from dig_env.scenes.plans.planner import MAX_ATTEMPTS, plan_pair
from dig_env.scenes.render.gpus import first_worker
from dig_env.scenes.render.imaging import render_b, render_pair
from dig_env.scenes.render.nuisance import apply_nuisance
from dig_env.scenes.render.passes import Denoiser, load_denoiser
from dig_env.scenes.render.process import WorkerDiedError, WorkerProcess, render_timeout_s
from dig_env.scenes.render.settings import RenderSettings

T = TypeVar("T")

MAX_CRASHES = 5
"""Crashes of workers that one plan may cause before it is an error."""
TIMEOUT_GROWTH = 4.0
"""Each crash makes the time-out this much longer, since the machine may be slow."""
RECYCLE_AFTER = 2000
"""Pictures after which a worker is replaced, since long-running Blenders slow down and grow."""
RECYCLE_GROWTH_BYTES = 512 * 2**20
"""So is one that holds this much more memory than after its first pair."""


class Renderer:
    """Renders plans in ``workers`` Blender processes.

    A worker that crashes or hangs is replaced and the same plan rendered again. Workers start
    with the first plan they get, and end with the renderer or with this process.

    Args:
        settings: image size, quality and device. ``submit`` takes other sizes too.
        workers: number of Blender processes, at least 1; None for one a CPU core, as far as they
            fit in memory, which gives most pairs a second, where one worker gives the next pair
            soonest. The cores that this process may use (``available_cores``) are shared out
            among them as threads; ``str(renderer)`` says how. The pairs do not depend on it.
        threads: of each process, where others share the cores; None shares all cores out.

    Example:
        >>> with Renderer(RenderSettings(width=64, height=48, quality="draft")) as renderer:
        ...     pair = renderer.render(plan_pair(7, STAGES["single"]))   # doctest: +SKIP
    """

    def __init__(
        self,
        settings: RenderSettings = RenderSettings(),
        workers: int | None = 1,
        threads: int | None = None,
    ) -> None:
        if workers is None:
            workers = default_workers(settings.width, settings.height)
        self.settings = settings
        self.workers = whole("workers", workers, 1, of=" of processes")
        if threads is None:
            threads = max(1, available_cores() // self.workers)
        self.threads = whole("threads", threads, 1)
        self._versions: dict[str, str] | None = None
        self._open()
        _RENDERERS.add(self)
        reset_after_fork(self, Renderer._reset_after_fork)

    def _open(self) -> None:
        self._executor = ThreadPoolExecutor(self.workers, thread_name_prefix="dig-env-render")
        self._slots: queue.SimpleQueue[_Slot] = queue.SimpleQueue()
        first = first_worker(os.environ, self.workers)
        for number in range(first, first + self.workers):
            self._slots.put(_Slot(number))
        self._processes: set[WorkerProcess] = set()
        self._finalizer = weakref.finalize(self, _shut_down, self._executor, self._processes)

    def _reset_after_fork(self) -> None:
        """In a forked process: leave the parent its workers, and start own ones when needed."""
        if self._finalizer.detach() is not None:  # it was not closed
            for worker in self._processes:
                worker.detach()
            self._open()

    def __reduce__(self) -> tuple[Any, ...]:
        return Renderer, (self.settings, self.workers, self.threads)

    def __str__(self) -> str:
        size = f"{self.settings.width}x{self.settings.height} {self.settings.quality}"
        return (
            f"{size}, {self.workers} Blender process(es) with {self.threads} thread(s) each, of "
            f"{resources()}"
        )

    def __enter__(self) -> Renderer:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def versions(self) -> dict[str, str]:
        """What an image's bytes depend on beside plan and settings: Blender, denoiser, processor.

        Starts a worker if none has run yet, since only Blender knows its own version.
        """
        if self._versions is None:
            wait_for(self._submit(self._with_worker, lambda *_: None, self.settings))
        assert self._versions is not None
        return self._versions

    @property
    def worker_gpus(self) -> list[str]:
        """Which GPU each running worker renders on, in words; "" for the CPU."""
        return [worker.gpu for worker in list(self._processes)]

    @property
    def worker_pids(self) -> list[int]:
        """Process ids of the running workers."""
        return [worker.pid for worker in list(self._processes)]

    def submit(self, plan: PairPlan, size: tuple[int, int] | None = None) -> Future[Pair]:
        """Start rendering a plan; the future gives what ``render`` would return or raise.

        Args:
            plan: to render.
            size: (width, height) in pixels, where it is not that of ``settings``. Quality and
                device are the renderer's: a Blender that has taken more samples a pixel takes
                others when it is to take fewer again, and other bytes come out.
        """
        width, height = size or (self.settings.width, self.settings.height)
        settings = dataclasses.replace(self.settings, width=width, height=height)
        return self._submit(self._certified_pair, plan, settings)

    def render(self, plan: PairPlan) -> Pair:
        """Render one plan, or the first later attempt of its seed that may be handed out.

        Raises:
            DifficultyError: no attempt passed; the message says what broke the last one.
            BlenderNotFoundError: there is no Blender to import.
            RenderError: Blender failed or kept dying on this plan.
        """
        return wait_for(self.submit(plan))

    def imap(self, plans: Iterable[PairPlan], prefetch_count: int | None = None) -> Iterator[Pair]:
        """Render plans in parallel and yield the pairs in order.

        Args:
            plans: may be endless; at most ``prefetch_count`` plans are read ahead of the consumer.
            prefetch_count: by default twice the number of workers.
        """
        ahead = 2 * self.workers if prefetch_count is None else max(1, prefetch_count)
        waiting: collections.deque[tuple[PairPlan, Future[Pair]]] = collections.deque()
        owner = os.getpid()

        def next_pair() -> Pair:
            plan, future = waiting.popleft()
            # A forked process waits for its parent's threads in vain.
            return wait_for(future) if os.getpid() == owner else self.render(plan)

        try:
            for plan in plans:
                waiting.append((plan, self.submit(plan)))
                if len(waiting) >= ahead:
                    yield next_pair()
            while waiting:
                yield next_pair()
        finally:
            for _, future in waiting:
                future.cancel()

    def close(self) -> None:
        """End the workers; renders under way fail. Safe to call twice."""
        self._finalizer()

    def _submit(self, work: Callable[..., T], *arguments: Any) -> Future[T]:
        if not self._finalizer.alive:
            raise RuntimeError("this Renderer is closed; make a new one")
        future = self._executor.submit(work, *arguments)
        load_denoiser()  # takes 0.3 s the first time, while Blender starts
        return future

    def _certified_pair(self, plan: PairPlan, settings: RenderSettings) -> Pair:
        while True:
            pictures = self._with_worker(partial(render_pair, plan), settings)
            pair, problem = label_pair(plan, *pictures)
            if pair is not None and plan.nuisance is not None:
                again = self._with_worker(partial(render_b, plan), settings)
                image_b, ids_b = again or (pair.image_b, pair.ids_b)
                pair, problem = label_with_nuisance(pair, apply_nuisance(image_b, plan), ids_b)
            if pair is not None:
                return pair
            if plan.attempt + 1 >= MAX_ATTEMPTS:
                break
            plan = plan_pair(plan.seed, plan.difficulty, plan.attempt + 1)
        thin = thin_models(plan, settings.width, settings.height)
        remedy = (
            "Ask for fewer objects, lower min_visible or min_contrast, or raise "
            "max_bystander_contrast or max_detached_area"
        )
        if thin:
            remedy = (
                f"The model {', '.join(map(repr, thin))} is too flat or thin to show as many "
                "pixels as min_visible asks for, even alone: take it out of "
                f"{plan.scenery.models}, or lower min_visible"
            )
        raise DifficultyError(
            f"none of {MAX_ATTEMPTS} plans of pair seed {plan.seed} made a pair that may be handed "
            f"out; in the last, {problem}. {remedy}"
        )

    def _with_worker(
        self, take: Callable[[WorkerProcess, Denoiser, float], T], settings: RenderSettings
    ) -> T:
        """What ``take`` makes of a worker, a denoiser and a time-out in seconds; done again with a
        fresh worker whenever one crashes."""
        slot = self._slots.get()
        try:
            for crashes in range(MAX_CRASHES):
                try:
                    worker = slot.worker or self._start(slot)
                    slot.denoiser = slot.denoiser or Denoiser(self.threads)
                    worker.width, worker.height = settings.width, settings.height
                    timeout_s = render_timeout_s(settings) * TIMEOUT_GROWTH**crashes
                    return take(worker, slot.denoiser, timeout_s)
                except WorkerDiedError:
                    self._discard(slot)
                    if crashes == MAX_CRASHES - 1 or not self._finalizer.alive:
                        raise
            raise AssertionError("unreachable")
        finally:
            if slot.worker is not None and slot.worker.renders and _is_worn_out(slot):
                self._discard(slot)
            self._slots.put(slot)

    def _start(self, slot: _Slot) -> WorkerProcess:
        slot.worker = worker = WorkerProcess(self.settings, self.threads, number=slot.number)
        slot.first_bytes = 0
        self._processes.add(worker)
        try:
            if not self._finalizer.alive:  # closed in the meantime
                worker.kill()
            self._versions = worker.versions | {"processor": instruction_set()}
            slot.tell_gpu(worker)
        except BaseException:
            self._discard(slot)
            raise
        return worker

    def _discard(self, slot: _Slot) -> None:
        if slot.worker is not None:
            self._processes.discard(slot.worker)
            slot.worker.kill()
            slot.worker = None


def wait_for(future: Future[T]) -> T:
    """A future's result, or what it raises.

    It wakes up twice a second: Python would not notice a Ctrl-C in the moment in which a wait
    begins before that ends.
    """
    while not future.done():
        with contextlib.suppress(TimeoutError):
            future.exception(timeout=0.5)
    return future.result()


@dataclasses.dataclass
class _Slot:
    """A place for one worker, which starts with the first plan and may be replaced, and for the
    denoiser.

    ``number`` is the worker's among those that share GPUs, and ``first_bytes`` its resident size
    after its first pair.
    """

    number: int
    worker: WorkerProcess | None = None
    denoiser: Denoiser | None = None
    first_bytes: int = 0
    _told: bool = False

    def tell_gpu(self, worker: WorkerProcess) -> None:
        """Say once on standard error where this slot's workers render, if on a GPU."""
        if worker.gpu and not self._told:
            self._told = True
            print(
                f"render worker {self.number}: {worker.versions['device']}, {worker.gpu}. The "
                "first time, Cycles compiles its kernels, for minutes",
                file=sys.stderr,
                flush=True,
            )


def _is_worn_out(slot: _Slot) -> bool:
    """Has the slot's worker grown old or large?"""
    assert slot.worker is not None
    resident = slot.worker.resident_bytes
    slot.first_bytes = slot.first_bytes or resident
    too_large = resident - slot.first_bytes > RECYCLE_GROWTH_BYTES
    return too_large or slot.worker.renders >= RECYCLE_AFTER


def _shut_down(executor: ThreadPoolExecutor, processes: set[WorkerProcess]) -> None:
    executor.shutdown(wait=False, cancel_futures=True)
    for worker in list(processes):
        worker.kill()
    processes.clear()


_RENDERERS: weakref.WeakSet[Renderer] = weakref.WeakSet()


def _close_all() -> None:
    for renderer in list(_RENDERERS):
        renderer.close()


# At exit Python first waits for the threads that wait for Blender: after Ctrl-C for as long as the
# picture takes. What ``atexit`` and ``weakref.finalize`` call comes only then.
threading._register_atexit(_close_all)  # type: ignore[attr-defined]


def instruction_set() -> str:
    """The processor's widest vector instructions that Cycles and OpenImageDenoise have code for.

    They sum in another order on each, so that 1 to 4 pixels of a 128x96 image were seen to differ
    by one level between AVX2 and SSE4.2 (``CYCLES_CPU_NO_AVX2=1``).
    """
    try:
        with open("/proc/cpuinfo") as file:
            flags = next((line for line in file if line.startswith("flags")), "").split()
    except OSError:  # not on macOS or Windows
        flags = []
    widest = next((name for name in ("avx512f", "avx2", "sse4_2") if name in flags), "")
    return f"{platform.machine()} {widest}".strip()
