"""Files and folders that are written whole or not at all, by one writer at a time.

What is written goes to a name beside its place first, reaches the disk, and takes its place in one
step: a process that is killed, or a machine that loses power, leaves the old file or the new one.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import glob
import os
import platform
import re
import secrets
import shutil
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import filelock
import psutil

LOCK = ".lock"
"""File of a folder that its writer holds. It stays there, empty."""
LOCK_NOTICE_S = 60.0
"""After waiting this long for a lock, a warning says what to do."""
ABANDONED_S = 86_400.0
"""A temporary file of another machine that has not changed for this long is taken for abandoned."""
_REMEDIES = {
    errno.ENOSPC: "free some space",
    errno.EDQUOT: "your quota is used up: free some space",
    errno.EFBIG: "the limit on the size of files is too low: raise it (ulimit -f)",
    errno.EBUSY: "it is a mount point, so choose a folder in it",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "choose a folder that you may write to",
}


def write_whole(path: Path, content: bytes) -> None:
    """Write a file beside its place, then rename it onto it.

    Raises:
        OSError: it could not be written; what stood at ``path`` still stands.
    """
    beside = _beside(path)
    with _explained(path):
        try:
            with open(beside, "xb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except BaseException:
            with contextlib.suppress(OSError):
                beside.unlink()
            raise
    _sync_folder(path.parent)


def write_folder_whole(folder: Path, fill: Callable[[Path], None]) -> None:
    """Let ``fill`` write a folder beside its place, then put it there instead of an old one.

    At every moment the old or the new folder is in place. File systems that cannot exchange two
    names (NFS) are the exception: there, who is killed between two renames leaves the old folder
    as ``.NAME.old``, and the next call puts it back first.

    Raises:
        OSError: it could not be written; what stood at ``folder`` still stands.
    """
    folder = folder.resolve()
    beside, old = _beside(folder), folder.with_name(f".{folder.name}.old")
    with _explained(folder):
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            if old.exists() and not folder.exists():
                os.rename(old, folder)
            _remove_abandoned(folder.parent.glob(f".{glob.escape(folder.name)}.part-*"))
            beside.mkdir()
            fill(beside)
            for root, _, files in os.walk(beside):
                for name in files:
                    _sync(Path(root, name))
                _sync_folder(Path(root))
            if folder.exists():
                _exchange(beside, folder, old)
            else:
                os.rename(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    _sync_folder(folder.parent)


def remove_abandoned(folder: Path) -> None:
    """Remove what killed processes left of writing in a folder and below, if they surely are gone:
    those of this machine have ended, those of others have written nothing for a day."""
    _remove_abandoned(folder.rglob(".*.part-*"))


@contextlib.contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the folder's lock, without which nothing is written there.

    It is the kernel's lock on the file ``.lock``, which NFS keeps across machines, where it would
    not keep one on the folder. The kernel, or the NFS server, lifts the lock of a process that
    ends and of a machine that is gone. A process that waits longer than a minute is warned.

    Raises:
        OSError: the file system has no locks.
    """
    # A lock that is a mere file would stay for ever once its holder's machine is gone.
    lock = filelock.FileLock(folder / LOCK, poll_interval=0.01, fallback_to_soft=False)
    while True:
        try:
            with _explained(folder / LOCK):
                lock.acquire(timeout=LOCK_NOTICE_S)
            break
        except filelock.Timeout:
            warnings.warn(
                f"still waiting for {folder / LOCK}, which another process holds, here or on "
                "another machine. If none is writing there any more, delete that file to continue",
                RuntimeWarning,
                stacklevel=3,
            )
        except OSError as error:
            if error.errno not in (errno.ENOSYS, errno.ENOLCK, errno.EOPNOTSUPP):
                raise
            raise OSError(
                error.errno,
                f"could not lock {folder} ({error.strerror}): its file system has no locks; "
                "write to a local disk and copy the folder",
            ) from error
    try:
        yield
    finally:
        lock.release()


def _beside(path: Path) -> Path:
    """A new name beside the path, with the machine and the process that it belongs to."""
    token = f"{os.getpid()}-{secrets.token_hex(4)}-{_here()}"
    return path.with_name(f".{path.name}.part-{token}")


def _remove_abandoned(paths: Iterable[Path]) -> None:
    for path in list(paths):
        with contextlib.suppress(OSError):  # its process has just renamed it, or another removed it
            if not _is_abandoned(path):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()


def _is_abandoned(path: Path) -> bool:
    found = re.search(r"\.part-(\d+)-[0-9a-f]{8}-(.+)$", path.name)
    if found and found[2] == _here():
        return not psutil.pid_exists(int(found[1]))
    return time.time() - path.stat().st_mtime > ABANDONED_S


def _here() -> str:
    """The machine, and the container if there is one: in it, a process id means one process."""
    try:
        space = os.stat("/proc/self/ns/pid").st_ino
    except OSError:  # not Linux
        space = 0
    return f"{platform.node()}-{space}"


def _exchange(new: Path, folder: Path, old: Path) -> None:
    """Give two folders each other's name, by way of ``old`` where that takes more than a step."""
    at_cwd, rename_exchange = -100, 2
    paths = os.fsencode(new), os.fsencode(folder)
    try:
        rename = ctypes.CDLL(None, use_errno=True).renameat2
    except (AttributeError, TypeError):  # not Linux
        failed = errno.ENOSYS
    else:
        done = rename(at_cwd, paths[0], at_cwd, paths[1], rename_exchange) == 0
        failed = 0 if done else ctypes.get_errno()
    if failed in (errno.ENOSYS, errno.EINVAL, errno.EXDEV):  # EXDEV: of a container's image
        shutil.rmtree(old, ignore_errors=True)
        shutil.move(folder, old)
        try:
            os.rename(new, folder)
        except BaseException:
            shutil.move(old, folder)
            raise
        shutil.rmtree(old, ignore_errors=True)
    elif failed:
        raise OSError(failed, os.strerror(failed), str(folder))


def _sync(path: Path) -> None:
    """Have a file's or a folder's content reach the disk."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _sync_folder(folder: Path) -> None:
    """Have its entries reach the disk, where the file system can do that; they are whole anyway."""
    with contextlib.suppress(OSError):
        _sync(folder)


@contextlib.contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Let an error of the system in writing ``path`` say what to do."""
    try:
        yield
    except OSError as error:
        remedy = _REMEDIES.get(error.errno or 0)
        if not path.parent.is_dir():
            remedy = f"make the folder {path.parent}"
        # A file elsewhere is one that was to be read, and its error says enough.
        elsewhere = error.filename and not str(error.filename).startswith(str(path.parent))
        if remedy is None or elsewhere:
            raise
        raise OSError(
            error.errno, f"could not write {path} ({error.strerror}): {remedy}", str(path)
        ) from error


def is_inside(folder: Path, path: Path) -> bool:
    """Is a path in a folder, by its name? Links in the folder are its owner's to set."""
    return Path(os.path.abspath(path)).is_relative_to(os.path.abspath(folder))


def inside(folder: Path, name: str | Path) -> Path:
    """The path of a name that some file gives, if it is in a folder.

    Raises:
        ValueError: it leads out of it: absolute, or by "..".
    """
    path = folder / name
    if not is_inside(folder, path):
        raise ValueError(
            f"{str(name)!r} leads out of {folder}, and nothing is read there: put the file itself "
            "into the folder"
        )
    return path
