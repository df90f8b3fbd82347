"""The geometry of shapes as plain lists: no Blender, no numpy.

The worker makes meshes of them, and the parent finds silhouettes by them. Shapes stand on z = 0
about the z axis and lie in the cylinder of radius 1 and height 2. Faces are wound so that
their normals point outwards.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

Mesh = tuple[list[tuple[float, float, float]], list[tuple[int, ...]]]
"""Vertices (x, y, z) and faces as indices of them."""
Outline = Sequence[tuple[float, float]]


def shape_mesh(shape: str) -> Mesh | None:
    """The mesh of a shape; None for the words that it does not know."""
    return SHAPE_MESHES[shape]() if shape in SHAPE_MESHES else None


def rounded(corners: Outline, share: float, steps: int = 4, closed: bool = False) -> Outline:
    """A polyline with every inner corner replaced by a quadratic Bezier curve.

    Args:
        corners: (x, y) points.
        share: of the shorter edge that each curve takes, 0 to 0.5; at 0.5 the result is a
            B-spline.
        steps: edges of each curve.
        closed: does the last point connect to the first?
    """
    result = []
    for i, (x, y) in enumerate(corners):
        if not closed and i in (0, len(corners) - 1):
            result.append((x, y))
            continue
        (px, py), (nx, ny) = corners[i - 1], corners[(i + 1) % len(corners)]
        before, after = math.dist((x, y), (px, py)), math.dist((x, y), (nx, ny))
        reach = share * min(before, after)
        start = (x + (px - x) * reach / before, y + (py - y) * reach / before)
        end = (x + (nx - x) * reach / after, y + (ny - y) * reach / after)
        for step in range(steps + 1):
            t = step / steps
            a, b, c = (1 - t) ** 2, 2 * t * (1 - t), t * t
            result.append((a * start[0] + b * x + c * end[0], a * start[1] + b * y + c * end[1]))
    return result


def swept(outline: Outline, profile: Outline, closed: bool = False) -> Mesh:
    """The surface of the outline scaled along a profile.

    Args:
        outline: (x, y) corners, counter-clockwise.
        profile: (scale, z) points: from the bottom's middle outwards and up to the top's middle,
            where the scale is 0; or, ``closed``, round a ring, up on its outside.
    """
    vertices: list[tuple[float, float, float]] = []
    rings: list[list[int]] = []
    for scale, z in profile:
        points = outline if scale else [(0.0, 0.0)]
        rings.append(list(range(len(vertices), len(vertices) + len(points))))
        vertices += [(x * scale, y * scale, z) for x, y in points]
    faces: list[tuple[int, ...]] = []
    pairs = list(zip(rings, rings[1:] + rings[:1], strict=True))
    for low, high in pairs if closed else pairs[:-1]:
        for i in range(len(outline)):
            j = (i + 1) % len(outline)
            if len(low) == 1:
                faces.append((low[0], high[j], high[i]))
            elif len(high) == 1:
                faces.append((low[i], low[j], high[0]))
            else:
                faces.append((low[i], low[j], high[j], high[i]))
    return vertices, faces


def _circle(radius: float = 1.0, corners: int = 64) -> Outline:
    angles = [2 * math.pi * i / corners for i in range(corners)]
    return [(radius * math.cos(angle), radius * math.sin(angle)) for angle in angles]


def _lathed(corners: Outline, share: float) -> Mesh:
    return swept(_circle(), rounded(corners, share))


def _cone() -> Mesh:
    return _lathed([(0, 0), (1.0, 0), (0.04, 1.98), (0, 2.0)], 0.05)


def _torus() -> Mesh:
    ring = [(0.65 + 0.35 * x, 0.35 + 0.35 * y) for x, y in _circle(corners=24)]
    return swept(_circle(), ring, closed=True)


def _capsule() -> Mesh:
    """Lying along x."""
    radius, half, quarter = 0.6, 0.4, 8
    angles = [math.pi / 2 * i / quarter for i in range(quarter + 1)]
    end = [(radius * math.sin(a), -half - radius * math.cos(a)) for a in angles]
    profile = [(0.0, -1.0), *end[1:], *[(s, -z) for s, z in reversed(end[1:])], (0.0, 1.0)]
    vertices, faces = swept(_circle(corners=48), profile)
    return [(z, x, y + radius) for x, y, z in vertices], faces


def _slab_profile(height: float, share: float) -> Outline:
    return rounded([(0, 0), (1.0, 0), (1.0, height), (0, height)], share)


def _brick() -> Mesh:
    corners = [(-0.85, -0.5), (0.85, -0.5), (0.85, 0.5), (-0.85, 0.5)]
    return swept(rounded(corners, 0.25, 6, closed=True), _slab_profile(0.9, 0.2))


def _star() -> Mesh:
    corners = [
        (r * math.cos(math.pi * i / 5), r * math.sin(math.pi * i / 5))
        for i, r in enumerate((1.0, 0.5) * 5)
    ]
    return swept(rounded(corners, 0.15, closed=True), _slab_profile(0.95, 0.12))


def _pyramid() -> Mesh:
    corners = [(1, 0), (0, 1), (-1, 0), (0, -1)]
    profile = rounded([(0, 0), (1.0, 0), (0.04, 1.86), (0, 1.9)], 0.05)
    return swept(rounded(corners, 0.05, closed=True), profile)


def _bottle() -> Mesh:
    body = [(0, 0), (0.52, 0), (0.52, 1.2), (0.2, 1.42), (0.2, 1.88), (0.27, 1.88), (0.27, 2.0)]
    return _lathed([*body, (0, 2.0)], 0.25)


def _vase() -> Mesh:
    outside = [(0, 0), (0.5, 0), (0.55, 0.1), (0.95, 0.75), (0.6, 1.4), (0.3, 1.6), (0.56, 2.0)]
    return _lathed([*outside, (0.46, 2.0), (0.24, 1.6), (0.2, 1.3), (0, 1.3)], 0.5)


def _bowl() -> Mesh:
    outside = [(0, 0), (0.5, 0), (0.55, 0.08), (0.9, 0.4), (1.0, 1.0)]
    return _lathed([*outside, (0.93, 1.0), (0.8, 0.45), (0.45, 0.18), (0, 0.16)], 0.45)


SHAPE_MESHES: dict[str, Callable[[], Mesh]] = {
    "cone": _cone,
    "torus": _torus,
    "capsule": _capsule,
    "brick": _brick,
    "star": _star,
    "pyramid": _pyramid,
    "bottle": _bottle,
    "vase": _vase,
    "bowl": _bowl,
}
"""By name; cube, sphere and cylinder are ``studio``'s own."""
