"""VLMEvalKit's own code on our data set class for it.

Skipped where it is not installed, as in all environments of the Makefile: it imports torchvision,
which has no build beside a CPU torch. Run by hand with ms-vlmeval 0.0.20, torchvision's operators
declared beforehand.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("vlmeval")

import vlmeval.dataset
from vlmeval.smp import dump, load

from dig_env import format_boxes, instruction
from dig_env.scenes import PairDataset

EXAMPLE = Path(__file__).parents[2] / "examples/evaluation/vlmevalkit"
NAME = "DiG-Bench_320x240"


@pytest.fixture(params=["", "Qwen/Qwen2.5-VL-7B-Instruct", "google/gemini-2.5-flash"])
def table(request, bench, tmp_path, monkeypatch):
    """VLMEvalKit's data set of four pairs, asked in a family's notation."""
    monkeypatch.setenv("LMUData", str(tmp_path))
    monkeypatch.syspath_prepend(str(EXAMPLE))
    monkeypatch.setattr(vlmeval.dataset, "DATASET_CLASSES", [])
    import dig_bench

    dig_bench.write_table(bench, "320x240", request.param, tmp_path)
    dig_bench.register()
    yield vlmeval.dataset.build_dataset(NAME)
    del sys.modules["dig_bench"]


def test_a_question_is_both_images_to_the_last_bit_and_the_prompt(table, bench):
    assert len(table) == 4 and vlmeval.dataset.DATASET_TYPE(NAME) == "GROUNDING"
    row = table.data.iloc[0]
    first, second, text = table.build_prompt(0)
    pair = PairDataset(bench / "320x240").pair(int(row["index"]))
    assert np.array_equal(np.asarray(Image.open(first["value"])), pair.image_a)
    assert np.array_equal(np.asarray(Image.open(second["value"])), pair.image_b)
    habit = {"answers": row["answers"], "coordinates": row["coordinates"]}
    difficulty = pair.plan.difficulty
    assert text["value"] == instruction(size=(320, 240), difficulty=difficulty, **habit)


def test_true_answers_of_a_stage_earn_all_of_it_and_others_nothing(table, tmp_path):
    def answered(row):
        habit = {"answers": row["answers"], "coordinates": row["coordinates"]}
        size = (row["width"], row["height"])
        boxes = json.loads(row["answer"]) if row["category"] == "dual" else [[0, 0, 1, 1]]
        return format_boxes(boxes, size=size, exact=True, **habit)

    rows = table.data.drop(columns="image")
    rows["prediction"] = [answered(row) for row in rows.to_dict("records")]
    file = str(tmp_path / f"model_{NAME}.xlsx")
    dump(rows, file)
    earned = table.evaluate(file).set_index("split")
    assert earned["f1"].to_dict() == {"dual": 100.0, "nuisance": 0.0, "Overall": 50.0}
    assert len(load(file)) == 4
