"""The render worker: a script for a Python that has bpy, or for ``blender --python``.

Protocol: the last argument is a JSON object of settings. The worker says {} at once, and its GPU
and versions when Blender is set up, one JSON line each over a pipe of its own (``reply_fd``), since
Blender prints on standard output. Then the parent writes one JSON request a line to standard input,
and each gets one line back. The pictures go through files that the request names. End of input
means that the parent is gone or done: exit.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any, TextIO

OLDEST_BLENDER, NEWEST_BLENDER = (4, 2), (5, 3)
"""Those that the tests have rendered with; a newer one may lay its files out in another way."""


def main() -> None:
    """Serve render requests, and leave no file behind."""
    settings = json.loads(sys.argv[-1])
    scratch = settings.pop("scratch")
    replies = os.fdopen(settings.pop("reply_fd"), "w")
    threading.Thread(target=_die_with_parent, args=(os.getppid(), scratch), daemon=True).start()
    try:
        _work(settings, replies)
    except BrokenPipeError:
        pass  # the parent was gone when its answer was ready
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _work(settings: dict[str, Any], replies: TextIO) -> None:
    """Set up Blender and serve requests until standard input ends."""
    kernels_lock = settings.pop("kernels_lock")
    _reply(replies, {})  # says that this is the worker, before Blender takes its time
    try:
        # Imported here: a machine without Blender must get its reply through the protocol.
        sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))
        with _cores_hidden(settings["threads"]):
            _check_version()
            from gpus import turn
            from studio import Studio

            studio = Studio(**settings)
    except Exception as error:
        _reply(replies, {"error": type(error).__name__, "message": str(error)})
        return
    _reply(replies, {"gpu": studio.gpu, "versions": studio.versions | {"libc": _c_library()}})
    waiting = turn(kernels_lock) if studio.gpu else contextlib.nullcontext()
    for line in sys.stdin.buffer:
        with waiting:  # the first picture needs kernels
            reply = _serve(studio, json.loads(line))
        waiting = contextlib.nullcontext()
        _reply(replies, reply)


def _check_version() -> None:
    import bpy

    if not OLDEST_BLENDER <= bpy.app.version[:2] <= NEWEST_BLENDER:
        oldest, newest = (".".join(map(str, pair)) for pair in (OLDEST_BLENDER, NEWEST_BLENDER))
        raise ImportError(
            f"this is Blender {bpy.app.version_string}, and {oldest} to {newest} will do"
        )


def _c_library() -> str:
    """Name and version of the C library, whose sines Blender takes.

    They differ in the last bit: one to three pixels of a 128x96 image were seen to differ by one
    level between glibc 2.36 and 2.41.
    """
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "unknown"
    except (AttributeError, ValueError):  # not glibc
        return "unknown"


@contextlib.contextmanager
def _cores_hidden(threads: int) -> Iterator[None]:
    """Let what starts in here see ``threads`` CPU cores, and run on all of them afterwards.

    Blender starts as many helper threads as it sees cores, whatever the renderer's own setting
    is. They spin while they wait, and take the cores from other workers.
    """
    if not hasattr(os, "sched_setaffinity"):  # not on macOS or Windows
        yield
        return
    cores = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(cores)[:threads])
    try:
        yield
    finally:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)


def _serve(studio: Any, request: dict[str, Any]) -> dict[str, Any]:
    """Render the request's scene to its file; the reply says what went wrong, if anything."""
    reply = {"number": request["number"]}
    try:
        studio.set_size(*request["size"])
        studio.set_view(request["camera"], request["lights"])
        studio.set_scenery(request["scenery"])
        studio.add_models(request["models"])
        studio.set_objects(request["objects"])
        studio.render(request["path"], request["samples"], request["window"], request["covered"])
    except Exception as error:
        return reply | {"error": type(error).__name__, "message": str(error)}
    return reply


def _reply(replies: TextIO, reply: dict[str, Any]) -> None:
    replies.write(json.dumps(reply) + "\n")
    replies.flush()


def _die_with_parent(parent: int, scratch: str) -> None:
    """End this process, and its scratch folder, once its parent is gone.

    End of input says so too, but not while a fork of the parent still holds the pipe open.
    """
    while os.getppid() == parent:
        time.sleep(0.5)
    shutil.rmtree(scratch, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
