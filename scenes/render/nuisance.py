"""What alters image B without being a difference: another view of the scene, and its pixels.

Camera and lights are the renderer's (``imaging``). Exposure, noise and JPEG are functions of the
finished pixels, in this order, as in a camera: light, sensor, compression.
"""

from __future__ import annotations

import io

import numpy as np
from PIL import Image

from dig_env.scenes.color import srgb8_to_linear, to_srgb8
from dig_env.scenes.plans.plan import PairPlan


def apply_nuisance(image: np.ndarray, plan: PairPlan) -> np.ndarray:
    """A picture of image B with the plan's exposure, noise and JPEG compression.

    The noise is that of the pair seed, from a Philox generator. JPEG is Pillow's: another version
    of its library may change bytes.

    Args:
        image: (H, W, 3) uint8, sRGB.
        plan: whose nuisance; without one the image stays as it is.

    Returns:
        (H, W, 3) uint8, sRGB.
    """
    nuisance = plan.nuisance
    if nuisance is None:
        return image
    if nuisance.exposure_stops:
        image = exposed(image, nuisance.exposure_stops)
    if nuisance.noise_levels:
        image = noisy(image, nuisance.noise_levels, plan.seed)
    return image if nuisance.jpeg_quality is None else compressed(image, nuisance.jpeg_quality)


def exposed(image: np.ndarray, stops: float) -> np.ndarray:
    """The image with its linear light times two to the power of ``stops``."""
    return to_srgb8(srgb8_to_linear(image) * 2.0**stops)


def noisy(image: np.ndarray, sigma: float, seed: int) -> np.ndarray:
    """The image plus Gaussian noise of ``sigma`` 8-bit levels, independent in every value."""
    noise = np.random.Generator(np.random.Philox(seed)).normal(0.0, sigma, image.shape)
    return np.clip(np.rint(image + noise), 0, 255).astype(np.uint8)


def compressed(image: np.ndarray, quality: int) -> np.ndarray:
    """The image after JPEG of ``quality``, 1 to 95, with colour at half resolution."""
    buffer = io.BytesIO()
    Image.fromarray(image).save(buffer, format="JPEG", quality=quality, subsampling="4:2:0")
    return np.asarray(Image.open(buffer))
