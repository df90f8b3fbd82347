"""What the reward is worth, and what does not fool it."""

import itertools
import math

import numpy as np
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from dig_env.answers import format_boxes
from dig_env.boxes import iou_and_giou
from dig_env.reward import RewardConfig, Score, score

TRUTH = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
NOTHING = Score(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ())
LITERAL = RewardConfig(match_iou=None)


@st.composite
def unit_boxes(draw, low: int = 0, high: int = 64, least: int = 1, most: int = 4):
    """Boxes on a grid of 64ths: their areas are exact in floating point, and ties are common."""
    side = st.lists(st.integers(low, high), min_size=2, max_size=2, unique=True).map(sorted)
    sides = draw(st.lists(st.tuples(side, side), min_size=least, max_size=most))
    return np.array([[x[0], y[0], x[1], y[1]] for x, y in sides]) / 64


# Oracles from elsewhere


def coco_iou(a, b):
    """Intersection over union by pycocotools, which wants (x, y, width, height)."""
    a, b = (np.hstack([boxes[:, :2], boxes[:, 2:] - boxes[:, :2]]) for boxes in (a, b))
    return coco.iou(a, b, [0] * len(b))


def shapely_giou(a, b):
    """Generalised IoU by shapely's polygons: the hull is the envelope of the union."""
    a, b = shapely.box(*a), shapely.box(*b)
    union, hull = a.union(b).area, a.union(b).envelope.area
    return a.intersection(b).area / union - (hull - union) / hull


def default_costs(a, b):
    return np.array([[5 * sum(abs(p - q)) - 2 * shapely_giou(p, q) for q in b] for p in a])


@given(unit_boxes(), unit_boxes())
def test_iou_is_that_of_pycocotools(a, b):
    np.testing.assert_allclose(iou_and_giou(a, b)[0], coco_iou(a, b), atol=1e-12)


@given(unit_boxes(), unit_boxes())
def test_giou_is_that_of_shapely(a, b):
    expected = [[shapely_giou(p, q) for q in b] for p in a]
    np.testing.assert_allclose(iou_and_giou(a, b)[1], expected, atol=1e-12)


@given(unit_boxes(), unit_boxes())
def test_matching_is_one_to_one_and_the_cheapest_of_all(answer, truth):
    matches = score(answer, truth).matches
    pairs = min(len(answer), len(truth))
    assert len(matches) == len({m[0] for m in matches}) == len({m[1] for m in matches}) == pairs

    cost = default_costs(answer, truth)
    table = cost if len(answer) <= len(truth) else cost.T
    cheapest = min(
        sum(table[i, j] for i, j in enumerate(columns))
        for columns in itertools.permutations(range(table.shape[1]), pairs)
    )
    assert sum(cost[i, j] for i, j, _ in matches) == pytest.approx(cheapest, abs=1e-7)


@given(unit_boxes(), unit_boxes())
def test_parts_follow_from_the_matches_by_the_papers_formulas(answer, truth):
    config = RewardConfig(format_weight=0.2, f1_weight=0.3, iou_weight=0.7, match_iou=0.25)
    result = score(answer, truth, config)
    overlaps = [coco_iou(answer, truth)[i, j] for i, j, _ in result.matches]
    found = sum(overlap >= 0.25 for overlap in overlaps)
    p, r = found / len(answer), found / len(truth)
    f1 = 2 * p * r / (p + r) if found else 0.0
    assert (result.precision, result.recall) == (p, r)
    assert result.f1 == pytest.approx(f1)
    assert result.iou == pytest.approx(np.mean(overlaps))
    assert result.total == pytest.approx(0.8 * (0.3 * f1 + 0.7 * np.mean(overlaps)) + 0.2)


# Worked examples


def test_worked_example_one_found_and_one_too_small():
    # Box 0 is the upper half of truth 1: IoU 0.125 / 0.25 = 0.5, which just counts.
    # Box 1 is a quarter of truth 0: IoU 0.0625 / 0.25 = 0.25, which does not.
    answer = "[[500, 500, 1000, 750], [0, 0, 250, 250]]"
    result = score(answer, TRUTH)
    assert result.matches == ((0, 1, 0.5), (1, 0, 0.25))
    assert result.format == 1.0
    assert result.precision == result.recall == result.f1 == 0.5  # 1 of 2, 1 of 2
    assert result.iou == 0.375  # (0.5 + 0.25) / 2
    # 0.9 * (0.5 * 0.5 + 0.5 * 0.375) + 0.1 * 1 = 0.9 * 0.4375 + 0.1
    assert result.total == pytest.approx(0.49375, abs=1e-15)


def test_worked_example_literal_reading_counts_every_matched_pair():
    result = score("[[500, 500, 1000, 750], [0, 0, 250, 250]]", TRUTH, LITERAL)
    assert result.f1 == 1.0
    assert result.iou == 0.375
    # 0.9 * (0.5 * 1 + 0.5 * 0.375) + 0.1 = 0.9 * 0.6875 + 0.1
    assert result.total == pytest.approx(0.71875, abs=1e-15)


def test_worked_example_one_difference_missed():
    result = score("[[500, 500, 1000, 750]]", TRUTH)
    assert (result.precision, result.recall) == (1.0, 0.5)
    assert result.f1 == pytest.approx(2 / 3)
    assert result.iou == 0.5  # over the one matched pair
    # 0.9 * (0.5 * 2/3 + 0.5 * 0.5) + 0.1 = 0.9 * 7/12 + 0.1
    assert result.total == pytest.approx(0.625)


def test_worked_example_distance_decides_between_boxes_that_touch_nothing():
    # Neither box overlaps truth; L1 and GIoU still tell the near one from the far one.
    truth = [[0.0, 0.0, 0.125, 0.125]]
    assert score([[0.5, 0.5, 0.625, 0.625], [0.25, 0.0, 0.375, 0.125]], truth).matches == (
        (1, 0, 0.0),
    )


def test_a_valid_but_wrong_box_earns_the_format_alone():
    result = score("[[900, 900, 1000, 1000]]", TRUTH[:1])
    assert (result.format, result.f1, result.iou) == (1.0, 0.0, 0.0)
    assert result.total == pytest.approx(0.1)


# Properties


@given(unit_boxes(), unit_boxes(), st.sampled_from([0.25, 0.5, 1.0, None]))
def test_everything_lies_between_0_and_1(answer, truth, match_iou):
    result = score(answer, truth, RewardConfig(match_iou=match_iou))
    for name in ("total", "format", "f1", "iou", "precision", "recall"):
        value = getattr(result, name)
        assert type(value) is float
        assert 0.0 <= value <= 1.0


@given(unit_boxes())
def test_the_truth_earns_1_in_every_frame(truth):
    for coordinates in ("norm1000", "unit", "pixel"):
        text = format_boxes(truth, coordinates, (320, 240), exact=True)
        result = score(text, truth, coordinates=coordinates, size=(320, 240))
        assert (result.total, result.f1) == (1.0, 1.0)


def test_weights_that_add_up_to_a_hair_over_1_still_earn_no_more_than_1():
    config = RewardConfig(f1_weight=0.5, iou_weight=0.5000000001)
    assert score(TRUTH, TRUTH, config).total == 1.0


@given(unit_boxes(), unit_boxes())
def test_text_and_numbers_are_scored_alike(answer, truth):
    assert score(format_boxes(answer, exact=True), truth) == score(answer, truth)
    assert score(answer.tolist(), truth.tolist()) == score(answer, truth)


@settings(max_examples=300)
@given(unit_boxes(high=8), unit_boxes(high=8), st.randoms(use_true_random=False))
def test_the_order_of_boxes_does_not_matter(answer, truth, random):
    """On so coarse a grid matchings often tie, even in cost and IoU at once."""
    mixed_answer = np.array(random.sample(answer.tolist(), len(answer)))
    mixed_truth = np.array(random.sample(truth.tolist(), len(truth)))
    assert score(mixed_answer, mixed_truth).total == pytest.approx(score(answer, truth).total)


def test_of_matchings_that_cost_the_same_the_one_that_earns_more_counts():
    """Here some tie even in cost and summed IoU, and find two differences or only one."""
    answer = [[0, 0, 0.5, 0.5], [0, 0, 1, 1], [0.5, 0.5, 1, 1], [0, 0.5, 1, 1]]
    truth = [[0.5, 0, 1, 0.5], [0.5, 0, 1, 0.5], [0, 0.5, 0.5, 1], [0, 0.5, 1, 1]]
    for order in itertools.permutations(answer):
        assert score(order, truth).f1 == 0.5


@given(unit_boxes(), unit_boxes())
def test_mirrored_images_earn_the_same(answer, truth):
    def mirrored(boxes):
        return np.stack([1 - boxes[:, 2], boxes[:, 1], 1 - boxes[:, 0], boxes[:, 3]], axis=1)

    def turned(boxes):
        return boxes[:, [1, 0, 3, 2]]

    expected = pytest.approx(score(answer, truth).total)
    assert score(mirrored(answer), mirrored(truth)).total == expected
    assert score(turned(answer), turned(truth)).total == expected


FAR = np.array([[63, 63, 64, 64]]) / 64  # costs more than any match within the first quarter


@given(unit_boxes(high=16, least=3), unit_boxes(high=16, most=3))
def test_a_far_box_too_many_never_pays(answer, truth):
    before, after = score(answer, truth), score(np.vstack([answer, FAR]), truth)
    assert after.total <= before.total + 1e-12
    assert after.precision <= before.precision


@given(unit_boxes(high=16), st.data())
def test_a_far_box_beside_right_ones_never_pays(truth, data):
    """Not even in place of differences that were missed."""
    answer = truth[: data.draw(st.integers(1, len(truth)))]
    assert score(np.vstack([answer, FAR]), truth).total < score(answer, truth).total


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
    assert score(answer, TRUTH) == NOTHING


def test_identical_boxes_overlap_fully_however_small():
    for side in (1e-3, 1e-9, 1e-150):
        truth = [[0.0, 0.0, side, side]]
        assert score(truth, truth).total == 1.0
        assert score(truth, truth).iou == 1.0


def test_spam_behind_the_right_box_costs():
    # F1 is 2 / (N + 1); the IoU of the one matched pair stays 1.
    spam = "[800, 800, 900, 900]"
    for n in (2, 10, 51):
        result = score(f"[[0, 0, 500, 500]{f', {spam}' * (n - 1)}]", TRUTH[:1])
        assert result.f1 == pytest.approx(2 / (n + 1))
        assert result.total == pytest.approx(0.9 * (0.5 * 2 / (n + 1) + 0.5) + 0.1)


def test_repeating_the_right_box_costs():
    totals = [score([TRUTH[0].tolist()] * n, TRUTH[:1]).total for n in (1, 2, 3, 10)]
    assert totals == sorted(totals, reverse=True)
    assert totals[0] == 1.0 > totals[1]
    # Nor does it stand in for the difference not found: 1 of 2 boxes, 1 of 2 differences.
    assert score([TRUTH[0].tolist()] * 2, TRUTH).f1 == 0.5


@given(unit_boxes(least=6, most=9), unit_boxes(most=2))
def test_finding_all_loosely_beats_three_boxes_for_every_difference(spam, truth):
    """Whatever those hit: found at IoU 0.5, all differences earn 0.775."""
    loose = truth.copy()
    loose[:, 2] = (truth[:, 0] + truth[:, 2]) / 2
    assert score(loose, truth).total == pytest.approx(0.775)
    assert score(np.vstack([truth, spam]), truth).total < 0.775


def test_one_box_over_the_whole_image_finds_nothing_small():
    assert score("[[0, 0, 1000, 1000]]", TRUTH[:1]).f1 == 0.0


def test_a_hundred_thousand_boxes_are_scored():
    low = np.random.default_rng(0).uniform(0, 0.9, (10**5, 2))
    result = score(np.hstack([low, low + 0.1]), TRUTH)
    assert len(result.matches) == 2
    assert result.f1 < 1e-4


NUMBERS = st.one_of(
    st.floats(), st.integers(), st.booleans(), st.none(), st.text(max_size=2), st.just(10**400)
)


@given(st.lists(st.one_of(NUMBERS, st.lists(NUMBERS, max_size=5)), max_size=4))
def test_no_list_that_a_policy_may_give_raises(answer):
    assert 0.0 <= score(answer, TRUTH).total <= 1.0


@given(st.text())
def test_no_text_that_a_policy_may_give_raises(answer):
    assert 0.0 <= score(answer, TRUTH).total <= 1.0


# A caller's mistakes


@pytest.mark.parametrize("answer", [None, 3, b"[[0, 0, 1, 1]]", {"bbox_2d": [0, 0, 1, 1]}])
def test_an_answer_that_is_neither_text_nor_boxes_raises(answer):
    with pytest.raises(TypeError, match="text, or boxes"):
        score(answer, TRUTH)


@pytest.mark.parametrize("truth", [[], np.empty((0, 4))])
def test_no_truth_raises(truth):
    with pytest.raises(ValueError, match="at least one difference"):
        score("[[0, 0, 500, 500]]", truth)


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
        ({"format_weight": -0.1}, "format_weight is -0.1"),
        ({"format_weight": 1.1}, "format_weight is 1.1"),
        ({"format_weight": math.nan}, "format_weight is nan"),
        ({"f1_weight": 0.7}, "add up to 1"),
        ({"f1_weight": 1.5, "iou_weight": -0.5}, "f1_weight is 1.5"),
        ({"match_iou": 0.0}, "None counts every pair"),
        ({"match_iou": 50}, "match_iou is 50"),
        ({"l1_cost": -1.0}, "l1_cost is -1"),
        ({"giou_cost": math.inf}, "giou_cost is inf"),
        ({"l1_cost": 0.0, "giou_cost": 0.0}, "both 0"),
    ],
)
def test_a_weight_out_of_range_raises(setting, message):
    with pytest.raises(ValueError, match=message):
        RewardConfig(**setting)


@pytest.mark.parametrize("setting", [{"f1_weight": "0.5"}, {"l1_cost": None}, {"giou_cost": True}])
def test_a_weight_that_is_no_number_raises(setting):
    with pytest.raises(TypeError, match="must be a number"):
        RewardConfig(**setting)
