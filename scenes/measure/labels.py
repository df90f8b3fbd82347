"""Labels come from pixels: boxes, visible areas and contrasts, measured on the rendered pair."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import scipy

from dig_env.scenes.color import lab_distance
from dig_env.scenes.measure.occlusion import hidden_share
from dig_env.scenes.measure.pair import Box, Certificate, Difference, Pair
from dig_env.scenes.plans.plan import Plan

JUST_NOTICEABLE = 2.3
"""Delta E of two colours that a person can just distinguish (Mahy et al., 1994)."""
STRONG = 10.0
"""Delta E from which a patch counts as strongly changed."""


def label_pair(
    plan: Plan,
    image_a: np.ndarray,
    ids_a: np.ndarray,
    image_b: np.ndarray,
    ids_b: np.ndarray,
) -> tuple[Pair | None, str]:
    """Measure the differences of a rendered plan and decide whether the pair may be handed out.

    It may when
    - every object covers at least ``min_visible`` of the image wherever it stands (unchanged
      objects too: one that a deletion reveals would read as a further difference),
    - every changed object differs by ``min_contrast`` over its pixels, or as much as
      ``material_contrast`` says, and is hidden as much as ``occlusion`` says,
    - the masks of the two images differ where a changed object is seen, and nowhere else,
    - no unchanged object differs by more than ``max_bystander_contrast`` over its pixels,
    - no strongly changed patch that touches no box covers more than ``max_detached_area``.

    Args:
        plan: what was rendered, before its nuisance.
        image_a, image_b: (H, W, 3) uint8, sRGB.
        ids_a, ids_b: (H, W) uint8 object ids.

    Returns:
        (pair, "") when the rules hold, else (None, what broke them).
    """
    problem = _visibility_problem(plan, ids_a, ids_b)
    if problem:
        return None, problem
    distance = lab_distance(image_a, image_b)
    differences = tuple(
        _measure(change.change, change.object_id, ids_a, ids_b, distance) for change in plan.changes
    )
    certificate = _certify(plan, differences, ids_a, ids_b, distance)
    problem = _contrast_problem(plan, differences) or _unlabelled_problem(
        plan, certificate, ids_a, ids_b
    )
    if problem:
        return None, problem
    pair = Pair(image_a, image_b, differences, certificate, plan, ids_a, ids_b)
    problem = _occlusion_problem(pair)
    return (None, problem) if problem else (pair, "")


def label_with_nuisance(
    pair: Pair, image_b: np.ndarray, ids_b: np.ndarray
) -> tuple[Pair | None, str]:
    """A certified pair with another image B of the same scene: the nuisance of its plan.

    Boxes and visible pixels are measured again, and every object must still show as much of itself
    as ``min_visible`` says. Contrasts and the certificate stay those of the pair without nuisance.

    Args:
        pair: what ``label_pair`` gave.
        image_b, ids_b: (H, W, 3) uint8, sRGB, and (H, W) uint8 object ids.

    Returns:
        (pair, "") when the rule holds, else (None, what broke it).
    """
    problem = _visibility_problem(pair.plan, pair.ids_a, ids_b)
    if problem:
        return None, problem
    differences = []
    for diff in pair.differences:
        mask_b = ids_b == diff.object_id
        box_b = mask_bounds(mask_b)
        box = diff.box_a or box_b if pair.camera_moved else diff.box
        assert box is not None, "its pixels have been counted"
        differences.append(
            dataclasses.replace(diff, box=box, box_b=box_b, visible_b=int(mask_b.sum()))
        )
    again = dataclasses.replace(pair, image_b=image_b, ids_b=ids_b, differences=tuple(differences))
    return again, ""


def _visibility_problem(plan: Plan, ids_a: np.ndarray, ids_b: np.ndarray) -> str:
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


def _occlusion_problem(pair: Pair) -> str:
    low, high = pair.plan.difficulty.occlusion
    layout = pair.plan.layout
    if layout is None or (low, high) == (0.0, 1.0):
        return ""
    clean = dataclasses.replace(pair, plan=dataclasses.replace(layout, nuisance=None))
    for diff in pair.differences:
        share = hidden_share(clean, diff.object_id)
        if not low <= share <= high:
            return (
                f"object {diff.object_id} changes and is hidden to {share:.0%}, and the difficulty "
                f"asks for {low:.0%} to {high:.0%}"
            )
    return ""


def _contrast_problem(plan: Plan, differences: tuple[Difference, ...]) -> str:
    wanted = plan.difficulty.material_contrast
    for diff in differences:
        if wanted and diff.change == "material" and not wanted[0] <= diff.contrast <= wanted[1]:
            return (
                f"object {diff.object_id} changes its material by Delta E {diff.contrast:.1f}, and "
                f"the difficulty asks for {wanted[0]} to {wanted[1]}"
            )
        if diff.contrast < plan.difficulty.min_contrast:
            return (
                f"object {diff.object_id} changes its {diff.change} by Delta E "
                f"{diff.contrast:.1f}, and the difficulty asks for {plan.difficulty.min_contrast}"
            )
    return ""


def _unlabelled_problem(
    plan: Plan, certificate: Certificate, ids_a: np.ndarray, ids_b: np.ndarray
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
    plan: Plan,
    differences: tuple[Difference, ...],
    ids_a: np.ndarray,
    ids_b: np.ndarray,
    distance: np.ndarray,
) -> Certificate:
    outside = np.ones(ids_a.shape, bool)
    for diff in differences:
        x0, y0, x1, y1 = (int(edge) for edge in diff.box)
        outside[y0:y1, x0:x1] = False
    smooth = np.where(outside, scipy.ndimage.uniform_filter(distance, 3), 0.0)
    eight_neighbours = np.ones((3, 3))
    patches, _ = scipy.ndimage.label(smooth >= STRONG, eight_neighbours)
    areas = np.bincount(patches.ravel())
    areas[0] = 0
    areas[np.unique(patches[scipy.ndimage.binary_dilation(~outside, eight_neighbours)])] = 0
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
