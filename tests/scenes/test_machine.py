"""What a container leaves to a process: CPU quotas and memory limits of cgroups, v1 and v2."""

import contextlib
import math
import os
import subprocess
import sys

import pytest

import dig_env.scenes.machine
from dig_env.scenes.machine import (
    available_cores,
    available_memory,
    cores,
    cpu_quota,
    default_workers,
    resources,
)

V2 = ("/", "/sys/fs/cgroup", "cgroup2", "rw")
V1_CPU = ("/", "/sys/fs/cgroup/cpu,cpuacct", "cgroup", "rw,cpu,cpuacct")
V1_MEMORY = ("/", "/sys/fs/cgroup/memory", "cgroup", "rw,memory")
DOCKER = "/docker/5f3c"


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """Makes a machine of 64 cores with the given cgroups; its root."""

    def make(groups, *mounts):
        lines = ["22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/root rw"]
        for folder, point, kind, options in mounts:
            lines.append(f"30 22 0:30 {folder} {point} rw,nosuid shared:9 - {kind} none {options}")
        proc = tmp_path / "proc" / "self"
        proc.mkdir(parents=True)
        (proc / "mountinfo").write_text("\n".join(lines))
        (proc / "cgroup").write_text("\n".join(groups))
        return tmp_path

    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    return make


def write(root, folder, **files):
    """Files of a cgroup; two underscores in a name stand for the dot."""
    path = root / folder.lstrip("/")
    path.mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (path / name.replace("__", ".")).write_text(f"{text}\n")


def test_without_a_limit_all_cores_that_it_may_run_on_count(machine, tmp_path):
    assert available_cores(tmp_path / "nothing there, as on macOS") == 64
    root = machine(["0::/"], V2)
    write(root, "/sys/fs/cgroup", cpu__max="max 100000")
    assert (available_cores(root), cpu_quota(root)) == (64, math.inf)
    assert cores(root) == "64 cores"


@pytest.mark.parametrize(
    ("quota_us", "usable"),
    [(6_400_000, 64), (9_900_000, 64), (250_000, 3), (240_000, 2), (150_000, 2), (20_000, 1)],
)
def test_a_quota_is_rounded_to_whole_cores_and_never_to_none(machine, quota_us, usable):
    root = machine(["0::/"], V2)  # as docker --cpus=... shows it to what runs inside
    write(root, "/sys/fs/cgroup", cpu__max=f"{quota_us} 100000")
    assert available_cores(root) == usable


def test_the_narrowest_of_the_groups_around_a_process_counts(machine):
    root = machine(["0::/pods/pod/main"], V2)
    write(root, "/sys/fs/cgroup/pods", cpu__max="1000000 100000")
    write(root, "/sys/fs/cgroup/pods/pod", cpu__max="150000 50000")
    write(root, "/sys/fs/cgroup/pods/pod/main", cpu__max="max 100000")
    write(root, "/sys/fs/cgroup/pods/another", cpu__max="100000 100000")
    assert cpu_quota(root) == 3
    assert cores(root) == "3 of 64 cores (CPU quota 3)"


@pytest.mark.parametrize(
    ("mount", "folder"),
    [
        (V1_CPU, V1_CPU[1] + DOCKER),  # the whole hierarchy is mounted
        ((DOCKER, *V1_CPU[1:]), V1_CPU[1]),  # the container sees its own group as the root
        (("/elsewhere", *V1_CPU[1:]), V1_CPU[1]),
    ],
)
def test_version_1_has_files_of_its_own(machine, mount, folder):
    root = machine([f"4:cpu,cpuacct:{DOCKER}", "3:memory:/other", "0::/"], mount, V1_MEMORY)
    write(root, folder, cpu__cfs_quota_us=250_000, cpu__cfs_period_us=100_000)
    write(root, "/sys/fs/cgroup/memory/other", cpu__cfs_quota_us=1, cpu__cfs_period_us=1)
    assert cpu_quota(root) == 2.5
    write(root, folder, cpu__cfs_quota_us=-1)
    assert cpu_quota(root) == math.inf


def test_both_versions_count_side_by_side(machine):
    root = machine(["2:cpu,cpuacct:/", "0::/"], V1_CPU, ("/", "/sys/fs/cgroup/unified", *V2[2:]))
    write(root, V1_CPU[1], cpu__cfs_quota_us=400_000, cpu__cfs_period_us=100_000)
    assert cpu_quota(root) == 4
    write(root, "/sys/fs/cgroup/unified", cpu__max="200000 100000")
    assert cpu_quota(root) == 2


def test_memory_is_what_the_container_leaves_and_reclaimable_files_are_not_in_use(machine):
    root = machine(["0::/a/b"], V2)
    stat = "anon 1\ninactive_file 300000000\nactive_file 5"
    write(root, "/sys/fs/cgroup/a", memory__max="max", memory__current=10**9)
    limits = {"memory__max": 2 * 10**9, "memory__current": 8 * 10**8, "memory__stat": stat}
    write(root, "/sys/fs/cgroup/a/b", **limits)
    assert available_memory(root) == 1_500_000_000
    write(root, "/sys/fs/cgroup/a/b", memory__high=10**9)
    assert available_memory(root) == 500_000_000
    write(root, "/sys/fs/cgroup/a", memory__max=10**9)
    assert available_memory(root) == 0


def test_memory_of_version_1(machine):
    root = machine(["7:memory:/"], V1_MEMORY)
    stat = "inactive_file 0\ntotal_inactive_file 100000000"
    used = {"memory__usage_in_bytes": 6 * 10**8, "memory__stat": stat}
    write(root, V1_MEMORY[1], memory__limit_in_bytes=10**9, **used)
    assert available_memory(root) == 500_000_000
    write(root, V1_MEMORY[1], memory__limit_in_bytes=2**63 - 4096)  # what no limit looks like
    assert available_memory(root) == pytest.approx(available_memory(root / "none"), rel=0.05)


def test_default_workers_fit_in_memory_and_in_the_quota(machine, monkeypatch):
    monkeypatch.setattr(dig_env.scenes.machine.psutil, "virtual_memory", lambda: Free(10**12))
    root = machine(["0::/"], V2)
    assert default_workers(320, 240, root) == 64
    write(root, "/sys/fs/cgroup", cpu__max="800000 100000")
    assert default_workers(320, 240, root) == 8
    write(root, "/sys/fs/cgroup", memory__max=4 * 10**9, memory__current=10**9)
    assert default_workers(320, 240, root) == 5
    assert default_workers(1280, 960, root) == 1
    assert resources(root) == "8 of 64 cores (CPU quota 8) and 3.0 GB of free memory"
    write(root, "/sys/fs/cgroup", memory__current=4 * 10**9)
    assert default_workers(320, 240, root) == 1


class Free:
    def __init__(self, available):
        self.available = available


def test_a_real_group_with_a_quota():
    """The kernel's own files, where this process may make a group."""
    own = next(dig_env.scenes.machine._groups(dig_env.scenes.machine.ROOT, "cpu"), None)
    group = own and own / f"dig-env-test-{os.getpid()}"
    program = (
        "import sys; sys.stdin.readline()\n"
        "from dig_env.scenes.machine import available_cores, cpu_quota\n"
        "print(available_cores(), cpu_quota())"
    )
    with contextlib.ExitStack() as undo:
        try:
            group.mkdir()
            undo.callback(group.rmdir)
            limit = group / "cpu.cfs_quota_us"
            if limit.exists():
                limit.write_text("70000")  # of the 100,000 of its period
            else:
                (group / "cpu.max").write_text("70000 100000")
            started = subprocess.Popen(
                [sys.executable, "-c", program],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
            process = undo.enter_context(started)
            undo.callback(process.kill)
            (group / "cgroup.procs").write_text(str(process.pid))
        except (AttributeError, OSError) as error:
            pytest.skip(f"no group can be made here: {error}")
        assert process.communicate("\n")[0].split() == ["1", "0.7"]
