"""What says that nothing differs, and what is worth nothing."""

import numpy as np
import pytest
from answer_reading import BOX, BOX_UNIT, refusal

from dig_env import REWARDS, score
from dig_env.answers import parse_boxes, read_boxes
from dig_env.envs.spaces import AnswerText

# Nothing differs


@pytest.mark.parametrize(
    "text",
    [
        "[]",
        " [ ]\n",
        "```json\n[]\n```",
        "Nothing differs: []",
        "**Answer:** []",
        "There is no difference.\n\n[]\n",
        "There is no difference. []",
        "\\boxed{[]}",
        "$[]$.",
        "<think>[[1, 1, 2, 2]]</think>[]",
        "<answer>[]</answer>",
        f"Candidates: {BOX}\nFinal answer: []",
        "Both images are equal: []. That is all.",
    ],
)
def test_an_empty_list_by_itself_says_that_nothing_differs(text):
    parsed = parse_boxes(text)
    assert parsed.empty and not parsed.ok and "empty" in parsed.error
    assert all(score(text, [], config).total == 1.0 for config in REWARDS.values())
    assert all(score(text, BOX_UNIT, config).total == 0.0 for config in REWARDS.values())


def test_numbers_without_boxes_say_it_too():
    assert read_boxes([]).empty and read_boxes(np.empty((0, 4))).empty


NO_NONE = [
    "",
    "<",
    "[",
    "Nothing differs.",
    "none",
    "null",
    "{}",
    "[[]]",
    "[{}]",
    "[1",
    "- [ ] colour\n- [x] shape",
    "* [ ]",
    "[ ] colour",
    "results = []",
    "results = []\nreturn results",
    "return []",
    "int a[] = {1, 2};",
    "let boxes: [] = none",
    "as in [] and [1]",
    "Perhaps []",
    "see [](http://a) or [ ]( )",
    "[]()",
    "[][1]",
    "Image A: []\nImage B: []",
    '{"differences": []}',
    '{"bbox_2d": []}',
    '[{"bbox_2d": []}]',
    "[[], []]",
    "Draft: []",
    "<scratchpad>[]</scratchpad>",
    "[120, 300, 210, 400]\n[]",
]


@pytest.mark.parametrize("text", NO_NONE)
def test_nothing_else_says_that_nothing_differs(text):
    assert not parse_boxes(text).empty
    assert all(score(text, [], config).total == 0.0 for config in REWARDS.values())


@pytest.mark.parametrize(
    "after",
    [
        "- [ ] colour\n- [x] shape",
        "No other differences: []",
        "Image B: []",
        "x = []",
        "[]",
        "[](a)",
    ],
)
def test_an_empty_list_beside_boxes_takes_nothing_away_and_earns_nothing(after):
    for text in (f"{BOX}\n{after}", f"{after}\n{BOX}"):
        assert score(text, BOX_UNIT).total == 1.0
        assert score(text, []).total == REWARDS["full"].format_weight


def test_noise_does_not_earn_where_nothing_differs():
    space = AnswerText()
    space.seed(0)
    texts = [space.sample() for _ in range(300)]
    short = [text[:length] for text in texts for length in (2, 5, 20, 200)]
    assert max(score(text, []).total for text in texts + short) == 0.0


@pytest.mark.parametrize(
    "text", ["", "<", "I see no difference.", "[120, 300, 210, 400]", '["<box>", "a"]', "{}", "[1"]
)
def test_text_without_a_list_of_boxes_is_refused(text):
    assert "no list of boxes" in refusal(text)


@pytest.mark.parametrize(
    "last",
    [
        "[[1, 1, 2, 2], [3, 3, 4",  # cut off
        "[[1, 1, 2, 2], [3, 3, 4, x]]",
        "[[[1, 1, 2, 2]], [3, 3, 4",
        '[{"bbox_2d": [1, 1, 2, 2]}, {"bbox_2d": [3, 3,',
        '[{"bbox_2d": [1, 1, x, 2]}, {"bbox_2d": [3, 3, 4, 4]}]',
        "[[1, 1, 2]]",
        "[[2, 2, 1, 1]]",
        "[[]]",
    ],
)
def test_a_list_that_is_bad_is_never_left_out(last):
    refusal(f"{BOX}\n{last}")
    refusal(f"{last}\n{BOX}")
