"""Sets of other origin are read to the very boxes, and scored as the game's own pairs are."""

import gzip
import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from conftest import SMALL
from paths import ROOT
from PIL import Image
from pycocotools.coco import COCO

from dig_env import RewardConfig
from dig_env.agents import OraclePolicy, PixelDiffPolicy, evaluate_external
from dig_env.agents.cli.eval import eval_external
from dig_env.agents.cli.output import Output
from dig_env.agents.data.export import export_dataset
from dig_env.agents.evaluation.external import read_clevr_change, read_coco_pairs
from dig_env.agents.evaluation.pairs import play_pairs
from dig_env.scenes import PairDataset, render_dataset

REAL = ROOT / "tests/real"
SIZE = (128, 96)
CLEVR_NAMES = {"delete": "drop"}


def xywh(box):
    return None if box is None else [box[0], box[1], box[2] - box[0], box[3] - box[1]]


def write_clevr_change(folder, pairs):
    """Pairs of one difference in the release's layout; the distractors are a little darker."""
    for name in ("images", "sc_images", "nsc_images"):
        (folder / name).mkdir(parents=True)
    labels, types = {}, {}
    for index, pair in enumerate(pairs):
        (diff,) = pair.differences
        name = f"{index:06d}.png"
        darker = (pair.image_a * 0.9).astype(np.uint8)
        Image.fromarray(pair.image_a).save(folder / "images" / f"CLEVR_default_{name}")
        Image.fromarray(pair.image_b).save(folder / "sc_images" / f"CLEVR_semantic_{name}")
        Image.fromarray(darker).save(folder / "nsc_images" / f"CLEVR_nonsemantic_{name}")
        labels[str(index)] = {"bbox_before": xywh(diff.box_a), "bbox_after": xywh(diff.box_b)}
        types.setdefault(CLEVR_NAMES.get(diff.change, diff.change), []).append(name)
    everything = list(range(len(pairs)))
    splits = {"train": everything[6:], "val": everything[4:6], "test": everything[:4]}
    write_json(folder / "change_captions_with_bbox.json", labels)
    write_json(folder / "type_mapping.json", types)
    write_json(folder / "splits.json", splits)


def write_json(path, content):
    path.write_text(json.dumps(content))


def relabel(folder, index, **boxes):
    path = folder / "change_captions_with_bbox.json"
    labels = json.loads(path.read_text())
    labels[str(index)] |= boxes
    write_json(path, labels)


@pytest.fixture
def clevr(pairs, tmp_path):
    write_clevr_change(tmp_path / "data", pairs["single"][:40])
    return tmp_path / "data"


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


def read_clevr(folder, split="test", **options):
    """The rendered pairs are smaller than the release's, and of another shape."""
    return read_clevr_change(folder, split, size=SIZE, **options)


class Fixed:
    """Says the same to every pair, and keeps the prompts."""

    def __init__(self, answer):
        self.answer, self.prompts = answer, []

    def act(self, observations):
        self.prompts += [observation["prompt"] for observation in observations]
        return [self.answer] * len(observations)


def test_clevr_change_gives_the_very_pixels_and_boxes(clevr, pairs):
    read = read_clevr(clevr, "train")
    assert [pair.name for pair in read] == [f"{index:06d}" for index in range(6, 40)]
    for pair, rendered in zip(read, pairs["single"][6:40], strict=True):
        assert np.array_equal(pair.image_a, rendered.image_a)
        assert np.array_equal(pair.image_b, rendered.image_b)
        assert np.array_equal(pair.boxes_unit, rendered.boxes_unit)
        change = rendered.differences[0].change
        assert pair.changes == (CLEVR_NAMES.get(change, change),)
    # Boxes that are absent on one side are among them.
    assert {"add", "drop"} <= {change for pair in read for change in pair.changes}


def test_clevr_change_splits_are_the_releases_own(clevr):
    assert [pair.name for pair in read_clevr(clevr, "val")] == ["000004", "000005"]
    with pytest.raises(ValueError, match="unknown split 'testing'.*test, train, val"):
        read_clevr(clevr, "testing")


def test_distractors_are_right_to_answer_with_the_empty_list(clevr):
    read = read_clevr(clevr, "test", unchanged=True)
    assert [len(pair.boxes_unit) for pair in read] == [1, 0] * 4
    report = evaluate_external(OraclePolicy(), read)
    assert report.metrics == pytest.approx(dict.fromkeys(report.metrics, 1.0))
    assert report.to_json()["by_differences"]["0"]["count_accuracy"][0] == 1.0
    empty = evaluate_external(Fixed("[]"), read)
    assert empty.metrics["reward"] == empty.metrics["count_accuracy"] == 0.5


def test_a_box_where_nothing_differs_earns_its_format_alone(clevr):
    read = read_clevr(clevr, "test", unchanged=True)[1::2]
    report = evaluate_external(Fixed("[[0, 0, 500, 500]]"), read)
    assert report.metrics["format"] == 1.0
    assert report.metrics["reward"] == RewardConfig().format_weight
    assert report.metrics["count_accuracy"] == 0.0


def test_no_prompt_tells_which_pairs_have_no_difference(clevr):
    policy = Fixed("[]")
    evaluate_external(policy, read_clevr(clevr, "test", unchanged=True))
    assert len(set(policy.prompts)) == 1 and "If nothing differs" in policy.prompts[0]
    policy = Fixed("[]")
    evaluate_external(policy, read_clevr(clevr, "test"))
    assert "nothing" not in policy.prompts[0]


def test_a_moved_object_has_one_box_around_both_of_its_places(clevr):
    relabel(clevr, 0, bbox_before=[8, 12, 16, 24], bbox_after=[64, 6, 32, 12])
    (pair, *_) = read_clevr(clevr)
    assert (pair.boxes_unit * (*SIZE, *SIZE)).tolist() == [[8, 6, 96, 36]]


def test_boxes_are_cut_at_the_edge_and_pairs_without_a_visible_one_left_out(clevr):
    relabel(clevr, 0, bbox_before=[-10, -10, 42, 34], bbox_after=None)
    relabel(clevr, 1, bbox_before=[130, 10, 20, 20], bbox_after=None)
    with pytest.warns(UserWarning, match="1 of 4 pairs have no box inside .*: 000001"):
        read = read_clevr(clevr)
    assert read[0].boxes_unit.tolist() == [[0, 0, 0.25, 0.25]]
    assert [pair.name for pair in read] == ["000000", "000002", "000003"]


def test_an_incomplete_release_says_what_is_missing(clevr):
    (clevr / "sc_images" / "CLEVR_semantic_000002.png").unlink()
    with pytest.raises(ValueError, match="no image at .*CLEVR_semantic_000002.png"):
        read_clevr(clevr)
    (clevr / "change_captions_with_bbox.json").unlink()
    with pytest.raises(ValueError, match="cannot read .*change_captions_with_bbox.json"):
        read_clevr(clevr)


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


def test_the_command_prints_json_and_writes_it_with_a_report(clevr, tmp_path, capsys):
    out = tmp_path / "result.json"
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        eval_external(
            "clevr-change",
            clevr,
            policy="oracle",
            size=(128, 96),
            limit=3,
            out=out,
            output=Output(json=True),
        )
    result = json.loads(out.read_text())
    names = [answer["name"] for answer in result.pop("answers")]
    assert len(names) == len(set(names)) == 3
    assert result["format"] == result["f1"] == result["count_accuracy"] == 1.0
    assert result["episodes"] == 3 and result["stage"] == "clevr-change"
    assert result["intervals"]["f1"] == [1.0, 1.0, 1.0]
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("files") == {"result": str(out), "report": str(out.with_suffix(".html"))}
    assert printed == result
    assert "Worst pairs" in out.with_suffix(".html").read_text()


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


# CLEVR-Change as it is released


@pytest.fixture
def release(tmp_path):
    return Path(shutil.copytree(REAL / "clevr_change", tmp_path / "data"))


def test_the_releases_boxes_are_where_its_pictures_change(release):
    for pair in (*read_clevr_change(release), *read_clevr_change(release, "train")):
        differs = (pair.image_a != pair.image_b).any(axis=-1)
        rows, columns = np.nonzero(differs)
        ((x0, y0, x1, y1),) = np.rint(pair.boxes_unit * (480, 320, 480, 320)).astype(int)
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == (x0, y0, x1, y1)


@pytest.mark.parametrize("size", [(240, 160), (720, 480), (225, 150)])
def test_boxes_follow_images_that_were_resized(size, release):
    before = [pair.boxes_unit for pair in read_clevr_change(release, unchanged=True)]
    for path in release.glob("*images/*.png"):
        Image.open(path).resize(size).save(path)
    after = read_clevr_change(release, unchanged=True)
    assert all(pair.size == size for pair in after)
    assert all(np.allclose(a, pair.boxes_unit) for a, pair in zip(before, after, strict=True))


def test_images_of_another_shape_than_the_releases_are_refused(release):
    for path in release.glob("*images/*.png"):
        Image.open(path).resize((224, 224)).save(path)
    with pytest.raises(ValueError, match="is 224x224, and CLEVR-Change's boxes are for 480x320"):
        read_clevr_change(release)


@pytest.mark.parametrize(
    "write", [int, str, "{:06d}.png".format, "CLEVR_semantic_{:06d}.png".format]
)
def test_pairs_may_be_named_in_any_of_its_ways(write, release):
    kinds = {kind: [write(index)] for index, kind in enumerate(("color", "add", "drop"))}
    write_json(release / "type_mapping.json", kinds)
    write_json(release / "splits.json", {"test": [write(0), write(1)]})
    assert [pair.changes for pair in read_clevr_change(release)] == [("color",), ("add",)]


@pytest.mark.parametrize(
    ("file", "content", "why"),
    [
        ("type_mapping.json", {"color": ["first.png"]}, "names 'first.png', which is no pair"),
        ("type_mapping.json", [0, 1], "is a list"),
        ("splits.json", {"test": []}, "test is empty"),
        ("splits.json", {"test": [0, 0]}, "names a pair twice"),
        ("change_captions_with_bbox.json", {"0": {}}, "pair 000000 needs its bbox_before"),
        (
            "change_captions_with_bbox.json",
            {"0": {"bbox_before": [0.1, 0.2, 0.3, 0.2], "bbox_after": None}},
            "pair 000000 has the bbox .* frame 0 to 1",
        ),
        (
            "change_captions_with_bbox.json",
            {"0": {"bbox_before": [10, 20, 30], "bbox_after": None}},
            "pair 000000 has the bbox",
        ),
    ],
)
def test_another_layout_stops_the_reader_and_says_where(file, content, why, release):
    write_json(release / file, content)
    with pytest.raises(ValueError, match=f"{file}.*{why}"):
        read_clevr_change(release)
