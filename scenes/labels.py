"""Labels come from pixels: boxes, visible areas and contrasts, measured on the rendered pair."""

from __future__ import annotations

import math

import numpy as np
from scipy import ndimage

from scenes.pair import Box, Certificate, Difference, Pair
from scenes.photos.plan import PhotoPlan
from scenes.plan import PairPlan

JUST_NOTICEABLE = 2.3
"""Delta E of two colours that a person can just tell apart (Mahy et al., 1994)."""
STRONG = 10.0
"""Delta E from which a patch counts as strongly changed."""


def label_pair(
    plan: PairPlan | PhotoPlan,
    image_a: np.ndarray,
    ids_a: np.ndarray,
    image_b: np.ndarray,
    ids_b: np.ndarray,
) -> tuple[Pair | None, str]:
    """Measure the differences of a rendered plan and decide whether the pair may be handed out.

    It may when
    - every object covers at least ``min_visible`` of the image wherever it stands (unchanged
      objects too: one that a deletion reveals would read as a further difference),
    - every changed object differs by ``min_contrast`` over its pixels,
    - the masks of the two images differ where a changed object is seen, and nowhere else,
    - no unchanged object differs by more than ``max_bystander_contrast`` over its pixels,
    - no strongly changed patch that touches no box covers more than ``max_detached_area``.

    Args:
        plan: what was rendered.
        image_a, image_b: (H, W, 3) uint8, sRGB.
        ids_a, ids_b: (H, W) uint8 object ids.

    Returns:
        (pair, "") when the rules hold, else (None, what broke them).
    """
    problem = _hidden(plan, ids_a, ids_b)
    if problem:
        return None, problem
    distance = lab_distance(image_a, image_b)
    differences = tuple(
        _measure(change.change, change.object_id, ids_a, ids_b, distance) for change in plan.changes
    )
    certificate = _certify(plan, differences, ids_a, ids_b, distance)
    problem = _faint(plan, differences) or _unlabelled(plan, certificate, ids_a, ids_b)
    if problem:
        return None, problem
    return Pair(image_a, image_b, differences, certificate, plan, ids_a, ids_b), ""


def _hidden(plan: PairPlan | PhotoPlan, ids_a: np.ndarray, ids_b: np.ndarray) -> str:
    least_px = math.ceil(plan.difficulty.min_visible * ids_a.size)
    for name, ids, scene in (("A", ids_a, plan.scene_a), ("B", ids_b, plan.scene_b)):
        visible = np.bincount(ids.ravel(), minlength=256)
        for obj in scene:
            # An object wholly hidden cannot be labelled, whatever the threshold.
            if visible[obj.id] < max(least_px, 1):
                return (
                    f"object {obj.id} shows {visible[obj.id]} pixels in image {name}, and the "
                    f"difficulty asks for {least_px}"
                )
    return ""


def _faint(plan: PairPlan | PhotoPlan, differences: tuple[Difference, ...]) -> str:
    for diff in differences:
        if diff.contrast < plan.difficulty.min_contrast:
            return (
                f"object {diff.object_id} changes its {diff.change} by Delta E "
                f"{diff.contrast:.1f}, and the difficulty asks for {plan.difficulty.min_contrast}"
            )
    return ""


def _unlabelled(
    plan: PairPlan | PhotoPlan, certificate: Certificate, ids_a: np.ndarray, ids_b: np.ndarray
) -> str:
    changed = [change.object_id for change in plan.changes]
    seen = np.isin(ids_a, changed) | np.isin(ids_b, changed)
    stray_px = int(np.sum((ids_a != ids_b) & ~seen))
    if stray_px:
        return f"{stray_px} pixels show another object in image B where nothing changes"
    difficulty = plan.difficulty
    if certificate.bystander_contrast > difficulty.max_bystander_contrast:
        return (
            f"an unchanged object differs by Delta E {certificate.bystander_contrast:.1f}, and "
            f"the difficulty allows {difficulty.max_bystander_contrast}"
        )
    if certificate.detached_area > difficulty.max_detached_area:
        return (
            f"a patch away from every box, {certificate.detached_area:.2%} of the image, changes "
            f"strongly, and the difficulty allows {difficulty.max_detached_area:.2%}"
        )
    return ""


def _certify(
    plan: PairPlan | PhotoPlan,
    differences: tuple[Difference, ...],
    ids_a: np.ndarray,
    ids_b: np.ndarray,
    distance: np.ndarray,
) -> Certificate:
    outside = np.ones(ids_a.shape, bool)
    for diff in differences:
        x0, y0, x1, y1 = (int(edge) for edge in diff.box)
        outside[y0:y1, x0:x1] = False
    smooth = np.where(outside, ndimage.uniform_filter(distance, 3), 0.0)
    eight_neighbours = np.ones((3, 3))
    patches, _ = ndimage.label(smooth >= STRONG, eight_neighbours)
    areas = np.bincount(patches.ravel())
    areas[0] = 0
    areas[np.unique(patches[ndimage.binary_dilation(~outside, eight_neighbours)])] = 0
    bystanders = []
    for obj in plan.objects:
        both = (ids_a == obj.id) & (ids_b == obj.id)
        bystanders.append(_rounded(distance[both].mean()) if both.any() else 0.0)
    return Certificate(
        outside_mean=_rounded(distance[outside].mean()) if outside.any() else 0.0,
        outside_peak=_rounded(smooth.max()),
        outside_changed=_rounded(np.mean(outside & (distance >= JUST_NOTICEABLE))),
        bystander_contrast=max(bystanders, default=0.0),
        detached_area=_rounded(areas.max() / ids_a.size),
    )


def _rounded(value: np.floating) -> float:
    """To a millionth, since numpy 1 and 2 sum in different orders."""
    return round(float(value), 6)


def _measure(
    change: str, object_id: int, ids_a: np.ndarray, ids_b: np.ndarray, distance: np.ndarray
) -> Difference:
    mask_a, mask_b = ids_a == object_id, ids_b == object_id
    either = mask_a | mask_b
    box = mask_bounds(either)
    assert box is not None, "its pixels have been counted"
    return Difference(
        change=change,
        object_id=object_id,
        box=box,
        box_a=mask_bounds(mask_a),
        box_b=mask_bounds(mask_b),
        visible_a=int(mask_a.sum()),
        visible_b=int(mask_b.sum()),
        contrast=_rounded(distance[either].mean()),
    )


def mask_bounds(mask: np.ndarray) -> Box | None:
    """The tight box around an (H, W) bool mask's true pixels; None when there are none."""
    columns = np.flatnonzero(mask.any(axis=0))
    rows = np.flatnonzero(mask.any(axis=1))
    if not columns.size:
        return None
    return (
        float(columns[0]),
        float(rows[0]),
        float(columns[-1] + 1),
        float(rows[-1] + 1),
    )


# Linear sRGB to CIE XYZ, D65 (IEC 61966-2-1), and that white itself.
_RGB_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
)
_WHITE_XYZ = _RGB_TO_XYZ.sum(axis=1)


def lab_distance(image_a: np.ndarray, image_b: np.ndarray) -> np.ndarray:
    """CIE76 Delta E of each pixel.

    Args:
        image_a, image_b: (H, W, 3) uint8, sRGB.

    Returns:
        (H, W) float64, 0 where the pixels are equal.
    """
    unequal = (image_a != image_b).any(axis=-1)
    distance = np.zeros(unequal.shape)
    lab_a, lab_b = srgb8_to_lab(image_a[unequal]), srgb8_to_lab(image_b[unequal])
    distance[unequal] = np.linalg.norm(lab_a - lab_b, axis=-1)
    return distance


def srgb8_to_lab(image: np.ndarray) -> np.ndarray:
    """8-bit sRGB to CIE L*a*b* under D65 (CIE 15).

    Args:
        image: (..., 3) uint8.

    Returns:
        (..., 3) float64: L* from 0 to 100, a* and b* about -128 to 127.
    """
    t = (srgb8_to_linear(image) @ _RGB_TO_XYZ.T) / _WHITE_XYZ
    delta = 6 / 29
    f = np.where(t > delta**3, np.cbrt(t), t / (3 * delta**2) + 4 / 29)
    x, y, z = f[..., 0], f[..., 1], f[..., 2]
    return np.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], axis=-1)


def lab_to_srgb8(lab: np.ndarray) -> np.ndarray:
    """CIE L*a*b* to the nearest 8-bit sRGB, each channel cut off at its ends.

    Args:
        lab: (..., 3) float64.

    Returns:
        (..., 3) uint8.
    """
    y = (lab[..., 0] + 16) / 116
    f = np.stack([y + lab[..., 1] / 500, y, y - lab[..., 2] / 200], axis=-1)
    delta = 6 / 29
    xyz = np.where(f > delta, f**3, 3 * delta**2 * (f - 4 / 29)) * _WHITE_XYZ
    linear = np.clip(xyz @ np.linalg.inv(_RGB_TO_XYZ).T, 0.0, 1.0)
    curve = np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)
    return np.rint(255 * curve).astype(np.uint8)


def srgb8_to_linear(values: np.ndarray) -> np.ndarray:
    """8-bit sRGB values to linear light from 0 to 1 (IEC 61966-2-1)."""
    curve = np.asarray(values, dtype=np.float64) / 255.0
    return np.where(curve <= 0.04045, curve / 12.92, ((curve + 0.055) / 1.055) ** 2.4)
