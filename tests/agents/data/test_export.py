"""Exports hold the pairs to the last pixel and bit, apart by split and stage, ready to train on."""

import base64
import io
import json
import subprocess

import numpy as np
import pytest
from exports import COUNTS, TRAINERS, rows
from PIL import Image
from pycocotools.coco import COCO
from small import SMALL

from dig_env import instruction, parse_boxes, score
from dig_env.agents.cli.export import export
from dig_env.agents.data.export import ExportSettings, export_dataset
from dig_env.agents.integrations import read_truth
from dig_env.scenes import CHANGES, render_dataset


def truth_of(format, row):
    if format == "trl":
        return row["truth"]
    text = row["answer"] if format == "easyr1" else row["reward_model"]["ground_truth"]
    return read_truth(text)


@pytest.mark.parametrize("format", TRAINERS)
def test_rows_hold_the_very_pixels_and_boxes_of_the_pairs(format, exported, dataset):
    for split, counts in COUNTS.items():
        for stage, count in counts.items():
            table = rows(exported[format], split, stage)
            assert table["pair_seed"] == list(dataset.pair_seeds(stage, split))
            assert len(table) == count
            for row in table:
                pair = dataset.pair(row["pair_seed"])
                image_a, image_b = (np.asarray(image) for image in row["images"])
                assert np.array_equal(image_a, pair.image_a)
                assert np.array_equal(image_b, pair.image_b)
                assert truth_of(format, row) == pair.boxes_unit.tolist()
                assert row["stage"] == stage


@pytest.mark.parametrize("format", TRAINERS)
def test_each_split_and_stage_is_a_file_of_its_own(format, exported):
    names = {path.name for path in (exported[format] / "data").iterdir()}
    assert names == {
        f"{split}-{stage}.parquet" for split, counts in COUNTS.items() for stage in counts
    }


def test_a_row_of_easyr1_has_as_many_image_tokens_as_images(exported):
    row = rows(exported["easyr1"], "train", "single")[0]
    assert row["problem"] == "<image><image>" + instruction("norm1000")
    assert len(row["images"]) == 2


def test_a_row_of_verl_is_a_chat_with_image_tokens_and_a_rule_based_truth(exported):
    row = rows(exported["verl"], "test", "mixed")[1]
    assert row["prompt"] == [{"role": "user", "content": "<image><image>" + instruction()}]
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"] == {"split": "test", "index": 1}
    assert row["data_source"] == "dig"


def test_a_row_of_nemo_gym_is_a_request_with_images_the_truth_and_the_rewards_options(
    exported, dataset
):
    (line,) = (exported["nemo"] / "data/validation-single.jsonl").read_text().splitlines()[:1]
    row = json.loads(line)
    pair = dataset.pair(row["pair_seed"])
    ((message,),) = row["responses_create_params"].values()
    *images, text = message["content"]
    for part, pixels in zip(images, (pair.image_a, pair.image_b), strict=True):
        assert part["type"] == "input_image"
        file = base64.b64decode(part["image_url"].removeprefix("data:image/png;base64,"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), pixels)
    assert text == {"type": "input_text", "text": instruction()}
    assert read_truth(row["truth"]) == pair.boxes_unit.tolist()
    assert row["reward_options"]["opening"] == "<think>"


def test_coco_loads_with_pycocotools_and_masks_agree_with_boxes(exported, dataset):
    seen = set()
    for split, counts in COUNTS.items():
        for stage in counts:
            coco = COCO(exported["coco"] / f"instances-{split}-{stage}.json")
            for image in coco.imgs.values():
                pair = dataset.pair(image["pair_seed"])
                side = image["side"]
                present = [
                    diff for diff in pair.differences if getattr(diff, f"box_{side}") is not None
                ]
                annotations = coco.imgToAnns[image["id"]]
                assert len(annotations) == len(present)
                for annotation, diff in zip(annotations, present, strict=True):
                    x, y, width, height = annotation["bbox"]
                    assert (x, y, x + width, y + height) == getattr(diff, f"box_{side}")
                    mask = coco.annToMask(annotation)
                    ys, xs = np.nonzero(mask)
                    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (
                        *(x, y),
                        *(x + width, y + height),
                    )
                    assert annotation["area"] == mask.sum() == getattr(diff, f"visible_{side}")
                    assert coco.cats[annotation["category_id"]]["name"] == diff.change
                    seen.add(diff.change)
                assert (exported["coco"] / image["file_name"]).is_file()
            assert [category["name"] for category in coco.cats.values()] == list(CHANGES)
    assert len(seen) > 2


@pytest.mark.parametrize("coordinates", ["norm1000", "unit", "pixel"])
def test_llavas_answers_earn_full_marks_but_for_rounding(coordinates, dataset, tmp_path):
    settings = ExportSettings(coordinates=coordinates)
    folder = export_dataset(dataset, tmp_path / "out", "llava", settings)
    entries = json.loads((folder / "train-dual.json").read_text())
    seeds = dataset.pair_seeds("dual", "train")
    for entry, seed in zip(entries, seeds, strict=True):
        human, answer = entry["conversations"]
        assert human["value"].count("<image>") == len(entry["image"]) == 2
        assert human["value"].endswith(instruction(coordinates, (128, 96)))
        pair = dataset.pair(seed)
        result = score(answer["value"], pair.boxes_unit, coordinates=coordinates, size=(128, 96))
        assert result.f1 == 1.0 and result.iou > 0.95
        assert all((folder / name).is_file() for name in entry["image"])


def test_the_card_says_what_was_exported_and_how(dataset, tmp_path):
    settings = ExportSettings("strict", "pixel", thinking=False)
    card = json.loads(
        (export_dataset(dataset, tmp_path / "out", "trl", settings) / "export.json").read_text()
    )
    assert card["pairs"] == COUNTS
    assert list(card["pairs"]["train"]) == ["single", "dual", "mixed"]  # the curriculum's order
    assert card["reward"] == {
        "reward": "strict",
        "coordinates": "pixel",
        "size": [128, 96],
        "opening": "",
    }


def test_an_export_is_repeatable_to_the_byte_and_replaces_the_one_before(dataset, tmp_path):
    def content():
        files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
        return {path.relative_to(tmp_path): path.read_bytes() for path in files}

    export_dataset(dataset, tmp_path / "out", "verl")
    first = content()
    export_dataset(dataset, tmp_path / "out", "easyr1")
    assert content() != first
    export_dataset(dataset, tmp_path / "out", "verl")
    assert content() == first


def test_an_export_that_fails_leaves_the_one_before(dataset, tmp_path):
    out = export_dataset(dataset, tmp_path / "out", "trl")
    subprocess.run(["cp", "-r", str(dataset.folder), str(tmp_path / "pairs")], check=True)
    damaged = tmp_path / "pairs" / "data" / "train-mixed-00000.parquet"
    content = bytearray(damaged.read_bytes())
    content[1000:3000] = bytes(2000)
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged.*dig-env audit"):
        export_dataset(tmp_path / "pairs", out, "easyr1")
    assert json.loads((out / "export.json").read_text())["format"] == "trl"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pairs"]


def test_a_folder_that_is_no_export_is_never_replaced(dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no earlier export"):
        export_dataset(dataset, tmp_path, "coco")
    assert (tmp_path / "thesis.txt").is_file()


def test_what_cannot_be_exported_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="unknown format 'voc'; the formats are trl"):
        export_dataset(dataset, tmp_path / "out", "voc")
    with pytest.raises(ValueError, match="unknown reward 'best'"):
        ExportSettings(reward="best")
    with pytest.raises(ValueError, match="coordinates='inches'"):
        export_dataset(dataset, tmp_path / "out", "trl", ExportSettings(coordinates="inches"))
    render_dataset(tmp_path / "held out", {"single": 1}, "test", SMALL)
    with pytest.raises(ValueError, match="no training pairs, only test"):
        export_dataset(tmp_path / "held out", tmp_path / "out", "verl")
    assert not (tmp_path / "out").exists()


def test_the_command_says_where_the_result_lies(dataset, capsys):
    export("llava", dataset.folder)
    assert f"18 pairs\nllava: {dataset.folder.parent / 'pairs-llava'}" in capsys.readouterr().out
    assert parse_boxes(
        json.loads((dataset.folder.parent / "pairs-llava" / "train-single.json").read_text())[0][
            "conversations"
        ][1]["value"]
    ).ok
