"""From Cycles' linear passes to the finished image: read, denoise, apply the sRGB curve.

Denoising happens here and not in Blender, because Blender's built-in denoiser is not
reproducible: about half of its images differ in a level or two from run to run. The stand-alone
library gives the same floats every time.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pyoidn

COLOR, ALBEDO, NORMAL = "Combined", "Denoising Albedo", "Denoising Normal"


def develop(path: Path) -> tuple[np.ndarray, np.ndarray]:
    """Turn Cycles' multilayer EXR into an image.

    Returns:
        image: (H, W, 3) uint8, sRGB.
        ids: (H, W) uint8, the object index seen in each pixel; 0 is the floor or the background.
    """
    with OpenEXR.File(str(path), separate_channels=True) as exr:
        channels = {name: channel.pixels for name, channel in exr.channels().items()}
    layer = next(iter(channels)).split(".")[0]

    def stack(name: str, axes: str) -> np.ndarray:
        return np.ascontiguousarray(
            np.stack([channels[f"{layer}.{name}.{axis}"] for axis in axes], axis=-1), np.float32
        )

    linear = pyoidn.denoise(
        stack(COLOR, "RGB"), albedo=stack(ALBEDO, "RGB"), normal=stack(NORMAL, "XYZ"), hdr=True
    )
    ids = np.rint(channels[f"{layer}.IndexOB.X"]).astype(np.uint8)
    return to_srgb8(linear), ids


def to_srgb8(linear: np.ndarray) -> np.ndarray:
    """Linear light to 8-bit sRGB by the curve of IEC 61966-2-1, rounded to nearest.

    Args:
        linear: float array of any shape; values outside [0, 1] are clipped.
    """
    linear = np.clip(linear, 0.0, 1.0)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(curve * 255.0).astype(np.uint8)
