"""All of an answer is read, or it is refused with the reason."""

import json
import string

import pytest
from answer_reading import BOTH_UNIT, BOX, BOX_UNIT, OTHER, OTHER_UNIT, SIZE, boxes_of, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from dig_env import score
from dig_env.answers import parse_boxes

# Several lists


@pytest.mark.parametrize(
    "text",
    [
        '{"bbox_2d": [120, 300, 210, 400]}\n{"bbox_2d": [500, 500, 600, 600], "label": "ball"}',
        '```json\n{"bbox_2d": [120, 300, 210, 400]}\n```\n```json\n'
        '{"bbox_2d": [500, 500, 600, 600]}\n```',
        '{"bbox_2d": [120, 300, 210, 400]}, {"bbox_2d": [500, 500, 600, 600]}',
        f"{BOX}\n\n{OTHER}",
        f"**{BOX}**; ({OTHER})",
        f"The differences are {BOX} and {OTHER}.",
        f"<ref>cube</ref><box>{BOX}</box> <ref>ball</ref><box>{OTHER}</box>",
        f"1. colour <|begin_of_box|>{BOX}<|end_of_box|>\n"
        f"2. shape <|begin_of_box|>{OTHER}<|end_of_box|>",
        f"1. **Cube**: {BOX}\n2. **Ball**: {OTHER}",
        f"Two things differ:\n\n- {BOX}: the cube.\n\n- {OTHER}: the ball.\n\nThat is all.",
        f"1) {BOX} 2) {OTHER}",
    ],
)
def test_a_list_for_each_difference_is_one_answer(text):
    assert boxes_of(text) == BOTH_UNIT
    assert score(text, BOTH_UNIT).total == 1.0


@pytest.mark.parametrize(
    "text",
    [
        f"First I saw {BOX}, then {OTHER}.",
        f"{BOX}, or else {OTHER}",
        f"Image A: {BOX}\nImage B: {OTHER}",
        f"{BOX} -> {OTHER}",
        f"~~{BOX}~~ {OTHER}",
        f"1. First guess: {BOX}. 2. Better: {OTHER}",
    ],
)
def test_lists_of_which_any_may_be_the_answer_are_refused(text):
    assert "several lists" in refusal(text)


@pytest.mark.parametrize(
    "text",
    [
        f"The cube at {BOX} differs. My answer: {BOX}",
        f"The cube at {BOX} and the ball at {OTHER} differ: "
        "[[500, 500, 600, 600], [120, 300, 210, 400]]",
        f'{BOX}\n```json\n[{{"bbox_2d": [120, 300, 210, 400]}}]\n```',
        f"The cube [120, 300, 210, 400] differs: {BOX}",
        f"From (120, 300) to (210, 400), so {BOX}",
    ],
)
def test_what_the_last_list_says_again_is_no_other_answer(text):
    assert sorted(boxes_of(text)) == (BOTH_UNIT if "500" in text else BOX_UNIT)


@pytest.mark.parametrize(
    "draft",
    ["Final answer: ", "**Final:** ", "### Final Answer\n\n", "2. Final: ", "My answer is: "],
)
def test_after_a_final_answer_what_was_said_before_does_not_count(draft):
    assert boxes_of(f"Candidates: {OTHER}\n{draft}{BOX}") == BOX_UNIT
    assert "no list of boxes" in refusal(f"Candidates: {OTHER}\n{draft}I cannot tell.")
    assert "several lists" in refusal(f"{draft}{OTHER} or\n{draft}{BOX}")


@pytest.mark.parametrize("words", ["no,", "Wait, no:", "Oh, sorry, actually", "... hmm, wait:"])
def test_a_list_that_is_taken_back_does_not_count(words):
    assert boxes_of(f"{OTHER} {words} {BOX}") == BOX_UNIT
    assert parse_boxes(f"{OTHER} {words} []").empty
    assert boxes_of(f"1. {OTHER} no longer red\n2. {BOX} no more") == OTHER_UNIT + BOX_UNIT


@pytest.mark.parametrize(
    "label", ["Draft:", "**Scratchpad:**", "### Reasoning\n", "Thought: maybe", "1. Analysis of A:"]
)
def test_the_paragraph_of_a_draft_does_not_count(label):
    assert "a draft" in refusal(f"{label} {OTHER}")
    assert "a draft" in refusal(f"{label}\n{OTHER}\n[]")
    assert boxes_of(f"{label} {OTHER}\n\n{BOX}") == BOX_UNIT


# Notations that are not read

UNREAD = {
    "a Python literal": "[{'bbox_2d': [120, 300, 210, 400], 'label': 'cube'}]",
    "tuples": "[(120, 300, 210, 400)]",
    "one bracket": "[120, 300, 210, 400]",
    "two brackets": "[120, 300], [210, 400]",
    "Qwen2-VL": "<|box_start|>(120,300),(210,400)<|box_end|>",
    "plain numbers": "120, 300, 210, 400",
    "Florence": "<loc_120><loc_300><loc_210><loc_400>",
    "PaliGemma": "<loc0300><loc0120><loc0400><loc0210> cube",
    "tags": "<box>120 300 210 400</box>",
    "named": "x_min: 120, y_min: 300, x_max: 210, y_max: 400",
    "numbered": "x1=120, y1=300, x2=210, y2=400",
    "in words": "top-left (120, 300), bottom-right (210, 400)",
    "an object": '{"x": 120, "y": 300, "width": 90, "height": 100}',
    "a list in an object": '{"boxes": [[120, 300, 210, 400]]}',
    "strings": '["120, 300, 210, 400"]',
    "another key": '[{"box_2d": [300, 120, 400, 210]}]',
    "two boxes in one": '{"bbox_2d": [[120, 300, 210, 400], [1, 1, 2, 2]]}',
    "a key twice": '{"bbox_2d": [120, 300, 210, 400], "bbox_2d": [1, 1, 2, 2]}',
    "another box in a row": '{"bbox_2d": [120, 300, 210, 400], "in_b": [1, 1, 2, 2]}',
    "boxes within a row": '[{"bbox_2d": [1, 1, 2, 2], "parts": [{"bbox_2d": [3, 3, 4, 4]}]}]',
    "cut off": '[{"bbox_2d": [120, 300, 210, 400]}, {"bbox_2d": [3',
    "a line cut off": '{"label": "cub',
    "barely begun": "[",
}


@pytest.mark.parametrize("notation", UNREAD.values(), ids=UNREAD)
def test_beside_a_notation_that_is_not_read_nothing_else_is_the_answer(notation):
    for text in (
        notation,
        f"First guess {OTHER}.\nFinal: {notation}",
        f"First guess {OTHER}.\nThen {notation}",
        f"{OTHER}\n{notation}",
        f"Perhaps: []\n{notation}",
    ):
        refusal(text)
    if notation not in ("[", '{"label": "cub'):
        refusal(f"{notation}\n{OTHER}")
        refusal(f"{notation}\n[]")


@pytest.mark.parametrize(
    "prose",
    [
        'One object [1] changed, from [0, 1) to 5" {a}, as I said (see [2] and [[3]](#a)).',
        "There are 3 cubes, 2 balls and 1 cylinder; images 1 and 2 have 320x240 pixels.",
        "The cube at (165, 350) is red.",
        "1. colour\n2. shape\n3. size\n4. material",
    ],
)
def test_other_brackets_and_numbers_are_prose(prose):
    assert boxes_of(f"{prose} {BOX}") == boxes_of(f"{BOX} {prose}") == BOX_UNIT


@given(
    st.lists(st.text(string.ascii_letters + ".,;:!?'", min_size=1, max_size=9), max_size=30),
    st.sampled_from([BOX, f"{BOX}, {OTHER}", f"```json\n{BOX}\n```", "[[1, 1"]),
)
def test_words_after_the_answer_change_nothing(words, answer):
    before, after = parse_boxes(answer), parse_boxes(f"{answer} {' '.join(words)}")
    assert after.boxes.tolist() == before.boxes.tolist()


ROW = st.tuples(st.integers(0, 500), st.integers(0, 500)).map(lambda p: [*p, p[0] + 99, p[1] + 99])


@settings(max_examples=200)
@given(st.lists(st.lists(ROW, min_size=1, max_size=2), min_size=1, max_size=3), st.data())
def test_all_boxes_of_an_answer_are_read_or_none(lists, data):
    """Whatever stands between lists: what is read has every box that any of them has."""
    between = [
        "\n",
        ", ",
        " or ",
        "\n2. ",
        " then (1, 2, 3, 4) ",
        " [] ",
        "\nImage B: ",
        "\n- so: ",
    ]
    text = data.draw(st.sampled_from(["", "1. ", "- cube ", "A: "])) + json.dumps(lists[0])
    for rows in lists[1:]:
        text += data.draw(st.sampled_from(between)) + json.dumps(rows)
    parsed = parse_boxes(text)
    read = {tuple(box) for box in (parsed.boxes * 1000).round().astype(int).tolist()}
    assert not read or read == {tuple(box) for rows in lists for box in rows}


# Reasons


@pytest.mark.parametrize(
    ("text", "found", "needed"),
    [
        ('[{"bbox": [120, 300, 210, 400]}]', "bbox", '"bbox_2d"'),
        ('[{"box_2d": [300, 120, 400, 210], "label": "cube"}]', "box_2d", '"bbox_2d"'),
        ('{"boxes": [[120, 300, 210, 400]]}', "an object with 'boxes'", "write the list alone"),
        ('{"objects": [{"bbox_2d": [1, 2, 3, 4]}]}', "an object with 'objects'", "the list alone"),
        ("[{'bbox_2d': [1, 2, 3, 4]}]", "[{'bbox", "double quotes"),
        ("[120, 300, 210, 400]", "120, 300, 210, 400", "each box in brackets, and a list"),
        ("[[120, 300, 210, 400],]", "210, 400],]", "a comma before ']'"),
        ("[[120, 300, 210", "300, 210", "cut off"),
        ("<|box_start|>(120,300),(210,400)<|box_end|>", "120,300),(210,400", "[[x0, y0, x1, y1]]"),
        ('{"bbox_2d": [[1, 2, 3, 4]]}', "[[1, 2, 3, 4]]", "four numbers [x0, y0, x1, y1]"),
        ('[["1", "2", "3", "4"]]', "['1', '2', '3', '4']", "four numbers"),
        ("[[1, 2, 3]]", "[1, 2, 3]", "four numbers"),
        ("[[700, 100, 650, 180]]", "[700, 100, 650, 180]", "x0 < x1"),
        ("[[1200, 300, 1400, 400]]", "[1200, 300, 1400, 400]", "1000 x 1000"),
        ("[[0, 0, NaN, 1]]", "not finite", "number"),
        ("[" * 100 + "]" * 100, "nest", "64"),
        ('{"bbox_2d": [1, 2, 3, 4], "b": [5, 6, 7, 8]}', "under 'b'", "each box a row"),
        ("see []", '"[]" within other text', "nothing else"),
        (f"{BOX}, or else {OTHER}", "', or else'", "one list with all boxes"),
        (f"{BOX} and 5, 6, 7, 8", "5, 6, 7, 8", "one list with all boxes"),
        ('{"bbox_2d": [1, 2, 3, 4], "bbox_2d": [1, 2, 3, 4]}', "bbox_2d", "a key stands twice"),
    ],
)
def test_a_refusal_names_what_was_found_and_what_is_needed(text, found, needed):
    error = refusal(text)
    assert found in error and needed in error
    assert len(error) < 250


def test_numbers_that_look_like_those_of_another_frame_are_read_and_pointed_out():
    """Read, since which frame was meant would be a guess; so the format is earned."""
    for text, frame, hint in (
        ("[[0.12, 0.3, 0.21, 0.4]]", {}, "within 0 to 1"),
        ("[[0.12, 0.3, 0.21, 0.4]]", {"coordinates": "pixel", "size": SIZE}, "within 0 to 1"),
        ("[[200, 300, 1900, 1000]]", {}, "from 200 to 1900"),
        ("[[0.5, 0.5, 600, 600]]", {"coordinates": "unit"}, "from 0.5 to 600"),
        ("[[100, 200, 900, 900]]", {"coordinates": "pixel", "size": SIZE}, "from 100 to 900"),
    ):
        result = score(text, BOX_UNIT, **frame)
        assert result.answer.ok and hint in result.answer.error
        assert result.format == 1.0
    for text, frame in (
        (BOX, {}),
        ("[[-5, 0, 1004, 1000]]", {}),
        ("[[0, 0, 1, 1]]", {"coordinates": "unit"}),
        ("[[3, 4, 320, 240]]", {"coordinates": "pixel", "size": SIZE}),
    ):
        assert parse_boxes(text, **frame).error == ""


def test_a_dialect_that_is_not_known_raises():
    assert parse_boxes(BOX, answers="strict").boxes.tolist() == BOX_UNIT
    with pytest.raises(ValueError, match="answers='loose': give one of strict"):
        parse_boxes(BOX, answers="loose")
    with pytest.raises(ValueError, match="give one of strict"):
        score(BOX, BOX_UNIT, answers="loose")
