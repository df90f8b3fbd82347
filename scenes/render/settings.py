"""How a plan is turned into pictures: size, quality and device."""

from __future__ import annotations

from dataclasses import dataclass

from dig_env.scenes.arguments import one_of, whole

QUALITIES: dict[str, int] = {"draft": 1, "standard": 4, "high": 16}
"""Cycles samples a pixel before denoising."""

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
    def samples(self) -> int:
        """Cycles samples a pixel."""
        return QUALITIES[self.quality]
