"""What this process may use of the machine: cores and memory, as far as its container allows.

Linux says it in files: ``/proc/self/cgroup`` names the process's group of each hierarchy, mounted
where ``/proc/self/mountinfo`` says, and a group is held to the limits of those around it too
(cgroups(7); the kernel's cgroup-v2.rst, and v1's sched-bwc.rst and memory.rst).
"""

from __future__ import annotations

import math
import os
from collections.abc import Iterator
from pathlib import Path

import psutil

ROOT = Path("/")
WORKER_BYTES, PIXEL_BYTES = 400 * 10**6, 1000
"""What a worker and its denoiser take, at least and for each pixel of an image: measured were 300
MB and 790 bytes."""
OWN_BYTES = 500 * 10**6
"""For this process."""


def available_cores(root: Path = ROOT) -> int:
    """CPU cores that this process may keep busy, at least 1.

    Those that it may run on, or the CPU quota of its container, rounded to whole cores.

    Args:
        root: where ``proc`` and the cgroups are mounted.
    """
    quota = cpu_quota(root)
    cores = _cores_to_run_on()
    return cores if quota == math.inf else max(1, min(cores, math.floor(quota + 0.5)))


def available_memory(root: Path = ROOT) -> int:
    """Bytes of memory that are free for this process, on the machine and in its container."""
    free = [float(psutil.virtual_memory().available)]
    for group in _groups(root, "memory"):
        used = sum(_numbers(group, "memory.current") or _numbers(group, "memory.usage_in_bytes"))
        used -= _unused_cache(group)
        for limit in ("memory.max", "memory.high", "memory.limit_in_bytes"):
            free += [max(0.0, most - used) for most in _numbers(group, limit)]
    return int(min(free))


def default_workers(width: int, height: int, root: Path = ROOT) -> int:
    """Blender processes for images of a size: one a core, but no more than fit in memory."""
    left = available_memory(root) - OWN_BYTES
    fitting = left // (WORKER_BYTES + PIXEL_BYTES * width * height)
    return max(1, min(available_cores(root), fitting))


def cores(root: Path = ROOT) -> str:
    """``available_cores`` in words, such as "2 of 64 cores (CPU quota 2.5)"."""
    usable, there, to_run_on = available_cores(root), os.cpu_count() or 1, _cores_to_run_on()
    text = f"{usable} of {there} cores" if usable < there else f"{usable} cores"
    return f"{text} (CPU quota {cpu_quota(root):g})" if usable < to_run_on else text


def resources(root: Path = ROOT) -> str:
    """What ``default_workers`` goes by, in words."""
    return f"{cores(root)} and {available_memory(root) / 1e9:.1f} GB of free memory"


def cpu_quota(root: Path = ROOT) -> float:
    """Cores whose time the process's cgroups grant it; inf where they set no limit."""
    quotas = [math.inf]
    for group in _groups(root, "cpu"):
        for names in (("cpu.max",), ("cpu.cfs_quota_us", "cpu.cfs_period_us")):
            numbers = [number for name in names for number in _numbers(group, name)]
            if len(numbers) == 2:  # of time, in each period
                quotas.append(numbers[0] / numbers[1])
    return min(quotas)


def _cores_to_run_on() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not on macOS or Windows
        return os.cpu_count() or 1


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """The folders of this process's cgroups that may limit what a controller of v1, or the one
    hierarchy of v2, gives: each group, and those around it."""
    paths: dict[str, str] = {}
    for line in _lines(root / "proc/self/cgroup"):
        _, controllers, path = line.split(":", 2)
        paths |= dict.fromkeys(controllers.split(","), path)  # of v2, "" is the name
    for line in _lines(root / "proc/self/mountinfo"):
        mount, _, system = line.partition(" - ")
        _, _, _, mounted, point = mount.split()[:5]
        kind, _, options = system.split()[:3]
        name = {"cgroup": controller, "cgroup2": ""}.get(kind)
        if name not in paths or (name and name not in options.split(",")):
            continue
        top = root / point.lstrip("/")
        # A container may see its own group as the mount's root, and be told its name outside.
        own = Path(paths[name])
        group = top / own.relative_to(mounted) if own.is_relative_to(mounted) else top
        yield from (group, *(around for around in group.parents if around.is_relative_to(top)))


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text().splitlines()
    except OSError:  # not on macOS or Windows
        return []


def _numbers(group: Path, name: str) -> list[float]:
    """The numbers in a group's file, inf for no limit; [] where there is no such file."""
    words = " ".join(_lines(group / name)).split()
    return [math.inf if word in ("max", "-1") else float(word) for word in words]


def _unused_cache(group: Path) -> int:
    """Bytes read from files and not used of late: counted as used, and given back when needed."""
    statistics = dict(line.split() for line in _lines(group / "memory.stat"))
    own = statistics.get("inactive_file", 0)  # v1 names the sum over the group's own groups total
    return int(statistics.get("total_inactive_file", own))
