"""What the reward is given: texts that earn nothing, batches, names, and mistakes of the caller."""

import itertools
import math

import numpy as np
import pytest

from dig_env import REWARDS, RewardConfig, resolve_reward, score, score_batch
from dig_env.answers import MAX_ANSWER_LENGTH

TRUTH = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
NOTHING_DIFFERS = np.empty((0, 4))


# Guards


LOOP = "Wait, let me look once more at the red cube on the left, for it may have changed. "


def test_text_that_goes_round_in_circles_earns_nothing():
    answer = "[[0, 0, 500, 500]]"
    assert score(LOOP * 3 + answer, TRUTH[:1]).total == 1.0
    looped = score(LOOP * 20 + answer, TRUTH[:1])
    assert looped.total == 0.0
    assert "repeats itself" in looped.answer.error
    assert score(LOOP * 20 + answer, TRUTH[:1], RewardConfig(max_repetition=None)).total == 1.0


def test_a_dull_but_honest_thought_is_no_loop():
    objects = itertools.product(["red", "blue", "gray", "cyan"], ["metal", "rubber"], "abcdefgh")
    thought = "<think>" + " ".join(
        f"The {color} {material} cube {name} at [{17 * index % 991}, {31 * index % 997}] looks "
        f"the same in both images."
        for index, (color, material, name) in enumerate(objects)
    )
    assert score(thought + "</think>[[0, 0, 500, 500]]", TRUTH[:1]).total == 1.0


def test_text_that_is_too_long_earns_nothing():
    box, words = "[[0, 0, 500, 500]]", " ".join(map(str, range(9_000)))  # 43,889 characters
    for config in REWARDS.values():
        long = score(f"{words}</think>{box} {words}", TRUTH[:1], config)
        assert long.total == 0.0
        assert f"{MAX_ANSWER_LENGTH} are allowed" in long.answer.error
    short = RewardConfig(max_length=len(box))
    assert score(box, TRUTH[:1], short).total == 1.0
    assert f"{len(box)} are allowed" in score(f"{box}.", TRUTH[:1], short).answer.error


@pytest.mark.parametrize("name", REWARDS)
@pytest.mark.parametrize("thought", [" ".join(map(str, range(90_000))), LOOP * 2_000])
def test_thoughts_are_neither_measured_nor_read(name, thought):
    """However long or dull: what is scored is the answer."""
    box = "[[0, 0, 500, 500]]"
    for text in (f"<think>{thought}</think>{box}", f"{thought}</think>{box}"):
        assert score(text, TRUTH[:1], name) == score(box, TRUTH[:1], name)


# Many at once, and by name


def test_a_batch_is_scored_as_one_by_one():
    answers = ["[[0, 0, 500, 500]]", "[]", "nonsense"]
    truths = [TRUTH, TRUTH[:1], NOTHING_DIFFERS]
    batch = score_batch(answers, truths, REWARDS["dense"])
    assert batch == [
        score(answer, truth, REWARDS["dense"])
        for answer, truth in zip(answers, truths, strict=True)
    ]


def test_a_batch_needs_a_truth_for_every_answer():
    with pytest.raises(ValueError, match="2 answers and 1 truths"):
        score_batch(["[]", "[]"], [TRUTH])


def test_a_reward_is_chosen_by_name_or_by_its_settings():
    assert resolve_reward("full") == resolve_reward(None) == resolve_reward({}) == RewardConfig()
    assert resolve_reward("iou").iou_weight == 1.0
    assert resolve_reward({"soft": True}) == resolve_reward(RewardConfig(soft=True))


@pytest.mark.parametrize(
    ("reward", "error", "message"),
    [
        ("dens", ValueError, "unknown reward 'dens'; the rewards are full, paper, dense"),
        ({"softness": 1}, ValueError, "unknown reward setting 'softness'; there are format_weight"),
        (3, TypeError, "reward is a int; give a name"),
    ],
)
def test_a_reward_that_is_none_raises(reward, error, message):
    with pytest.raises(error, match=message):
        resolve_reward(reward)


# A caller's mistakes


@pytest.mark.parametrize("answer", [None, 3, b"[[0, 0, 1, 1]]", {"bbox_2d": [0, 0, 1, 1]}])
def test_an_answer_that_is_neither_text_nor_boxes_raises(answer):
    with pytest.raises(TypeError, match="text, or boxes"):
        score(answer, TRUTH)


@pytest.mark.parametrize(
    "truth",
    [
        [0.0, 0.0, 0.5, 0.5],
        [[0.0, 0.0, 0.5]],
        [[0, 0, 160, 120]],
        [[0.5, 0.0, 0.5, 0.5]],
        [[0.5, 0.5, 0.0, 0.0]],
        [[0.0, 0.0, np.nan, 0.5]],
        [[0.0, 0.0, np.inf, np.inf]],
    ],
)
def test_a_truth_that_is_not_boxes_in_the_unit_frame_raises(truth):
    with pytest.raises(ValueError, match="truth_boxes"):
        score("[[0, 0, 500, 500]]", truth)


@pytest.mark.parametrize(
    ("setting", "message"),
    [
        ({"format_weight": -0.1}, "format_weight=-0.1"),
        ({"format_weight": 1.1}, "format_weight=1.1"),
        ({"format_weight": math.nan}, "format_weight=nan"),
        ({"f1_weight": 0.7}, "add up to 1"),
        ({"f1_weight": 1.5, "iou_weight": -0.5}, "f1_weight=1.5"),
        ({"match_iou": 0.0}, "match_iou=0.0: give a number above 0, up to 1"),
        ({"match_iou": 50}, "match_iou=50"),
        ({"l1_cost": -1.0}, "l1_cost=-1"),
        ({"giou_cost": math.inf}, "giou_cost=inf"),
        ({"l1_cost": 0.0, "giou_cost": 0.0}, "l1_cost=0 and giou_cost=0"),
        ({"soft": True, "match_iou": None}, "set match_iou"),
        ({"matching": "best"}, "matching='best'.*reward.*cost"),
        ({"iou_mean": "min"}, "iou_mean='min'.*all.*matched"),
        ({"max_length": 0}, "max_length=0"),
        ({"max_repetition": math.inf}, "max_repetition=inf"),
    ],
)
def test_a_weight_out_of_range_raises(setting, message):
    with pytest.raises(ValueError, match=message):
        RewardConfig(**setting)


@pytest.mark.parametrize("setting", [{"f1_weight": "0.5"}, {"l1_cost": None}, {"giou_cost": True}])
def test_a_weight_that_is_no_number_raises(setting):
    with pytest.raises(ValueError, match="give a (finite )?number"):
        RewardConfig(**setting)


@pytest.mark.parametrize("name", ["soft", "exact"])
def test_switches_are_yes_or_no(name):
    with pytest.raises(ValueError, match=f"{name}=1: give True or False"):
        RewardConfig(**{name: 1})
