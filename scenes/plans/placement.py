"""Where objects stand: far enough apart, and before each other where they are to hide."""

from __future__ import annotations

import math
import random

from dig_env.scenes.families import Family
from dig_env.scenes.families.scenery import Camera, Vector
from dig_env.scenes.plans.draws import any_of, uniform

Ball = tuple[Vector, float]
"""What an object is taken for: the place it stands on, and its radius."""
Cone = tuple[float, float, float, float]
"""The rays from the camera that meet a ball: the unit vector to its centre, and half the angle."""

MOVE = (1.4, 2.6)
"""How far an object moves, world units: clear of where it stood, whatever its size, and near enough
that one box around both places says something."""
MAX_AT_FULL_SPACING = 10
"""CLEVR's largest number of objects; with n of them, more than that, both distances shrink by
(10 / n)^2."""
MAX_COVERED = 0.3
"""Among more objects than those, none is placed where another one covers more of it: pictures in
which an object hardly shows are drawn again anyway."""
OCCLUDER_SPACING = 0.3
"""So much of both distances is kept where objects are to hide others: at full distance few do."""
PLACEMENT_TRIES = 50


def place(
    rng: random.Random,
    radii: dict[int, float],
    family: Family,
    camera: Camera,
    occluders: dict[int, int],
    occlusion: tuple[float, float],
) -> dict[int, Vector]:
    """A place for each key, up to the first for which ``PLACEMENT_TRIES`` tries found none.

    Args:
        radii: of the footprints by object id, in the order in which they are placed; minus the id
            is where the object moves to.
        family: where objects may stand, and how far apart.
        camera: image A's.
        occluders: for each object that is to stand before another, placed earlier, that one's id.
        occlusion: the part of it to be covered.
    """
    # Within the lower half: cubes and cylinders hide more than these balls, and others help.
    span = occlusion[1] - occlusion[0]
    low, high = occlusion[0] + span / 8, occlusion[0] + span / 2
    layout = _Layout(radii, family, camera, occluders)
    places = layout.places
    for key, radius in radii.items():
        for _ in range(PLACEMENT_TRIES):
            if key in occluders:
                hidden = (places[occluders[key]], radii[occluders[key]])
                here = _before(rng, hidden, radius, family.min_gap, camera)
                share = covered_share(hidden, (here, radius), camera.location)
                if not family.contains(here) or not low <= share <= high:
                    continue
            else:
                region = any_of(rng, family.regions)
                x = uniform(rng, region.x_min, region.x_max)
                here = (x, uniform(rng, region.y_min, region.y_max), region.z)
            if layout.fits(key, here):
                places[key] = here
                break
        else:
            break
    return places


class _Layout:
    """The objects that have a place so far. Arguments as for ``place``."""

    def __init__(
        self, radii: dict[int, float], family: Family, camera: Camera, occluders: dict[int, int]
    ) -> None:
        self.places: dict[int, Vector] = {}
        self._cones: dict[int, Cone] = {}
        self._radii, self._family, self._occluders = radii, family, occluders
        self._eye, self._directions = camera.location, camera.floor_directions
        self._spacing = min(1.0, (MAX_AT_FULL_SPACING / len(radii)) ** 2)
        if occluders:
            self._spacing = min(self._spacing, OCCLUDER_SPACING)

    def fits(self, key: int, here: Vector) -> bool:
        """Does an object at this place keep its distance from the others, and all stay in sight?"""
        if key < 0 and not MOVE[0] <= math.dist(here, self.places[-key]) <= MOVE[1]:
            return False
        (right_x, right_y), (behind_x, behind_y) = self._directions
        gap = self._spacing * self._family.min_gap
        margin = self._spacing * self._family.min_margin
        for other, there in self.places.items():
            x, y = here[0] - there[0], here[1] - there[1]
            if other == -key or here[2] != there[2]:
                continue
            if (
                math.hypot(x, y) - self._radii[key] - self._radii[other] < gap
                or abs(x * right_x + y * right_y) < margin
                or abs(x * behind_x + y * behind_y) < margin
            ):
                return False
        return self._spacing == 1.0 or self._in_sight(key, here)

    def _in_sight(self, key: int, here: Vector) -> bool:
        """Would an object at this place leave in sight what is placed, and be so itself?"""
        ball = (here, self._radii[key])
        self._cones[key] = _cone(ball, self._eye)
        for other, where in self.places.items():
            there = (where, self._radii[other])
            # minus the key: the same object in the other image
            if other == -key or _are_apart(self._cones[key], self._cones[other]):
                continue
            if covered_share(ball, there, self._eye) > MAX_COVERED:
                return False
            is_to_cover = self._occluders.get(key) == other
            if not is_to_cover and covered_share(there, ball, self._eye) > MAX_COVERED:
                return False
        return True


def _cone(ball: Ball, eye: Vector) -> Cone:
    away = [ball[0][0] - eye[0], ball[0][1] - eye[1], ball[0][2] + ball[1] - eye[2]]
    distance = math.hypot(*away)
    x, y, z = (length / distance for length in away)
    return x, y, z, math.asin(ball[1] / distance)


def _are_apart(one: Cone, other: Cone) -> bool:
    """Does neither ball cover the other? True is certain, since 1 - cos d <= d^2 / 2; and it is
    what most pairs of many objects need."""
    x, y, z, angle = one
    p, q, r, reach = other
    reach += angle
    return 1.0 - (x * p + y * q + z * r) > reach * reach / 2.0


def _before(rng: random.Random, hidden: Ball, radius: float, gap: float, camera: Camera) -> Vector:
    """A place before another object as the camera sees it, where one of this radius can overlap it
    in the picture without touching it."""
    right, behind = camera.floor_directions
    (x, y, z), reach = hidden[0], hidden[1] + radius
    nearer = uniform(rng, 0.0, reach + 2 * gap)
    aside = uniform(rng, -reach, reach)
    return (
        x + aside * right[0] - nearer * behind[0],
        y + aside * right[1] - nearer * behind[1],
        z,
    )


def covered_share(ball: Ball, occluder: Ball, eye: Vector) -> float:
    """The part of a ball's disc in the picture that a nearer ball's disc covers, 0 to 1.

    Args:
        ball, occluder: where they stand, and their radii.
        eye: where they are seen from.
    """
    away = [(x - eye[0], y - eye[1], z + r - eye[2]) for (x, y, z), r in (ball, occluder)]
    one, other = (math.hypot(*way) for way in away)
    if other >= one:
        return 0.0
    a, b = (math.asin(min(1.0, r / far)) for r, far in ((ball[1], one), (occluder[1], other)))
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
