"""What does not fool the reward."""

import time

import numpy as np
import pytest
from dialect_corpus import COGVLM, FAMILIES, PEOPLE, A, B
from hypothesis import given
from hypothesis import strategies as st

import dig_env.redteam
from dig_env import REWARDS, RewardConfig, format_boxes, score
from dig_env.answers import DIALECTS
from dig_env.redteam import ATTACKS, random_truths, red_team, translated

TRUTH = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])


@pytest.mark.parametrize("name", REWARDS)
def test_no_attack_outscores_its_honest_answer(name):
    outcomes = red_team(REWARDS[name], random_truths(30))
    assert len(outcomes) == len(ATTACKS) > 60
    assert [outcome for outcome in outcomes if outcome.wins] == []


@pytest.fixture(scope="module")
def strict():
    """What attacks on a few pairs earn in "strict"."""
    return {outcome.attack: outcome.earned for outcome in red_team("full", random_truths(3))}


# "strict" refuses them, or finds them too long or repetitive; dialects may read all their boxes,
# the wrong ones too
ALL_BOXES = {
    *("then another answer", "two answer tags", "nested"),
    *("right, ten times", "tiles of all sizes"),
}
# These have corners in round brackets, as Qwen2-VL writes a box: it is read, and is wrong
CORNERS = {"empty list, then boxes", "draft, then another notation"}


@pytest.mark.parametrize("dialect", [name for name in DIALECTS if name != "strict"])
def test_no_attack_outscores_its_honest_answer_in_any_dialect(dialect, strict, monkeypatch):
    """Nor does one earn more than in "strict", but for the steps of frames of their own. "lenient"
    reads more on purpose, and then the truth itself is the bound."""
    slow = ("100,000 boxes", "a megabyte")  # to write, in every dialect
    played = [attack for attack in ATTACKS if attack.name not in slow]
    monkeypatch.setattr(dig_env.redteam, "ATTACKS", played)
    outcomes = red_team("full", random_truths(3), answers=dialect)
    margin = 1e-9 if DIALECTS[dialect].own is None else 0.01
    for outcome in outcomes:
        if dialect == "qwen2-vl" and outcome.attack in CORNERS:
            assert outcome.earned <= 0.2
            continue
        assert not outcome.wins, outcome
        if dialect != "lenient" and outcome.attack not in ALL_BOXES:
            assert outcome.earned <= strict[outcome.attack] + margin, outcome


def test_attacks_are_translated():
    text = "Perhaps [[120, 300, 210, 400]] or [[NaN, 1, 2, 3]] or [[1]]"
    assert translated(text, "doubao") == (
        "Perhaps <bbox>120 300 210 400</bbox> or <bbox>NaN 1 2 3</bbox> or [[1]]"
    )
    assert translated(text, "strict") == text


@pytest.mark.parametrize("said", FAMILIES + COGVLM + PEOPLE, ids=lambda said: said.text[:40])
def test_no_dialect_reads_more_into_an_answer_than_it_says(said):
    for truth in ([A], [A, B], []):
        meant = score(said.boxes, truth).total
        for dialect in DIALECTS:
            assert score(said.text, truth, answers=dialect).total <= meant + 0.02


@given(
    st.sampled_from(sorted(DIALECTS)),
    st.lists(st.integers(0, 9), min_size=1, max_size=12),
    st.text(max_size=30),
    st.text(max_size=30),
)
def test_many_boxes_and_texts_around_them_never_beat_the_truth(dialect, tiles, before, after):
    """The tiles are those of a row; the first two are the truth."""
    row = np.array([[tile / 10, 0.2, (tile + 1) / 10, 0.4] for tile in range(10)])
    text = format_boxes(row[tiles], answers=dialect)
    right = score(format_boxes(row[:2], answers=dialect), row[:2], answers=dialect)
    for answer in (text, before + text + after):
        assert score(answer, row[:2], answers=dialect).total <= right.total <= 1.0
    if sorted(tiles) != [0, 1]:
        assert score(text, row[:2], answers=dialect).total < right.total


BLIND = ("full frame, 4 times", "centre", "2 x 2 tiles", "5 x 5 tiles", "4 random boxes")


@pytest.mark.parametrize(
    ("name", "margin"),
    [("full", 0.05), ("strict", 0.05), ("iou", 0.07), ("f1", 0.05), ("dense", 0.15)],
)
def test_blind_boxes_earn_little_more_than_one_box_that_finds_nothing(name, margin, monkeypatch):
    """So that a policy which cannot see the difference yet has nothing to learn but to look.

    "dense" pays for small overlaps on purpose, and so for large boxes in the dark.
    """
    played = {*BLIND, "tiny", "30 x 30 tiles"}
    monkeypatch.setattr(
        dig_env.redteam, "ATTACKS", [attack for attack in ATTACKS if attack.name in played]
    )
    outcomes = red_team(REWARDS[name], random_truths(100))
    earned = {outcome.attack: outcome.earned for outcome in outcomes}
    for blind in BLIND:
        assert earned[blind] <= earned["tiny"] + margin, blind
    assert earned["30 x 30 tiles"] <= earned["tiny"]


def test_truths_may_be_lists_with_or_without_boxes():
    truths = [[], [[0.1, 0.2, 0.3, 0.4]]]
    assert len(red_team("full", truths)) == len(ATTACKS)
    with pytest.raises(ValueError, match=r"truths\[0\] is .*divide pixels"):
        red_team("full", [[[10, 20, 30, 40]]])


def test_a_reward_that_can_be_hacked_is_found_out():
    """The red team is no rubber stamp: a mean over matched pairs alone falls to tiles."""
    hackable = RewardConfig(f1_weight=0.0, iou_weight=1.0, match_iou=0.05, iou_mean="matched")
    fallen = {outcome.attack for outcome in red_team(hackable, random_truths(30)) if outcome.wins}
    assert {"5 x 5 tiles", "five jittered copies"} <= fallen


# Hacks that have worked on others' rewards


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "<",
        "<answer></answer>",
        "[]",
        '["a", "b"]',
        '["0, 0, 500, 500"]',
        '[["0", "0", "500", "500"]]',
        "[[0, 0, 500, 500], [NaN, 0, 1, 1]]",
        "[[0, 0, 500, 500], [1e999, 0, 1, 1]]",
        "[[0, 0, 500, 500], [100, 100, 100, 100]]",
        "[[0, 0, 500, 500], [200, 200, 100, 100]]",
        "__import__('os').abort()",
        "[" * 10**5,
        [],
        [["0", "0", "0.5", "0.5"]],
        np.array([[0, 0, 0.5, 0.5], [np.nan, 0, 1, 1]]),
        np.array([[0.5, 0.5, 0, 0]]),
        np.zeros((3, 5)),
    ],
)
def test_an_invalid_answer_earns_nothing_at_all(answer):
    for config in REWARDS.values():
        result = score(answer, TRUTH, config)
        assert (result.total, result.format, result.f1, result.iou) == (0.0, 0.0, 0.0, 0.0)
        assert (result.precision, result.recall, result.matches) == (0.0, 0.0, ())
        assert result.answer.error


def test_identical_boxes_overlap_fully_however_small():
    for side in (1e-3, 1e-9, 1e-150):
        truth = [[0.0, 0.0, side, side]]
        assert score(truth, truth).total == 1.0
        assert score(truth, truth).iou == 1.0


def test_spam_behind_the_right_box_costs():
    # F1 is 2 / (N + 1), the IoU 1 / N.
    for n in (2, 10, 51):
        result = score([TRUTH[0].tolist(), *[[0.8, 0.8, 0.9, 0.9]] * (n - 1)], TRUTH[:1])
        assert result.f1 == pytest.approx(2 / (n + 1))
        assert result.total == pytest.approx(0.9 * (0.5 * 2 / (n + 1) + 0.5 / n) + 0.1)


def test_repeating_the_right_box_costs():
    totals = [score([TRUTH[0].tolist()] * n, TRUTH[:1]).total for n in (1, 2, 3, 10)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == 1.0 > totals[1]
    # Nor does it stand in for the difference not found: 1 of 2 boxes, 1 of 2 differences.
    assert score([TRUTH[0].tolist()] * 2, TRUTH).f1 == 0.5


def test_one_box_over_the_whole_image_finds_nothing_small():
    assert score("[[0, 0, 1000, 1000]]", TRUTH[:1]).f1 == 0.0


def test_a_hundred_thousand_boxes_are_refused_at_once():
    low = np.random.default_rng(0).uniform(0, 0.9, (10**5, 2))
    boxes = np.hstack([low, low + 0.1])
    for answer in (boxes, boxes.tolist(), str(boxes.tolist())):
        begun = time.process_time()
        result = score(answer, TRUTH)
        assert time.process_time() - begun < 1  # a millisecond or two; matching would take minutes
        assert result.total == 0.0
        assert "more than 1000 boxes" in result.answer.error or "32768" in result.answer.error


NUMBERS = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=2), st.just(10**400)
)


@given(st.lists(st.one_of(NUMBERS, st.lists(NUMBERS, max_size=5)), max_size=4))
def test_no_list_that_a_policy_may_give_raises(answer):
    assert 0.0 <= score(answer, TRUTH).total <= 1.0


@given(st.text())
def test_no_text_that_a_policy_may_give_raises(answer):
    assert 0.0 <= score(answer, TRUTH).total <= 1.0
