"""What an answer to an alignment task earns."""

import itertools
import string

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from dig_env import score
from dig_env.align import grade
from dig_env.align.questions import (
    BoxTruth,
    ChoiceTruth,
    DescriptionTruth,
    WordsTruth,
    YesNoTruth,
    write_answer,
)
from dig_env.align.words import ATTRIBUTES

SIZE = (320, 240)
BOX = np.array([0.1, 0.2, 0.3, 0.4])
CUBE = {"size": "small", "color": "red", "material": "metal", "shape": "cube"}
BALL = {"size": "large", "color": "blue", "material": "rubber", "shape": "sphere"}
BALL_BOX = np.array([0.5, 0.5, 0.9, 0.9])
SCENE = DescriptionTruth(((CUBE, BOX), (BALL, BALL_BOX)))
TRUTHS = [BoxTruth(BOX), WordsTruth(CUBE), ChoiceTruth(1, 4), YesNoTruth(True), SCENE]


def graded(answer, truth):
    return grade(answer, truth, "norm1000", SIZE)


# Boxes


@pytest.mark.parametrize(
    "answer", ["[[100, 200, 300, 400]]", "[[100, 200, 300, 300]]", "[[1, 2, 3, 4]]", "[]", "there"]
)
def test_a_box_earns_what_it_earns_everywhere(answer):
    assert graded(answer, BoxTruth(BOX)).reward == score(answer, BOX[None]).total


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("[[100, 200, 300, 400]]", True),
        ("[[100, 200, 300, 301]]", True),
        ("[[100, 200, 300, 299]]", False),
        ("[[100, 200, 300, 400], [100, 200, 300, 400]]", False),
        ("100, 200, 300, 400", False),
    ],
)
def test_one_box_of_half_the_overlap_is_right(answer, right):
    assert graded(answer, BoxTruth(BOX)).right is right


# Choices


@pytest.mark.parametrize(
    "answer",
    [
        "B",
        "b",
        "(B)",
        "(b)",
        "B.",
        "**B**",
        "Answer: B",
        "answer: b",
        "The answer is B.",
        "Option B",
        "B) the red cube",
        "A small red cube, so (B).",
        "It is crop B, a cube",
        "B is right. B!",
        "<think>A or C? (A)</think>B",
        "A <answer>B</answer>",
    ],
)
def test_a_letter_is_read(answer):
    assert graded(answer, ChoiceTruth(1, 4)) == grade("B", ChoiceTruth(1, 4), "unit", SIZE)
    assert graded(answer, ChoiceTruth(1, 4)).reward == 1.0
    assert graded(answer, ChoiceTruth(2, 4)).reward == 0.0


@pytest.mark.parametrize("answer", ["A", "(A)", "A is right", "Answer: A because it is red", "A."])
def test_an_a_is_a_letter_where_no_other_is_named(answer):
    assert graded(answer, ChoiceTruth(0, 4)).reward == 1.0


@pytest.mark.parametrize(
    "answer",
    ["A or B", "(A) (B)", "A, B, C, D", "B. (C)", "", "red cube", "<think>B", "Bob", "E", "B's"],
)
def test_two_letters_or_none_are_wrong(answer):
    assert graded(answer, ChoiceTruth(1, 4)).reward == 0.0


# Yes and no


@pytest.mark.parametrize(
    ("answer", "read"),
    [
        ("yes", "yes"),
        ("Yes.", "yes"),
        ("No, the image shows none.", "no"),
        ("<think>yes?</think>NO", "no"),
        ("yes <answer>no</answer>", "no"),
        ("yes or no", ""),
        ("yesterday nothing", ""),
        ("", ""),
    ],
)
def test_yes_or_no_is_read(answer, read):
    for yes in (True, False):
        result = graded(answer, YesNoTruth(yes))
        assert result.read == read
        assert result.reward == float(read == ("yes" if yes else "no"))
        assert bool(result.error) == (read == "")


# Descriptions


def test_a_description_earns_f1_times_the_attribute_share():
    cube, ball = "small red metal cube [100, 200, 300, 400]", "big blue ball [500, 500, 900, 900]"
    assert graded(f"{cube}\n{ball}", SCENE).reward == pytest.approx(2 * (1 + 0.75) / 4)
    assert graded(cube, SCENE).reward == pytest.approx(2 * 1 / 3)
    assert graded(f"{cube}; {cube}; {ball}", SCENE).reward == pytest.approx(2 * 1.75 / 5)
    assert graded("red thing [100, 200, 300, 400]", SCENE).reward == pytest.approx(2 * 0.25 / 3)
    assert graded(cube.replace("400]", "299]"), SCENE).reward == 0.0
    assert graded("small red metal cube", SCENE).reward == 0.0


def test_a_box_that_is_none_counts_as_an_item():
    right = write_answer(SCENE, "norm1000", SIZE)
    assert graded(right, SCENE).reward == 1.0
    for spoiler in ("[1, 2]", "[a cube]", "[9, 9, 1, 1]"):
        assert graded(f"{right} red {spoiler}", SCENE).reward == pytest.approx(4 / 5)


def test_double_brackets_are_boxes_too():
    right = write_answer(SCENE, "norm1000", SIZE).replace("[", "[[").replace("]", "]]")
    assert graded(right, SCENE).reward == 1.0


items = st.lists(
    st.tuples(
        st.sampled_from([CUBE, BALL, CUBE | {"color": "green"}]),
        st.sampled_from(
            [[100, 200, 300, 400], [110, 200, 310, 400], [500, 500, 900, 900], [1, 1, 9, 9]]
        ),
    ),
    max_size=4,
)


@settings(max_examples=60)
@given(items=items)
def test_the_matching_is_the_best_there_is(items):
    """Against all one-to-one matchings, counted out."""
    from shapely import box as rectangle

    def share(words, true, answered_box, true_box):
        one, other = rectangle(*answered_box), rectangle(*(true_box * 1000))
        iou = one.intersection(other).area / one.union(other).area
        return sum(words[n] == true[n] for n in ATTRIBUTES) / 4 if iou >= 0.5 else 0.0

    best = 0.0
    padded = [*items, *[None] * 2]
    for chosen in itertools.permutations(padded, 2):
        shares = [
            share(item[0], true, item[1], true_box)
            for item, (true, true_box) in zip(chosen, SCENE.objects, strict=True)
            if item is not None
        ]
        best = max(best, sum(shares))
    text = "\n".join(f"{' '.join(words.values())} {box}" for words, box in items)
    assert graded(text, SCENE).reward == pytest.approx(2 * best / (len(items) + 2))


# Anything


@settings(max_examples=200)
@given(
    text=st.one_of(
        st.text(max_size=300),
        st.text(alphabet="[](),.0123456789eE-+ AaBb", max_size=300),
        st.lists(
            st.sampled_from(
                ["yes", "no", " (B)", "A ", "[", "]", "<think>", "</think>", "red ", "[1,2,3,4]"]
            ),
            max_size=60,
        ).map("".join),
    )
)
@example("[[1e999, NaN, Infinity, 2]]")
def test_no_text_raises_and_all_earn_zero_to_one(text):
    for truth in TRUTHS:
        result = graded(text, truth)
        assert 0.0 <= result.reward <= 1.0
        assert result.right in (True, False)
        assert 0.0 <= result.iou <= 1.0


@pytest.mark.parametrize(
    "unit",
    [
        *"[](A,.\n ",
        "( ",
        "[ ",
        "[1,",
        "A ",
        "!a",
        "yes ",
        "red ",
        "<think>",
        "answer: ",
        "[[1,2,3,4]]",
    ],
)
@pytest.mark.parametrize("length", [60_000, 2_000_000])
def test_huge_texts_are_read_or_refused_at_once(unit, length):
    """A quadratic reader would take longer than the tests' time limit."""
    text = unit * (length // len(unit))
    for truth in TRUTHS:
        assert 0.0 <= graded(text, truth).reward <= 1.0


def test_an_answer_is_a_text():
    with pytest.raises(TypeError, match="not a int"):
        graded(1, YesNoTruth(True))


@pytest.mark.parametrize("truth", TRUTHS)
def test_naming_everything_earns_little(truth):
    everything = " ".join(
        [*string.ascii_uppercase, "yes no", *itertools.chain(*ATTRIBUTES.values())]
    )
    assert graded(everything, truth).reward == 0.0
