"""CLEVR-Change is read to the very boxes, and scored as the game's own pairs are."""

import json
import shutil
import warnings
from pathlib import Path

import numpy as np
import pytest
from external_sets import Fixed, write_json
from paths import ROOT
from PIL import Image

from dig_env import RewardConfig
from dig_env.agents import OraclePolicy, evaluate_external
from dig_env.agents.cli.eval import eval_external
from dig_env.agents.cli.output import Output
from dig_env.agents.evaluation.external import read_clevr_change

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


def relabel(folder, index, **boxes):
    path = folder / "change_captions_with_bbox.json"
    labels = json.loads(path.read_text())
    labels[str(index)] |= boxes
    write_json(path, labels)


@pytest.fixture
def clevr(pairs, tmp_path):
    write_clevr_change(tmp_path / "data", pairs["single"][:40])
    return tmp_path / "data"


def read_clevr(folder, split="test", **options):
    """The rendered pairs are smaller than the release's, and of another shape."""
    return read_clevr_change(folder, split, size=SIZE, **options)


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
