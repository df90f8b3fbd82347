"""The parent's end of one render worker: start it, ask it, notice when it is gone."""

from __future__ import annotations

import dataclasses
import json
import os
import select
import shutil
import subprocess
import sys
import tempfile
import time
from typing import Any

import numpy as np

from scenes.labels import srgb8_to_linear
from scenes.plan import PairPlan, SceneObject
from scenes.settings import RenderSettings
from scenes.vocabulary import COLORS, SIZES

START_TIMEOUT_S = 120.0
KEEP_FREED_MEMORY = {
    "MALLOC_MMAP_THRESHOLD_": str(2**30),
    "MALLOC_TRIM_THRESHOLD_": str(2**32),
}
"""For glibc: keep what a render frees for the next one. Giving it back to the kernel and faulting
it in again cost a fifth of the time of small pairs."""
Rendered = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""image_a, ids_a, image_b, ids_b"""


class RenderError(RuntimeError):
    """A plan could not be rendered; no picture was handed out."""


class BlenderNotFoundError(RenderError):
    """The worker could not import Blender."""


class WorkerDied(RenderError):
    """The worker crashed or hung; a fresh one may render the same plan."""


class WorkerProcess:
    """One Blender in a process of its own. Not thread-safe: one caller at a time.

    Args:
        settings: image size, quality and device.
        threads: CPU threads for Cycles.

    Raises:
        BlenderNotFoundError: bpy cannot be imported; the message says what to do.
        RenderError: Blender is there but cannot be set up as asked.
        WorkerDied: it crashed or hung while starting.
    """

    def __init__(self, settings: RenderSettings, threads: int) -> None:
        self._log = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the worker
        self._scratch = tempfile.mkdtemp(prefix="dig-env-", dir=_scratch_root())
        self._timeout_s = render_timeout_s(settings)
        self.renders = 0
        argument = {
            "width": settings.width,
            "height": settings.height,
            "samples": settings.samples,
            "device": settings.device,
            "threads": threads,
            "scratch": self._scratch,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "scenes.blender.worker", json.dumps(argument)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log,
            bufsize=0,
            # Blender leaves a temporary folder behind when it is killed: it goes into ours.
            env=_worker_environment() | KEEP_FREED_MEMORY | {"TMPDIR": self._scratch},
            # Ctrl-C in the terminal is the parent's to handle; it ends the workers itself.
            start_new_session=True,
        )
        self._deadline = time.monotonic() + START_TIMEOUT_S
        try:
            self._raise_error(json.loads(self._read_line()))
        except BaseException:
            self.kill()
            raise

    @property
    def scratch(self) -> str:
        """Folder of the worker's temporary files; it goes when the worker goes."""
        return self._scratch

    @property
    def pid(self) -> int:
        """Process id of the worker."""
        return self._process.pid

    def render(self, plan: PairPlan) -> Rendered:
        """Render both scenes of a plan.

        Raises:
            RenderError: Blender refused (the worker is still usable).
            WorkerDied: the worker crashed or exceeded its time; ``kill`` it.
        """
        self._deadline = time.monotonic() + self._timeout_s
        request = {
            "camera": dataclasses.asdict(plan.camera),
            "lights": [dataclasses.asdict(light) for light in plan.lights],
            "scenes": [
                [_object_fields(obj) for obj in scene] for scene in (plan.scene_a, plan.scene_b)
            ],
        }
        try:
            assert self._process.stdin is not None
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
        except OSError as error:
            raise WorkerDied(self._obituary()) from error
        header = json.loads(self._read_line())
        self._raise_error(header)
        arrays = [
            np.frombuffer(self._read(int(np.prod(shape))), dtype=np.uint8).reshape(shape)
            for shape in header["shapes"]
        ]
        self.renders += 1
        image_a, ids_a, image_b, ids_b = arrays
        return image_a, ids_a, image_b, ids_b

    def kill(self) -> None:
        """End the process at once; safe to call twice and from another thread."""
        self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._log):
            if stream is not None:
                stream.close()
        shutil.rmtree(self._scratch, ignore_errors=True)

    def _read_line(self) -> bytes:
        line = b""
        while not line.endswith(b"\n"):
            line += self._read(1)
        return line

    def _read(self, count: int) -> bytes:
        """Exactly ``count`` bytes of the reply, or WorkerDied at the deadline or end of file."""
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        parts = bytearray()
        while len(parts) < count:
            left_s = self._deadline - time.monotonic()
            if left_s <= 0 or not select.select([descriptor], [], [], left_s)[0]:
                raise WorkerDied(
                    f"the render worker gave no answer for {self._timeout_s:.0f} s and counts as "
                    "hung"
                )
            chunk = os.read(descriptor, count - len(parts))
            if not chunk:
                raise WorkerDied(self._obituary())
            parts += chunk
        return bytes(parts)

    def _raise_error(self, header: dict[str, Any]) -> None:
        if "error" not in header:
            return
        message = f"{header['error']}: {header['message']}"
        if header["error"] in ("ModuleNotFoundError", "ImportError"):
            raise BlenderNotFoundError(
                f"the render worker ({sys.executable}) could not import Blender or a library it "
                f"needs ({message}). Install bpy 4.5 there (Python 3.11: pip install 'bpy==4.5.*'"
                "), and run 'dig-env doctor' to see which system libraries are missing"
            )
        raise RenderError(f"Blender could not render ({message})")

    def _obituary(self) -> str:
        try:
            status = self._process.wait(timeout=5)
        except subprocess.TimeoutExpired:
            status = None
        self._log.seek(0)
        tail = self._log.read()[-2000:].decode(errors="replace").strip()
        return f"the render worker died (exit status {status}); its last words: {tail or 'none'}"


def render_timeout_s(settings: RenderSettings) -> float:
    """Seconds after which a pair counts as hung: two minutes and ten times what one thread was
    measured to need (1.6 microseconds a sample)."""
    return 120.0 + 2 * settings.width * settings.height * settings.samples * 1.6e-5


def _scratch_root() -> str | None:
    """Memory-backed storage where there is any; None lets tempfile choose."""
    return "/dev/shm" if os.access("/dev/shm", os.W_OK) else None


def _object_fields(obj: SceneObject) -> dict[str, Any]:
    fields = dataclasses.asdict(obj)
    rgb = srgb8_to_linear(np.array(COLORS[obj.color])).tolist()
    return fields | {"radius": SIZES[obj.size], "rgb": rgb}


def _worker_environment() -> dict[str, str]:
    """The parent's environment, with this package importable wherever the worker starts."""
    root = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))
    inherited = os.environ.get("PYTHONPATH")
    return os.environ | {"PYTHONPATH": f"{root}{os.pathsep}{inherited}" if inherited else root}
