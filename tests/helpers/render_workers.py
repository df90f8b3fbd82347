"""Which processes are Blender's."""

import contextlib

import psutil


def is_render_worker(process: psutil.Process) -> bool:
    """Whether a process is a render worker; one that has ended meanwhile is none."""
    with contextlib.suppress(psutil.NoSuchProcess):
        return any(part.endswith("blender/worker.py") for part in process.cmdline())
    return False
