"""Colours: sRGB, linear light and CIE Lab, and the shades around a colour."""

from __future__ import annotations

import numpy as np

# Linear sRGB to CIE XYZ, D65 (IEC 61966-2-1), and that white itself.
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE_XYZ = _RGB_TO_XYZ.sum(axis=1)
_XYZ_TO_RGB = np.linalg.inv(_RGB_TO_XYZ)


def lab_distance(image_a: np.ndarray, image_b: np.ndarray) -> np.ndarray:
    """CIE76 Delta E of each pixel.

    Args:
        image_a, image_b: (H, W, 3) uint8, sRGB.

    Returns:
        (H, W) float64, 0 where the pixels are equal.
    """
    unequal = (image_a != image_b).any(axis=-1)
    distance = np.zeros(unequal.shape)
    lab_a, lab_b = srgb8_to_lab(image_a[unequal]), srgb8_to_lab(image_b[unequal])
    distance[unequal] = np.linalg.norm(lab_a - lab_b, axis=-1)
    return distance


def srgb8_to_lab(image: np.ndarray) -> np.ndarray:
    """8-bit sRGB to CIE L*a*b* under D65 (CIE 15).

    Args:
        image: (..., 3) uint8.

    Returns:
        (..., 3) float64: L* from 0 to 100, a* and b* about -128 to 127.
    """
    t = (srgb8_to_linear(image) @ _RGB_TO_XYZ.T) / _WHITE_XYZ
    delta = 6 / 29
    f = np.where(t > delta**3, np.cbrt(t), t / (3 * delta**2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def srgb8_to_linear(values: np.ndarray) -> np.ndarray:
    """8-bit sRGB values to linear light from 0 to 1 (IEC 61966-2-1)."""
    curve = np.asarray(values, dtype=np.float64) / 255.0
    return np.where(curve <= 0.04045, curve / 12.92, ((curve + 0.055) / 1.055) ** 2.4)


def to_srgb8(linear: np.ndarray) -> np.ndarray:
    """Linear light to 8-bit sRGB by the curve of IEC 61966-2-1, rounded to nearest.

    Args:
        linear: float array of any shape; values outside [0, 1] are clipped.
    """
    linear = np.clip(linear, 0.0, 1.0)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(curve * 255.0).astype(np.uint8)


def lab_to_linear(lab: np.ndarray) -> np.ndarray:
    """CIE L*a*b* under D65 to linear light, outside [0, 1] where sRGB has no such colour.

    Args:
        lab: (..., 3) float.

    Returns:
        (..., 3) float64.
    """
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    delta = 6 / 29
    t = np.where(f > delta, f**3, 3 * delta**2 * (f - 4 / 29))
    return (t * _WHITE_XYZ) @ _XYZ_TO_RGB.T


def lab_to_srgb8(lab: np.ndarray) -> np.ndarray | None:
    """CIE L*a*b* under D65 to the nearest 8-bit sRGB; None where sRGB has no such colour.

    Args:
        lab: (3,) float.

    Returns:
        (3,) uint8.
    """
    linear = lab_to_linear(lab)
    slack = 1e-4  # less than 8 bits can show
    return to_srgb8(linear) if -slack <= linear.min() and linear.max() <= 1 + slack else None
