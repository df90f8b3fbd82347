"""Pairs made of photographs: labels are those of the masks, and nothing else changes."""

import hashlib
import json
import runpy
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_mask
from scipy import ndimage
from skimage import color, data, restoration

import dig_env  # noqa: F401, registers the environments
from dig_env import PairStatistics
from dig_env.agents import OraclePolicy, PixelDiffPolicy
from dig_env.agents.cli.render import render_photos
from dig_env.agents.data.export import export_dataset
from dig_env.agents.evaluation.external import read_coco_pairs
from dig_env.agents.evaluation.pairs import evaluate_stored
from dig_env.scenes import (
    PHOTO_CHANGES,
    PHOTO_STAGES,
    STAGES,
    Album,
    Difficulty,
    DifficultyError,
    PairDataset,
    PhotoPlan,
    RenderSettings,
    audit_dataset,
    photo_pair,
    plan_pair,
    plan_photo_pair,
    render_dataset,
    views,
)
from dig_env.scenes.color import lab_to_linear, srgb8_to_lab, to_srgb8
from dig_env.scenes.photos import picture
from dig_env.scenes.photos.album import LARGEST_SHARE, RIM_PX
from dig_env.scenes.photos.compose import FEATHER_PX
from dig_env.scenes.photos.inpaint import inpaint

SIZE = (128, 96)
SEEDS = range(12)


def only(change, **fields):
    return Difficulty(objects=(1, 255), changes=(change,), **fields)


def coco(images, annotations):
    """A COCO instances file's content."""
    categories = [{"id": 1, "name": "thing"}]
    return json.dumps({"images": images, "annotations": annotations, "categories": categories})


def run_lengths(mask, kind):
    """A mask as COCO knows it: compressed text, or plain counts."""
    if kind == "text":
        runs = coco_mask.encode(np.asfortranarray(mask.astype(np.uint8)))
        return runs | {"counts": runs["counts"].decode()}
    flat = mask.ravel(order="F")
    edges = np.flatnonzero(np.diff(np.concatenate([[False], flat])))
    return {
        "size": list(mask.shape),
        "counts": np.diff([0, *edges, mask.size]).tolist(),
    }


@pytest.fixture(scope="module")
def scenes_folder(renderer, tmp_path_factory) -> Path:
    """Rendered scenes as if they were photographs: PNG files and a COCO file of their ID masks."""
    folder = tmp_path_factory.mktemp("scenes")
    images, annotations = [], []
    difficulty = Difficulty(objects=(5, 7))
    for number, pair in enumerate(renderer.imap(plan_pair(seed, difficulty) for seed in range(6))):
        Image.fromarray(pair.image_a).save(folder / f"{number}.png")
        images.append({"id": number, "file_name": f"{number}.png", "width": 128, "height": 96})
        for index, obj in enumerate(pair.plan.scene_a):
            annotations.append(
                {
                    "id": 100 * number + obj.id,
                    "image_id": number,
                    "category_id": 1,
                    "segmentation": run_lengths(pair.ids_a == obj.id, ("text", "plain")[index % 2]),
                    "iscrowd": 0,
                }
            )
    (folder / "instances.json").write_text(coco(images, annotations))
    return folder


@pytest.fixture(scope="module")
def album(scenes_folder) -> Album:
    return Album(scenes_folder / "instances.json", size=SIZE)


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


@pytest.fixture(scope="module")
def real_album(tmp_path_factory) -> Path:
    """The COCO file of scikit-image's photographs."""
    write_album = runpy.run_path("examples/pairs/photographs.py")["write_album"]
    return write_album(tmp_path_factory.mktemp("photographs"))


@pytest.fixture(scope="module")
def real_pairs(real_album, tmp_path_factory) -> Path:
    """20 mixed pairs of them, as a dataset."""
    folder = tmp_path_factory.mktemp("real") / "pairs"
    album = Album(real_album, size=(160, 120))
    render_dataset(folder, {"mixed": 20}, settings=RenderSettings(160, 120), album=album)
    return folder


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
            shift = np.array(change.after.color) - before[:, 1:].mean(axis=0)
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


# The game


def test_an_episode_on_real_photographs(real_pairs):
    env = PairStatistics(gym.make("DiG-v0", stage="mixed", dataset=real_pairs))
    oracle = OraclePolicy()
    for seed in range(5):
        observation, info = env.reset(seed=seed)
        assert observation["image_a"].shape == (120, 160, 3)
        assert not np.array_equal(observation["image_a"], observation["image_b"])
        oracle.reveal(env.unwrapped.pair)
        answer = oracle.act([observation])[0]
        *_, reward, terminated, _, info = env.step(answer)
        assert terminated and reward > 0.95  # the oracle's boxes are rounded
        assert all(difference["change"] in PHOTO_CHANGES for difference in info["truth"])
        assert info["pair"]["hidden"] == [0.0] * len(info["truth"])
    env.close()


@pytest.mark.parametrize("kind", picture.PICTURE_FORMATS)
def test_photographs_are_of_the_usual_formats_alone(tmp_path, kind):
    path = tmp_path / "x.jpg"
    pixels = Image.fromarray(np.full((8, 12, 3), 200, np.uint8))
    pixels.save(path, format=kind)
    assert picture.geometry(path).size == picture.read_picture(path).size == (12, 8)
    pixels.save(path, format="EPS")
    with pytest.raises(OSError, match="cannot identify"):
        picture.read_picture(path)


@pytest.mark.parametrize("name", ["../secret.png", "{outside}", "../album/../secret.png"])
def test_an_album_reads_nothing_outside_its_folder(scenes_folder, tmp_path, name):
    outside, folder = tmp_path / "secret.png", tmp_path / "album"
    folder.mkdir()
    shutil.copy(scenes_folder / "0.png", outside)
    shutil.copy(scenes_folder / "1.png", folder)
    fields = json.loads((scenes_folder / "instances.json").read_text())
    fields["images"] = fields["images"][:2]
    fields["images"][0]["file_name"] = name.format(outside=outside)
    fields["annotations"] = [one for one in fields["annotations"] if one["image_id"] < 2]
    (folder / "instances.json").write_text(json.dumps(fields))
    with pytest.warns(UserWarning, match="lie outside the folder"):
        assert Album(folder / "instances.json", size=SIZE).names == ("1.png",)


def test_a_dataset_of_photographs_passes_its_audit_and_holds_the_pairs(real_pairs, real_album):
    audit = audit_dataset(real_pairs)
    assert not audit.problems and audit.checked["labels"] == 20
    stored, album = PairDataset(real_pairs), Album(real_album, size=(160, 120))
    seed = stored.pair_seeds("mixed")[0]
    fresh, kept = photo_pair(seed, PHOTO_STAGES["mixed"], album), stored.pair(seed)
    assert fresh.plan == kept.plan and fresh.differences == kept.differences
    assert np.array_equal(fresh.image_b, kept.image_b)
    card = (real_pairs / "README.md").read_text()
    assert "license: other" in card and "Blender" not in card


def test_evaluation_and_export_read_photographs(real_pairs, tmp_path):
    report = evaluate_stored(PixelDiffPolicy(), real_pairs, stage="mixed", split="train")
    recall = report.to_json()["recall_by"]
    assert set(recall["change"]) <= set(PHOTO_CHANGES) and "size" not in recall
    assert report.f1 > 0.3
    export_dataset(real_pairs, tmp_path / "coco", "coco")
    (path,) = (tmp_path / "coco").glob("instances-*.json")
    read = {int(pair.name): pair for pair in read_coco_pairs(path)}
    for pair in PairDataset(real_pairs):
        assert np.allclose(read[pair.plan.seed].boxes_unit, pair.boxes_unit)


def test_the_command_makes_the_dataset(scenes_folder, tmp_path, capsys):
    options = {"stage": "dual", "count": 3, "width": 128, "height": 96}
    render_photos(scenes_folder / "instances.json", tmp_path / "pairs", **options)
    assert "6 photographs, 128x96" in capsys.readouterr().err
    assert [len(pair.differences) for pair in PairDataset(tmp_path / "pairs")] == [2, 2, 2]


def test_a_folder_holds_pairs_of_one_album(scenes_folder, real_album, tmp_path):
    small = RenderSettings(*SIZE)
    ours = Album(scenes_folder / "instances.json", size=SIZE)
    render_dataset(tmp_path, {"single": 1}, settings=small, album=ours)
    with pytest.raises(ValueError, match="made with photographs .* another folder"):
        other = Album(real_album, size=SIZE)
        render_dataset(tmp_path, {"single": 2}, settings=small, album=other)
    with pytest.raises(ValueError, match="give stage single=Difficulty"):
        render_dataset(tmp_path, {"single": 2}, settings=small)
    with pytest.raises(ValueError, match=r"128x96.*320x240.*size=\(320, 240\)"):
        render_dataset(tmp_path, {"single": 2}, album=ours)


def test_what_needs_a_scene_says_so(real_pairs):
    pair = next(iter(PairDataset(real_pairs)))
    with pytest.raises(ValueError, match="no scene is known"):
        views(pair)


# What may be broken


def test_photographs_of_any_shape_are_cut_to_the_middle(tmp_path):
    wide = np.zeros((50, 300, 3), np.uint8)
    wide[20:30, 140:160] = 255
    Image.fromarray(wide).save(tmp_path / "wide.png")
    polygon = [140, 20, 160, 20, 160, 30, 140, 30]
    entry = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [polygon]}
    path = tmp_path / "instances.json"
    path.write_text(coco([{"id": 1, "file_name": "wide.png"}], [entry]))
    photo = Album(path, size=(64, 64)).photograph("wide.png")
    mask = photo.mask(1)
    assert photo.image.shape == (64, 64, 3)
    # 50x50 of it become 64x64, so that 20x10 become about 26x13, as bright as they were.
    assert mask.sum() == pytest.approx(20 * 10 * (64 / 50) ** 2, rel=0.1)
    assert (photo.image[mask] > 100).all() and (photo.image[~mask] < 160).all()


def test_what_is_broken_is_named_and_left_out(scenes_folder, tmp_path):
    content = json.loads((scenes_folder / "instances.json").read_text())
    whole = {"category_id": 1, "iscrowd": 0, "segmentation": [[5, 5, 60, 5, 60, 60]]}
    names = ["0.png", "cut.png", "text.png", "gone.png"]
    broken = {
        "odd polygon": {"segmentation": [[1, 2, 3]]},
        "no polygon": {"segmentation": "everything"},
        "other size": {"segmentation": {"size": [9, 9], "counts": [81]}},
        "too long": {"segmentation": {"size": [96, 128], "counts": [99999]}},
        "no counts": {"segmentation": {"size": [96, 128], "counts": 3.5}},
        "no category": {"category_id": 77},
        "no segmentation": {"segmentation": None},
    }
    annotations = [entry for entry in content["annotations"] if entry["image_id"] == 0]
    annotations += [
        whole | {"id": number, "image_id": 0} | entry
        for number, entry in enumerate(broken.values(), 901)
    ]
    annotations += [whole | {"id": 910 + number, "image_id": number} for number in (1, 2, 3)]
    annotations += [whole | {"id": 920, "image_id": "nowhere"}, "no annotation"]
    images = [{"id": number, "file_name": name} for number, name in enumerate(names)]
    (tmp_path / "instances.json").write_text(coco(images, annotations))
    picture = (scenes_folder / "0.png").read_bytes()
    (tmp_path / "0.png").write_bytes(picture)
    (tmp_path / "cut.png").write_bytes(picture[: len(picture) // 2])
    (tmp_path / "text.png").write_text("no picture")
    with pytest.warns(UserWarning) as warned:
        album = Album(tmp_path / "instances.json", size=SIZE)
        assert album.names == ("0.png", "cut.png", "text.png")
        assert album.photograph("cut.png") is album.photograph("text.png") is None
        photo = album.photograph("0.png")
    intact = sum(entry["image_id"] == 0 for entry in content["annotations"])
    assert len(photo.instances) == intact
    said = "\n".join(str(warning.message) for warning in warned)
    for name in ("gone.png", "cut.png", "text.png", "number 17", *map(str, range(901, 908))):
        assert name in said
    pair = photo_pair(1, PHOTO_STAGES["single"], album)
    assert pair.plan.photo == "0.png"


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"images": 3}'])
def test_what_is_no_coco_file_is_one_clear_error(content, tmp_path):
    (tmp_path / "instances.json").write_text(content)
    with pytest.raises(ValueError, match="cannot read .* as a COCO instances file"):
        Album(tmp_path / "instances.json")


def test_a_folder_without_objects_is_one_clear_error(tmp_path):
    Image.new("RGB", (64, 48)).save(tmp_path / "0.png")
    path = tmp_path / "instances.json"
    path.write_text(coco([{"id": 1, "file_name": "0.png"}], []))
    with pytest.raises(ValueError, match="no photograph in .* has an object"):
        Album(path)
    speck = {"id": 1, "image_id": 1, "category_id": 1, "segmentation": [[1, 1, 3, 1, 3, 3]]}
    path.write_text(coco([{"id": 1, "file_name": "0.png"}], [speck]))
    with pytest.raises(DifficultyError, match="no photograph had enough whole objects"):
        photo_pair(1, PHOTO_STAGES["single"], Album(path, size=(64, 48)))


def test_changes_belong_to_scenes_or_to_photographs(album):
    with pytest.raises(DifficultyError, match="shape, size, material cannot be done"):
        photo_pair(1, STAGES["single"], album)
    with pytest.raises(
        DifficultyError, match="noise_levels, jpeg_quality cannot be asked of photographs"
    ):
        photo_pair(1, only("color", noise_levels=2.0, jpeg_quality=80), album)
    with pytest.raises(DifficultyError, match="replace happens in photographs only"):
        plan_pair(1, only("replace"))
