"""Which part of a response is the answer, and what is too costly to read."""

import time

import numpy as np
import pytest
from answer_reading import BOX, BOX_UNIT, OTHER, SIZE, boxes_of, refusal
from hypothesis import given, settings
from hypothesis import strategies as st

from dig_env.answers import MAX_ANSWER_LENGTH, ParsedAnswer, answer_part, parse_boxes, read_boxes
from dig_env.frames import COORDINATES

# Thoughts and tags

MARKS = {
    "DeepSeek, Qwen, GLM": ("<think>", "</think>"),
    "with an attribute": ('<think budget="9">', "</think>"),
    "prompts": ("<thinking>", "</thinking>"),
    "in capitals": ("<REASONING>", "</REASONING>"),
    "Exaone": ("<thought>", "</thought>"),
    "scratch pad": ("<scratch_pad>", "</scratch_pad>"),
    "draft": ("<draft>", "</draft>"),
    "Seed": ("<seed:think>", "</seed:think>"),
    "Mistral": ("[THINK]", "[/THINK]"),
    "Kimi": ("◁think▷", "◁/think▷"),
    "Cohere": ("<|START_THINKING|>", "<|END_THINKING|>"),
    "Open Thoughts": ("<|begin_of_thought|>", "<|end_of_thought|>"),
    "Apertus": ("<|inner_prefix|>", "<|inner_suffix|>"),
    "Gemma": ("<|channel>thought\n", "<channel|>"),
    "MedGemma": ("<unused94>thought\n", "<unused95>"),
    "gpt-oss": (
        "<|channel|>analysis<|message|>",
        "<|end|><|start|>assistant<|channel|>final<|message|>",
    ),
}


@pytest.mark.parametrize(("opening", "closing"), MARKS.values(), ids=MARKS)
def test_thoughts_are_no_answer_in_whatever_marks(opening, closing):
    assert boxes_of(f"{opening}{OTHER}{closing}{BOX}") == BOX_UNIT
    assert boxes_of(f"{OTHER}{closing}\n{BOX}") == BOX_UNIT  # opened by the chat template
    assert boxes_of(f"{opening}\n{opening}{OTHER}{closing}{BOX}") == BOX_UNIT  # by both
    for unfinished in (
        f"{opening}{OTHER}{closing}I cannot tell.",
        f"{opening}{OTHER}{closing}",
        f"{opening}{OTHER}",
        f"{opening}<answer>{OTHER}</answer>",
        f"{opening}[]",
        f"Let me look. {opening}Perhaps: []",
    ):
        assert "no list of boxes" in refusal(unfinished)


def test_thoughts_within_a_thought_do_not_end_it():
    assert boxes_of(f"<think>a <think>b</think> {OTHER}</think>{BOX}") == BOX_UNIT
    assert boxes_of(f"<think>a <reflection>b</reflection> {OTHER}</think>{BOX}") == BOX_UNIT
    assert boxes_of(f"<think>a <draft>never closed {OTHER}</think>{BOX}") == BOX_UNIT
    assert "no list of boxes" in refusal(f"<think>a <think>b</think> {OTHER}")
    assert "no list of boxes" in refusal(f"<think>a <reflection>b</reflection> {OTHER}")


def test_only_what_follows_the_last_think_tag_counts():
    assert boxes_of(f"<think>[[1, 1, 2, 2]]</think> no: </think>{BOX}") == BOX_UNIT
    assert "no list of boxes" in refusal(f"{BOX} it is </think> I cannot say.")


def test_an_answer_that_is_all_thought_is_told_so():
    assert "thoughts are no part of it" in refusal(f"<think>Perhaps {BOX}")


def test_further_words_of_a_row_do_not_matter():
    row = '{"bbox_2d": [120, 300, 210, 400], "label": "cube", "was": ["red", "big"], "sure": 0.9}'
    assert boxes_of(f"[{row}]") == boxes_of(row) == BOX_UNIT


@pytest.mark.parametrize(
    "prose",
    ["I thought <of> this", "a < think > b", "[think]", "[Reasoning: x]", "<b>thinking</b>"],
)
def test_words_that_are_no_marks_hide_nothing(prose):
    assert boxes_of(f"{prose} {BOX}") == BOX_UNIT


def test_what_stands_in_the_answer_tag_counts():
    assert boxes_of(f"{OTHER} <answer>So: {BOX}</answer> {OTHER}") == BOX_UNIT
    assert boxes_of(f"{OTHER} <Answer>{BOX}") == BOX_UNIT  # the tag's end may be a stop word
    assert boxes_of(f"</answer> <answer> {BOX}") == BOX_UNIT
    assert "no list of boxes" in refusal(f"{BOX} <answer></answer> {BOX}")
    assert "no list of boxes" in refusal(f"{BOX} <answer>")
    assert answer_part("<answer>yes</answer> It is red.") == "yes"


@pytest.mark.parametrize(
    "text",
    [
        f"<answer>{OTHER}</answer> Wait, better: <answer>{BOX}",
        f"<answer>{OTHER}</answer> <answer>{BOX}</answer>",
        f"<answer>{OTHER}</answer><answer>{BOX}",
    ],
)
def test_two_answer_tags_that_differ_are_refused(text):
    assert "several lists" in refusal(text)


# Hostile text


@pytest.mark.parametrize(
    "text",
    [
        "[" * 10**6,
        '{"a":' * 10**5,
        "[" * 10**5 + "1" + "]" * 10**5,
        '["]]]]",' * 10**5,  # brackets in strings, to hide the depth
        '{"bbox_2d": ' * 10**5 + "[1, 2, 3, 4]" + "}" * 10**5,
        "[[1 x]] " * 10**5,  # each is an error of the JSON decoder
        "[[1 \n]] " * 10**5,
        '["\\"' * 10**5,
        "[1] no, " * 4000,
        "1" * 32_000,
        "[1.1" * 999,
        "1, 2 " * 6000,
        "1 " + "- " * 16_000,
        "Final " + " " * 32_000 + "x",
        ("\n" + " " * 2000) * 16,
        "Draft:\n" * 4000,
        "<think " * 6000,
        "<" * 10**5,
        '"[' * 10**5,
        "[1] " * 10**5,
        "[" + " " * 10**6,
        "[[" + "9" * 10**6 + ", 0, 0, 0]]",
        "<answer>" * 10**5 + "</answer>" * 10**5,
        "<think>" * 10**5 + "</think>" * 10**5,
        "[[1e" + "9" * 10**5 + ", 0, 0, 0]]",
        "\ud800[[\x00",
    ],
)
def test_hostile_text_is_refused_in_linear_time(text):
    start = time.process_time()
    refusal(text)
    # Takes milliseconds; anything quadratic takes minutes.
    assert time.process_time() - start < 1


def test_depth_is_refused_alike_whatever_the_callers_stack():
    """Else the same answer would earn a reward in one place and none in another."""
    deep = "[" * 800 + "]" * 800 + BOX

    def at_depth(frames: int) -> ParsedAnswer:
        return at_depth(frames - 1) if frames else parse_boxes(deep)

    assert at_depth(0).error == at_depth(500).error == "brackets nest more than 64 deep"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        (BOX + " " * MAX_ANSWER_LENGTH, f"{MAX_ANSWER_LENGTH} are allowed"),
        ("[[1, 1, 2, 2], " * 500 + "[1], " + BOX, "more than 1000 opening brackets"),
        ("[" + ", ".join(["[120, 300, 210, 400]"] * 10**4) + "]", "are allowed"),
    ],
)
def test_an_answer_of_a_size_that_nobody_needs_is_refused(text, error):
    assert error in refusal(text)


def test_a_thought_may_be_longer_than_an_answer():
    for mark in ("think", "reasoning"):
        text = f"<{mark}>" + "[so] " * 10**5 + f"</{mark}>" + BOX
        assert boxes_of(text) == BOX_UNIT


def test_as_many_boxes_as_brackets_allow_are_read():
    row = "[120, 300, 210, 400]"
    assert parse_boxes("[" + ", ".join([row] * 999) + "]").boxes.shape == (999, 4)
    assert "more than 1000 boxes" in read_boxes(np.tile([0.1, 0.1, 0.2, 0.2], (1001, 1))).error


FRAGMENTS = (
    *'[]{},:"\\ \n',
    *("[[", "]]", "0", "-1", "120", "400", "1e999", "NaN", "true", "null", '"bbox_2d":', '"a"'),
    *("<think>", "</think>", "<answer>", "</answer>", "```json", BOX, "é", "[120,300,210,400]"),
    *("[]", "Final: ", "Draft: ", "\n- ", "no, ", "{'", "[THINK]", "[/THINK]", "(1, 2), (3, 4)"),
)


@settings(max_examples=300)
@given(st.one_of(st.text(), st.lists(st.sampled_from(FRAGMENTS), max_size=40).map("".join)))
def test_no_string_raises_and_what_is_ok_is_a_list_of_boxes(text):
    for coordinates in COORDINATES:
        parsed = parse_boxes(text, coordinates, SIZE)
        x0, y0, x1, y1 = parsed.boxes.T
        assert parsed.ok == (len(parsed.boxes) > 0)
        assert parsed.ok or parsed.error
        assert ((x0 >= 0) & (x0 < x1) & (x1 <= 1) & (y0 >= 0) & (y0 < y1) & (y1 <= 1)).all()
