"""A rendered pair and its labels."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dig_env.scenes.plans.plan import Plan

Box = tuple[float, float, float, float]
"""(x_min, y_min, x_max, y_max) in pixels; the right and lower edge are behind the last pixel, so
that x_max - x_min is the width in pixels."""


PairImages = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""image_a, ids_a, image_b, ids_b: (H, W, 3) uint8 sRGB and (H, W) uint8 each."""


@dataclass(frozen=True)
class Difference:
    """One labelled difference, measured on the object-ID masks of the pair.

    Attributes:
        change: one of ``dig_env.scenes.CHANGES``.
        object_id: the changed object's id in the plan and in the ID masks.
        box: what is scored: bounds of the object's pixels in either image (the union of box_a and
            box_b). Where the camera moved between the images, those are separate truths, and this
            is box_a, or box_b where image A does not have the object.
        box_a, box_b: bounds of its pixels in that image; None where it is absent.
        visible_a, visible_b: its pixels in that image; 0 where it is absent.
        contrast: mean CIE Lab distance (CIE76) between the two images over those pixels, before
            any nuisance.
    """

    change: str
    object_id: int
    box: Box
    box_a: Box | None
    box_b: Box | None
    visible_a: int
    visible_b: int
    contrast: float


@dataclass(frozen=True)
class Certificate:
    """What was measured where no label is: shadows, mirror images, reflected light.

    All are CIE Lab distances (CIE76 Delta E) between the two images before any nuisance, or parts
    of the image.

    Attributes:
        outside_mean: mean distance over the pixels outside every box.
        outside_peak: largest distance there, of means over 3 x 3 pixels.
        outside_changed: part of the image, from 0 to 1, that is outside every box and differs
            by a just noticeable 2.3 or more.
        bystander_contrast: largest mean distance over the pixels that an unchanged object shows in
            both images; 0.0 when there is none.
        detached_area: part of the image that the largest patch covers which differs strongly (by
            10 or more, of means over 3 x 3 pixels) and touches no box.
    """

    outside_mean: float
    outside_peak: float
    outside_changed: float
    bystander_contrast: float
    detached_area: float


@dataclass(frozen=True, eq=False)
class Pair:
    """Two images and every difference between them.

    Attributes:
        image_a, image_b: (H, W, 3) uint8, sRGB.
        differences: one entry a changed object, by object id.
        certificate: what the pair's side effects were measured to be.
        plan: the plan that was rendered, or what was done to a photograph; its ``attempt`` says
            how often the rules of ``label_pair`` asked for another plan of the same seed.
        ids_a, ids_b: (H, W) uint8, the object id seen in each pixel, 0 for the background.
    """

    image_a: np.ndarray
    image_b: np.ndarray
    differences: tuple[Difference, ...]
    certificate: Certificate
    plan: Plan
    ids_a: np.ndarray
    ids_b: np.ndarray

    @property
    def camera_moved(self) -> bool:
        """Whether the two images were taken from different places, so that boxes differ, too."""
        layout = self.plan.layout
        return layout is not None and layout.camera_b != layout.camera

    @property
    def boxes_unit(self) -> np.ndarray:
        """The differences' boxes as (K, 4) float64 xyxy, each axis from 0 to 1."""
        return self._unit([diff.box for diff in self.differences])

    @property
    def boxes_shown(self) -> tuple[np.ndarray, np.ndarray]:
        """Boxes to draw on image A and on image B: ``boxes_unit``, unless the camera moved.

        If it did, those of the changed objects that the image has.
        """
        if not self.camera_moved:
            return self.boxes_unit, self.boxes_unit
        return (
            self._unit([diff.box_a for diff in self.differences if diff.box_a]),
            self._unit([diff.box_b for diff in self.differences if diff.box_b]),
        )

    def _unit(self, boxes: Sequence[Box]) -> np.ndarray:
        height, width = self.ids_a.shape
        corners = np.array(boxes, dtype=np.float64).reshape(-1, 4)
        return corners / (width, height, width, height)
