"""The calibration card: reference answers are what they say, and the reward puts them in order."""

import dataclasses
import json
import runpy
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import shapely
from hypothesis import given
from hypothesis import strategies as st
from paths import ROOT
from small import SMALL, evaluation_pairs

from dig_env import REWARDS, parse_boxes, score, score_batch
from dig_env.agents import PixelDiffPolicy
from dig_env.agents.evaluation.calibration.card import (
    CalibrationSettings,
    answer_all,
    calibrate,
    human_row,
    image_policies,
    load_human_answers,
    order_of,
    table_rows,
    write_card,
)
from dig_env.agents.evaluation.calibration.reference_answers import (
    JITTER_IOUS,
    RANKS,
    answers_of,
    jittered,
    reference_answers,
)
from dig_env.agents.evaluation.human_answers import append_answers
from dig_env.agents.evaluation.pairs import held_out_pairs
from dig_env.agents.reporting.calibration import (
    TABLES,
    fill_page,
    plot,
    write_card_report,
    write_page,
)
from dig_env.agents.reporting.plots import figure_png
from dig_env.scenes import PAPER_STAGES, STAGES, Renderer

DOCS = ROOT / "docs"
FEW = CalibrationSettings(pairs=40, resamples=200)

sides = st.floats(0.02, 1.0)


@st.composite
def boxes(draw):
    width, height = draw(sides), draw(sides)
    x, y = draw(st.floats(0.0, 1.0)) * (1 - width), draw(st.floats(0.0, 1.0)) * (1 - height)
    return np.array([[x, y, min(x + width, 1.0), min(y + height, 1.0)]])


PIXELS = answers_of(PixelDiffPolicy())


def overlap(a, b):
    """IoU by shapely."""
    a, b = shapely.box(*a), shapely.box(*b)
    return a.intersection(b).area / a.union(b).area


def f1(answerer, pairs):
    scores = score_batch(answerer(pairs), [pair.boxes_unit for pair in pairs])
    return float(np.mean([result.f1 for result in scores]))


@given(boxes(), st.sampled_from(JITTER_IOUS), st.integers(0, 1000))
def test_jitter_gives_the_very_iou_inside_the_image(box, iou, seed):
    moved = jittered(box, iou, np.random.default_rng(seed))
    assert overlap(moved[0], box[0]) == pytest.approx(iou, abs=1e-9)
    assert score(moved, box).iou >= iou  # so that a box at the threshold counts
    assert moved.min() >= 0.0 and moved.max() <= 1.0


@pytest.mark.parametrize("iou", [0.05, 1.0, -1.0])
def test_an_iou_out_of_range_is_an_error(iou):
    with pytest.raises(ValueError, match="between 0.1 and 1"):
        jittered(np.array([[0.1, 0.1, 0.2, 0.2]]), iou, np.random.default_rng(0))


def test_yardsticks_do_not_depend_on_the_other_pairs(pairs):
    some = pairs["mixed"][:4]
    for name in ("jitter 0.5", "oracle", "centre box"):
        assert reference_answers(3)[name](some)[2:] == reference_answers(3)[name](some[2:])


def test_the_oracle_and_the_jitter_answer_the_truth_box_by_box(pairs):
    for name, iou in (("oracle", 1.0), ("jitter 0.7", 0.7)):
        for pair, answer in zip(
            pairs["mixed"], reference_answers()[name](pairs["mixed"]), strict=True
        ):
            overlaps = map(overlap, parse_boxes(answer).boxes, pair.boxes_unit)
            assert list(overlaps) == pytest.approx([iou] * len(pair.differences))


@pytest.mark.parametrize("stage", PAPER_STAGES)
def test_better_answers_earn_more_on_every_stage(pairs, stage):
    answered = answer_all(reference_answers(), pairs[stage][: FEW.pairs])
    order = order_of(answered, FEW)
    assert set(order) == set(REWARDS)
    for preset in ("full", "paper", "dense", "strict", "iou"):
        assert order[preset]["holds"], (preset, order[preset])
    for preset in ("full", "dense"):  # and by more than chance explains
        assert order[preset]["gap"][1] > 0.02


def test_an_order_that_does_not_hold_is_reported(pairs):
    answered = answer_all(reference_answers(), pairs["single"][: FEW.pairs])
    swapped = answered | {"jitter 0.9": answered["jitter 0.3"]}
    order = order_of(swapped, FEW)["full"]
    assert not order["holds"]
    assert order["between"] == ["jitter 0.7", "jitter 0.9"] and order["gap"][0] < 0


def test_the_best_threshold_is_no_worse_than_the_usual_one(pairs):
    answered = answer_all({"usual": PIXELS}, pairs["mixed"])
    usual, best = answered["usual"], answered["pixel difference at its best"]
    assert best.rewards["full"].mean() >= usual.rewards["full"].mean()
    assert best.note.startswith("threshold ")


def test_subtracting_pixels_stops_working_under_nuisance(pairs, renderer):
    few = 12
    axes = runpy.run_path(str(ROOT / "benchmarks" / "axes.py"))["AXES"]
    found = {
        name: f1(PIXELS, list(held_out_pairs(renderer, axes[name], few)))
        for name in ("noise 16", "JPEG 20", "camera shift 0.2")
    }
    clean = f1(PIXELS, pairs["single"][:few])
    assert clean > 0.8
    assert max(found.values()) < 2 / 3 * clean, found


def test_true_boxes_that_moved_by_two_pixels_still_count_as_found(pairs):
    for pair in pairs["single"]:
        height, width = pair.ids_a.shape
        for step in ((2 / width, 0, 2 / width, 0), (0, 2 / height, 0, 2 / height)):
            moved = np.minimum(pair.boxes_unit + np.array(step), 1.0)
            assert score(moved, pair.boxes_unit).f1 == 1.0


def test_a_small_card_from_blender_to_the_page(tmp_path):
    seen = []
    settings = CalibrationSettings(pairs=2, resamples=100, workers=1)
    card = calibrate(settings, lambda name, done, total: seen.append((done, total)))
    assert seen == [(done, seen[0][1]) for done in range(seen[0][1] + 1)]
    write_card(card, tmp_path / "card.json")
    assert json.loads((tmp_path / "card.json").read_text()) == card
    played = {(row["condition"], row["policy"]) for row in card["rows"]}
    yardstick_names = {name for rank in RANKS for name in rank}
    assert {policy for condition, policy in played if condition == "dual"} == yardstick_names | {
        "pixel difference",
        "pixel difference at its best",
        "embedded policy",
    }
    page = tmp_path / "card.md"
    page.write_text("# Card\n<!-- table: stages -->\nold\n<!-- end -->\nkept\n")
    plot = write_page(card, page)
    assert plot.read_bytes().startswith(b"\x89PNG")
    write_card_report(card, tmp_path / "card.html")
    assert "Policies that look at the images" in (tmp_path / "card.html").read_text()
    text = page.read_text()
    assert "old" not in text and "| oracle | 1.00 | 1.00 |" in text and text.endswith("kept\n")


def test_a_card_of_other_pictures_goes_without_the_embedded_policy():
    assert "embedded policy" in image_policies(SMALL)
    other = dataclasses.replace(SMALL, quality="standard")
    assert "embedded policy" not in image_policies(other)


def test_a_person_is_scored_on_the_pairs_that_were_answered(pairs, tmp_path):
    look = {"width": SMALL.width, "height": SMALL.height, "quality": SMALL.quality}
    earned = {"reward": 0.0, "f1": 0.0, "iou": 0.0}
    some, file = pairs["dual"][3:6], tmp_path / "me.jsonl"
    for pair, answer in zip(some, reference_answers()["jitter 0.7"](some), strict=True):
        seen = {"stage": "dual", "pair_seed": pair.plan.seed, "seconds": 9.0}
        append_answers(file, [look | seen | earned | {"answer": answer}])
    answers = load_human_answers(file, SMALL)
    assert human_row(answers, "single", pairs["single"]) == {}
    assert human_row(answers[:1], "dual", pairs["dual"]) == {}, "one pair has no interval"
    answered = human_row(answers, "dual", pairs["dual"])
    expected = answer_all({"same": reference_answers()["jitter 0.7"]}, some)["same"]
    for preset, rewards in expected.rewards.items():
        np.testing.assert_array_equal(answered["human"].rewards[preset], rewards)
    # Where no one played, the published card's tables have no entry.
    card = json.loads((DOCS / "results/calibration.json").read_text())
    card["rows"] += table_rows("dual", answered, FEW)
    assert ["human", "", "", "1.00", "0.87", "", ""] in TABLES["stages"](card).rows
    assert "1.00 on 3 pairs" in {row[-1] for row in TABLES["looking"](card).rows}
    assert figure_png(plot(card)).startswith(b"\x89PNG")
    with pytest.raises(ValueError, match="no answers to images of 128x96 standard.*dig-env play"):
        load_human_answers(file, dataclasses.replace(SMALL, quality="standard"))


def test_a_page_that_asks_for_an_unknown_table_is_told_which_there_are():
    with pytest.raises(ValueError, match="no table 'nonsense'; the tables are stages, presets"):
        fill_page("<!-- table: nonsense -->\n<!-- end -->", {})


@pytest.mark.parametrize("wrong", [{"pairs": 1}, {"seed": -1}, {"resamples": 0}])
def test_too_little_to_calibrate_on_is_an_error(wrong):
    with pytest.raises(ValueError, match="or more"):
        CalibrationSettings(**wrong)


STORED = Path(__file__).parent / "calibration_pairs.json"
"""The boxes of the published card's pairs, and where their pixels differ, in pixels.

Written by ``PYTHONPATH=tests/helpers python tests/agents/evaluation/test_calibration.py``, in
place of 400 renders in every run of the tests.
"""


def stored_pairs(stage):
    """The stored pairs, with blank images: no reference answer looks at them. The pixel answers."""
    blank = np.zeros((SMALL.height, SMALL.width, 3), np.uint8)
    pairs, answers = [], []
    for seed, boxes, pixels in json.loads(STORED.read_text())[stage]:
        pair = {
            "plan": SimpleNamespace(seed=seed, difficulty=STAGES[stage]),
            "boxes_unit": np.array(boxes) / ([SMALL.width, SMALL.height] * 2),
            "image_a": blank,
            "image_b": blank,
        }
        pairs.append(SimpleNamespace(**pair))
        answers.append(pixels)
    return pairs, answers


@pytest.mark.parametrize("stage", ["single", "mixed"])
def test_the_published_card_is_what_the_reward_gives_today(stage):
    card = json.loads((DOCS / "results/calibration.json").read_text())
    published = {row["policy"]: row["reward"] for row in card["rows"] if row["condition"] == stage}
    pairs, pixels = stored_pairs(stage)
    assert len(pairs) == card["settings"]["pairs"]
    for policy, answer in (reference_answers() | {"pixel difference": lambda _: pixels}).items():
        answers = answer(pairs)
        for preset in REWARDS:
            scores = score_batch(answers, [pair.boxes_unit for pair in pairs], preset)
            earned = np.mean([result.total for result in scores])
            assert earned == pytest.approx(published[policy][preset][0], abs=0.01), (policy, preset)


@pytest.mark.parametrize("stage", ["single", "mixed"])
def test_the_published_cards_pairs_are_those_that_are_rendered_today(pairs, stage):
    stored, pixels = stored_pairs(stage)
    some = pairs[stage]
    for pair, before in zip(some, stored, strict=False):
        assert pair.plan.seed == before.plan.seed
        np.testing.assert_allclose(pair.boxes_unit, before.boxes_unit, atol=1e-9)
    # Another kind of processor draws a few pixels a level lighter or darker.
    truths = [pair.boxes_unit for pair in some]
    today, then = (
        np.mean([result.total for result in score_batch(answers, truths)])
        for answers in (PIXELS(some), pixels[: len(some)])
    )
    assert today == pytest.approx(then, abs=0.01)


def test_a_card_names_the_command_that_makes_it():
    assert CalibrationSettings().command == "dig-env calibrate --pairs 200 --seed 0"
    other = CalibrationSettings(pairs=9, width=320, workers=2)
    assert other.command == "dig-env calibrate --pairs 9 --seed 0 --width 320"


def test_the_published_tables_are_those_of_the_published_card():
    card = json.loads((DOCS / "results/calibration.json").read_text())
    page = (DOCS / "calibration.md").read_text()
    assert fill_page(page, card) == page
    assert all(f"<!-- table: {name} -->" in page for name in TABLES.keys() - {"presets"})


def test_the_published_card_says_that_the_reward_orders_the_yardsticks():
    card = json.loads((DOCS / "results/calibration.json").read_text())
    assert set(card["presets"]) == set(REWARDS)
    for condition, by_preset in card["order"].items():
        for preset in ("full", "dense"):
            assert by_preset[preset]["holds"], (condition, preset)
            assert by_preset[preset]["gap"][1] > 0, (condition, preset)


def main():
    with Renderer(SMALL) as renderer:
        rendered = evaluation_pairs(renderer, CalibrationSettings().pairs)
    lines = {
        stage: [
            json.dumps((pair.plan.seed, [diff.box for diff in pair.differences], answer))
            for pair, answer in zip(rendered[stage], PIXELS(rendered[stage]), strict=True)
        ]
        for stage in ("single", "mixed")
    }
    parts = [f'"{stage}": [\n' + ",\n".join(rows) + "\n]" for stage, rows in lines.items()]
    STORED.write_text("{" + ", ".join(parts) + "}\n")


if __name__ == "__main__":
    main()
