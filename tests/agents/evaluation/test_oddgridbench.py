"""OddGridBench: one image, one odd object, a box as the answer."""

import json
import shutil

import numpy as np
import pytest
from external_sets import Fixed, write_json
from PIL import Image, ImageDraw

from dig_env import odd_one_out, parse_boxes
from dig_env.agents import OraclePolicy, PixelDiffPolicy, RandomPolicy, evaluate_external
from dig_env.agents.cli.eval import eval_external
from dig_env.agents.cli.output import Output
from dig_env.agents.evaluation.external import read_oddgridbench
from dig_env.agents.policies.endpoint import _message
from dig_env.agents.policies.mllm import pair_chat

BLOCK, GAP, MARGIN, ROWS, COLUMNS = 24, 8, 12, 5, 6


def draw_grid(odd, color):
    """Disks in a grid, one of another colour, and where that one is."""
    height, width = (2 * MARGIN + n * BLOCK + (n - 1) * GAP for n in (ROWS, COLUMNS))
    picture = Image.new("RGB", (width, height), "white")
    for row in range(ROWS):
        for column in range(COLUMNS):
            x, y = (MARGIN + n * (BLOCK + GAP) for n in (column, row))
            fill = color if (row, column) == odd else (40, 60, 120)
            ImageDraw.Draw(picture).ellipse((x, y, x + BLOCK - 1, y + BLOCK - 1), fill=fill)
    x, y = MARGIN + odd[1] * (BLOCK + GAP), MARGIN + odd[0] * (BLOCK + GAP)
    return picture, {"x": x, "y": y, "w": BLOCK, "h": BLOCK}


@pytest.fixture
def release(tmp_path):
    """In the layout that the release's own scripts write."""
    images = tmp_path / "set" / "test_data" / "image"
    images.mkdir(parents=True)
    entries = []
    for index, (odd, kinds) in enumerate(
        [((0, 0), ["color"]), ((2, 3), ["size", "color"]), ((4, 5), ["color"])]
    ):
        picture, box = draw_grid(odd, (40, 60, 200))
        picture.save(images / f"image_{index}.png")
        entries.append(
            {
                "id": f"7e{index}",
                "image": f"image_{index}.png",
                "answer": f"Row {odd[0] + 1}, Column {odd[1] + 1}",
                "answer_position": {"row": odd[0] + 1, "col": odd[1] + 1},
                "grid_size": [ROWS, COLUMNS],
                "odd_type": kinds,
                "odd_bbox": box,
                "image_size": f"{[picture.height, picture.width]}",
            }
        )
    write_json(tmp_path / "set" / "test_data.json", entries)
    return tmp_path / "set"


def edited(release, **fields):
    path = release / "test_data.json"
    entries = json.loads(path.read_text())
    entries[1] |= fields
    write_json(path, entries)


def test_the_box_is_that_of_the_odd_one(release):
    for pair in read_oddgridbench(release):
        (box,) = np.rint(pair.boxes_unit * (pair.size * 2)).astype(int)
        rows, columns = np.nonzero((pair.image_a == (40, 60, 200)).all(axis=-1))
        assert (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1) == tuple(box)
        assert pair.image_b is None
    assert [pair.changes for pair in read_oddgridbench(release)] == [
        ("color",),
        ("color+size",),
        ("color",),
    ]


def test_one_image_is_shown_and_the_prompt_speaks_of_one(release):
    policy = Fixed("[[0, 0, 200, 200]]")
    pairs = read_oddgridbench(release)
    evaluate_external(policy, pairs)
    assert set(policy.prompts) == {odd_one_out("norm1000", pairs[0].size)}
    assert "one object in a grid" in policy.prompts[0] and "images" not in policy.prompts[0]


def test_models_and_endpoints_get_one_image(release):
    pair = read_oddgridbench(release)[0]
    seen = {"image_a": pair.image_a, "prompt": "Which?"}
    messages, images = pair_chat(seen)
    assert [part["type"] for part in messages[0]["content"]] == ["image", "text"]
    assert len(images) == 1
    assert [part["type"] for part in _message(seen)["content"]] == ["image_url", "text"]


def test_the_truth_earns_1_in_the_dialects_of_models(release):
    pairs = read_oddgridbench(release)
    for dialect in ("strict", "gemini", "florence-2"):
        report = evaluate_external(OraclePolicy(answers=dialect), pairs, answers=dialect)
        assert report.metrics["f1"] == report.metrics["count_accuracy"] == 1.0
    assert evaluate_external(RandomPolicy(), pairs).f1 < 0.5


def test_what_needs_two_images_says_so(release):
    with pytest.raises(ValueError, match="PixelDiffPolicy subtracts two images, and .* has one"):
        evaluate_external(PixelDiffPolicy(), read_oddgridbench(release))


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ({"odd_bbox": []}, "image 1 needs its image, .* odd_bbox"),
        ({"odd_bbox": {"x": 1, "y": 2, "w": 3}}, "image 1 has the bbox"),
        ({"odd_bbox": {"x": 900, "y": 2, "w": 30, "h": 30}}, "does not lie inside the image"),
        ({"image": "../../elsewhere.png"}, "leads out of"),
        ({"image": "image_77.png"}, "no image at .*image_77.png"),
        ({"image_size": "[900, 900]"}, "give the release's images"),
    ],
)
def test_another_layout_stops_the_reader_and_says_where(fields, why, release):
    edited(release, **fields)
    with pytest.raises(ValueError, match=why):
        read_oddgridbench(release)


def test_a_split_that_is_not_there_is_named(release):
    with pytest.raises(ValueError, match="cannot read .*val_data.json"):
        read_oddgridbench(release, "val")
    shutil.copy(release / "test_data.json", release / "val_data.json")
    with pytest.raises(ValueError, match="no image at .*val_data"):
        read_oddgridbench(release, "val")
    write_json(release / "test_data.json", {"data": []})
    with pytest.raises(ValueError, match="holds no list of images"):
        read_oddgridbench(release)


def test_the_command_plays_it_and_shows_the_images(release, tmp_path, capsys):
    out = tmp_path / "r.json"
    eval_external("oddgridbench", release, "oracle", out=out, output=Output(json=True))
    result = json.loads(out.read_text())
    assert result["f1"] == 1.0 and result["episodes"] == 3 and result["split"] == "test"
    assert set(result["recall_by"]["change"]) == {"color", "color+size"}
    assert "The image shows copies" in result["prompt"]
    assert parse_boxes(result["answers"][0]["answer"]).ok
    assert "Worst pairs" in out.with_suffix(".html").read_text()
