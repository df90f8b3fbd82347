"""How much of an object others hide, measured on the object-ID masks of a rendered pair."""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageDraw

from dig_env.scenes.families.models import model_mesh
from dig_env.scenes.families.scenery import Camera
from dig_env.scenes.families.vocabulary import SHAPES
from dig_env.scenes.geometry import PinholeCamera, hull_points, mesh_of, surface_hit
from dig_env.scenes.measure.pair import Pair
from dig_env.scenes.plans.plan import PairPlan, SceneObject
from dig_env.scenes.render.blender.meshes import Mesh

FINER = 8
"""Meshes are drawn at this many times the resolution, since lines are a pixel wide there."""


def hidden_share(pair: Pair, object_id: int) -> float:
    """The part of an object's silhouette in which the images show other objects instead.

    0.0 in a photograph, since only objects are changed that nothing is seen to stand before.

    The silhouette is every pixel inside the image in which the object would be seen if it stood
    alone, of both images taken together; an image in which it is absent has none.

    Returns:
        0.0 (nothing in front of it) to 1.0.

    Raises:
        ValueError: the pair has no such object.
    """
    height, width = pair.ids_a.shape
    plan = pair.plan.layout
    if plan is None:
        return 0.0
    covered = hidden = 0
    for scene, ids, camera in (
        (plan.scene_a, pair.ids_a, plan.camera),
        (plan.scene_b, pair.ids_b, plan.camera_b),
    ):
        for obj in scene:
            if obj.id == object_id:
                outline = silhouette(obj, camera, width, height)
                covered += int(outline.sum())
                # Not the floor: the rounded edge of a cube lets a rim of it through.
                hidden += int((outline & (ids != object_id) & (ids != 0)).sum())
    if not covered:
        raise ValueError(f"object {object_id} is in neither image of pair {plan.seed}")
    return hidden / covered


def thin_models(plan: PairPlan, width: int, height: int) -> list[str]:
    """The models of a plan that would show too few pixels in image A even if they stood alone."""
    found = set()
    for obj in plan.scene_a:
        if obj.shape not in SHAPES:
            model = model_mesh(plan.scenery.models, obj.shape)
            alone_px = silhouette(obj, plan.camera, width, height, model).sum()
            if alone_px < max(1, plan.difficulty.min_visible * width * height):
                found.add(obj.shape)
    return sorted(found)


def silhouette(
    obj: SceneObject, camera: Camera, width: int, height: int, model: Mesh | None = None
) -> np.ndarray:
    """The pixels whose middle shows the object if it stands alone; (height, width) bool.

    Objects from files are taken for the cylinder around them, unless ``model`` is the mesh.
    """
    view = PinholeCamera(camera, width, height)
    corners = view.project(hull_points(obj))
    # The hull of a sphere's points is a little too narrow: a margin of a pixel and a hundredth.
    margin = 1 + 0.01 * np.ptp(corners, axis=0)
    x0, y0 = np.clip(np.floor(corners.min(axis=0) - margin), 0, (width, height)).astype(int)
    x1, y1 = np.clip(np.ceil(corners.max(axis=0) + margin), 0, (width, height)).astype(int)
    mask = np.zeros((height, width), bool)
    if x0 < x1 and y0 < y1:
        mesh = mesh_of(obj, model)
        if mesh is not None:
            mask[y0:y1, x0:x1] = _drawn(view.project(mesh[0]) - (x0, y0), mesh[1], x1 - x0, y1 - y0)
            return mask
        grid = np.stack(np.meshgrid(np.arange(x0, x1), np.arange(y0, y1)), axis=-1) + 0.5
        distance, _ = surface_hit(obj, view.eye, view.rays(grid.reshape(-1, 2)))
        mask[y0:y1, x0:x1] = np.isfinite(distance).reshape(y1 - y0, x1 - x0)
    return mask


def _drawn(points: np.ndarray, faces: list[tuple[int, ...]], width: int, height: int) -> np.ndarray:
    """(height, width) bool: the pixels whose middle is in one of the faces between points."""
    picture = Image.new("1", (FINER * width, FINER * height))
    draw = ImageDraw.Draw(picture)
    corners = [tuple(point) for point in (points * FINER - 0.5).tolist()]
    for face in faces:
        draw.polygon([corners[i] for i in face], fill=1)
    return np.array(picture)[FINER // 2 :: FINER, FINER // 2 :: FINER]
