"""How hard a pair is: one frozen, validated value."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from dig_env.scenes.arguments import real, whole
from dig_env.scenes.families import FamilyError, family_named
from dig_env.scenes.families.vocabulary import CHANGES, PAPER_CHANGES

MAX_OBJECTS = 255
"""Object ids have 8 bits, and 0 is the background."""


class DifficultyError(ValueError):
    """A difficulty that is malformed, or for which no scene can be laid out."""


@dataclass(frozen=True)
class Difficulty:
    """What a pair of scenes may look like.

    Attributes:
        differences: inclusive range of K, the number of changed objects; K is drawn uniformly.
            0 is an identical pair, except for nuisances.
        objects: inclusive range of distinct objects over both images (an added object counts), 1
            to 255. Drawn uniformly from what is left of the range once K objects must fit. About
            12 fit at full size, 20 at an ``object_scale`` of 0.9 or less.
        changes: change types to draw from, uniformly and independently for each changed object;
            a subset of ``dig_env.scenes.CHANGES``. The default is the paper's six.
        family: the world that the pair shows: "clevr", "tabletop", "shelf", a name given to
            ``dig_env.scenes.register_family``, or the path of a folder of models.
        min_visible: the least part of the image, as a fraction of its pixels, that each object
            must show in every image it stands in. The default is CLEVR's 200 pixels of 320x240.
        min_contrast: the least mean CIE Lab distance (CIE76 Delta E) between the two images over
            the pixels of a changed object. About 2.3 is just noticeable; the default asks for
            over twice that.
        max_bystander_contrast: the largest such distance that an unchanged object may show, by
            shadows and mirror images. The default is what makes a change of its own.
        max_detached_area: the largest patch, as a fraction of the image's pixels, that may change
            strongly (Delta E 10) without touching the box of a difference. The default is what
            makes an object.
        color_distance: range of the CIE Lab distance (CIE76, 3 to 80) between the old and the new
            colour of an object that changes it, before shading; met to within 1, as colours have 8
            bits. Every object then has its own shade, as far from its palette colour, so that
            a shade alone gives nothing away. None: another colour of the palette, 26 or more away.
        size_ratio: range of the ratio of the larger to the smaller radius of an object that
            changes its size, above 1 and below 2. None: from large to small or back, 2.
        material_contrast: range of the ``contrast`` that an object must show which changes its
            material, 0 to 100; what is outside is drawn again. None: ``min_contrast`` or more.
        object_scale: range of the factor of all radii, 0.25 to 1.5, drawn for each object. A small
            object stays smaller than any large one: high / low times ``size_ratio`` is below 2.
        occlusion: range of the part of each changed object's silhouette, 0 to 1, that other
            objects cover, over both images together and measured on their masks.
        camera_shift: image B's camera stands up to this far from A's along each axis, in world
            units (0 to 2), and looks at the same point. A difference is then scored by its box in
            image A, or in image B where it is only there.
        light_shift: each light of image B stands up to this far from where it is for image A along
            each axis, in world units (0 to 5).
        exposure_stops: image B's linear light is multiplied by a power of two up to this many stops
            (0 to 4) above or below 0.
        noise_levels: standard deviation of Gaussian noise in image B, in 8-bit levels (0 to 64).
        jpeg_quality: image B was compressed as JPEG of this quality, 1 to 95; None: not at all.

    The last five are nuisances: they alter image B and are no difference. Each leaves the scene of
    a pair seed as it is, and contrasts and certificates are those without it.

    Raises:
        DifficultyError: a field is out of its range; the message says what is allowed.
    """

    differences: tuple[int, int] = (1, 1)
    objects: tuple[int, int] = (3, 6)
    changes: tuple[str, ...] = PAPER_CHANGES
    family: str = "clevr"
    min_visible: float = 200 / (320 * 240)
    min_contrast: float = 5.0
    max_bystander_contrast: float = 5.0
    max_detached_area: float = 200 / (320 * 240)
    color_distance: tuple[float, float] | None = None
    size_ratio: tuple[float, float] | None = None
    material_contrast: tuple[float, float] | None = None
    object_scale: tuple[float, float] = (1.0, 1.0)
    occlusion: tuple[float, float] = (0.0, 1.0)
    camera_shift: float = 0.0
    light_shift: float = 0.0
    exposure_stops: float = 0.0
    noise_levels: float = 0.0
    jpeg_quality: int | None = None

    def __post_init__(self) -> None:
        self._check_values()
        self.check_family()

    def _check_values(self) -> None:
        """Bring each field into its plain form, or raise DifficultyError."""
        for name, least in (("differences", 0), ("objects", 1)):
            object.__setattr__(self, name, _int_range(name, getattr(self, name), least))
        object.__setattr__(self, "changes", _changes(self.changes))
        if self.differences[1] > self.objects[1]:
            raise DifficultyError(
                f"differences={self.differences} cannot happen to at most {self.objects[1]} "
                "objects, because each difference takes an object of its own: raise the upper "
                "end of objects or lower that of differences"
            )
        for name, (low, high) in _RANGES.items():
            value = getattr(self, name)
            if value is not None:
                object.__setattr__(self, name, _float_range(name, value, low, high))
        for name, high in _HIGHEST.items():
            object.__setattr__(self, name, _number(name, getattr(self, name), 0.0, high))
        if self.jpeg_quality is not None:
            try:
                object.__setattr__(
                    self, "jpeg_quality", whole("jpeg_quality", self.jpeg_quality, 1, 95)
                )
            except ValueError as error:
                raise DifficultyError(f"{error}, or None") from None
        self._check_sizes()
        if self.occlusion[0] > 0 and 2 * self.differences[1] > self.objects[1]:
            raise DifficultyError(
                f"occlusion={self.occlusion} asks for an object before each of up to "
                f"{self.differences[1]} changed ones, and there are at most {self.objects[1]}: "
                "raise the upper end of objects or lower that of differences"
            )

    def check_family(self) -> None:
        """Raise DifficultyError if no pair can be planned in this process for its ``family``.

        Making a Difficulty asks that; reading one with ``from_json`` does not, since pairs of a
        family that this process does not know, or knows otherwise, can be looked at all the same.
        """
        try:
            cannot = family_named(self.family).unsupported(self.changes)
        except FamilyError as error:
            raise DifficultyError(str(error)) from error
        if cannot:
            raise DifficultyError(
                f"changes={self.changes!r} cannot all happen in family {self.family!r}: {cannot}"
            )

    def _check_sizes(self) -> None:
        if self.size_ratio is not None and self.size_ratio[0] <= 1.0:
            raise DifficultyError(
                f"size_ratio={self.size_ratio!r}: 1 is no change; give a low end above it"
            )
        spread = self.object_scale[1] / self.object_scale[0] * (self.size_ratio or (1.0, 1.0))[1]
        if spread >= 2.0:
            raise DifficultyError(
                f"object_scale={self.object_scale} with size_ratio={self.size_ratio} lets small "
                f"objects be as large as large ones: high / low of the one times the high end of "
                f"the other is {spread:g}; keep it below 2"
            )

    @property
    def has_nuisance(self) -> bool:
        """Is there a nuisance?"""
        strengths = (self.camera_shift, self.light_shift, self.exposure_stops, self.noise_levels)
        return any(strengths) or self.jpeg_quality is not None

    def to_json(self) -> dict[str, Any]:
        """A dictionary of plain JSON values; ``from_json`` gives an equal Difficulty back."""
        return {
            name: list(value) if isinstance(value, tuple) else value
            for name, value in dataclasses.asdict(self).items()
        }

    @classmethod
    def from_json(cls, fields: dict[str, Any]) -> Difficulty:
        """Read from keyword values, lists allowed for tuples; the family is not looked up.

        Raises:
            DifficultyError: an unknown field, or a value out of its range.
        """
        known = {field.name: field.default for field in dataclasses.fields(cls)}
        unknown = sorted(map(str, fields.keys() - known.keys()))
        if unknown:
            raise DifficultyError(
                f"unknown difficulty field {', '.join(unknown)}; the fields are {', '.join(known)}"
            )
        difficulty = object.__new__(cls)
        for name, value in (known | fields).items():
            object.__setattr__(difficulty, name, value)
        difficulty._check_values()
        return difficulty


def _int_range(name: str, value: Any, least: int) -> tuple[int, int]:
    """``value`` as (low, high) of ints with least <= low <= high, or a DifficultyError."""
    try:
        low, high = (whole(name, end, least, MAX_OBJECTS) for end in value)
        if low <= high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise DifficultyError(
        f"{name}={value!r}: give two whole numbers (low, high) with {least} <= low <= high <= "
        f"{MAX_OBJECTS}"
    )


def _changes(value: Any) -> tuple[str, ...]:
    """``value`` as names of changes, or a DifficultyError."""
    if isinstance(value, str):
        raise DifficultyError(f"changes={value!r} is one string; give a list, such as [{value!r}]")
    try:
        changes = tuple(value)
    except TypeError:
        changes = ()
    unknown = [change for change in changes if change not in CHANGES]
    if unknown or not changes or len(set(changes)) != len(changes):
        raise DifficultyError(
            f"changes={value!r}: give one or more of {', '.join(CHANGES)}, each once"
        )
    return changes


def _float_range(name: str, value: Any, least: float, most: float) -> tuple[float, float]:
    """``value`` as (low, high) with least <= low <= high <= most, or a DifficultyError."""
    try:
        low, high = (float(_number(name, end, least, most)) for end in value)
        if low <= high:
            return low, high
    except (TypeError, ValueError):
        pass
    raise DifficultyError(
        f"{name}={value!r}: give two numbers (low, high) with {least:g} <= low <= high <= {most:g}"
    )


def _number(name: str, value: Any, low: float, high: float) -> float:
    """``value`` as a plain int or float, or a DifficultyError."""
    try:
        return real(name, value, low, high)
    except ValueError as error:
        raise DifficultyError(str(error)) from None


_RANGES: dict[str, tuple[float, float]] = {
    "color_distance": (3.0, 80.0),
    "size_ratio": (1.0, 2.0),
    "material_contrast": (0.0, 100.0),
    "object_scale": (0.25, 1.5),
    "occlusion": (0.0, 1.0),
}
"""What the ends of each range may be."""

_HIGHEST: dict[str, float] = {
    "min_visible": 1.0,
    "min_contrast": 100.0,
    "max_bystander_contrast": 100.0,
    "max_detached_area": 1.0,
    "camera_shift": 2.0,
    "light_shift": 5.0,
    "exposure_stops": 4.0,
    "noise_levels": 64.0,
}
"""The largest value of each number; the least is 0."""
