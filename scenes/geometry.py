"""The geometry of plans: projection, hulls and meshes of objects, and rays that meet them."""

from __future__ import annotations

import functools
import math

import numpy as np
import scipy

from dig_env.scenes.families.scenery import Camera, upward
from dig_env.scenes.plans.plan import SceneObject
from dig_env.scenes.render.blender.meshes import Mesh, shape_mesh

_ANGLES = np.arange(16) * (2 * math.pi / 16)
CIRCLE = np.column_stack([np.cos(_ANGLES), np.sin(_ANGLES)]) / math.cos(math.pi / 16)
"""(16, 2): the circumscribed 16-gon of the unit circle, whose hull contains the circle."""


class PinholeCamera:
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

    For the shapes of files that is a cylinder, which every object is inside.
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
        rings = [(CIRCLE * radius, 0.0), (CIRCLE * radius, 2 * radius)]
    else:
        # Between the rings the sphere bulges out of their hull by less than the margin.
        rings = [
            (CIRCLE * radius * ring, radius * (1 + height))
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
    return vertices[scipy.spatial.ConvexHull(vertices).vertices]


def _placed(obj: SceneObject, points: np.ndarray) -> np.ndarray:
    """Points of a shape of radius 1, where an object has them."""
    angle = math.radians(obj.rotation_deg)
    cosine, sine = math.cos(angle), math.sin(angle)
    turn = np.array([[cosine, sine, 0], [-sine, cosine, 0], [0, 0, 1]])
    return points @ turn * obj.radius + (obj.x, obj.y, obj.z)


def surface_hit(
    obj: SceneObject, eye: np.ndarray, rays: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Where rays first meet a cube, sphere or cylinder (rounded edges left out).

    Other shapes are taken for the cylinder around them.

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
