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

import math

import numpy as np
import scipy
from PIL import Image, ImageDraw

from dig_env.scenes.families.scenery import Camera, Light, Scenery, upward
from dig_env.scenes.geometry import CIRCLE, PinholeCamera, hull_points, surface_hit
from dig_env.scenes.plans.plan import Change, PairPlan, SceneObject

CONTACT_RADII = 1.4
"""The floor is rendered again up to this distance from a changed object's axis, in its radii."""
PENUMBRA = 0.25
"""Part of a light's width from which shadows are cast; the outermost penumbra is too faint to
see."""
MIRROR_SPREAD = 0.25
"""Half width of a blurred mirror image, a unit of distance from the mirror."""
MARGIN_PX = 4
"""The mask reaches this much farther, so that its rim can show that nothing was missed."""
RING = 1 / 24
"""Width of the ring around objects in which their contact shadows lie, in picture heights."""


def influence_mask(plan: PairPlan, width: int, height: int) -> np.ndarray:
    """The pixels of image B that must be rendered; elsewhere it shows what image A shows.

    Args:
        plan: the pair's plan.
        width, height: image size in pixels.

    Returns:
        (height, width) bool.
    """
    view = PinholeCamera(plan.camera, width, height)
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
    return scipy.ndimage.binary_dilation(mask, np.ones((3, 3)), iterations=MARGIN_PX)


def detail_mask(plan: PairPlan, camera: Camera, width: int, height: int) -> np.ndarray:
    """The pixels of objects of either image and a ring around them.

    Both images take it, so that how noisy they are tells nothing about the differences.

    Args:
        plan: the pair's plan.
        camera: of the picture.
        width, height: image size in pixels.

    Returns:
        (height, width) bool.
    """
    view = PinholeCamera(camera, width, height)
    picture = Image.new("1", (width, height))
    for obj in {*plan.scene_a, *plan.scene_b}:
        _fill(picture, view, hull_points(obj))
    distance = scipy.ndimage.distance_transform_edt(~np.array(picture))
    return distance <= RING * height


def _alters_shadow(change: Change) -> bool:
    """Can a change alter the object's shadow?"""
    versions = [obj for obj in (change.before, change.after) if obj is not None]
    is_surface_only = change.change in ("color", "material", "texture")
    return not is_surface_only or any(obj.material == "glass" for obj in versions)


def _contact_points(obj: SceneObject, scenery: Scenery) -> np.ndarray:
    """(N, 3) points around what an object takes light from: the floor next to it, and walls and
    boards beside and above it."""
    reach = CONTACT_RADII * obj.radius
    circle = CIRCLE * reach + (obj.x, obj.y)
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
    # How far from source to point, as 1, the line runs until it leaves the box on each axis.
    wall = np.where(along > 0, np.maximum(bounds[1], point), np.minimum(bounds[0], point))
    with np.errstate(divide="ignore", invalid="ignore"):
        reach = np.where(along == 0, np.inf, (wall - source) / along)
    return (source + along * reach.min(axis=-1, keepdims=True)).reshape(-1, 3)


def _fill(picture: Image.Image, view: PinholeCamera, points: np.ndarray) -> None:
    """Draw the outline's hull of (N, 3) world points as the camera sees them."""
    pixels = view.project(points)
    try:
        outline = pixels[scipy.spatial.ConvexHull(pixels).vertices]
    except scipy.spatial.QhullError:  # all on one line
        outline = pixels
    ImageDraw.Draw(picture).polygon([(x, y) for x, y in outline], fill=1, outline=1)


def _add_mirror_images(
    mask: np.ndarray, view: PinholeCamera, mirror: SceneObject, changed: list[SceneObject]
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
