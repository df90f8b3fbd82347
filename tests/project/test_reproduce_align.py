"""The alignment pipeline and its experiments, examples/reproduce/align*.py, in miniature."""

import importlib
import json
import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
from paths import ROOT

from dig_env.align import TASKS
from dig_env.scenes import PAPER_STAGES

FOLDER = ROOT / "examples" / "reproduce"


@pytest.fixture(scope="module")
def scripts():
    sys.path.insert(0, str(FOLDER))
    align = importlib.import_module("align")
    pipeline = importlib.import_module("align_pipeline")
    small = {name: stage._replace(rows=24, per_pair=12) for name, stage in pipeline.STAGES.items()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipeline, "STAGES", small)
        yield align, pipeline
    sys.path.remove(str(FOLDER))


@pytest.fixture(scope="module")
def settings(scripts, tmp_path_factory):
    out = tmp_path_factory.mktemp("align")
    return scripts[0].AlignExperiment(
        seeds=(0,),
        questions=(8, 8, 8, 12, 8),
        grpo_steps=1,
        episodes=2,
        answer_tokens=4,
        train_pairs=4,
        test_pairs=2,
        pairs=out / "pairs",
        runs=out / "runs",
        processes=1,
        out=out / "experiments.json",
    )


@pytest.fixture(scope="module")
def table(scripts, settings):
    scripts[0].main(settings)
    return json.loads(settings.out.read_text())["table"]


def test_each_question_compares_all_tasks_and_stages_with_and_without(table):
    assert list(table) == ["multi-scale data", "global data", "GRPO on pairs"]
    for rows in table.values():
        assert list(rows) == [*TASKS, *PAPER_STAGES]
        for task in rows:
            name = "F1" if task in PAPER_STAGES else "accuracy"
            (with_it, *_), (without, *_), (gain, low, high) = (
                rows[task][f"{name} {which}"] for which in ("with", "without", "gain")
            )
            assert gain == pytest.approx(with_it - without, abs=2e-4)  # each is rounded
            assert -1 <= low <= gain <= high <= 1
        assert {"f1 gain", "yes_rate with", "reward gain"} <= set(rows["existence"])
    assert (
        table["GRPO on pairs"]["relation"]["accuracy without"]
        == (table["global data"]["relation"]["accuracy with"])
    ), "the third question begins where the second one's arm ended"


def test_arms_that_are_compared_see_as_many_questions(settings, table):
    seen = {
        arm: json.loads((settings.runs / "seed0" / arm / "history.json").read_text())["questions"]
        for arm in ("2", "no_multi_scale", "3", "no_global")
    }
    assert 12 <= seen["2"] <= 19 and 12 <= seen["no_multi_scale"] <= 19, "up to a conversation's"
    assert 8 <= seen["3"] <= 15 and 8 <= seen["no_global"] <= 15


def test_the_pipeline_trains_what_is_missing_and_tells_what_each_stage_leaves(
    scripts, settings, table
):
    """The experiment left the foundation and the other stages."""
    pipeline = scripts[1]
    shutil.rmtree(settings.runs / "seed0" / "3")
    there = {p: p.stat().st_mtime_ns for p in settings.runs.rglob("*.safetensors")}
    fields = {name: getattr(settings, name) for name in pipeline.Pipeline.__dataclass_fields__}
    out = settings.out.with_name("tiny_weights.json")
    pipeline.main(replace(pipeline.Pipeline(**fields), out=out))
    assert {p: p.stat().st_mtime_ns for p in there} == there
    stages = json.loads(out.read_text())["stages"]
    assert list(stages) == ["1a", "1b", "1b-more", "2", "3", "grpo"]
    for row in stages.values():
        assert set(row) == {"seconds", *TASKS, *PAPER_STAGES}
    (added,) = {p.parent.parent for p in settings.runs.rglob("checkpoint/*.safetensors")} - {
        p.parent.parent for p in there
    }
    assert added == settings.runs / "seed0" / "3"


def test_a_gain_is_taken_question_by_question(scripts):
    """Arms that differ in the same tenth of the questions: their gain varies less than they do."""
    rng = np.random.default_rng(0)
    without = np.zeros((3, 400, 4))
    without[..., 0] = rng.random((1, 400)) < 0.5
    with_it = without.copy()
    with_it[:, :40, 0] = 1
    numbers = scripts[0].compare(with_it, without)
    (_, low, high), (gain, gain_low, gain_high) = numbers["accuracy with"], numbers["accuracy gain"]
    assert gain == pytest.approx(with_it[..., 0].mean() - without[..., 0].mean(), abs=1e-4)
    assert gain_high - gain_low < 0.5 * (high - low)


def test_existence_has_the_measures_of_pope(scripts):
    """F1 of yes, from precision and recall, and the share of yes."""
    rng = np.random.default_rng(1)
    said, true = rng.random(200) < 0.6, rng.random(200) < 0.5
    answers = np.stack([said == true, said, true, said == true], axis=-1).astype(float)[None]
    numbers = scripts[0].compare(answers, answers, yes_no=True)
    precision, recall = true[said].mean(), said[true].mean()
    assert numbers["f1 with"][0] == pytest.approx(
        2 * precision * recall / (precision + recall), abs=1e-4
    )
    assert numbers["yes_rate with"][0] == pytest.approx(said.mean(), abs=1e-4)
    assert numbers["f1 gain"] == [0, 0, 0]
