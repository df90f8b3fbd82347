"""How a plan is turned into pictures: size, quality and device."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from dig_env.scenes.arguments import one_of, whole
from dig_env.scenes.families.scenery import Scenery


class Samples(NamedTuple):
    """Cycles samples a pixel before denoising.

    Attributes:
        few: of plain ground and sky.
        many: of objects on plain ground and a ring around them, where most of the noise is.
        textured: of every pixel where the ground has a texture, whose noise is as strong.
    """

    few: int
    many: int
    textured: int

    def on(self, scenery: Scenery) -> tuple[int, int]:
        """Samples of a pixel of the ground, and of one of an object or next to it."""
        is_plain = all(slab.material == "concrete" for slab in scenery.slabs)
        return (self.few, self.many) if is_plain else (self.textured, self.textured)


QUALITIES: dict[str, Samples] = {
    "draft": Samples(1, 1, 1),
    "standard": Samples(2, 6, 4),
    "high": Samples(4, 24, 16),
}
"""Chosen by ``benchmarks/sample_allocation.py``."""

DEVICES: tuple[str, ...] = ("auto", "cpu", "gpu")
MIN_SIDE_PX, MAX_SIDE_PX = 32, 4096


@dataclass(frozen=True)
class RenderSettings:
    """Everything but the plan that decides an image's bytes.

    Attributes:
        width, height: image size in pixels, 32 to 4096.
        quality: "draft", "standard" or "high"; see ``QUALITIES``.
        device: "cpu", "gpu" (an error when Cycles finds none), or "auto" (GPU when Cycles finds
            one). Images are reproducible to the byte on one kind of device, not across kinds.

    Raises:
        ValueError: a field is out of its range; the message says what is allowed.
    """

    width: int = 320
    height: int = 240
    quality: str = "standard"
    device: str = "auto"

    def __post_init__(self) -> None:
        for name in ("width", "height"):
            side = whole(name, getattr(self, name), MIN_SIDE_PX, MAX_SIDE_PX, " of pixels")
            object.__setattr__(self, name, side)
        for name, allowed in (("quality", tuple(QUALITIES)), ("device", DEVICES)):
            one_of(name, getattr(self, name), allowed)

    @property
    def samples(self) -> Samples:
        """Cycles samples a pixel."""
        return QUALITIES[self.quality]
