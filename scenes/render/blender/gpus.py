"""Which GPU a worker renders on, and whose turn it is to compile kernels. Needs no Blender."""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from typing import Any


def gpu_of(worker: int, gpus: Sequence[Any]) -> tuple[Any, str]:
    """The GPU of a worker: they take turns.

    Only GPUs with the name of the first one are used. Those of another model need not make the
    same pictures, nor do they keep pace. Cycles adds "(Display)" to the name of one that would
    stall a screen.

    Args:
        worker: its number, from 0.
        gpus: Cycles' entries of one backend, with ``name`` and ``id``; at least one.

    Returns:
        One of them, and in words which.
    """
    alike = [gpu for gpu in gpus if gpu.name == gpus[0].name]
    index = worker % len(alike)
    return alike[index], f"GPU {index + 1} of {len(alike)} ({alike[index].id})"


@contextlib.contextmanager
def turn(path: str) -> Iterator[None]:
    """Hold the lock on a file, while other workers of this machine wait for it.

    Whoever is first compiles Cycles' kernels, for minutes; the others then find them in the
    driver's cache. The kernel lifts the lock of a process that ends. Where the file cannot be
    made or locked, no one waits.
    """
    with contextlib.ExitStack() as held:
        with contextlib.suppress(OSError):
            file = held.enter_context(open(path, "a"))
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
