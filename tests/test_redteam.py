"""What does not fool the reward."""

import time

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import dig_env.redteam
from dig_env import REWARDS, RewardConfig, score
from dig_env.redteam import ATTACKS, random_truths, red_team

TRUTH = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])


@pytest.mark.parametrize("name", REWARDS)
def test_no_attack_outscores_its_honest_answer(name):
    outcomes = red_team(REWARDS[name], random_truths(30))
    assert len(outcomes) == len(ATTACKS) > 60
    assert [outcome for outcome in outcomes if outcome.wins] == []


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
