"""One image as a scene that is known exactly: what stands in it, where, and how much shows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dig_env.scenes.families.scenery import Camera
from dig_env.scenes.measure.labels import mask_bounds
from dig_env.scenes.measure.occlusion import silhouette
from dig_env.scenes.measure.pair import Box, Pair
from dig_env.scenes.plans.plan import SceneObject


@dataclass(frozen=True)
class SeenObject:
    """One object of an image.

    Attributes:
        object: its attributes and place.
        box: bounds of its visible pixels.
        visible: number of its visible pixels, at least 1.
        shown: share of its silhouette inside the image that other objects leave free, by pixels: 0
            to 1, a rim of a pixel aside.
        depth: distance of its centre from the camera along the camera's direction on the floor, in
            world units; the smaller, the farther in front.
    """

    object: SceneObject
    box: Box
    visible: int
    shown: float
    depth: float

    @property
    def id(self) -> int:
        """The object's id in the plan and in the mask."""
        return self.object.id


@dataclass(frozen=True, eq=False)
class View:
    """An image and everything that is seen in it.

    Attributes:
        image: (H, W, 3) uint8, sRGB.
        ids: (H, W) uint8, the object id seen in each pixel, 0 for the background.
        objects: those that show at least one pixel, by id.
        family: name of the world that the image shows.
    """

    image: np.ndarray
    ids: np.ndarray
    objects: tuple[SeenObject, ...]
    family: str = "clevr"

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image in pixels."""
        height, width = self.ids.shape
        return width, height

    def box_unit(self, seen: SeenObject) -> np.ndarray:
        """An object's box as (4,) float64 xyxy, each axis from 0 to 1."""
        return np.array(seen.box) / (self.size * 2)


def view_of(
    image: np.ndarray,
    ids: np.ndarray,
    scene: Sequence[SceneObject],
    camera: Camera,
    family: str = "clevr",
) -> View:
    """What an image shows of a scene.

    Args:
        image: (H, W, 3) uint8, sRGB.
        ids: (H, W) uint8, the object id seen in each pixel, 0 for the background.
        scene: the objects in front of the camera, by id.
        camera: through which they are seen.
        family: name of the world that they belong to.
    """
    _, away = camera.floor_directions
    objects = []
    for obj in scene:
        mask = ids == obj.id
        box = mask_bounds(mask)
        if box is not None:
            ahead = obj.x - camera.location[0], obj.y - camera.location[1]
            depth = ahead[0] * away[0] + ahead[1] * away[1]
            visible = int(mask.sum())
            whole = int(silhouette(obj, camera, ids.shape[1], ids.shape[0]).sum())
            objects.append(SeenObject(obj, box, visible, visible / max(whole, visible), depth))
    return View(image, ids, tuple(objects), family)


def views(pair: Pair) -> tuple[View, View]:
    """Both images of a pair, each its own scene.

    Raises:
        ValueError: they are photographs, of which the scene is not known.
    """
    plan = pair.plan.layout
    if plan is None:
        raise ValueError(
            f"pair {pair.plan.seed} is made of a photograph, of which no scene is known: give "
            "pairs that 'dig-env render' rendered"
        )
    family = plan.difficulty.family
    return (
        view_of(pair.image_a, pair.ids_a, plan.scene_a, plan.camera, family),
        view_of(pair.image_b, pair.ids_b, plan.scene_b, plan.camera_b, family),
    )
