"""Files and folders are written whole or not at all: killed and failed at every system call.

Each test forks a process that writes over something old, and has strace kill it before one system
call, or let that call fail; then the next call, and so on.
"""

import errno
import multiprocessing
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import time

import pytest

import dig_env.scenes.files
from dig_env.scenes.files import locked, remove_abandoned, write_folder_whole, write_whole

CALLS = (
    *("openat", "write", "close", "fsync", "rename", "renameat2"),
    *("mkdir", "rmdir", "unlink", "unlinkat"),
)
KILL = "signal=SIGKILL"
needs_strace = pytest.mark.skipif(
    shutil.which("strace") is None and "CI" not in os.environ, reason="no strace"
)


def write_file(place):
    write_whole(place / "it", b"new" * 100)


def write_folder(place):
    def fill(folder):
        (folder / "a").write_text("new")
        (folder / "b").mkdir()
        (folder / "b" / "c").write_text("new")

    write_folder_whole(place / "it", fill)


def old_and_new(write, place):
    """Put something old in place; what stands there now, and what ``write`` would leave."""
    if write is write_file:
        (place / "it").write_bytes(b"old")
    else:
        (place / "it").mkdir()
        (place / "it" / "a").write_text("old")
    elsewhere = place.parent / "elsewhere"
    if not elsewhere.exists():
        elsewhere.mkdir()
        write(elsewhere)
    return content(place / "it"), content(elsewhere / "it")


def content(path):
    if not path.is_dir():
        return path.read_bytes() if path.exists() else None
    return {str(p.relative_to(path)): p.read_bytes() for p in path.rglob("*") if p.is_file()}


def traced(write, place, *inject):
    """Write in a process under strace; its exit status, and the names of the calls it made."""
    (ready, begun), (go, start) = os.pipe(), os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            os.write(begun, b"!")  # what is done in a forked child is over: it is not counted
            os.read(go, 1)
            write(place)
            os._exit(0)
        except OSError:
            os._exit(3)
        finally:
            os._exit(4)
    os.read(ready, 1)
    log = place.parent / "log"
    options = ["-e", f"trace={','.join(CALLS)}", *(o for what in inject for o in ("-e", what))]
    strace = subprocess.Popen(
        ["strace", "-o", str(log), "-p", str(pid), *options], stderr=subprocess.PIPE, text=True
    )
    assert "attached" in strace.stderr.readline()
    os.write(start, b"!")
    _, status = os.waitpid(pid, 0)
    strace.communicate()
    for end in (ready, begun, go, start):
        os.close(end)
    return os.waitstatus_to_exitcode(status), re.findall(r"^(\w+)\(", log.read_text(), re.MULTILINE)


def every_call(write, tmp_path, *inject):
    """Each call that writing takes, as strace's injection is to name it."""
    place = tmp_path / "counted"
    place.mkdir()
    old_and_new(write, place)
    status, calls = traced(write, place, *inject)
    assert status == 0 and "fsync" in calls
    seen = dict.fromkeys(calls, 0)
    for name in calls:
        seen[name] += 1
        yield name, seen[name]


@needs_strace
@pytest.mark.parametrize("write", [write_file, write_folder])
def test_a_process_killed_at_any_system_call_leaves_the_old_or_the_new(write, tmp_path):
    outcomes = []
    for name, nth in every_call(write, tmp_path):
        place = tmp_path / f"{name}-{nth}"
        place.mkdir()
        old, new = old_and_new(write, place)
        status, _ = traced(write, place, f"inject={name}:{KILL}:when={nth}")
        assert status == -signal.SIGKILL
        left = content(place / "it")
        assert left in (old, new), (name, nth)
        outcomes.append(left == new)
        write(place)  # the next one, which cleans up
        assert content(place / "it") == new
        if write is write_folder:
            assert [path.name for path in place.iterdir()] == ["it"]
    # Old until some call, new from then on.
    assert outcomes == sorted(outcomes) and not outcomes[0] and outcomes[-1]


@needs_strace
@pytest.mark.parametrize("write", [write_file, write_folder])
@pytest.mark.parametrize("error", ["ENOSPC", "EIO"])
def test_a_system_call_that_fails_leaves_the_old_and_says_so(write, error, tmp_path):
    failed = 0
    for name, nth in every_call(write, tmp_path):
        place = tmp_path / f"{name}-{nth}"
        place.mkdir()
        old, new = old_and_new(write, place)
        status, _ = traced(write, place, f"inject={name}:error={error}:when={nth}")
        # An error only if nothing was written; none only if all of it was.
        assert (status, content(place / "it")) in [(3, old), (0, new)], (name, nth)
        failed += status == 3
    assert failed >= 5


@needs_strace
@pytest.mark.parametrize("missing", ["ENOSYS", "EINVAL"])
def test_where_names_cannot_be_exchanged_the_next_call_puts_the_old_folder_back(missing, tmp_path):
    no_exchange = f"inject=renameat2:error={missing}"
    for name, nth in every_call(write_folder, tmp_path, no_exchange):
        place = tmp_path / f"{name}-{nth}"
        place.mkdir()
        old, new = old_and_new(write_folder, place)
        kill = f"inject={name}:{KILL}:when={nth}"
        inject = [kill] if name == "renameat2" else [no_exchange, kill]
        assert traced(write_folder, place, *inject)[0] == -signal.SIGKILL

        def refuse(folder):
            raise OSError("full")

        with pytest.raises(OSError, match="full"):
            write_folder_whole(place / "it", refuse)
        assert content(place / "it") in (old, new), (name, nth)


def test_a_limit_on_the_size_of_files_is_named_as_such(tmp_path):
    code = (
        "import resource, pathlib, dig_env.scenes.files as f\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))\n"
        f"f.write_whole(pathlib.Path({str(tmp_path / 'it')!r}), b'x' * 10_000)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert "ulimit -f" in done.stderr and "free some space" not in done.stderr
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_fails_half_way_leaves_the_old_one(tmp_path):
    write_folder(tmp_path)

    def fail(folder):
        (folder / "a").write_text("newer")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match=r"could not write .*it .*free some space"):
        write_folder_whole(tmp_path / "it", fail)
    assert (tmp_path / "it" / "a").read_text() == "new"
    assert [path.name for path in tmp_path.iterdir()] == ["it"]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(FileNotFoundError, match=f"make the folder {tmp_path / 'none'}"):
        write_whole(tmp_path / "none" / "it", b"")


def test_a_link_to_a_folder_stays_a_link(tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "it").symlink_to("disk")
    write_folder(tmp_path)
    assert (tmp_path / "it").is_symlink() and (tmp_path / "disk" / "a").read_text() == "new"


# Whose temporary files go


def in_other_process(target, *args):
    process = multiprocessing.get_context("fork").Process(target=target, args=args)
    process.start()
    return process


def write_slowly(place):
    def fill(folder):
        (folder / "a").write_text("half")
        time.sleep(600)

    write_folder_whole(place / "it", fill)


def wait_for_part(place):
    deadline = time.monotonic() + 30
    while not list(place.rglob(".it.part-*/a")):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    return next(place.glob(".it.part-*"))


@pytest.fixture
def half(tmp_path):
    """What a living process has half written, and that process."""
    process = in_other_process(write_slowly, tmp_path)
    yield wait_for_part(tmp_path), process
    process.kill()
    process.join()


def test_temporary_files_of_the_living_stay_and_those_of_the_dead_go(half, tmp_path):
    path, process = half
    write_folder(tmp_path)
    remove_abandoned(tmp_path)
    assert (path / "a").read_text() == "half"
    process.kill()
    process.join()
    remove_abandoned(tmp_path.parent)
    assert not path.exists()


def test_those_of_another_machine_stay_for_a_day(half, tmp_path, monkeypatch):
    """Its processes cannot be asked whether they live."""
    path, process = half
    process.kill()
    process.join()
    monkeypatch.setattr(
        dig_env.scenes.files.platform, "node", lambda: "another-" + socket.gethostname()
    )
    remove_abandoned(tmp_path)
    assert path.exists()
    yesterday = time.time() - 25 * 3600
    os.utime(path, (yesterday, yesterday))
    remove_abandoned(tmp_path)
    assert not path.exists()


# One writer at a time


def count_up(folder, times):
    for _ in range(times):
        with locked(folder):
            count = int((folder / "count").read_text())
            time.sleep(0.002)
            (folder / "count").write_text(str(count + 1))


def test_one_process_at_a_time_holds_the_lock(tmp_path):
    (tmp_path / "count").write_text("0")
    processes = [in_other_process(count_up, tmp_path, 20) for _ in range(3)]
    for process in processes:
        process.join()
    assert (tmp_path / "count").read_text() == "60"
    assert (tmp_path / ".lock").read_bytes() == b""


def hold(folder):
    with locked(folder):
        (folder / "held").touch()
        time.sleep(600)


def test_whoever_waits_long_is_told_and_the_lock_of_the_dead_is_free(tmp_path, monkeypatch):
    holder = in_other_process(hold, tmp_path)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    monkeypatch.setattr(dig_env.scenes.files, "LOCK_NOTICE_S", 0.1)
    noticed = []

    def notice(message, *_, **__):
        noticed.append(message)
        holder.kill()

    monkeypatch.setattr(dig_env.scenes.files.warnings, "warn", notice)
    with locked(tmp_path):
        holder.join()
    assert re.search(r"\.lock.*another\s+machine.*delete that file", noticed[0])


def test_a_deleted_lock_file_frees_the_lock_of_a_machine_that_is_gone(tmp_path):
    """What the notice advises where a server keeps the lock of a dead client."""
    holder = in_other_process(hold, tmp_path)
    while not (tmp_path / "held").exists():
        time.sleep(0.01)
    (tmp_path / ".lock").unlink()
    with locked(tmp_path):
        assert holder.is_alive()
    holder.kill()
    holder.join()
