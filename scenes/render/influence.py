"""Where image B can differ from image A: found from the plan, before anything is rendered.

Both images have one camera and the same lights, and Cycles draws the same random numbers in a
pixel whatever the rest of the scene is. So a pixel of B equals that of A to the bit unless one of
its light paths meets a changed object. Those that matter are

- the object itself and, where its outline changes, its shadows: everything between it and the far
  edges of the penumbras,
- the floor around it, and near walls, whose share of sky and of reflected light it alters,
- its mirror image in metal objects, and all of what is seen in or through other mirrors and glass.

What remains, single paths that bounce off the floor far away and happen to meet the object, is of
the size of the noise; ``benchmarks/partial_render.py`` measures it against full renders.
"""

from __future__ import annotations

import functools
import math

import numpy as np
from PIL import Image, ImageDraw
from scipy import ndimage
from scipy.spatial import ConvexHull, QhullError

from dig_env.scenes.plans.plan import Change, PairPlan, SceneObject
from dig_env.scenes.plans.scenery import Camera, Light, Scenery, upward
from dig_env.scenes.render.blender.meshes import Mesh, shape_mesh

CONTACT_RADII = 1.4
"""The floor is rendered anew up to this distance from a changed object's axis, in its radii."""
PENUMBRA = 0.25
"""Part of a light's width from which shadows are cast; the outermost penumbra is too faint to
see."""
MIRROR_SPREAD = 0.25
"""Half width of a blurred mirror image, a unit of distance from the mirror."""
MARGIN_PX = 4
"""The mask reaches this much farther, so that its rim can show that nothing was missed."""

# A circle's circumscribed 16-gon: its hull contains the circle.
_ANGLES = np.arange(16) * (2 * math.pi / 16)
_CIRCLE = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)]) / math.cos(math.pi / 16)


def influence_mask(plan: PairPlan, width: int, height: int) -> np.ndarray:
    """The pixels of image B that must be rendered; elsewhere it shows what image A shows.

    Args:
        plan: the pair's plan.
        width, height: image size in pixels.

    Returns:
        (height, width) bool.
    """
    view = View(plan.camera, width, height)
    picture = Image.new("1", (width, height))
    changed = [
        (obj, _alters_shadow(change))
        for change in plan.changes
        for obj in (change.before, change.after)
        if obj is not None
    ]
    lights = [_corners(light) for light in plan.lights]
    bounds = plan.scenery.bounds
    for obj, new_shadow in changed:
        hull = hull_points(obj)
        _fill(picture, view, hull)
        for corners in lights if new_shadow else ():
            _fill(picture, view, np.concatenate([hull, _shadow_points(hull, corners, bounds)]))
        _fill(picture, view, _contact_points(obj, plan.scenery))
    for obj in plan.objects:
        if _is_mirror(obj) and not _can_trace(obj):
            _fill(picture, view, hull_points(obj))
    mask = np.array(picture)
    for obj in plan.objects:
        if _is_mirror(obj) and _can_trace(obj):
            _add_mirror_images(mask, view, obj, [other for other, _ in changed])
    return ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=MARGIN_PX)


def _alters_shadow(change: Change) -> bool:
    """Can a change alter the object's shadow?"""
    versions = [obj for obj in (change.before, change.after) if obj is not None]
    is_surface_only = change.change in ("color", "material", "texture")
    return not is_surface_only or any(obj.material == "glass" for obj in versions)


def _contact_points(obj: SceneObject, scenery: Scenery) -> np.ndarray:
    """(N, 3) points around what an object takes light from: the floor next to it, and walls and
    boards beside and above it."""
    reach = CONTACT_RADII * obj.radius
    circle = _CIRCLE * reach + (obj.x, obj.y)
    is_enclosed = any(
        slab.high[2] > obj.z
        and slab.low[0] - reach <= obj.x <= slab.high[0] + reach
        and slab.low[1] - reach <= obj.y <= slab.high[1] + reach
        for slab in scenery.slabs
    )
    heights = (obj.z, obj.z + 2 * reach) if is_enclosed else (obj.z,)
    return np.concatenate([np.column_stack([circle, np.full(16, z)]) for z in heights])


def _is_mirror(obj: SceneObject) -> bool:
    """Can others be recognised in it, or through it?"""
    return obj.material in ("metal", "steel", "glass")


def _can_trace(obj: SceneObject) -> bool:
    """Is there a formula for the rays that it reflects?"""
    return obj.material != "glass" and obj.shape in ("cube", "sphere", "cylinder")


class View:
    """A pinhole camera's geometry in pixels."""

    def __init__(self, camera: Camera, width: int, height: int) -> None:
        self.eye = np.array(camera.location)
        forward = np.array(camera.target) - self.eye
        forward /= np.linalg.norm(forward)
        right = np.cross(forward, upward(forward))
        right /= np.linalg.norm(right)
        self._axes = np.stack([right, np.cross(right, forward), forward])
        # The sensor's width spans the longer side of the picture (Blender's sensor fit "auto").
        self._focal_px = camera.focal_mm / camera.sensor_mm * max(width, height)
        self._center = np.array([width / 2, height / 2])

    def project(self, points: np.ndarray) -> np.ndarray:
        """(N, 3) world points to (N, 2) pixels; points behind the camera are pulled before it."""
        x, y, depth = self._axes @ (points - self.eye).T
        scale = self._focal_px / np.maximum(depth, 0.1)
        return self._center + np.column_stack([x * scale, -y * scale])

    def rays(self, pixels: np.ndarray) -> np.ndarray:
        """(N, 2) pixels to (N, 3) unit directions."""
        offset = (pixels - self._center) / self._focal_px * (1.0, -1.0)
        directions = np.column_stack([offset, np.ones(len(offset))]) @ self._axes
        return directions / np.linalg.norm(directions, axis=1, keepdims=True)


def hull_points(obj: SceneObject) -> np.ndarray:
    """(N, 3) world points whose convex hull contains the object.

    For the shapes of files that is a cylinder, which every object lies in.
    """
    radius = obj.radius
    corners = _mesh_hull(obj.shape)
    if corners is not None:
        return _placed(obj, corners)
    if obj.shape == "cube":
        angle = math.radians(obj.rotation_deg)
        axis = np.array([math.cos(angle), math.sin(angle)]) * radius / math.sqrt(2)
        side = np.array([-axis[1], axis[0]])
        outline = np.stack([axis + side, axis - side, -axis - side, side - axis])
        rings = [(outline, 0.0), (outline, math.sqrt(2) * radius)]
    elif obj.shape != "sphere":
        rings = [(_CIRCLE * radius, 0.0), (_CIRCLE * radius, 2 * radius)]
    else:
        # Between the rings the sphere bulges out of their hull by less than the margin.
        rings = [
            (_CIRCLE * radius * ring, radius * (1 + height))
            for ring, height in ((0.72, -1.0), (1.0, -0.4), (1.0, 0.4), (0.72, 1.0))
        ]
    return np.concatenate(
        [
            np.column_stack([ring + np.array((obj.x, obj.y)), np.full(len(ring), obj.z + z)])
            for ring, z in rings
        ]
    )


def mesh_of(
    obj: SceneObject, model: Mesh | None = None
) -> tuple[np.ndarray, list[tuple[int, ...]]] | None:
    """(N, 3) world points and the faces between them; None for shapes that have formulas.

    ``model`` is the mesh of an object from a file.
    """
    mesh = model or _unit_mesh(obj.shape)
    return mesh and (_placed(obj, np.array(mesh[0])), mesh[1])


@functools.cache
def _unit_mesh(shape: str) -> Mesh | None:
    return shape_mesh(shape)


@functools.cache
def _mesh_hull(shape: str) -> np.ndarray | None:
    mesh = _unit_mesh(shape)
    if mesh is None:
        return None
    vertices = np.array(mesh[0])
    return vertices[ConvexHull(vertices).vertices]


def _placed(obj: SceneObject, points: np.ndarray) -> np.ndarray:
    """Points of a shape of radius 1, where an object has them."""
    angle = math.radians(obj.rotation_deg)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    return points @ turn * obj.radius + (obj.x, obj.y, obj.z)


def _corners(light: Light) -> np.ndarray:
    """(4, 3) corners of the part of a light that casts visible shadows."""
    center = np.array(light.location)
    toward = -center / np.linalg.norm(center)
    across = np.cross(toward, upward(toward))
    across /= np.linalg.norm(across)
    along = np.cross(across, toward)
    half = PENUMBRA * light.side / 2
    return np.array([center + half * (i * across + j * along) for i in (-1, 1) for j in (-1, 1)])


def _shadow_points(hull: np.ndarray, corners: np.ndarray, bounds: np.ndarray) -> np.ndarray:
    """Where the lines from the (4, 3) corners through the points of the hull leave the scenery.

    Every shadow falls between the hull and there: ``bounds`` are the (2, 3) corners of the box
    around all that it could fall on.
    """
    source, point = corners[:, None], hull[None]
    along = point - source
    # How far from source to point, as 1, the line goes on until it leaves the box on each axis.
    wall = np.where(along > 0, np.maximum(bounds[1], point), np.minimum(bounds[0], point))
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(along == 0, np.inf, (wall - source) / along)
    return (source + along * reach.min(axis=-1, keepdims=True)).reshape(-1, 3)


def _fill(picture: Image.Image, view: View, points: np.ndarray) -> None:
    """Draw the outline's hull of (N, 3) world points as the camera sees them."""
    pixels = view.project(points)
    try:
        outline = pixels[ConvexHull(pixels).vertices]
    except QhullError:  # all on one line
        outline = pixels
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in outline], fill=1, outline=1)


def _add_mirror_images(
    mask: np.ndarray, view: View, mirror: SceneObject, changed: list[SceneObject]
) -> None:
    """Add the pixels of a metal object in which a changed object is mirrored."""
    height, width = mask.shape
    pixels = view.project(hull_points(mirror))
    x0, y0 = np.maximum(np.floor(pixels.min(axis=0)).astype(int), 0)
    x1, y1 = np.minimum(np.ceil(pixels.max(axis=0)).astype(int) + 1, (width, height))
    if x0 >= x1 or y0 >= y1:
        return
    grid = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), axis=-1).reshape(-1, 2)
    rays = view.rays(grid + 0.5)
    distance, normal = surface_hit(mirror, view.eye, rays)
    hit = np.isfinite(distance)
    grid, rays, normal = grid[hit], rays[hit], normal[hit]
    point = view.eye + distance[hit, None] * rays
    mirrored = rays - 2 * (rays * normal).sum(axis=1, keepdims=True) * normal
    for obj in changed:
        center = np.array((obj.x, obj.y, obj.z + obj.radius))
        to_center = center - point
        ahead = (to_center * mirrored).sum(axis=1)
        aside = np.linalg.norm(to_center - ahead[:, None] * mirrored, axis=1)
        seen = (ahead > 0) & (aside <= math.sqrt(2) * obj.radius + MIRROR_SPREAD * ahead)
        mask[grid[seen, 1], grid[seen, 0]] = True


def surface_hit(
    obj: SceneObject, eye: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays first meet a cube, sphere or cylinder (rounded edges left out).

    Other shapes are taken for the cylinder that they lie in.

    Args:
        obj: what they may meet.
        eye: (3,) their origin, outside the object.
        rays: (N, 3) unit directions.

    Returns:
        distance: (N,), inf where a ray misses.
        normal: (N, 3) outward unit normals; anything where a ray misses.
    """
    radius = obj.radius
    origin = eye - (obj.x, obj.y, obj.z)
    with np.errstate(divide="ignore", invalid="ignore"):
        if obj.shape == "sphere":
            center = origin - (0.0, 0.0, radius)
            distance = _nearer_root(
                (rays * rays).sum(1), rays @ center, center @ center - radius**2
            )
            normal = (center + distance[:, None] * rays) / radius
        elif obj.shape == "cube":
            distance, normal = _cube_hit(radius, math.radians(obj.rotation_deg), origin, rays)
        else:
            distance, normal = _cylinder_hit(radius, origin, rays)
    return np.where(np.isnan(distance) | (distance <= 0), np.inf, distance), normal


def _nearer_root(a: np.ndarray, half_b: np.ndarray, c: np.ndarray | float) -> np.ndarray:
    """The smaller root of a t^2 + 2 half_b t + c; nan where there is none."""
    return (-half_b - np.sqrt(half_b**2 - a * c)) / a


def _cylinder_hit(
    radius: float, origin: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    flat = rays[:, :2]
    side = _nearer_root(
        (flat * flat).sum(axis=1), flat @ origin[:2], origin[:2] @ origin[:2] - radius**2
    )
    z = origin[2] + side * rays[:, 2]
    side = np.where((z >= 0) & (z <= 2 * radius), side, np.inf)
    top = (2 * radius - origin[2]) / rays[:, 2]
    at_top = np.linalg.norm(origin[:2] + top[:, None] * flat, axis=1)
    top = np.where(at_top <= radius, top, np.inf)
    distance = np.minimum(side, top)
    normal = np.zeros_like(rays)
    normal[:, :2] = (origin[:2] + side[:, None] * flat) / radius
    normal[top <= side] = (0.0, 0.0, 1.0)
    return distance, normal


def _cube_hit(
    radius: float, angle: float, origin: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    half = radius / math.sqrt(2)
    turn = np.array(
        [[math.cos(angle), math.sin(angle), 0], [-math.sin(angle), math.cos(angle), 0], [0, 0, 1]]
    )
    origin, rays = turn @ (origin - (0.0, 0.0, half)), rays @ turn.T
    # The slab method: inside the cube means inside all three slabs.
    planes = (-np.sign(rays) * half - origin) / rays
    leave = ((np.sign(rays) * half - origin) / rays).min(axis=1)
    axis = planes.argmax(axis=1)
    enter = planes.max(axis=1)
    normal = np.zeros_like(rays)
    rows = np.arange(len(rays))
    normal[rows, axis] = -np.sign(rays[rows, axis])
    return np.where(enter <= leave, enter, np.inf), normal @ turn
