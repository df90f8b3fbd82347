"""Picture files, upright and in colours as a viewer shows them."""

from __future__ import annotations

import contextlib
import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageCms, ImageOps

PICTURE_FORMATS = ("BMP", "GIF", "JPEG", "JPEG2000", "PNG", "PPM", "TIFF", "WEBP")
"""Those of photographs. Pillow knows many more, and would start Ghostscript for some."""
_ORIENTATION = ExifTags.Base.Orientation
_ON_ITS_SIDE = (5, 6, 7, 8)
"""EXIF orientations that exchange width and height."""


@dataclass(frozen=True)
class Geometry:
    """How a picture file is oriented.

    Attributes:
        size: its (width, height) in pixels, upright.
        orientation: EXIF's, 1 to 8: how the stored pixels are turned to stand upright; 1: as is.
    """

    size: tuple[int, int]
    orientation: int = 1

    @property
    def stored_size(self) -> tuple[int, int]:
        """(width, height) of the pixels as they are stored."""
        return self.size[::-1] if self.orientation in _ON_ITS_SIDE else self.size


def geometry(path: Path) -> Geometry:
    """The geometry of a picture file, from its header alone.

    Raises:
        OSError: it is missing, or no picture.
    """
    with Image.open(path, formats=PICTURE_FORMATS) as file:
        orientation = file.getexif().get(_ORIENTATION, 1)
        turned = orientation in _ON_ITS_SIDE and file.format != "TIFF"  # whose size is upright
        return Geometry(file.size[::-1] if turned else file.size, orientation)


def read_picture(path: Path) -> Image.Image:
    """A picture file as 8-bit RGB: upright, transparent parts on white, 16 bits cut to 8.

    Raises:
        OSError, ValueError: it is missing, damaged, or of a kind that viewers do not agree about.
    """
    with Image.open(path, formats=PICTURE_FORMATS) as file:
        return _rgb(ImageOps.exif_transpose(file))


def upright(stored: Image.Image, orientation: int) -> Image.Image:
    """A picture without EXIF, turned as if it had an orientation."""
    stored.getexif()[_ORIENTATION] = orientation
    return ImageOps.exif_transpose(stored)


def same_shape(one: tuple[int, int], other: tuple[int, int]) -> bool:
    """Whether one size is the other, enlarged or reduced and rounded to whole pixels."""
    return abs(one[0] * other[1] - one[1] * other[0]) <= max(*one, *other)


def _rgb(picture: Image.Image) -> Image.Image:
    if picture.mode == "F":
        raise ValueError("its levels are floats, which viewers show in different ways")
    if picture.mode.startswith("I"):
        levels = np.asarray(picture)
        if levels.min() < 0 or levels.max() > 65535:
            raise ValueError("its levels exceed 16 bits, which viewers show in different ways")
        picture = Image.fromarray(np.rint(levels / 257).astype(np.uint8))
    profile = picture.info.get("icc_profile")
    if picture.mode == "CMYK" and profile:
        screen = ImageCms.createProfile("sRGB")
        with contextlib.suppress(ImageCms.PyCMSError):  # a profile of something else
            inks = ImageCms.ImageCmsProfile(io.BytesIO(profile))
            return ImageCms.buildTransform(inks, screen, "CMYK", "RGB").apply(picture)
    if picture.has_transparency_data:
        seen = picture.convert("RGBA")
        white = Image.new("RGBA", seen.size, "white")
        return Image.alpha_composite(white, seen).convert("RGB")
    return picture.convert("RGB")
