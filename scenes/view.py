"""One image as a scene that is known exactly: what stands in it, where, and how much shows."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from scenes.labels import mask_bounds
from scenes.pair import Box, Pair
from scenes.plan import Camera, SceneObject
from scenes.vocabulary import SIZES


@dataclass(frozen=True)
class SeenObject:
    """One object of an image.

    Attributes:
        object: its attributes and place.
        box: bounds of its visible pixels.
        visible: number of its visible pixels, at least 1.
        shown: share of its outline that shows, by its visible pixels over those that it would have
            if nothing hid it or cut it off: 1 within a tenth for whole objects, 0.5 for one half
            hidden.
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
    """

    image: np.ndarray
    ids: np.ndarray
    objects: tuple[SeenObject, ...]

    @property
    def size(self) -> tuple[int, int]:
        """(width, height) of the image in pixels."""
        height, width = self.ids.shape
        return width, height

    def box_unit(self, seen: SeenObject) -> np.ndarray:
        """An object's box as (4,) float64 xyxy, each axis from 0 to 1."""
        return np.array(seen.box) / (self.size * 2)


def view_of(
    image: np.ndarray, ids: np.ndarray, scene: Sequence[SceneObject], camera: Camera
) -> View:
    """What an image shows of a scene.

    Args:
        image: (H, W, 3) uint8, sRGB.
        ids: (H, W) uint8, the object id seen in each pixel, 0 for the background.
        scene: the objects in front of the camera, by id.
        camera: through which they are seen.
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
            shown = visible / outline_px(obj, camera, ids.shape[1])
            objects.append(SeenObject(obj, box, visible, shown, depth))
    return View(image, ids, tuple(objects))


def outline_px(obj: SceneObject, camera: Camera, width: int) -> float:
    """Estimate how many pixels an object covers where nothing hides it.

    The area of its parallel projection along the line of sight, scaled by distance: of a sphere
    exactly so near the middle of the image, of a cube the mean over its rotations.

    Args:
        obj: see there.
        camera: through which it is seen.
        width: of the image in pixels.
    """
    radius = SIZES[obj.size]
    sight = np.array([obj.x, obj.y, radius]) - camera.location
    sine = -sight[2] / np.linalg.norm(sight)
    cosine = math.sqrt(1 - sine**2)
    area = {
        "sphere": math.pi,
        "cylinder": 4 * cosine + math.pi * sine,
        "cube": 8 / math.pi * cosine + 2 * sine,
    }[obj.shape]
    axis = np.subtract(camera.target, camera.location)
    distance = float(sight @ axis / np.linalg.norm(axis))
    return area * (width * camera.focal_mm / camera.sensor_mm * radius / distance) ** 2


def views(pair: Pair) -> tuple[View, View]:
    """Both images of a pair, each a scene of its own."""
    plan = pair.plan
    return (
        view_of(pair.image_a, pair.ids_a, plan.scene_a, plan.camera),
        view_of(pair.image_b, pair.ids_b, plan.scene_b, plan.camera),
    )
