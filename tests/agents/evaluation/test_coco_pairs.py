"""Pairs in COCO files are read to the very boxes, and scored as the game's own pairs are."""

import gzip
import json

import numpy as np
import pytest
from external_sets import Fixed, write_json
from paths import ROOT
from PIL import Image
from pycocotools.coco import COCO
from small import SMALL

from dig_env.agents import OraclePolicy, PixelDiffPolicy, evaluate_external
from dig_env.agents.data.export import export_dataset
from dig_env.agents.evaluation.external import read_coco_pairs
from dig_env.agents.evaluation.pairs import play_pairs
from dig_env.scenes import PairDataset, render_dataset

REAL = ROOT / "tests/real"
SIZE = (128, 96)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    folder = tmp_path_factory.mktemp("external")
    render_dataset(folder / "pairs", {"single": 3, "mixed": 6}, "test", SMALL)
    dataset = PairDataset(folder / "pairs")
    return dataset, export_dataset(dataset, folder / "coco", "coco")


@pytest.fixture
def plain_coco(tmp_path):
    """A COCO file as another tool writes it: one pair by its files' names, nothing of ours."""
    rng = np.random.default_rng(0)
    for side in "ab":
        pixels = rng.integers(0, 255, (SIZE[1], SIZE[0], 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / f"street_{side}.png")
    content = {
        "images": [
            {"id": 7, "file_name": "street_a.png", "width": SIZE[0], "height": SIZE[1]},
            {"id": 3, "file_name": "street_b.png", "width": SIZE[0], "height": SIZE[1]},
        ],
        "annotations": [
            {"id": 1, "image_id": 7, "category_id": 5, "bbox": [10, 20, 30, 40]},
            {"id": 2, "image_id": 3, "category_id": 5, "bbox": [10, 20, 30, 40]},
            {"id": 3, "image_id": 3, "category_id": 9, "bbox": [64, 48, 32, 24]},
        ],
        "categories": [{"id": 5, "name": "car"}, {"id": 9, "name": "sign"}],
    }
    write_json(tmp_path / "pairs.json", content)
    return tmp_path / "pairs.json", content


@pytest.mark.parametrize("stage", ["single", "mixed"])
def test_our_coco_export_comes_back_to_the_very_boxes(exported, stage):
    dataset, folder = exported
    read = read_coco_pairs(folder / f"instances-test-{stage}.json")
    assert [int(pair.name) for pair in read] == dataset.pair_seeds(stage, "test")
    for pair in read:
        rendered = dataset.pair(int(pair.name))
        assert np.array_equal(pair.image_a, rendered.image_a)
        assert np.array_equal(pair.image_b, rendered.image_b)
        assert np.array_equal(pair.boxes_unit, rendered.boxes_unit)
        assert pair.changes == tuple(diff.change for diff in rendered.differences)


def test_a_policy_earns_on_the_export_what_it_earns_on_the_rendered_pairs(exported):
    dataset, folder = exported
    read = read_coco_pairs(folder / "instances-test-mixed.json")
    report = evaluate_external(PixelDiffPolicy(), read, batch_size=4)
    episodes = play_pairs(PixelDiffPolicy(), [dataset.pair(int(pair.name)) for pair in read])
    assert [episode.answer for episode in report.episodes] == [e.answer for e in episodes]
    assert [episode.score for episode in report.episodes] == [e.score for e in episodes]
    assert len({episode.score.total for episode in episodes}) > 1


def test_pairs_by_file_name_and_differences_by_box(plain_coco):
    path, _ = plain_coco
    (pair,) = read_coco_pairs(path)
    assert pair.name == "street" and pair.changes == ("car", "sign")
    assert (pair.boxes_unit * (*SIZE, *SIZE)).tolist() == [[10, 20, 40, 60], [64, 48, 96, 72]]
    assert {name["name"] for name in COCO(path).cats.values()} == set(pair.changes)


def test_one_difference_is_the_box_around_its_annotations(plain_coco):
    path, content = plain_coco
    for annotation in content["annotations"]:
        annotation["difference"] = 0
    write_json(path, content)
    (pair,) = read_coco_pairs(path)
    assert (pair.boxes_unit * (*SIZE, *SIZE)).tolist() == [[10, 20, 96, 72]]


def test_a_coco_pair_without_annotations_has_no_difference(plain_coco):
    path, content = plain_coco
    write_json(path, content | {"annotations": []})
    (pair,) = read_coco_pairs(path)
    assert pair.boxes_unit.shape == (0, 4)
    assert evaluate_external(Fixed("[]"), [pair]).metrics["reward"] == 1.0


def test_images_may_lie_in_a_folder_of_their_own(plain_coco, tmp_path):
    path, _ = plain_coco
    elsewhere = tmp_path / "annotations"
    elsewhere.mkdir()
    (moved,) = read_coco_pairs(path.rename(elsewhere / path.name), images=tmp_path)
    assert moved.path_a == tmp_path / "street_a.png"


@pytest.mark.parametrize("name", ["../other/street_a.png", "{folder}/street_a.png"])
def test_images_outside_the_folder_are_not_read(plain_coco, tmp_path, name):
    path, content = plain_coco
    (tmp_path / "other").mkdir()
    (tmp_path / "street_a.png").rename(tmp_path / "other" / "street_a.png")
    (tmp_path / "here").mkdir()
    (tmp_path / "street_b.png").rename(tmp_path / "here" / "street_b.png")
    for image, side in zip(content["images"], "ab", strict=True):
        image |= {"pair_id": 1, "side": side}
    content["images"][0]["file_name"] = name.format(folder=tmp_path / "other")
    write_json(path, content)
    with pytest.raises(ValueError, match="leads out of"):
        list(read_coco_pairs(path, tmp_path / "here"))


def test_an_image_without_its_other_side_is_refused(plain_coco):
    path, content = plain_coco
    write_json(path, content | {"images": content["images"][:1]})
    with pytest.raises(ValueError, match="pair street has no image of side 'b'"):
        read_coco_pairs(path)
    content["images"][0]["file_name"] = "street.png"
    write_json(path, content)
    with pytest.raises(ValueError, match="street.png belongs to no pair: give it a pair_id"):
        read_coco_pairs(path)


def test_two_images_of_one_side_are_refused(plain_coco):
    path, content = plain_coco
    write_json(path, content | {"images": [content["images"][0]] * 2})
    with pytest.raises(ValueError, match="more than one image of side 'a'"):
        read_coco_pairs(path)


def test_images_of_another_size_than_was_annotated_are_refused(plain_coco, tmp_path):
    path, _ = plain_coco
    Image.new("RGB", (64, 48)).save(tmp_path / "street_b.png")
    with pytest.raises(ValueError, match="is 64x48, but its annotations are for 128x96"):
        read_coco_pairs(path)


def test_a_file_of_another_layout_is_named(tmp_path):
    write_json(tmp_path / "other.json", {"images": []})
    with pytest.raises(ValueError, match="other.json is no COCO instances file: its 'categories'"):
        read_coco_pairs(tmp_path / "other.json")


def test_a_box_outside_its_image_is_refused(plain_coco):
    path, content = plain_coco
    content["annotations"][0]["bbox"] = [200, 20, 30, 40]
    write_json(path, content)
    with pytest.raises(ValueError, match=r"pair street: the box \[200, 20, 230, 60\]"):
        read_coco_pairs(path)


def test_answers_are_read_in_the_frame_that_was_asked_for(plain_coco):
    (pair,) = read_coco_pairs(plain_coco[0])
    policy = Fixed("[[10, 20, 40, 60], [64, 48, 96, 72]]")
    report = evaluate_external(policy, [pair], coordinates="pixel")
    assert report.metrics["reward"] == 1.0
    assert "128 wide and 96 high" in policy.prompts[0]


# Files as people have them


def changed(content, **first):
    """The content with the first annotation changed."""
    changed, *others = content["annotations"]
    return content | {"annotations": [changed | first, *others]}


@pytest.mark.parametrize(
    ("first", "why"),
    [
        ({"image_id": "7"}, "annotation 1 has the image_id '7', .* the file has 7, "),
        ({"image_id": 8}, "annotation 1 has the image_id 8, which is none of the 2 listed"),
        ({"image_id": None}, "annotation 1 has the image_id None"),
        ({"image_id": [7]}, r"annotation 1 has the image_id \[7\]"),
        ({"category_id": 77}, "annotation 1 has the category_id 77"),
        ({"bbox": [0.2, 0.3, 0.1, 0.15]}, "annotation 1 .* is in the frame 0 to 1"),
        ({"bbox": None}, "annotation 1 has the bbox None: give"),
        ({"bbox": []}, r"annotation 1 has the bbox \[\]: give"),
        ({"bbox": [10, 20, 30]}, "annotation 1 has the bbox"),
        ({"bbox": [10, 20, 0, 40]}, "annotation 1 .* width and height above 0"),
        ({"bbox": [10, 20, -5, 40]}, "annotation 1 .* width and height above 0"),
        ({"bbox": ["10", "20", "30", "40"]}, "annotation 1 has the bbox"),
        ({"bbox": [10, 20, float("nan"), 40]}, "annotation 1 has the bbox"),
        ({"bbox": [80, 50, 110, 90]}, "pair street: the box .* are they corners"),
        ({"bbox": [-20, 10, 30, 40]}, "pair street: the box"),
        ({"bbox": [10, 20, 300, 400]}, "pair street: the box .* thousandths"),
        ({"bbox": [10, 20, 40, 60], "area": 1200}, "annotation 1 .* shows to be corners"),
        (
            {"bbox": [10, 20, 40, 60], "segmentation": [[10, 20, 40, 20, 40, 60]]},
            "annotation 1 .* shows to be corners",
        ),
    ],
)
def test_an_annotation_that_fits_no_picture_stops_the_reader(first, why, plain_coco):
    path, content = plain_coco
    write_json(path, changed(content, **first))
    with pytest.raises(ValueError, match=why):
        read_coco_pairs(path)


def test_corners_in_place_of_width_and_height_are_seen_in_many_boxes(plain_coco):
    path, content = plain_coco
    one = content["annotations"][0]
    corners = [[x, x + 2, 2 * x + 9, 2 * x + 9] for x in range(4, 13)]
    many = [one | {"id": x, "bbox": box} for x, box in enumerate(corners)]
    write_json(path, content | {"annotations": many})
    with pytest.raises(ValueError, match="all of its 9 boxes .* as corners have"):
        read_coco_pairs(path)
    for entry in many:
        entry["area"] = entry["bbox"][2] * entry["bbox"][3]
    write_json(path, content | {"annotations": many})
    assert len(read_coco_pairs(path)[0].boxes_unit) == 9


@pytest.mark.parametrize("overhang", [1, 2])
def test_an_annotators_rounding_is_cut_at_the_edge(overhang, plain_coco):
    path, content = plain_coco
    write_json(path, changed(content, bbox=[100, 20, 28 + overhang, 40]))
    (pair,) = read_coco_pairs(path)
    assert [box[2] for box in pair.boxes_unit.tolist() if box[0] == 100 / 128] == [1.0]


@pytest.mark.parametrize("name", ["images", "categories"])
@pytest.mark.parametrize("key", [7, None])
def test_each_image_and_category_has_an_id_of_its_own(name, key, plain_coco):
    path, content = plain_coco
    write_json(path, content | {name: [entry | {"id": key} for entry in content[name]]})
    with pytest.raises(ValueError, match=f"number . of {name} has the id {key}"):
        read_coco_pairs(path)


@pytest.mark.parametrize("lacking", ["images", "annotations", "categories"])
def test_a_list_that_is_missing_is_named(lacking, plain_coco):
    path, content = plain_coco
    write_json(path, {name: value for name, value in content.items() if name != lacking})
    with pytest.raises(ValueError, match=f"its '{lacking}' is no list"):
        read_coco_pairs(path)


def test_a_file_without_images_is_refused(plain_coco):
    path, content = plain_coco
    write_json(path, content | {"images": [], "annotations": []})
    with pytest.raises(ValueError, match="lists no images"):
        read_coco_pairs(path)


def test_ids_may_be_texts_throughout(plain_coco):
    path, content = plain_coco
    for image in content["images"]:
        image["id"] = f"img-{image['id']}"
    for entry in content["annotations"]:
        entry["image_id"] = f"img-{entry['image_id']}"
    write_json(path, content)
    assert read_coco_pairs(path)[0].changes == ("car", "sign")


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16", "gzip"])
def test_the_file_may_be_in_any_unicode_or_gzipped(encoding, plain_coco):
    path, content = plain_coco
    text = json.dumps(content)
    path.write_bytes(gzip.compress(text.encode()) if encoding == "gzip" else text.encode(encoding))
    assert len(read_coco_pairs(path)) == 1


def test_images_that_exif_turns_are_upright_and_annotations_of_stored_pixels_refused(
    plain_coco, tmp_path
):
    path, content = plain_coco
    exif = Image.Exif()
    exif[0x0112] = 6
    for side in "ab":
        stored = Image.open(tmp_path / f"street_{side}.png").rotate(90, expand=True)
        stored.save(tmp_path / f"street_{side}.png", exif=exif)
    (pair,) = read_coco_pairs(path)
    assert pair.size == SIZE and pair.image_a.shape == (96, 128, 3)
    for image in content["images"]:
        image["width"], image["height"] = 96, 128
    write_json(path, content)
    with pytest.raises(ValueError, match="its EXIF orientation turns it"):
        read_coco_pairs(path)


def test_a_pair_as_an_annotation_tool_exports_it():
    (pair,) = read_coco_pairs(REAL / "coco_pairs/instances_default.json")
    assert pair.changes == ("gone", "new")
    assert (pair.boxes_unit * (160, 120, 160, 120)).tolist() == [
        [20, 30, 44, 50],
        [120, 10, 140, 26],
    ]
    assert evaluate_external(OraclePolicy(), [pair]).metrics["reward"] == 1.0
