"""From Cycles' linear passes to the finished image: read, denoise, apply the sRGB curve.

Denoising happens here and not in Blender, because Blender's built-in denoiser is not
reproducible: about half of its images differ in a level or two from run to run. The stand-alone
library gives the same floats every time, with any number of threads.
"""

from __future__ import annotations

import importlib.abc
import os
import sys
import threading
import weakref
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import OpenEXR

from dig_env.scenes.color import to_srgb8
from dig_env.scenes.forks import NO_FORK
from dig_env.scenes.measure.labels import mask_bounds

_PASSES = {
    "color": (("Combined",), "RGB"),
    "albedo": (("Diffuse Color", "Glossy Color", "Transmission Color"), "RGB"),
    "normal": (("Normal",), "XYZ"),
}
"""Cycles' passes whose sum each field is. Its own guides for denoisers follow rays from metal and
glass on: they show what is mirrored there, with its noise."""
_NAMES_BEFORE_5 = {
    "DiffCol": "Diffuse Color",
    "GlossCol": "Glossy Color",
    "TransCol": "Transmission Color",
    "IndexOB": "Object Index",
}
"""What Blender 4 calls passes, and what Blender 5 does."""


@dataclass(frozen=True, eq=False)
class RenderPasses:
    """What Cycles recorded of one scene.

    Attributes:
        color: (H, W, 3) float32, linear light.
        albedo, normal: (H, W, 3) float32, the denoiser's guides.
        ids: (H, W) uint8, the object index seen in each pixel; 0 is the floor or the background.
    """

    color: np.ndarray
    albedo: np.ndarray
    normal: np.ndarray
    ids: np.ndarray

    @classmethod
    def read(cls, path: Path) -> RenderPasses:
        """Read Cycles' multilayer EXR."""
        with NO_FORK, OpenEXR.File(str(path), separate_channels=True) as exr:
            channels = {
                _pass_and_axis(name): channel.pixels for name, channel in exr.channels().items()
            }
        passes = {
            field: sum(np.stack([channels[name, axis] for axis in axes], axis=-1) for name in names)
            for field, (names, axes) in _PASSES.items()
        }
        np.minimum(passes["albedo"], 1.0, out=passes["albedo"])
        return cls(**passes, ids=np.rint(channels["Object Index", "X"]).astype(np.uint8))

    def crop(self, window: Window) -> RenderPasses:
        """The part of it that lies in the window."""
        part = window.slices
        return RenderPasses(self.color[part], self.albedo[part], self.normal[part], self.ids[part])

    def replaced(self, part: RenderPasses, window: Window, mask: np.ndarray) -> RenderPasses:
        """A copy that shows ``part``, which fills the window, wherever the (H, W) mask is true."""
        result = RenderPasses(
            self.color.copy(), self.albedo.copy(), self.normal.copy(), self.ids.copy()
        )
        within = mask[window.slices]
        for field in ("color", "albedo", "normal", "ids"):
            getattr(result, field)[window.slices][within] = getattr(part, field)[within]
        return result

    def mix(self, part: RenderPasses, window: Window, mask: np.ndarray, weight: float) -> None:
        """Take in further samples, in the window and where the (H, W) mask is true.

        Args:
            part: their means, which fill the window. The ids stay those of the first sample.
            weight: of these samples in all, 0 to 1.
        """
        within = mask[window.slices]
        for field in ("color", "albedo", "normal"):
            mean = getattr(self, field)[window.slices]
            mean[within] += np.float32(weight) * (getattr(part, field)[within] - mean[within])


def _pass_and_axis(channel: str) -> tuple[str, str]:
    """What a channel of Cycles' files, LAYER.PASS.AXIS, holds."""
    _, name, axis = channel.split(".")
    return _NAMES_BEFORE_5.get(name, name), axis


@dataclass(frozen=True)
class Window:
    """A rectangle of the picture, in pixels: x0 <= x < x1 and y0 <= y < y1."""

    x0: int
    y0: int
    x1: int
    y1: int

    @classmethod
    def around(cls, mask: np.ndarray) -> Window:
        """The tight window around an (H, W) bool mask's true pixels, of which there are some."""
        bounds = mask_bounds(mask)
        assert bounds is not None, "no pixel is true"
        return cls(*(int(edge) for edge in bounds))

    @property
    def slices(self) -> tuple[slice, slice]:
        """Index of the window in an (H, W) array."""
        return slice(self.y0, self.y1), slice(self.x0, self.x1)

    def widened(self, margin: int, step: int, width: int, height: int) -> Window:
        """Grown by ``margin`` and to whole multiples of ``step``, within the picture."""
        return Window(
            max(0, self.x0 - margin) // step * step,
            max(0, self.y0 - margin) // step * step,
            min(width, -(-(self.x1 + margin) // step) * step),
            min(height, -(-(self.y1 + margin) // step) * step),
        )


class _TorchHidden(importlib.abc.MetaPathFinder):
    """Lets the thread that made it find no torch, unless that is imported already."""

    def __init__(self) -> None:
        self._thread = threading.get_ident()

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        if name == "torch" and threading.get_ident() == self._thread:
            raise ModuleNotFoundError("torch is hidden from OpenImageDenoise", name=name)


def load_denoiser() -> None:
    """Import what pictures need and plans do not: OpenImageDenoise and parts of SciPy.

    Call it in the thread that asks for pictures: Ctrl-C ends no import in another one, and a
    process that is forked meanwhile could not finish it.
    """
    with NO_FORK:
        import scipy.ndimage
        import scipy.spatial  # noqa: F401

        if "pyoidn" in sys.modules:
            return
        # pyoidn imports torch where there is one, for tensors, which no one gives it here. That
        # takes 2 s and 200 MB. A new list each, since other threads may go through the old one.
        hidden = _TorchHidden()
        sys.meta_path = [hidden, *sys.meta_path]
        try:
            import pyoidn  # noqa: F401
        finally:
            sys.meta_path = [finder for finder in sys.meta_path if finder is not hidden]


class Denoiser:
    """Denoises renders. Not thread-safe: one a worker, with the worker's number of threads."""

    def __init__(self, threads: int) -> None:
        load_denoiser()
        with NO_FORK:
            import pyoidn

            self._device = pyoidn.Device(pyoidn.OIDN_DEVICE_TYPE_CPU)
            self._device.set_int("numThreads", threads)
            # Pinned threads of several denoisers would all sit on the same cores.
            self._device.set_bool("setAffinity", False)
            self._device.commit()
            self._filter = pyoidn.Filter(self._device, pyoidn.OIDN_FILTER_TYPE_RT)
            self._filter.set_bool("hdr", True)
        self._format = pyoidn.OIDN_FORMAT_FLOAT3
        # The library's own objects keep their 16 MB or more until they are told to let go.
        weakref.finalize(self, _release, self._filter, self._device, os.getpid()).atexit = False

    def denoise(self, passes: RenderPasses) -> np.ndarray:
        """Denoise a render and apply the sRGB curve.

        Returns:
            (H, W, 3) uint8, sRGB.
        """
        output = np.empty_like(passes.color)
        bound = {
            "color": passes.color,
            "albedo": passes.albedo,
            "normal": passes.normal,
            "output": output,
        }
        # The filter keeps pointers only: the arrays must live until it has run.
        bound = {name: np.ascontiguousarray(array, np.float32) for name, array in bound.items()}
        for name, array in bound.items():
            self._filter.set_image(name, array, self._format)
        with NO_FORK:
            self._filter.commit()
            self._filter.execute()
        problem = self._device.get_error()
        if problem is not None:
            raise RuntimeError(f"OpenImageDenoise failed: {problem}")
        return to_srgb8(bound["output"])


def _release(oidn_filter: Any, device: Any, owner: int) -> None:
    if os.getpid() == owner:  # a forked process lacks the threads that would be waited for
        with NO_FORK:
            oidn_filter.release()
            device.release()
