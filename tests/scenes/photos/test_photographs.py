"""Pairs made of photographs: labels are those of the masks, and nothing else changes."""

import hashlib
import json
import subprocess
import sys
from collections import Counter

import numpy as np
import pytest
from coco_files import SIZE, only
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco_mask
from scipy import ndimage
from skimage import color, data, restoration

from dig_env.scenes import (
    PHOTO_CHANGES,
    PHOTO_STAGES,
    Album,
    Difficulty,
    PhotoPlan,
    photo_pair,
    plan_photo_pair,
)
from dig_env.scenes.color import lab_to_linear, srgb8_to_lab, to_srgb8
from dig_env.scenes.photos.album import LARGEST_SHARE, RIM_PX
from dig_env.scenes.photos.compose import FEATHER_PX
from dig_env.scenes.photos.inpaint import inpaint

SEEDS = range(12)


@pytest.fixture(scope="module")
def known(scenes_folder) -> dict[int, np.ndarray]:
    """Each annotation's mask, decoded by pycocotools alone."""
    entries = json.loads((scenes_folder / "instances.json").read_text())["annotations"]
    masks = {}
    for entry in entries:
        runs = entry["segmentation"]
        if isinstance(runs["counts"], list):
            runs = coco_mask.frPyObjects(runs, *runs["size"])
        masks[entry["id"]] = runs
    return masks


# Labels


def test_masks_are_those_of_the_annotations(album, known):
    for name in album.names:
        photo = album.photograph(name)
        expected = {
            annotation: runs
            for annotation, runs in known.items()
            if annotation // 100 == int(name[0])
            and coco_mask.area(runs) <= LARGEST_SHARE * 128 * 96
        }
        assert {inst.annotation for inst in photo.instances} == set(expected)
        for inst in photo.instances:
            mask = coco_mask.decode(expected[inst.annotation]).astype(bool)
            assert np.array_equal(photo.mask(inst.annotation), mask)


@pytest.mark.parametrize("change", PHOTO_CHANGES)
def test_labels_are_the_known_masks(change, album, known):
    for seed in SEEDS:
        pair = photo_pair(seed, only(change), album)
        (difference,), (planned,) = pair.differences, pair.plan.changes
        assert difference.change == change and difference.contrast >= 5
        for obj, box, visible in (
            (planned.before, difference.box_a, difference.visible_a),
            (planned.after, difference.box_b, difference.visible_b),
        ):
            assert (obj is None) == (box is None) == (visible == 0)
            if obj is not None and obj.photo == pair.plan.photo:
                x, y, width, height = coco_mask.toBbox(known[obj.annotation])
                if obj.box == (x, y, x + width, y + height):  # where it always stood
                    assert box == obj.box
                    assert visible == coco_mask.area(known[obj.annotation])


@settings(max_examples=25)
@given(seed=st.integers(0, 10**6))
def test_pixels_beyond_the_rim_of_what_changes_are_equal(seed, album):
    pair = photo_pair(seed, PHOTO_STAGES["mixed"], album)
    changed = [difference.object_id for difference in pair.differences]
    near = np.isin(pair.ids_a, changed) | np.isin(pair.ids_b, changed)
    near = ndimage.binary_dilation(near, iterations=RIM_PX)
    assert np.array_equal(pair.image_a[~near], pair.image_b[~near])
    assert pair.certificate.bystander_contrast == 0
    assert pair.certificate.detached_area == 0


def test_k_and_the_kinds_of_change_are_uniform(album):
    plans = [plan_photo_pair(seed, PHOTO_STAGES["mixed"], album) for seed in range(400)]
    plans = [plan for plan in plans if plan is not None]
    kinds = Counter(change.change for plan in plans for change in plan.changes)
    counts = Counter(len(plan.changes) for plan in plans)
    assert len(plans) > 350
    assert set(kinds) == set(PHOTO_CHANGES) and set(counts) == {1, 2, 3, 4}
    assert all(0.17 < kind / kinds.total() < 0.33 for kind in kinds.values())
    assert all(0.17 < count / len(plans) < 0.33 for count in counts.values())


def test_a_pair_without_differences_is_one_photograph_twice(album):
    pair = photo_pair(1, Difficulty((0, 0), (1, 255), PHOTO_CHANGES), album)
    assert pair.differences == () and np.array_equal(pair.image_a, pair.image_b)


def test_the_same_seed_gives_the_same_pair_in_every_process(scenes_folder):
    program = """
import hashlib, json, sys
from dig_env.scenes import PHOTO_STAGES, Album, photo_pair
album = Album(sys.argv[1], size=(128, 96))
digest = hashlib.sha256()
for seed in map(int, sys.argv[2:]):
    pair = photo_pair(seed, PHOTO_STAGES["mixed"], album)
    plan = json.dumps(pair.plan.to_json())
    digest.update(plan.encode() + pair.image_a.tobytes() + pair.image_b.tobytes())
print(digest.hexdigest())
"""
    path = str(scenes_folder / "instances.json")
    printed = [
        subprocess.run(
            [sys.executable, "-c", program, path, "3", "5"],
            env={"PYTHONHASHSEED": hash_seed, "PYTHONPATH": ":".join(filter(None, sys.path))},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for hash_seed in ("1", "2")
    ]
    album, digest = Album(path, size=SIZE), hashlib.sha256()
    for seed in (4, 3, 5):  # whatever was made before
        pair = photo_pair(seed, PHOTO_STAGES["mixed"], album)
        if seed != 4:
            digest.update(json.dumps(pair.plan.to_json()).encode())
            digest.update(pair.image_a.tobytes() + pair.image_b.tobytes())
    assert printed == [digest.hexdigest() + "\n"] * 2


@settings(max_examples=50)
@given(seed=st.integers(0, 10**6))
def test_plans_survive_json(seed, album):
    plan = plan_photo_pair(seed, PHOTO_STAGES["mixed"], album)
    assert plan is None or PhotoPlan.from_json(json.loads(json.dumps(plan.to_json()))) == plan


# Edits


def test_a_new_colour_keeps_lightness_and_leaves_the_rest_alone(album):
    for seed in SEEDS:
        pair = photo_pair(seed, only("color"), album)
        (change,) = pair.plan.changes
        mask = pair.ids_a == change.object_id
        assert np.array_equal(pair.image_a[~mask], pair.image_b[~mask])
        inside = ndimage.distance_transform_edt(mask) >= FEATHER_PX
        before, after = (srgb8_to_lab(image[inside]) for image in (pair.image_a, pair.image_b))
        # A colour that sRGB lacks at a lightness is cut off there.
        in_gamut = ((pair.image_b[inside] > 0) & (pair.image_b[inside] < 255)).all(axis=-1)
        assert np.abs(before - after)[in_gamut][:, 0].max(initial=0) < 1
        if in_gamut.all():
            shift = change.after.color - srgb8_to_lab(pair.image_a[mask])[:, 1:].mean(axis=0)
            assert np.allclose(after[:, 1:] - before[:, 1:], shift, atol=3)


def test_a_pasted_object_has_its_own_pixels(album):
    checked = 0
    for seed in SEEDS:
        pair = photo_pair(seed, only("add"), album)
        (change,) = pair.plan.changes
        source = album.photograph(change.after.photo)
        x0, y0, x1, y1 = source.instance(change.after.annotation).box
        left, top, right, bottom = change.after.box
        if (left, top) == (x0, y0):
            continue  # not pasted, but uncovered
        inside = source.mask(change.after.annotation)
        inside = ndimage.distance_transform_edt(inside)[y0:y1, x0:x1] > FEATHER_PX
        there = pair.image_b[top:bottom, left:right]
        assert np.array_equal(there[inside], source.image[y0:y1, x0:x1][inside])
        checked += 1
    assert checked


@pytest.mark.parametrize("name", ["grass", "gravel", "brick"])
def test_filled_holes_have_the_grain_of_their_surroundings(name):
    texture = getattr(data, name)()[:120, :160].astype(float)[..., None]
    rows, columns = np.ogrid[:120, :160]
    hole = ((rows - 60) / 18) ** 2 + ((columns - 80) / 24) ** 2 < 1
    holed = np.where(hole[..., None], 0.0, texture)
    filled = inpaint(holed, hole, np.zeros_like(hole))
    smooth = restoration.inpaint_biharmonic(holed, hole, channel_axis=-1)

    def grain(image):
        return (image - ndimage.gaussian_filter(image, (3, 3, 0)))[hole].std()

    assert np.array_equal(filled[~hole], texture[~hole])
    assert 0.7 < grain(filled) / grain(texture) < 1.4
    assert grain(smooth) < 0.6 * grain(texture)


@settings(max_examples=40)
@given(
    slope=st.tuples(*[st.floats(-1, 1)] * 2),
    corner=st.tuples(st.integers(0, 30), st.integers(0, 30)),
    everywhere=st.booleans(),
)
def test_a_ramp_is_filled_to_the_ramp(slope, corner, everywhere):
    rows, columns = np.mgrid[:48, :48].astype(float)
    ramp = (100 + slope[0] * rows + slope[1] * columns)[..., None]
    hole = np.zeros((48, 48), bool)
    # Not at the image's edge, where the fill is free.
    hole[corner[0] + 2 : corner[0] + 14, corner[1] + 2 : corner[1] + 14] = True
    holed = np.where(hole[..., None], 0.0, ramp)
    # Where no patch may be cloned, the hole is filled by diffusion.
    filled = inpaint(holed, hole, np.full_like(hole, everywhere))
    assert np.allclose(filled, ramp, atol=1e-6)


@settings(max_examples=60)
@given(st.lists(st.tuples(*[st.integers(0, 255)] * 3), min_size=1, max_size=20))
def test_lab_goes_back_to_the_same_pixels(pixels):
    image = np.array(pixels, np.uint8)
    assert np.array_equal(to_srgb8(lab_to_linear(srgb8_to_lab(image))), image)


@pytest.mark.filterwarnings("ignore:Conversion from CIE-LAB")  # what it cuts off, is not compared
def test_lab_is_scikit_images():
    lab = np.random.default_rng(0).uniform((5, -60, -60), (95, 60, 60), (500, 3))
    theirs = color.lab2rgb(lab) * 255
    inside = ((theirs > 1) & (theirs < 254)).all(axis=-1)
    assert inside.sum() > 100
    assert np.abs(to_srgb8(lab_to_linear(lab)).astype(float) - theirs)[inside].max() < 1.0
