"""What an answer is worth: formulas, oracles from elsewhere, and properties."""

import itertools

import numpy as np
import pytest
import shapely
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from dig_env import REWARDS, RewardConfig, score
from dig_env.answers import format_boxes
from dig_env.boxes import iou_and_giou
from dig_env.frames import COORDINATES

try:
    import torch
    from transformers.loss.loss_for_object_detection import generalized_box_iou
except ModuleNotFoundError:  # make test-pythons
    torch = None

TRUTH = np.array([[0.0, 0.0, 0.5, 0.5], [0.5, 0.5, 1.0, 1.0]])
NOTHING_DIFFERS = np.empty((0, 4))
PARTS = ("format", "f1", "iou")
MONOTONIC = [name for name in REWARDS if name != "paper"]


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


def detr_giou(a, b):
    """Generalised IoU as transformers implements it for DETR."""
    if torch is None:
        pytest.skip("needs torch and transformers")
    return generalized_box_iou(torch.tensor(a), torch.tensor(b)).numpy()


def detr_costs(a, b):
    """DETR's cost, of corners instead of centres and sizes."""
    return 5 * np.abs(a[:, None] - b).sum(axis=-1) - 2 * detr_giou(a, b)


def assignments(answered, true):
    """All ways to match min(answered, true) pairs one to one, as lists of (answer, truth)."""
    if answered <= true:
        for columns in itertools.permutations(range(true), answered):
            yield list(enumerate(columns))
    else:
        for rows in itertools.permutations(range(answered), true):
            yield [(row, column) for column, row in enumerate(rows)]


def plain_total_of(iou, pairs, config):
    """The total of one matching, written out as in docs/reward.md."""
    overlaps = [iou[pair] for pair in pairs]
    answered, true = iou.shape
    if config.match_iou is None:
        found = len(pairs)
    elif config.soft:
        found = sum(min(overlap / config.match_iou, 1) for overlap in overlaps)
    else:
        found = sum(overlap >= config.match_iou for overlap in overlaps)
    p, r = found / answered, found / true
    f1 = 2 * p * r / (p + r) if found else 0.0
    if config.exact:
        f1 = 1.0 if found == answered == true else 0.0
    over = len(pairs) if config.iou_mean == "matched" else max(answered, true)
    accuracy = config.f1_weight * f1 + config.iou_weight * sum(overlaps) / over
    return (1 - config.format_weight) * accuracy + config.format_weight


@given(unit_boxes(), unit_boxes())
def test_iou_is_that_of_pycocotools(a, b):
    iou = [[iou_and_giou(p, q)[0] for q in b] for p in a]
    np.testing.assert_allclose(iou, coco_iou(a, b), atol=1e-12)


@given(unit_boxes(), unit_boxes())
def test_giou_is_that_of_shapely_and_of_detr(a, b):
    giou = [[iou_and_giou(p, q)[1] for q in b] for p in a]
    expected = [[shapely_giou(p, q) for q in b] for p in a]
    np.testing.assert_allclose(giou, expected, atol=1e-12)
    np.testing.assert_allclose(giou, detr_giou(a, b), atol=1e-12)


@given(unit_boxes(), unit_boxes(), st.sampled_from([*REWARDS]))
def test_matching_is_one_to_one(answer, truth, name):
    matches = score(answer, truth, REWARDS[name]).matches
    pairs = min(len(answer), len(truth))
    assert len(matches) == len({m[0] for m in matches}) == len({m[1] for m in matches}) == pairs


@settings(deadline=None)
@given(unit_boxes(most=6), unit_boxes(most=6), st.sampled_from(MONOTONIC))
def test_of_all_matchings_the_one_that_earns_most_counts(answer, truth, name):
    config = REWARDS[name]
    overlaps = coco_iou(answer, truth)
    best = max(
        plain_total_of(overlaps, pairs, config) for pairs in assignments(len(answer), len(truth))
    )
    assert score(answer, truth, config).total == pytest.approx(best, abs=1e-7)


@given(unit_boxes(most=6), unit_boxes(most=6))
def test_paper_takes_the_cheapest_of_all_matchings(answer, truth):
    matches = score(answer, truth, REWARDS["paper"]).matches
    cost = detr_costs(answer, truth)
    cheapest = min(
        sum(cost[pair] for pair in pairs) for pairs in assignments(len(answer), len(truth))
    )
    assert sum(cost[i, j] for i, j, _ in matches) == pytest.approx(cheapest, abs=1e-6)


@given(unit_boxes(), unit_boxes(), st.sampled_from([*REWARDS]))
def test_the_total_follows_from_the_matches_by_the_formulas(answer, truth, name):
    result = score(answer, truth, REWARDS[name])
    overlaps = coco_iou(answer, truth)
    pairs = [(i, j) for i, j, _ in result.matches]
    assert result.total == pytest.approx(plain_total_of(overlaps, pairs, REWARDS[name]))
    weights = REWARDS[name].weights
    total = 0.0
    for part in PARTS:
        total += weights[part] * getattr(result, part)  # sum() compensates from Python 3.12 on
    assert result.total == min(total, 1.0)  # to the last bit: trainers may add up the parts


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


def test_worked_example_paper_counts_every_matched_pair():
    result = score("[[500, 500, 1000, 750], [0, 0, 250, 250]]", TRUTH, REWARDS["paper"])
    assert result.f1 == 1.0
    assert result.iou == 0.375
    # 0.9 * (0.5 * 1 + 0.5 * 0.375) + 0.1 = 0.9 * 0.6875 + 0.1
    assert result.total == pytest.approx(0.71875, abs=1e-15)


def test_worked_example_dense_counts_half_of_half_an_overlap():
    result = score("[[500, 500, 1000, 750], [0, 0, 250, 250]]", TRUTH, REWARDS["dense"])
    assert result.f1 == 0.75  # (1 + 0.25 / 0.5) / 2 of each
    # 0.9 * (0.5 * 0.75 + 0.5 * 0.375) + 0.1 = 0.9 * 0.5625 + 0.1
    assert result.total == pytest.approx(0.60625, abs=1e-15)


def test_worked_example_one_difference_missed():
    result = score("[[500, 500, 1000, 750]]", TRUTH)
    assert (result.precision, result.recall) == (1.0, 0.5)
    assert result.f1 == pytest.approx(2 / 3)
    assert result.iou == 0.25  # 0.5 over two differences
    # 0.9 * (0.5 * 2/3 + 0.5 * 0.25) + 0.1 = 0.9 * 11/24 + 0.1
    assert result.total == pytest.approx(0.5125)
    # The paper's mean is over the one matched pair: 0.9 * (0.5 * 2/3 + 0.5 * 0.5) + 0.1
    assert score("[[500, 500, 1000, 750]]", TRUTH, REWARDS["paper"]).total == pytest.approx(0.625)


def test_worked_example_one_box_too_many():
    result = score("[[100, 100, 300, 200], [500, 500, 600, 600]]", [[0.1, 0.1, 0.3, 0.3]])
    assert (result.precision, result.recall) == (0.5, 1.0)
    assert result.iou == pytest.approx(0.25)  # 0.5 over two boxes
    # 0.9 * (0.5 * 2/3 + 0.5 * 0.25) + 0.1
    assert result.total == pytest.approx(0.5125)


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


@given(unit_boxes(least=0), unit_boxes(least=0), st.sampled_from([*REWARDS]))
def test_everything_lies_between_0_and_1(answer, truth, preset):
    result = score(answer, truth, REWARDS[preset])
    for name in ("total", "format", "f1", "iou", "precision", "recall"):
        value = getattr(result, name)
        assert type(value) is float
        assert 0.0 <= value <= 1.0


@settings(deadline=None)  # Qwen2.5-VL's processor is imported on first use
@given(unit_boxes(least=0), st.sampled_from([*REWARDS]))
def test_the_truth_earns_1_in_every_frame_and_preset(truth, preset):
    size = (320, 280)
    for coordinates in COORDINATES:
        text = format_boxes(truth, coordinates, size, exact=True)
        result = score(text, truth, REWARDS[preset], coordinates=coordinates, size=size)
        assert result.total == pytest.approx(1.0, abs=1e-14)
        if coordinates in ("norm1000", "unit"):
            assert (result.total, result.f1) == (1.0, 1.0)


def test_where_nothing_differs_the_empty_list_is_right_and_only_that():
    for config in REWARDS.values():
        result = score("[]", NOTHING_DIFFERS, config)
        assert (result.total, result.format, result.f1, result.iou) == (1.0, 1.0, 1.0, 1.0)
        assert score("Nothing differs: []", [], config).total == 1.0
        assert score(NOTHING_DIFFERS, [], config).total == 1.0
        assert score("Nothing differs.", [], config).total == 0.0
        assert score("[[]]", [], config).total == 0.0
        wrong = score("[[0, 0, 500, 500]]", [], config)
        assert (wrong.total, wrong.f1, wrong.recall) == (config.format_weight, 0.0, 0.0)
        assert score("[]", TRUTH, config).total == 0.0


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


def moved(box, towards, share):
    return box + share * (towards - box)


@settings(max_examples=300)
@given(unit_boxes(), unit_boxes(), st.floats(0, 1), st.data())
def test_dense_never_falls_when_a_box_moves_towards_its_difference(answer, truth, share, data):
    """docs/reward.md proves it: the IoU never falls on the way."""
    before = score(answer, truth, REWARDS["dense"])
    row, column, _ = data.draw(st.sampled_from(before.matches))
    closer = answer.copy()
    closer[row] = moved(answer[row], truth[column], share)
    assert score(closer, truth, REWARDS["dense"]).total >= before.total - 1e-9


@settings(max_examples=300)
@given(unit_boxes(), unit_boxes(), unit_boxes(most=1), st.sampled_from(MONOTONIC))
def test_a_box_that_overlaps_no_difference_never_pays(answer, truth, wrong, name):
    """docs/reward.md proves it."""
    assume(coco_iou(wrong, truth).max() == 0)
    before = score(answer, truth, REWARDS[name])
    after = score(np.vstack([answer, wrong]), truth, REWARDS[name])
    assert after.total <= before.total + 1e-9
    assert after.precision <= before.precision


@given(unit_boxes(), unit_boxes(), st.sampled_from(MONOTONIC))
def test_an_answer_given_twice_over_never_pays(answer, truth, name):
    """As long as each box has one difference to find at most: on disjoint boxes."""
    assume((coco_iou(answer, truth) > 0).sum(axis=1).max() <= 1)
    twice = score(np.vstack([answer, answer]), truth, REWARDS[name]).total
    assert twice <= score(answer, truth, REWARDS[name]).total + 1e-9


@given(unit_boxes(), st.data(), st.sampled_from(MONOTONIC))
def test_a_further_difference_found_always_pays(truth, data, name):
    """But for the format alone."""
    assume(name != "format")
    assume(coco_iou(truth, truth).sum() == len(truth))  # disjoint
    some = data.draw(st.integers(1, len(truth)))
    if some < len(truth):
        fewer = score(truth[:some], truth, REWARDS[name]).total
        assert score(truth[: some + 1], truth, REWARDS[name]).total > fewer


def test_paper_is_not_monotonic():
    """Why "full" departs from the paper, as an example: three boxes in the corners pay."""
    truth = [[0.4, 0.4, 0.5, 0.5], [0.5, 0.4, 0.6, 0.5], [0.4, 0.5, 0.5, 0.6]]
    one = [[0.41, 0.4, 0.51, 0.5]]
    spam = [*one, [0, 0, 0.1, 0.1], [0.9, 0.9, 1, 1]]
    assert score(spam, truth, REWARDS["paper"]).f1 == 1.0
    assert score(spam, truth, REWARDS["full"]).total < score(one, truth, REWARDS["full"]).total
