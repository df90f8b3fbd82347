"""The parent's end of one render worker: start it, ask it, notice when it is gone."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import math
import os
import resource
import selectors
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import psutil

from dig_env.scenes.color import srgb8_to_linear
from dig_env.scenes.families.mesh_files import ModelError
from dig_env.scenes.families.models import model_mesh
from dig_env.scenes.families.scenery import Camera, Light, Scenery
from dig_env.scenes.families.vocabulary import SHAPES
from dig_env.scenes.plans.plan import SceneObject
from dig_env.scenes.render.gpus import KERNELS_TIMEOUT_S, kernels_lock, worker_environment
from dig_env.scenes.render.interpreter import blender_command, remedy
from dig_env.scenes.render.passes import RenderPasses, Window
from dig_env.scenes.render.settings import RenderSettings

WORKER_SCRIPT = Path(__file__).parent / "blender" / "worker.py"
GREETING_TIMEOUT_S = 60.0
"""For the program to run the worker's script at all; one that does not is no Blender."""
START_TIMEOUT_S = 120.0
"""For Blender to be set up."""
_greeted: set[str] = set()
"""Programs that ran the worker's script in this process: if one of them hangs, that may pass."""
MALLOC_SETTINGS = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
"""For glibc: keep what a render frees for the next one. Giving it back to the kernel and faulting
it in again cost a fifth of the time of small pairs."""


class RenderError(RuntimeError):
    """A plan could not be rendered; no picture was handed out."""


class BlenderNotFoundError(RenderError):
    """The worker could not import Blender."""


class WorkerDiedError(RenderError):
    """The worker crashed or hung; a fresh one may render the same plan."""


@dataclass(frozen=True)
class RenderRequest:
    """One picture to render.

    Attributes:
        objects: what stands there.
        window: render this part of the picture only; None for all of it.
        covered: (x0, y0, x1, y1) rectangles in pixels that need not be rendered.
        samples: the first of each pixel's samples to take, and the one to stop before; None for
            all that the worker was made for.
    """

    objects: tuple[SceneObject, ...]
    window: Window | None = None
    covered: tuple[tuple[float, float, float, float], ...] = ()
    samples: tuple[int, int] | None = None


class WorkerProcess:
    """One Blender in a process of its own. Not thread-safe: one caller at a time.

    It is made without waiting for Blender: ``versions`` and the first ``receive`` do that.

    Args:
        settings: device, and image size, which ``width`` and ``height`` may change later.
        threads: CPU threads for Cycles.
        cycles: properties of ``bpy.types.CyclesRenderSettings`` to set.
        number: among the workers that share GPUs, which they take in turn.

    Raises:
        BlenderNotFoundError: the program cannot be run; the message says what to do.
        RenderError: the machine gives no more files, processes or space.
    """

    def __init__(
        self,
        settings: RenderSettings,
        threads: int,
        cycles: dict[str, Any] | None = None,
        number: int = 0,
    ) -> None:
        self.width, self.height = settings.width, settings.height
        self.samples = settings.samples
        self.renders = 0
        """Pictures taken so far."""
        self._asked = 0
        self._given: set[tuple[str, str]] = set()
        self._unread = b""
        self._versions: dict[str, str] | None = None
        self._gpu = ""
        self._command = blender_command(WORKER_SCRIPT, threads)
        argument = {
            "cycles": {"samples": max(settings.samples)} | (cycles or {}),
            "device": settings.device,
            "threads": threads,
            "worker": number,
            "kernels_lock": str(kernels_lock()),
        }
        try:
            self._start(argument)
        except OSError as error:
            if error.filename == self._command[0]:
                raise BlenderNotFoundError(
                    f"could not start the render worker {error.filename} ({error.strerror}): "
                    f"{remedy()}"
                ) from error
            raise RenderError(
                f"could not start a render worker ({error}): raise the limit on what is named "
                "(ulimit -n for open files, -u for processes), or give fewer workers"
            ) from error

    def _start(self, argument: dict[str, Any]) -> None:
        """Start the process; OSError, and nothing is left, where that fails."""
        with contextlib.ExitStack() as undo:
            self.scratch = tempfile.mkdtemp(prefix="dig-env-", dir=_scratch_root())
            undo.callback(shutil.rmtree, self.scratch, ignore_errors=True)
            self._log = undo.enter_context(tempfile.TemporaryFile())
            replies, reply_fd = os.pipe()
            self._replies = undo.enter_context(os.fdopen(replies, "rb", buffering=0))
            argument |= {"scratch": self.scratch, "reply_fd": reply_fd}
            try:
                self._process = subprocess.Popen(
                    [*self._command, json.dumps(argument)],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.DEVNULL,
                    stderr=self._log,
                    bufsize=0,
                    pass_fds=(reply_fd,),
                    # Blender leaves a temporary folder behind when it is killed: it goes into ours.
                    env=os.environ
                    | MALLOC_SETTINGS
                    | worker_environment(os.environ)
                    | {"TMPDIR": self.scratch},
                    # Ctrl-C in the terminal is the parent's to handle; it ends the workers itself.
                    start_new_session=True,
                )
            finally:
                os.close(reply_fd)
            undo.pop_all()

    @property
    def versions(self) -> dict[str, str]:
        """What decides pixels beside plan and settings; waits until Blender is set up.

        Raises:
            BlenderNotFoundError: bpy cannot be imported; the message says what to do.
            RenderError: Blender is there but cannot be set up as asked, or the program is none.
            WorkerDiedError: it crashed or hung while starting.
        """
        if self._versions is None:
            try:
                self._versions = self._greeting()
            except BaseException:
                self.kill()
                raise
        return self._versions

    @property
    def gpu(self) -> str:
        """Which of the GPUs it renders on; "" for none. Waits and raises as ``versions`` does."""
        self.versions  # noqa: B018 - waits
        return self._gpu

    def _greeting(self) -> dict[str, str]:
        program = self._command[0]
        try:
            self._reply(GREETING_TIMEOUT_S)
            _greeted.add(program)
            reply = self._reply(START_TIMEOUT_S)
        except WorkerDiedError as error:
            # A crash or a hang may pass; a program that is no Blender will be none again.
            is_blender = program in _greeted or self._process.poll() is not None
            raise (WorkerDiedError if is_blender else RenderError)(
                f"{program} did not come up: {error}. If that is no Blender, {remedy()}"
            ) from error
        _raise_error(reply, self._command[0])
        self._gpu = reply["gpu"]
        return reply["versions"]

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    @property
    def resident_bytes(self) -> int:
        """Memory that the worker holds; 0 when it is gone."""
        try:
            return psutil.Process(self.pid).memory_info().rss
        except psutil.Error:
            return 0

    def render(
        self,
        camera: Camera,
        lights: Sequence[Light],
        scenery: Scenery,
        requests: Sequence[RenderRequest],
        timeout_s: float,
    ) -> list[RenderPasses]:
        """Take pictures from one camera under the same lights; see ``submit`` and ``receive``."""
        asked = [self.submit(camera, lights, scenery, request) for request in requests]
        return [self.receive(number, timeout_s) for number in asked]

    def submit(
        self, camera: Camera, lights: Sequence[Light], scenery: Scenery, request: RenderRequest
    ) -> int:
        """Ask for a picture without waiting for it; pictures are taken in the order of asking.

        Returns:
            The number that ``receive`` takes.

        Raises:
            WorkerDiedError: the worker is gone; ``kill`` it.
        """
        self._asked += 1
        fields = {
            "number": self._asked,
            "size": (self.width, self.height),
            "camera": dataclasses.asdict(camera) | {"upward": camera.upward},
            "lights": [dataclasses.asdict(light) for light in lights],
            "scenery": dataclasses.asdict(scenery),
            "models": self._new_models(scenery.models, {obj.shape for obj in request.objects}),
            "objects": [_object_fields(obj) for obj in request.objects],
            "path": str(self._path(self._asked)),
            "window": request.window and dataclasses.astuple(request.window),
            "covered": request.covered,
            "samples": request.samples,
        }
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(fields).encode() + b"\n")
        except (OSError, ValueError) as error:  # ValueError: closed by kill() in another thread
            raise WorkerDiedError(self._exit_report()) from error
        return self._asked

    def receive(self, number: int, timeout_s: float) -> RenderPasses:
        """Wait for a picture that was asked for.

        Pictures asked for earlier and never received are thrown away.

        Raises:
            RenderError: Blender refused (the worker is still usable).
            WorkerDiedError: the worker crashed or exceeded its time; ``kill`` it.
        """
        if self.renders == 0 and self.gpu:
            timeout_s += KERNELS_TIMEOUT_S
        while True:
            reply = self._reply(timeout_s)
            self.renders += 1
            if reply["number"] == number:
                break
            self._path(reply["number"]).unlink(missing_ok=True)
        _raise_error(reply, self._command[0])
        try:
            return self._read_passes(self._path(number))
        finally:
            self._path(number).unlink(missing_ok=True)

    def _new_models(self, folder: str, shapes: set[str]) -> dict[str, str]:
        """Files with the meshes of those shapes that are models and that Blender does not have
        yet, by shape. Blender deletes them."""
        paths = {}
        for shape in sorted(shapes - set(SHAPES)):
            if (folder, shape) not in self._given:
                path = Path(self.scratch) / f"model{len(self._given)}.json"
                try:
                    path.write_text(json.dumps(model_mesh(folder, shape)))
                except ModelError as error:
                    raise RenderError(f"the model {shape!r} of {folder}: {error}") from error
                except OSError as error:
                    raise RenderError(f"could not write {path}: {error.strerror}") from error
                self._given.add((folder, shape))
                paths[shape] = str(path)
        return paths

    def _path(self, number: int) -> Path:
        """File of a picture. Each has a name of its own: Blender reports a failed write on its
        console only, and an older picture must not pass for the new one."""
        return Path(self.scratch) / f"{number}.exr"

    def detach(self) -> None:
        """Close a forked process's copies of the pipes; the worker is its parent's."""
        self._process.poll()  # learns that it is no child of this process
        for stream in (self._process.stdin, self._replies, self._log):
            if stream is not None:
                stream.close()

    def kill(self) -> None:
        """End the process at once; safe to call twice and from another thread."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._replies, self._log):
            if stream is not None:
                stream.close()
        shutil.rmtree(self.scratch, ignore_errors=True)

    def _read_passes(self, path: Path) -> RenderPasses:
        try:
            path.stat()  # the library writes to the terminal where there is no file
            return RenderPasses.read(path)
        except Exception as error:
            if not os.path.isdir(self.scratch):
                raise WorkerDiedError("the render worker was ended") from error
            free, limit = shutil.disk_usage(self.scratch).free, _largest_file()
            where = f"{free / 1e6:.0f} MB are free: free some space there"
            if limit < free:
                where = f"files may have no more than {limit} bytes (ulimit -f): raise that limit"
            raise RenderError(
                f"Blender's picture could not be written whole to {self.scratch}, where {where}"
            ) from error

    def _reply(self, timeout_s: float) -> dict[str, Any]:
        """The worker's next reply, or WorkerDiedError at the time-out or end of file."""
        deadline = time.monotonic() + timeout_s
        while b"\n" not in self._unread:
            left_s = deadline - time.monotonic()
            try:
                if left_s <= 0 or not _has_bytes(self._replies, left_s):
                    raise WorkerDiedError(
                        f"the render worker gave no answer for {timeout_s:.0f} s and counts as hung"
                    )
                chunk = self._replies.read(65536)
            except ValueError as error:  # closed by kill() in another thread
                raise WorkerDiedError("the render worker was ended") from error
            if not chunk:
                raise WorkerDiedError(self._exit_report())
            self._unread += chunk
        line, self._unread = self._unread.split(b"\n", 1)
        return json.loads(line)

    def _exit_report(self) -> str:
        try:
            status = self._process.wait(timeout=5)
            self._log.seek(0)
            tail = self._log.read()[-2000:].decode(errors="replace").strip()
        except (subprocess.TimeoutExpired, ValueError):
            status, tail = None, ""
        return f"the render worker died (exit status {status}); its last words: {tail or 'none'}"


def _has_bytes(stream: IO[bytes], timeout_s: float) -> bool:
    """Is there something to read, or the end, within ``timeout_s``?"""
    with selectors.PollSelector() as poll:  # select() fails from the 1024th open file on
        poll.register(stream, selectors.EVENT_READ)
        return bool(poll.select(timeout_s))


def _raise_error(reply: dict[str, Any], program: str) -> None:
    if "error" not in reply:
        return
    message = f"{reply['error']}: {reply['message']}"
    if reply["error"] == "ModuleNotFoundError":
        raise BlenderNotFoundError(f"there is no Blender in {program} ({message}); {remedy()}")
    if reply["error"] == "ImportError":
        raise BlenderNotFoundError(
            f"Blender cannot be imported in {program} ({message}); for a missing system library "
            f"run: dig-env doctor. Otherwise {remedy()}"
        )
    raise RenderError(f"Blender could not render ({message})")


def render_timeout_s(settings: RenderSettings) -> float:
    """Seconds after which a pair counts as hung: a quarter of a minute and ten times what one
    thread was measured to need (1.6 microseconds a sample)."""
    return 15.0 + 2 * settings.width * settings.height * max(settings.samples) * 1.6e-5


def _largest_file() -> float:
    """Bytes that a file of this process and its workers may have."""
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)[0]
    return math.inf if limit == resource.RLIM_INFINITY else limit


def _scratch_root() -> str | None:
    """Memory-backed storage where there is any; None lets tempfile choose."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _object_fields(obj: SceneObject) -> dict[str, Any]:
    fields = dataclasses.asdict(obj)
    rgb = srgb8_to_linear(np.array(obj.rgb)).tolist()
    return fields | {"radius": obj.radius, "rgb": rgb}
