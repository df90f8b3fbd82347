"""Forked processes: what they must not take over from their parent, and when they may be made.

A child that was forked has copies of its parent's objects, but none of the threads, and its locks
stay as they were in that moment. ``torch.utils.data.DataLoader``, ``datasets.map(num_proc=...)``,
``gymnasium.vector.AsyncVectorEnv`` and ``multiprocessing`` fork on Linux.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable
from typing import Any, TypeVar

T = TypeVar("T")


_RESETS: weakref.WeakKeyDictionary[Any, Callable[[Any], None]] = weakref.WeakKeyDictionary()


def reset_after_fork(owner: T, reset: Callable[[T], None]) -> None:
    """Call ``reset(owner)`` in every process that is forked while the owner lives.

    Args:
        owner: has threads, locks, processes, connections, or futures of such.
        reset: replaces all of these, and leaves the parent's alone.
    """
    _RESETS[owner] = reset


def _after_fork_in_child() -> None:
    for owner, reset in list(_RESETS.items()):
        reset(owner)


class _ForkGuard:
    """Lets no fork happen in its ``with`` block, nor the other way round.

    For libraries whose own locks and threads a child would wait for forever: OpenImageDenoise,
    OpenEXR, Arrow.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._under_way = 0
        self._forking: int | None = None
        """The thread that is about to fork; garbage that it collects may open a block."""

    def __enter__(self) -> None:
        with self._changed:
            self._changed.wait_for(lambda: self._forking in (None, threading.get_ident()))
            self._under_way += 1

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._under_way -= 1
            self._changed.notify_all()

    def begin_fork(self) -> None:
        """Wait until no block is under way, and let none begin."""
        self._changed.acquire()  # until the fork has happened
        self._forking = threading.get_ident()
        self._changed.wait_for(lambda: not self._under_way)

    def end_fork(self) -> None:
        """Let blocks begin again, in the parent and in the child."""
        self._forking = None
        self._changed.notify_all()
        self._changed.release()


NO_FORK = _ForkGuard()

if hasattr(os, "register_at_fork"):  # not on Windows, which does not fork
    os.register_at_fork(
        before=NO_FORK.begin_fork,
        after_in_parent=NO_FORK.end_fork,
        after_in_child=NO_FORK.end_fork,
    )
    os.register_at_fork(after_in_child=_after_fork_in_child)
