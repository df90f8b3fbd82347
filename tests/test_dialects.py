"""Dialects: how families of models and people write boxes, and what no notation may gain."""

import re
from pathlib import Path

import numpy as np
import pytest
from dialect_corpus import COGVLM, FAMILIES, PEOPLE
from hypothesis import given
from hypothesis import strategies as st

from dig_env import parse_boxes, score
from dig_env.answers.dialects import DIALECTS
from dig_env.answers.marked import NOTATIONS

SAID = FAMILIES + COGVLM + PEOPLE
TRUTH = [[0.12, 0.3, 0.21, 0.4]]
EXACT = sorted(set(DIALECTS) - {"lenient"})


def test_the_corpus_is_large():
    assert len({said.text for said in SAID}) == len(SAID) >= 60


@pytest.mark.parametrize("said", SAID, ids=lambda said: said.text[:40])
def test_an_answer_means_its_boxes_in_its_dialects_and_in_lenient(said):
    for dialect in (*said.dialects, "lenient"):
        parsed = parse_boxes(said.text, answers=dialect)
        assert parsed.ok is bool(said.boxes), parsed.error
        assert parsed.empty is not bool(said.boxes)
        assert np.allclose(parsed.boxes, np.reshape(said.boxes, (-1, 4)), rtol=0, atol=1e-12)


@pytest.mark.parametrize("dialect", DIALECTS)
def test_a_dialects_example_is_read_and_nothing_else_earns(dialect):
    """The frame of some notations has other steps than thousandths: half a step is allowed."""
    parsed = parse_boxes(DIALECTS[dialect].example, answers=dialect)
    assert np.abs(parsed.boxes - TRUTH).max() <= 0.0006
    assert DIALECTS[dialect].source
    for text in ("I cannot tell.", "", "[", "<box>", "<loc0001>", "[1]", "{}"):
        assert not parse_boxes(text, answers=dialect).ok


@pytest.mark.parametrize("dialect", EXACT)
@pytest.mark.parametrize("said", FAMILIES + COGVLM, ids=lambda said: said.text[:40])
def test_no_family_is_read_by_anothers_rules_to_other_boxes(said, dialect):
    """What is no answer in a dialect is refused; only plain lists have several readings."""
    parsed = parse_boxes(said.text, answers=dialect)
    if parsed.ok and dialect not in said.dialects:
        close = np.abs(parsed.boxes - said.boxes).max() <= 0.001
        assert close or dialect in ("gemini", "strict", "qwen2.5-vl", "qwen3-vl", "glm-v")


@pytest.mark.parametrize("dialect", EXACT)
def test_a_further_box_beside_the_answer_is_refused(dialect):
    """It could be the better one."""
    text = f"{DIALECTS[dialect].example} or rather 500, 550, 600, 700"
    assert "beside" in parse_boxes(text, answers=dialect).error


@pytest.mark.parametrize("dialect", [*NOTATIONS, "cogvlm"])
def test_marks_around_something_else_are_refused(dialect):
    example = DIALECTS[dialect].example
    for broken in (example.replace("400", "40O"), example.replace("400", "400, 5")):
        if broken != example:
            assert not parse_boxes(broken, answers=dialect).ok


def test_lenient_lists_all_that_was_said_once_and_says_what_it_assumed():
    twice = "(120, 300, 210, 400), then (500, 550, 600, 700), so (120, 300, 210, 400)"
    parsed = parse_boxes(twice, answers="lenient")
    assert len(parsed.boxes) == 2 and "x first" in parsed.error
    # To name many boxes is to be wrong about most.
    assert score(twice, TRUTH, "f1", answers="lenient").f1 == pytest.approx(2 / 3)
    gemini = DIALECTS["gemini"].example
    assert "y first" in parse_boxes(gemini, answers="lenient").error
    assert (
        "as paligemma writes" in parse_boxes(DIALECTS["paligemma"].example, answers="lenient").error
    )


def test_the_page_shows_each_dialects_example():
    page = (Path(__file__).parents[1] / "docs/reward.md").read_text()
    rows = re.findall(r"^\| `(\S+)`(?: \(default\))? \| `(.+)` \|", page, re.MULTILINE)
    shown = {name: example.replace("\\|", "|") for name, example in rows if name in DIALECTS}
    assert shown == {name: dialect.example for name, dialect in DIALECTS.items()}


def test_x_first_keys_are_no_gemini_answer():
    assert "x first" in parse_boxes('[{"bbox_2d": [1, 2, 3, 4]}]', answers="gemini").error


def test_an_unknown_dialect_is_named_with_those_there_are():
    with pytest.raises(
        ValueError, match="answers='klingon': give one of strict, lenient, qwen2-vl"
    ):
        parse_boxes("[]", answers="klingon")


@given(st.text(max_size=200) | st.text("[](){}<>|/0123456789,.;: \"'bxo_2dloc\n", max_size=300))
def test_no_text_raises_in_any_dialect(text):
    for dialect in DIALECTS:
        parsed = parse_boxes(text, answers=dialect)
        assert parsed.ok == (len(parsed.boxes) > 0)


@pytest.mark.parametrize(
    "part",
    ["[", "(", "<box>", "<box>1 2 3 4", "[[1,2,3,4;", "(1,2),", "x1=1,", "1 ", "[[1,2,3,4]]"],
)
def test_the_time_is_bounded_whatever_repeats(part):
    """A quadratic reading of 32,768 characters would run into the tests' time-out."""
    for dialect in DIALECTS:
        for _ in range(20):
            parse_boxes(part * (32_000 // len(part)), answers=dialect)
