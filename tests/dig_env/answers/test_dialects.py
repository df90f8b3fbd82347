"""Dialects: how families of models and people write boxes, and what no notation may gain."""

import re

import numpy as np
import pytest
from dialect_corpus import COGVLM, FAMILIES, PEOPLE
from hypothesis import given, settings
from hypothesis import strategies as st
from paths import ROOT

from dig_env import format_boxes, instruction, parse_boxes, score
from dig_env.answers import DIALECTS, habit_of
from dig_env.answers.marked import NOTATIONS

SAID = FAMILIES + COGVLM + PEOPLE
TRUTH = [[0.12, 0.3, 0.21, 0.4]]
EXACT = sorted(set(DIALECTS) - {"lenient"})


def example(dialect):
    return format_boxes(TRUTH, answers=dialect)


# What each family's models are called, and the dialect and frame that they are documented to have
MODELS = {
    "Qwen/Qwen2-VL-7B-Instruct": ("qwen2-vl", "norm1000"),
    "Qwen/Qwen2.5-VL-72B-Instruct-AWQ": ("qwen2.5-vl", "resized_pixel"),
    "qwen2.5vl:7b": ("qwen2.5-vl", "resized_pixel"),
    "Qwen/Qwen3-VL-4B-Thinking": ("qwen3-vl", "norm1000"),
    "qwen/qwen3-vl-235b-a22b-instruct": ("qwen3-vl", "norm1000"),
    "zai-org/GLM-4.1V-9B-Thinking": ("glm-v", "norm1000"),
    "glm-4.5v": ("glm-v", "norm1000"),
    "OpenGVLab/InternVL3_5-8B": ("internvl", "norm1000"),
    "openbmb/MiniCPM-V-4_5": ("minicpm-v", "norm1000"),
    "doubao-seed-1-6-vision-250815": ("doubao", "norm1000"),
    "deepseek-ai/deepseek-vl2-small": ("deepseek-vl2", "norm1000"),
    "THUDM/cogvlm-grounding-generalist-hf": ("cogvlm", "norm1000"),
    "models/gemini-2.5-flash": ("gemini", "norm1000"),
    "google/paligemma2-3b-mix-448": ("paligemma", "norm1000"),
    "microsoft/Florence-2-large": ("florence-2", "norm1000"),
    # Nobody's, or not known to answer as others of the name
    "tiny": ("strict", "norm1000"),
    "gpt-5": ("strict", "norm1000"),
    "Qwen/Qwen3-4B": ("strict", "norm1000"),
    "zai-org/cogvlm2-llama3-chat-19B": ("strict", "norm1000"),
    "runs/qwen3-vl-mine/checkpoint": ("strict", "norm1000"),
}


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
    parsed = parse_boxes(example(dialect), answers=dialect)
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
        assert close or dialect in (
            "gemini",
            "strict",
            "qwen2.5-vl",
            "qwen3-vl",
            "glm-v",
            "internvl",
        )


@pytest.mark.parametrize("dialect", EXACT)
def test_a_further_box_beside_the_answer_is_refused(dialect):
    """It could be the better one."""
    text = f"{example(dialect)} or rather 500, 550, 600, 700"
    assert "beside" in parse_boxes(text, answers=dialect).error


@pytest.mark.parametrize("dialect", [*NOTATIONS, "cogvlm"])
def test_marks_around_something_else_are_refused(dialect):
    whole = example(dialect)
    for broken in (whole.replace("400", "40O"), whole.replace("400", "400, 5")):
        if broken != whole:
            assert not parse_boxes(broken, answers=dialect).ok


def test_lenient_lists_all_that_was_said_once_and_says_what_it_assumed():
    twice = "(120, 300, 210, 400), then (500, 550, 600, 700), so (120, 300, 210, 400)"
    parsed = parse_boxes(twice, answers="lenient")
    assert len(parsed.boxes) == 2 and "x first" in parsed.error
    # To name many boxes is to be wrong about most.
    assert score(twice, TRUTH, "f1", answers="lenient").f1 == pytest.approx(2 / 3)
    gemini = example("gemini")
    assert "y first" in parse_boxes(gemini, answers="lenient").error
    assert "as paligemma writes" in parse_boxes(example("paligemma"), answers="lenient").error


def test_the_page_shows_each_dialects_example():
    page = (ROOT / "docs/reward.md").read_text()
    page = page.split("**Dialects.**")[1].split("**Boxes.**")[0]
    cell = r" ([^|]+) \|"
    rows = re.findall(rf"^\| `(\S+)`(?: \(default\))? \| `(.+?)` \|{cell * 4}$", page, re.MULTILINE)
    shown = {name: text.replace("\\|", "|") for name, text, *_ in rows}
    assert shown == {name: example(name) for name in DIALECTS}
    for name, _, order, frame, _, source in rows:
        dialect = DIALECTS[name]
        y_first = dialect.box.index("{y0") < dialect.box.index("{x0")
        assert order == ("y, x" if y_first else "x, y")
        assert source.strip("`") == dialect.source
        if dialect.own is not None:
            assert frame == f"0 to {dialect.own.last} of {dialect.own.bins:.0f} steps"
        else:
            assert frame.strip("`") == (dialect.coordinates or "as asked")


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
    """A quadratic reading of 32,768 characters takes seconds, which all dialects make minutes."""
    for dialect in DIALECTS:
        parse_boxes(part * (32_000 // len(part)), answers=dialect)


# Families of models


@pytest.mark.parametrize("model", MODELS)
def test_the_habit_of_a_family_is_known_by_its_models_names(model):
    answers, coordinates = MODELS[model]
    assert habit_of(model) == {"answers": answers, "coordinates": coordinates}


def test_every_familys_dialect_has_a_model():
    assert {answers for answers, _ in MODELS.values()} == set(DIALECTS) - {"lenient"}


@pytest.mark.parametrize("dialect", DIALECTS)
def test_the_prompt_shows_the_notation_that_is_read(dialect):
    """With numbers for names, and without the mark of more to come, it is an answer."""
    prompt = instruction(answers=dialect)
    assert f"answer with a list of boxes {DIALECTS[dialect].asked}, one box" in prompt
    asked = re.sub(r"[,; ]*\.\.\.", "", DIALECTS[dialect].asked)
    for name, number in {"x_min": 120, "y_min": 300, "x_max": 210, "y_max": 400}.items():
        digits = f"{number:04}" if dialect == "paligemma" else str(number)
        asked = asked.replace(name, digits)
    parsed = parse_boxes(asked, answers=dialect)
    assert np.abs(parsed.boxes - TRUTH).max() <= 0.01
    bound = 1000 if DIALECTS[dialect].own is None else DIALECTS[dialect].own.last
    assert f"from 0 to {bound} relative" in prompt


def test_strict_and_lenient_are_asked_for_alike():
    assert instruction(answers="lenient") == instruction(answers="strict") == instruction()
    with pytest.raises(ValueError, match="answers='klingon': give one of"):
        instruction(answers="klingon")


@st.composite
def thousandths(draw):
    """Boxes whose corners are whole thousandths."""
    boxes = []
    for _ in range(draw(st.integers(0, 5))):
        x0, y0 = draw(st.integers(0, 990)), draw(st.integers(0, 990))
        x1, y1 = draw(st.integers(x0 + 5, 1000)), draw(st.integers(y0 + 5, 1000))
        boxes.append([x0 / 1000, y0 / 1000, x1 / 1000, y1 / 1000])
    return boxes


@pytest.mark.parametrize("dialect", DIALECTS)
@settings(max_examples=20)
@given(boxes=thousandths(), coordinates=st.sampled_from(["norm1000", "unit", "pixel"]))
def test_what_is_written_in_a_dialect_is_read_again(dialect, boxes, coordinates):
    """To the last bit in thousandths; to a step where the frame has other steps."""
    size = (1000, 1000)
    text = format_boxes(boxes, coordinates, size, answers=dialect)
    parsed = parse_boxes(text, coordinates, size, answers=dialect)
    assert parsed.empty == (not boxes) and len(parsed.boxes) == len(boxes)
    most = 1e-12 if DIALECTS[dialect].own is None else 0.0011
    assert np.abs(parsed.boxes - np.reshape(boxes, (-1, 4))).max(initial=0.0) <= most
