"""What the alignment tasks ask in, show and leave out: one frozen, validated value."""

from __future__ import annotations

from dataclasses import dataclass

from dig_env.frames import COORDINATES
from dig_env.scenes.arguments import one_of, real, whole


@dataclass(frozen=True)
class AlignSettings:
    """How questions are posed, and the filters (TinyGroundingGPT, arXiv 2411.09691, names these
    filters and not their numbers).

    An expression always denotes exactly one object, that is, one box.

    Attributes:
        coordinates: frame of all boxes, one of ``dig_env.COORDINATES``. "unit" is the source's:
            0.000 to 1.000 with three decimals.
        crop_px: side of a crop in pixels, 16 to 1024.
        crop_context: what a crop shows around its box on each side, as a fraction of the box's
            longer side, 0 to 1.
        min_area: least area of the box of an object that is asked about, as a fraction of the
            image: smaller ones are a blur when they are enlarged.
        max_area: greatest such area: a larger object needs no locating.
        min_shown: least share of such an object that must show
            (``dig_env.scenes.SeenObject.shown``): less is a sliver behind another object, which
            words do not fit.
        max_option_iou: greatest IoU of the boxes of two crops to choose from, 0 to 1.
        options: greatest number of crops to choose from, 2 to 8; there are fewer, and at least
            2, where the image has fewer objects that are fit.

    Raises:
        ValueError: a field is out of its range.
    """

    coordinates: str = "norm1000"
    crop_px: int = 112
    crop_context: float = 0.1
    min_area: float = 0.003
    max_area: float = 0.25
    min_shown: float = 0.5
    max_option_iou: float = 0.3
    options: int = 4

    def __post_init__(self) -> None:
        one_of("coordinates", self.coordinates, COORDINATES)
        for name, low, high in (("crop_px", 16, 1024), ("options", 2, 8)):
            object.__setattr__(self, name, whole(name, getattr(self, name), low, high))
        for name in ("crop_context", "min_area", "max_area", "min_shown", "max_option_iou"):
            real(name, getattr(self, name), 0, 1)
        if self.min_area >= self.max_area:
            raise ValueError(
                f"min_area={self.min_area!r} must be below max_area={self.max_area!r}, or no "
                "object is fit"
            )
