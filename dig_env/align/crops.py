"""Crops: an object cut out of its image and enlarged; and which objects may be asked about."""

from __future__ import annotations

import numpy as np
from PIL import Image

from dig_env.align.settings import AlignSettings
from dig_env.align.words import attributes_of
from dig_env.scenes import SeenObject, View

PADDING = 128
"""Grey level of what a crop shows beside and beyond the image."""


def cut_crop(view: View, seen: SeenObject, settings: AlignSettings) -> np.ndarray:
    """An object's box with some context, padded to a square and enlarged (bicubic).

    The context ends at the image's edge.

    Returns:
        (S, S, 3) uint8 with S = ``settings.crop_px``.
    """
    x0, y0, x1, y1 = (int(edge) for edge in seen.box)
    around = round(settings.crop_context * max(x1 - x0, y1 - y0))
    width, height = view.size
    left, top = max(0, x0 - around), max(0, y0 - around)
    window = view.image[top : min(height, y1 + around), left : min(width, x1 + around)]
    side = max(window.shape[:2])
    square = np.full((side, side, 3), PADDING, np.uint8)
    down, right = (side - window.shape[0]) // 2, (side - window.shape[1]) // 2
    square[down : down + window.shape[0], right : right + window.shape[1]] = window
    size = (settings.crop_px, settings.crop_px)
    return np.array(Image.fromarray(square).resize(size, Image.Resampling.BICUBIC))


def fit_objects(view: View, settings: AlignSettings) -> list[SeenObject]:
    """The objects of a view that are not too small, too large or too hidden to be asked about."""
    width, height = view.size
    fit = []
    for seen in view.objects:
        x0, y0, x1, y1 = seen.box
        area = (x1 - x0) * (y1 - y0) / (width * height)
        if settings.min_area <= area <= settings.max_area and seen.shown >= settings.min_shown:
            fit.append(seen)
    return fit


def has_twin(view: View, seen: SeenObject) -> bool:
    """Whether another object of the view makes a crop that looks alike.

    That is one of the same color, material and shape: enlarged, both are of one size.
    """
    names = ("color", "material", "shape")
    own = attributes_of(seen.object, names)
    return sum(attributes_of(other.object, names) == own for other in view.objects) > 1
