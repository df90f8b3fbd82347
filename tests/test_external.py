"""Sets of other origin are read to the very boxes, and scored as the game's own pairs are."""

import json
import warnings

import numpy as np
import pytest
from conftest import SMALL
from PIL import Image
from pycocotools.coco import COCO

from agents import OraclePolicy, PixelDiffPolicy
from agents.cli_external import eval_external
from agents.cli_output import Output
from agents.evaluation import play
from agents.export import export_dataset
from agents.external import evaluate_external, read_clevr_change, read_coco_pairs
from dig_env import RewardConfig
from scenes import PairDataset, render_dataset

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


class Fixed:
    """Says the same to every pair, and keeps the prompts."""

    def __init__(self, answer):
        self.answer, self.prompts = answer, []

    def act(self, observations):
        self.prompts += [observation["prompt"] for observation in observations]
        return [self.answer] * len(observations)


def test_clevr_change_gives_the_very_pixels_and_boxes(clevr, pairs):
    read = read_clevr_change(clevr, "train")
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
    assert [pair.name for pair in read_clevr_change(clevr, "val")] == ["000004", "000005"]
    with pytest.raises(ValueError, match="unknown split 'testing'.*test, train, val"):
        read_clevr_change(clevr, "testing")


def test_distractors_are_right_to_answer_with_the_empty_list(clevr):
    read = read_clevr_change(clevr, "test", unchanged=True)
    assert [len(pair.boxes_unit) for pair in read] == [1, 0] * 4
    report = evaluate_external(OraclePolicy(), read)
    assert report.metrics == pytest.approx(dict.fromkeys(report.metrics, 1.0))
    assert report.recall_by_change()["none"] == 1.0
    empty = evaluate_external(Fixed("[]"), read)
    assert empty.metrics["reward"] == empty.metrics["count_accuracy"] == 0.5


def test_a_box_where_nothing_differs_earns_its_format_alone(clevr):
    read = read_clevr_change(clevr, "test", unchanged=True)[1::2]
    report = evaluate_external(Fixed("[[0, 0, 500, 500]]"), read)
    assert report.metrics["format"] == 1.0
    assert report.metrics["reward"] == RewardConfig().format_weight
    assert report.metrics["count_accuracy"] == report.recall_by_change()["none"] == 0.0


def test_no_prompt_tells_which_pairs_have_no_difference(clevr):
    policy = Fixed("[]")
    evaluate_external(policy, read_clevr_change(clevr, "test", unchanged=True))
    assert len(set(policy.prompts)) == 1 and "If nothing differs" in policy.prompts[0]
    policy = Fixed("[]")
    evaluate_external(policy, read_clevr_change(clevr, "test"))
    assert "nothing" not in policy.prompts[0]


def test_a_moved_object_has_one_box_around_both_of_its_places(clevr):
    relabel(clevr, 0, bbox_before=[8, 12, 16, 24], bbox_after=[64, 6, 32, 12])
    (pair, *_) = read_clevr_change(clevr)
    assert (pair.boxes_unit * (*SIZE, *SIZE)).tolist() == [[8, 6, 96, 36]]


def test_boxes_are_cut_at_the_edge_and_pairs_without_a_visible_one_left_out(clevr):
    relabel(clevr, 0, bbox_before=[-10, -10, 42, 34], bbox_after=None)
    relabel(clevr, 1, bbox_before=[130, 10, 20, 20], bbox_after=None)
    with pytest.warns(UserWarning, match="1 of 4 pairs have no box inside .*: 000001"):
        read = read_clevr_change(clevr)
    assert read[0].boxes_unit.tolist() == [[0, 0, 0.25, 0.25]]
    assert [pair.name for pair in read] == ["000000", "000002", "000003"]


def test_an_incomplete_release_says_what_is_missing(clevr):
    (clevr / "sc_images" / "CLEVR_semantic_000002.png").unlink()
    with pytest.raises(ValueError, match="no image at .*CLEVR_semantic_000002.png"):
        read_clevr_change(clevr)
    (clevr / "change_captions_with_bbox.json").unlink()
    with pytest.raises(ValueError, match="cannot read .*change_captions_with_bbox.json"):
        read_clevr_change(clevr)


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
    episodes = play(PixelDiffPolicy(), [dataset.pair(int(pair.name)) for pair in read])
    assert report.answers == tuple(episode.answer for episode in episodes)
    assert report.scores == tuple(episode.score for episode in episodes)
    assert len({score.total for score in report.scores}) > 1


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
    with pytest.raises(ValueError, match="other.json is no COCO instances file.*'categories'"):
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
            "clevr-change", clevr, policy="oracle", limit=3, out=out, output=Output(json=True)
        )
    result = json.loads(out.read_text())
    assert result["format"] == result["f1"] == result["count_accuracy"] == 1.0
    assert result["pairs"] == 3 and result["layout"] == "clevr-change"
    assert result["intervals"]["f1"] == [1.0, 1.0, 1.0]
    printed = json.loads(capsys.readouterr().out)
    assert printed.pop("files") == {"result": str(out), "report": str(out.with_suffix(".html"))}
    assert printed == result
    assert "Worst pairs" in out.with_suffix(".html").read_text()
