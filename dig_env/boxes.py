"""Geometry of axis-aligned boxes: pairwise overlap, and the check that a box is one.

Every box here is ``(x0, y0, x1, y1)`` with ``x0 < x1`` and ``y0 < y1``, in the unit frame:
x as a fraction of the image's width, y of its height, (0, 0) the top left corner.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]


def areas(boxes: Boxes) -> NDArray[np.float64]:
    """Return the areas of (N, 4) boxes as (N,); 0 where one is flat or inverted."""
    sides = np.maximum(boxes[:, 2:] - boxes[:, :2], 0.0)
    return sides[:, 0] * sides[:, 1]


def checked_boxes(boxes: ArrayLike, name: str) -> Boxes:
    """Return trusted boxes as float64 (N, 4), or say what is wrong with them.

    For boxes that a program supplies (the truth), where a wrong one is a bug to be
    heard of. A policy's boxes go through ``dig_env.answers.read_boxes``, which never raises.

    Raises:
        ValueError: not of shape (N, 4), or a box that is not finite, leaves the unit
            frame or has no area. The message starts with ``name``.
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.empty((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"{name} has shape {array.shape}; it must be (N, 4), xyxy")
    # One look at all boxes first: it is what a reward pays for at every call. Written so that
    # NaN, which compares false with everything, fails.
    if not (array.min() >= 0.0 and array.max() <= 1.0 and areas(array).min() > 0.0):
        inside = (array >= 0.0) & (array <= 1.0)
        good = inside.all(axis=1) & (areas(np.clip(array, 0.0, 1.0)) > 0.0)
        index = int(np.argmin(good))
        raise ValueError(
            f"{name}[{index}] is {array[index].tolist()}; a box must have x0 < x1 and y0 < y1 "
            "within [0, 1]: divide pixels by the image's width and height"
        )
    return array


def iou_and_giou(a: Boxes, b: Boxes) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the IoU, in [0, 1], and the GIoU, in (-1, 1], of all pairs of boxes.

    ``GIoU = IoU - (hull - union) / hull``, where hull is the area of the smallest box that
    holds both (Rezatofighi et al., "Generalized Intersection over Union", CVPR 2019).
    Unlike IoU it still falls with distance once two boxes no longer touch.

    Args:
        a: (N, 4) boxes of positive area.
        b: (M, 4) boxes of positive area.

    Returns:
        Two (N, M) arrays.
    """
    a_low, a_high = a[:, None, :2], a[:, None, 2:]
    b_low, b_high = b[None, :, :2], b[None, :, 2:]
    sides = np.maximum(np.minimum(a_high, b_high) - np.maximum(a_low, b_low), 0.0)
    intersections = sides[..., 0] * sides[..., 1]
    unions = areas(a)[:, None] + areas(b) - intersections
    sides = np.maximum(a_high, b_high) - np.minimum(a_low, b_low)
    hulls = sides[..., 0] * sides[..., 1]
    iou = intersections / unions
    return iou, iou - (hulls - unions) / hulls
