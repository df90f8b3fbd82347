"""Where objects stand: far enough apart, and before each other where they are to hide."""

from __future__ import annotations

import math
import random

from scenes.plan import Camera, Vector

FLOOR_HALF_SIDE = 3.0
"""Objects' centres lie in [-3, 3]^2 world units."""
MIN_GAP = 0.25
"""Least distance between two footprints, world units."""
MIN_MARGIN = 0.4
"""Least distance between two centres along left-right and front-behind, world units."""
MOST_AT_FULL_SPACING = 10
"""CLEVR's largest number of objects; with n of them, more than that, both distances shrink by
(10 / n)^2."""
MOST_COVERED = 0.3
"""Among more objects than those, none is placed where another one covers more of it: pictures in
which an object hardly shows are drawn again anyway."""
PLACEMENT_TRIES = 50


def place(
    rng: random.Random,
    radii: dict[int, float],
    camera: Camera,
    screened: dict[int, int],
    occlusion: tuple[float, float],
) -> dict[int, tuple[float, float]] | None:
    """A place (x, y) for each object id, or None after ``PLACEMENT_TRIES`` tries for one.

    Args:
        radii: of the footprints, in the order in which they are placed.
        screened: for each object that is to stand before another, placed earlier, that one's id.
        occlusion: the part of it to be covered.
    """
    right, behind = camera.floor_directions
    # Within the lower half: cubes and cylinders hide more than these balls, and others help.
    span = occlusion[1] - occlusion[0]
    low, high = occlusion[0] + span / 8, occlusion[0] + span / 2
    spacing = min(1.0, (MOST_AT_FULL_SPACING / len(radii)) ** 2)
    places: dict[int, tuple[float, float]] = {}
    for object_id, radius in radii.items():
        for _ in range(PLACEMENT_TRIES):
            if object_id in screened:
                hidden = screened[object_id]
                x, y = _before(rng, places[hidden], radii[hidden] + radius, right, behind)
                ball, screen = (*places[hidden], radii[hidden]), (x, y, radius)
                share = covered_share(ball, screen, camera.location)
                inside = max(abs(x), abs(y)) <= FLOOR_HALF_SIDE
                if not inside or not low <= share <= high:
                    continue
            else:
                x = uniform(rng, -FLOOR_HALF_SIDE, FLOOR_HALF_SIDE)
                y = uniform(rng, -FLOOR_HALF_SIDE, FLOOR_HALF_SIDE)
            fits = all(
                math.hypot(x - ox, y - oy) - radius - radii[other] >= spacing * MIN_GAP
                and abs((x - ox) * right[0] + (y - oy) * right[1]) >= spacing * MIN_MARGIN
                and abs((x - ox) * behind[0] + (y - oy) * behind[1]) >= spacing * MIN_MARGIN
                for other, (ox, oy) in places.items()
            )
            if fits and spacing < 1.0:
                fits = _in_sight((x, y, radius), object_id, places, radii, screened, camera)
            if fits:
                places[object_id] = (x, y)
                break
        else:
            return None
    return places


def _in_sight(
    ball: tuple[float, float, float],
    object_id: int,
    places: dict[int, tuple[float, float]],
    radii: dict[int, float],
    screened: dict[int, int],
    camera: Camera,
) -> bool:
    """Would an object at a new place leave in sight what is placed, and be so itself?"""
    for other, (x, y) in places.items():
        there = (x, y, radii[other])
        if covered_share(ball, there, camera.location) > MOST_COVERED:
            return False
        is_to_cover = screened.get(object_id) == other
        if not is_to_cover and covered_share(there, ball, camera.location) > MOST_COVERED:
            return False
    return True


def _before(
    rng: random.Random,
    place: tuple[float, float],
    reach: float,
    right: tuple[float, float],
    behind: tuple[float, float],
) -> tuple[float, float]:
    """A place before another one as the camera sees it, where objects of radii that sum up to
    ``reach`` can overlap in the picture without touching."""
    nearer = uniform(rng, 0.0, reach + 2 * MIN_GAP)
    aside = uniform(rng, -reach, reach)
    return (
        place[0] + aside * right[0] - nearer * behind[0],
        place[1] + aside * right[1] - nearer * behind[1],
    )


def covered_share(
    ball: tuple[float, float, float], screen: tuple[float, float, float], eye: Vector
) -> float:
    """The part of a ball's disc in the picture that a nearer ball's disc covers, 0 to 1.

    Args:
        ball, screen: (x, y, radius), both standing on the floor.
        eye: where they are seen from.
    """
    away = [(x - eye[0], y - eye[1], r - eye[2]) for x, y, r in (ball, screen)]
    one, other = (math.hypot(*way) for way in away)
    if other >= one:
        return 0.0
    a, b = math.asin(ball[2] / one), math.asin(screen[2] / other)
    cosine = sum(p * q for p, q in zip(*away, strict=True)) / (one * other)
    d = math.acos(min(1.0, cosine))
    if d >= a + b:
        return 0.0
    if d <= abs(a - b):
        return min(1.0, (b / a) ** 2)
    # The lens of two circles; the angles are small, so the sphere of directions is flat.
    p = (d * d + a * a - b * b) / (2 * d)
    q = d - p
    lens = a * a * math.acos(p / a) - p * math.sqrt(max(0.0, a * a - p * p))
    lens += b * b * math.acos(q / b) - q * math.sqrt(max(0.0, b * b - q * q))
    return lens / (math.pi * a * a)


def uniform(rng: random.Random, low: float, high: float) -> float:
    """A number between low and high, by ``random()`` alone."""
    return low + (high - low) * rng.random()
