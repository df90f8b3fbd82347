"""Relations between two objects of an image: true, false, or too close to call.

Left and right are judged in the image, in front and behind by the distance from the camera: what a
person sees in both. A relation that is too close to call is never asked about nor used to
refer to something.
"""

from __future__ import annotations

from dig_env.scenes import SeenObject

SIDE_MARGIN = 0.5
"""Left and right: the centres of the boxes must be this part of the wider box apart. At a half,
each centre is beside the other box or on its edge, never within it."""

DEPTH_MARGIN = 1.0
"""In front and behind: the centres must be this many times the larger radius apart. At 1, neither
object stands where the other one does, seen from the side."""

SIZE_MARGIN = 1.25
"""Larger and smaller: the classes must differ, and the longer side of the larger object's box must
be this many times the smaller's, so that distance and hidden parts never contradict the words."""

DIRECTIONS: dict[str, str] = {
    "left": "right",
    "right": "left",
    "front": "behind",
    "behind": "front",
    "larger": "smaller",
    "smaller": "larger",
}
"""The relations with a converse, and that one."""

SAME: tuple[str, ...] = ("same_color", "same_shape", "same_material")

RELATIONS: tuple[str, ...] = (*DIRECTIONS, *SAME)


def holds(relation: str, one: SeenObject, other: SeenObject) -> bool | None:
    """Whether a relation of one object to another is true: "one is left of the other".

    Args:
        relation: one of ``RELATIONS``.
        one, other: two objects of one view.

    Returns:
        None where it is too close to call.
    """
    if relation in SAME:
        attribute = relation.removeprefix("same_")
        return getattr(one.object, attribute) == getattr(other.object, attribute)
    if relation in ("right", "behind", "smaller"):
        return holds(DIRECTIONS[relation], other, one)
    if relation == "left":
        apart = _center_x(other) - _center_x(one)
        return _sign(apart, SIDE_MARGIN * max(_width(one), _width(other)))
    if relation == "front":
        radius = max(one.object.radius, other.object.radius)
        return _sign(other.depth - one.depth, DEPTH_MARGIN * radius)
    if relation == "larger":
        return _larger(one, other)
    raise ValueError(f"relation={relation!r}: give one of {', '.join(RELATIONS)}")


def _sign(difference: float, margin: float) -> bool | None:
    return None if abs(difference) < margin else difference > 0


def _larger(one: SeenObject, other: SeenObject) -> bool | None:
    if one.object.size == other.object.size:
        return None
    is_larger = one.object.radius > other.object.radius
    large, small = (one, other) if is_larger else (other, one)
    return is_larger if _longer(large) >= SIZE_MARGIN * _longer(small) else None


def _center_x(seen: SeenObject) -> float:
    return (seen.box[0] + seen.box[2]) / 2


def _width(seen: SeenObject) -> float:
    return seen.box[2] - seen.box[0]


def _longer(seen: SeenObject) -> float:
    return max(_width(seen), seen.box[3] - seen.box[1])
