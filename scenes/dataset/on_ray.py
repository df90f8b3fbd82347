"""Pairs that are rendered on a Ray cluster, in their order.

A task makes a few pairs of consecutive places, which are a function of their seeds, their
difficulties and the settings alone; so Ray may run it anywhere, and again where a worker died.
"""

from __future__ import annotations

import collections
import contextlib
import functools
import itertools
import os
from collections.abc import Iterator
from typing import Any

from dig_env.scenes.dataset.folder import PIXEL_VERSIONS
from dig_env.scenes.dataset.manifest import library_versions
from dig_env.scenes.extras import extra
from dig_env.scenes.machine import default_workers
from dig_env.scenes.measure.pair import Pair
from dig_env.scenes.plans.difficulty import Difficulty
from dig_env.scenes.plans.planner import plan_pair
from dig_env.scenes.render.process import RenderError
from dig_env.scenes.render.renderer import Renderer
from dig_env.scenes.render.settings import RenderSettings

PAIRS_PER_TASK = 4
"""Few, since a worker that dies takes them along."""
MAX_RETRIES = 5
"""Ray workers that one task may cost before it is an error."""
RAY_VARIABLES = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_raylet_start_wait_time_s": "300"}
"""For a cluster that is started here: no usage statistics, and more time to start."""
STORE_BYTES = 256 * 2**20
"""Of the object store of a cluster that is started here: 100 times what a task gives at 320x240."""


@contextlib.contextmanager
def ray_pairs(
    asked: Iterator[tuple[int, Difficulty]], settings: RenderSettings, workers: int | None
) -> Iterator[tuple[dict[str, str], Iterator[Pair]]]:
    """What decides the pixels, and the pairs of (pair seed, difficulty), in their order.

    Two tasks for each CPU of the cluster are under way or waiting to be fetched, no more, so that
    what its object store holds is bounded.

    Args:
        asked: which pairs; read as they are needed.
        settings: image size, quality and device.
        workers: CPUs of a cluster that is started here; None for all. RAY_ADDRESS names one that
            is there, and then it does not matter.

    Raises:
        MissingExtraError: there is no Ray.
        RenderError: Blender failed, or the cluster did.
    """
    for name, value in RAY_VARIABLES.items():
        os.environ.setdefault(name, value)
    with extra("ray"):
        import ray
    if "RAY_ADDRESS" in os.environ:
        ray.init(log_to_driver=False)
    else:
        ray.init(
            "local",
            num_cpus=workers or default_workers(settings.width, settings.height),
            object_store_memory=STORE_BYTES,
            include_dashboard=False,
            log_to_driver=False,
        )
    try:
        tasks = _Tasks(ray, settings)
        yield tasks.versions, tasks.pairs(asked)
    finally:
        ray.shutdown()


class _Tasks:
    """Tasks of one job on a cluster that is there."""

    def __init__(self, ray: Any, settings: RenderSettings) -> None:
        self._ray, self._settings = ray, settings
        self._render = ray.remote(num_cpus=1, max_retries=MAX_RETRIES)(_rendered)
        self.versions, _ = self._fetched(self._render.remote([], settings))

    def pairs(self, asked: Iterator[tuple[int, Difficulty]]) -> Iterator[Pair]:
        """The pairs, in order."""
        ahead = 2 * int(self._ray.cluster_resources().get("CPU", 1))
        waiting: collections.deque[Any] = collections.deque()
        while part := list(itertools.islice(asked, PAIRS_PER_TASK)):
            waiting.append(self._render.remote(part, self._settings))
            if len(waiting) >= ahead:
                yield from self._checked(waiting.popleft())
        while waiting:
            yield from self._checked(waiting.popleft())

    def _checked(self, task: Any) -> list[Pair]:
        versions, pairs = self._fetched(task)
        for name in PIXEL_VERSIONS:
            here, there = self.versions.get(name), versions.get(name)
            if here != there:
                raise RenderError(
                    f"one machine of the cluster has {name} {here} and another one {there}, and "
                    "their pairs need not match: render on machines of one kind"
                )
        return pairs

    def _fetched(self, task: Any) -> tuple[dict[str, str], list[Pair]]:
        try:
            return self._ray.get(task)
        except self._ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except self._ray.exceptions.RayError as error:
            raise RenderError(
                f"the Ray cluster failed ({error}): see its logs, then give the same command again"
            ) from error


def _rendered(
    part: list[tuple[int, Difficulty]], settings: RenderSettings
) -> tuple[dict[str, str], list[Pair]]:
    """The task: pairs, and what decided their pixels."""
    renderer = _renderer(settings)
    pairs = [renderer.render(plan_pair(seed, difficulty)) for seed, difficulty in part]
    return library_versions() | renderer.versions, pairs


@functools.cache
def _renderer(settings: RenderSettings) -> Renderer:
    """One Blender for all tasks that this Ray worker gets; it ends with the worker."""
    return Renderer(settings, workers=1, threads=1)
