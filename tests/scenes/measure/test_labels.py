"""Labels come from pixels, and say what is there."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small import SMALL

from dig_env.scenes import (
    PAPER_STAGES,
    SIZES,
)
from dig_env.scenes.color import srgb8_to_lab
from dig_env.scenes.measure.labels import label_pair, mask_bounds


def all_pairs(pairs):
    return [pair for stage in PAPER_STAGES for pair in pairs[stage]]


def test_boxes_are_the_bounds_of_the_id_masks(pairs):
    for pair in all_pairs(pairs):
        for diff in pair.differences:
            rows, columns = np.nonzero(
                (pair.ids_a == diff.object_id) | (pair.ids_b == diff.object_id)
            )
            expected = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
            assert diff.box == expected
            assert diff.visible_a == (pair.ids_a == diff.object_id).sum()
            assert diff.visible_b == (pair.ids_b == diff.object_id).sum()
            assert (diff.box_a is None) == (diff.change == "add")
            assert (diff.box_b is None) == (diff.change == "delete")


def test_boxes_lie_where_the_camera_projects_the_objects(pairs):
    """An oracle that knows no Blender: the object's bounding sphere, projected by hand."""
    for pair in all_pairs(pairs):
        for change, diff in zip(pair.plan.changes, pair.differences, strict=True):
            seen = [obj for obj in (change.before, change.after) if obj is not None]
            bounds = [projected_bounds(pair.plan.camera, obj, SMALL) for obj in seen]
            assert min(b[0] for b in bounds) - 1 <= diff.box[0]
            assert min(b[1] for b in bounds) - 1 <= diff.box[1]
            assert max(b[2] for b in bounds) + 1 >= diff.box[2]
            assert max(b[3] for b in bounds) + 1 >= diff.box[3]


def projected_bounds(camera, obj, settings):
    """Bounds in pixels of a cube-shaped hull around the object, by a pinhole projection."""
    eye, target = np.array(camera.location), np.array(camera.target)
    forward = (target - eye) / np.linalg.norm(target - eye)
    right = np.cross(forward, (0, 0, 1))
    right /= np.linalg.norm(right)
    up = np.cross(right, forward)
    radius = SIZES[obj.size]
    corners = [
        np.array((obj.x + dx * radius, obj.y + dy * radius, z * radius)) - eye
        for dx in (-1, 1)
        for dy in (-1, 1)
        for z in (0, 2)
    ]
    focal_px = camera.focal_mm / camera.sensor_mm * settings.width
    x = [settings.width / 2 + focal_px * (c @ right) / (c @ forward) for c in corners]
    y = [settings.height / 2 - focal_px * (c @ up) / (c @ forward) for c in corners]
    return min(x), min(y), max(x), max(y)


def test_every_change_is_visible_in_pixels_and_every_object_in_its_image(pairs):
    for pair in all_pairs(pairs):
        difficulty = pair.plan.difficulty
        least_px = difficulty.min_visible * pair.ids_a.size
        for ids, scene in ((pair.ids_a, pair.plan.scene_a), (pair.ids_b, pair.plan.scene_b)):
            assert all((ids == obj.id).sum() >= least_px for obj in scene)
            assert set(np.unique(ids)) == {0} | {obj.id for obj in scene}
        for diff in pair.differences:
            assert diff.contrast >= difficulty.min_contrast
            mask = (pair.ids_a == diff.object_id) | (pair.ids_b == diff.object_id)
            shift = np.abs(pair.image_a.astype(int) - pair.image_b)[mask]
            assert shift.max(axis=-1).mean() > 5


def test_certificates_tell_what_was_seen_outside_the_boxes(pairs):
    for pair in all_pairs(pairs):
        difficulty, certificate = pair.plan.difficulty, pair.certificate
        distance = np.linalg.norm(srgb8_to_lab(pair.image_a) - srgb8_to_lab(pair.image_b), axis=-1)
        outside = np.ones(pair.ids_a.shape, bool)
        for diff in pair.differences:
            x0, y0, x1, y1 = (int(edge) for edge in diff.box)
            outside[y0:y1, x0:x1] = False
        changed = (outside & (distance >= 2.3)).mean()
        assert certificate.outside_mean == pytest.approx(distance[outside].mean(), abs=1e-6)
        assert certificate.outside_changed == pytest.approx(changed, abs=1e-6)
        assert 0 <= certificate.detached_area <= difficulty.max_detached_area
        for obj in pair.plan.objects:
            both = (pair.ids_a == obj.id) & (pair.ids_b == obj.id)
            assert distance[both].mean() <= difficulty.max_bystander_contrast


def relabelled(pair, image_b, ids_b=None):
    ids_b = pair.ids_b if ids_b is None else ids_b
    return label_pair(pair.plan, pair.image_a, pair.ids_a, image_b, ids_b)


def test_an_unlabelled_change_is_never_handed_out(pairs):
    pair = next(pair for pair in pairs["single"] if len(pair.plan.objects) > 2)
    assert relabelled(pair, pair.image_b)[1] == ""
    bystander = pair.plan.objects[0]
    seen = (pair.ids_b == bystander.id) & (pair.ids_a == bystander.id)

    brighter = pair.image_b.copy()
    brighter[seen] = np.clip(pair.image_a[seen].astype(int) + 40, 0, 255)
    assert "unchanged object" in relabelled(pair, brighter)[1]

    stray = pair.ids_b.copy()
    stray[seen] = 0
    assert "shows" in relabelled(pair, pair.image_b, stray)[1], "the bystander is gone"
    stray = pair.ids_b.copy()
    stray[0, 0] = bystander.id
    assert "1 pixels show another object" in relabelled(pair, pair.image_b, stray)[1]

    blotch = pair.image_b.copy()
    x0, y0 = pair.differences[0].box[:2]
    corner = (slice(0, 12), slice(0, 12)) if y0 > 20 or x0 > 20 else (slice(-12, None),) * 2
    blotch[corner] = 255 - pair.image_a[corner]
    assert "patch" in relabelled(pair, blotch)[1]


def test_an_invisible_change_is_never_handed_out(pairs):
    pair = next(p for p in pairs["single"] if p.differences[0].change in ("color", "material"))
    pair_, problem = relabelled(pair, pair.image_a, pair.ids_a)
    assert pair_ is None
    assert "Delta E 0.0" in problem


def test_far_from_every_difference_nothing_changes(pairs):
    """Shadows and mirrored light reach out of a box, but the rest of the image stays."""
    for pair in pairs["single"]:
        x0, y0, x1, y1 = (int(edge) for edge in pair.differences[0].box)
        outside = np.ones(pair.ids_a.shape, bool)
        outside[max(0, y0 - 20) : y1 + 20, max(0, x0 - 40) : x1 + 40] = False
        shift = np.abs(pair.image_a.astype(int) - pair.image_b).max(axis=-1)[outside]
        assert np.mean(shift > 25) < 0.02


@given(hnp.arrays(bool, st.tuples(st.integers(1, 8), st.integers(1, 8))))
def test_mask_bounds_is_the_least_box_that_covers_the_mask(mask):
    bounds = mask_bounds(mask)
    if bounds is None:
        assert not mask.any()
        return
    x0, y0, x1, y1 = (int(edge) for edge in bounds)
    inside = mask[y0:y1, x0:x1]
    assert inside.sum() == mask.sum()
    assert inside[0].any() and inside[-1].any() and inside[:, 0].any() and inside[:, -1].any()


def test_lab_agrees_with_published_values():
    # Lab of the sRGB primaries under D65, as colour science tables give them.
    image = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255], [255, 255, 255]]], dtype=np.uint8)
    expected = [(53.24, 80.09, 67.20), (87.73, -86.18, 83.18), (32.30, 79.19, -107.86), (100, 0, 0)]
    np.testing.assert_allclose(srgb8_to_lab(image)[0], expected, atol=0.02)
