"""Changes to a picture that are no difference of the scene: noise, compression, light, camera.

The renderer varies none of these between the images of a pair, so here they are functions of the
finished pixels. Each takes an (H, W, 3) uint8 sRGB image and a generator and returns another.
"""

from __future__ import annotations

import dataclasses
import functools
import io
from collections.abc import Callable

import numpy as np
from PIL import Image

from scenes import Pair

Nuisance = Callable[[np.ndarray, np.random.Generator], np.ndarray]

_DIRECTIONS = ((1, 0), (-1, 0), (0, 1), (0, -1))


def sensor_noise(image: np.ndarray, rng: np.random.Generator, sigma: float) -> np.ndarray:
    """Add Gaussian noise of ``sigma`` 8-bit levels, independent in every value, then clip."""
    noisy = np.rint(image + rng.normal(0.0, sigma, image.shape))
    return np.clip(noisy, 0, 255).astype(np.uint8)


def jpeg(image: np.ndarray, rng: np.random.Generator, quality: int) -> np.ndarray:
    """Compress as JPEG of ``quality`` (1 to 95; colour at half resolution) and read back."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer))


def exposure(image: np.ndarray, rng: np.random.Generator, gain: float) -> np.ndarray:
    """Multiply linear light by ``gain``: undo the sRGB curve (IEC 61966-2-1), apply it again."""
    level = image / 255.0
    light = np.where(level <= 0.04045, level / 12.92, ((level + 0.055) / 1.055) ** 2.4)
    light = np.minimum(light * gain, 1.0)
    level = np.where(light <= 0.0031308, light * 12.92, 1.055 * light ** (1 / 2.4) - 0.055)
    return np.rint(level * 255.0).astype(np.uint8)


def camera_shift(image: np.ndarray, rng: np.random.Generator, pixels: int) -> np.ndarray:
    """Move the picture left, right, up or down, at random; the edge that opens repeats itself."""
    height, width = image.shape[:2]
    x, y = _DIRECTIONS[rng.integers(len(_DIRECTIONS))]
    padded = np.pad(image, ((pixels, pixels), (pixels, pixels), (0, 0)), mode="edge")
    top, left = pixels - y * pixels, pixels - x * pixels
    return padded[top : top + height, left : left + width]


NUISANCES: dict[str, Nuisance] = {
    **{f"noise {sigma}": functools.partial(sensor_noise, sigma=sigma) for sigma in (4, 8, 16)},
    **{f"JPEG {quality}": functools.partial(jpeg, quality=quality) for quality in (90, 50, 20)},
    **{f"exposure x{gain}": functools.partial(exposure, gain=gain) for gain in (1.05, 1.2, 1.5)},
    **{
        f"shift {pixels} px": functools.partial(camera_shift, pixels=pixels) for pixels in (1, 2, 4)
    },
}
"""The nuisances of the calibration card, from mild to strong within each kind."""


def disturbed(pair: Pair, nuisance: Nuisance, seed: int = 0) -> Pair:
    """The pair with the nuisance applied to image B alone; its labels stay as they are.

    The truth stays exact but for a shift, which moves image B's objects out of their boxes by as
    many pixels.

    Args:
        seed: with the pair's own seed it decides the noise, so that order does not matter.
    """
    rng = np.random.default_rng([seed, pair.plan.seed])
    return dataclasses.replace(pair, image_b=nuisance(pair.image_b, rng))
