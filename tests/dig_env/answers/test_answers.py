"""How an answer's text is read, and written."""

import numpy as np
import pytest
from answer_reading import BOX, BOX_UNIT, SIZE, boxes_of, refusal
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from dig_env.answers import format_boxes, parse_boxes, read_boxes
from dig_env.frames import COORDINATES, resized_size

# Forms that are understood


def test_nested_list_in_thousandths_is_the_default():
    parsed = parse_boxes("[[120, 300, 210, 400], [0, 0, 1000, 1000]]")
    assert parsed.boxes.tolist() == [[0.12, 0.3, 0.21, 0.4], [0.0, 0.0, 1.0, 1.0]]
    assert parsed.boxes.dtype == np.float64
    assert parsed.ok
    assert parsed.error == ""


@pytest.mark.parametrize(
    "text",
    [
        '[{"bbox_2d": [120, 300, 210, 400], "label": "red [metal] cube"}]',
        '{"label": "cube", "bbox_2d": [120, 300, 210, 400]}',
        f"```json\n{BOX}\n```",
        '```json\n[\n  {"bbox_2d": [120, 300, 210, 400], "label": "cube"}\n]\n```',
        f"  \n{BOX}\n",
        f'One object [1] changed its size, from [0, 1) to 5" {{a}}: {BOX}, as I said (see [2]).',
        "[[120.0, 3e2, 2.1E+2, 400]]",
        f"\\boxed{{{BOX}}}",
    ],
)
def test_the_same_box_in_other_words(text):
    assert boxes_of(text) == BOX_UNIT


def test_each_frame_is_divided_by_its_own_extent():
    assert boxes_of("[[120, 300, 210, 400]]", coordinates="norm1000") == BOX_UNIT
    assert boxes_of("[[0.12, 0.3, 0.21, 0.4]]", coordinates="unit") == BOX_UNIT
    assert boxes_of("[[32, 60, 160, 120]]", coordinates="pixel", size=SIZE) == [
        [0.1, 0.25, 0.5, 0.5]
    ]


def test_numbers_are_never_guessed_to_be_of_another_frame():
    assert boxes_of("[[0.12, 0.3, 0.21, 0.4]]") == [[0.00012, 0.0003, 0.00021, 0.0004]]


@pytest.mark.parametrize("size", [(320, 240), (128, 96), (31, 17), (1600, 1200), (640, 1999)])
def test_resized_pixels_are_those_that_qwen25_vl_sees(size):
    """Against the pixels that its processor makes, cut into its 14-pixel patches."""
    qwen2_vl = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    processor = qwen2_vl.Qwen2VLImageProcessorPil()
    patches = processor(images=[Image.new("RGB", size)], return_tensors="np")
    _, rows, columns = patches["image_grid_thw"][0]
    assert len(patches["pixel_values"]) == rows * columns
    width, height = resized_size(size)
    assert (width, height) == (columns * 14, rows * 14)
    resized = qwen2_vl.smart_resize(size[1], size[0], 28, 56 * 56, 14 * 14 * 4 * 1280)
    assert resized == (height, width)

    right_half = f"[[{width / 2}, 0, {width}, {height}]]"
    assert boxes_of(right_half, coordinates="resized_pixel", size=size) == [[0.5, 0, 1, 1]]


def test_resized_pixels_follow_the_limits_of_the_processor_at_hand():
    qwen2_vl = pytest.importorskip("transformers.models.qwen2_vl.image_processing_pil_qwen2_vl")
    limits = {"shortest_edge": 512 * 512, "longest_edge": 10**6}
    processor = qwen2_vl.Qwen2VLImageProcessorPil(size=limits)
    width, height = resized_size((320, 240), processor)
    assert width * height >= 512 * 512
    assert width % 28 == height % 28 == 0


# Answers that are worth nothing


@pytest.mark.parametrize(
    "box",
    [
        "[1, 2, 3]",
        "[1, 2, 3, 4, 5]",
        "[]",
        "[[1, 2, 3, 4]]",
        '["1", "2", "3", "4"]',
        '"1, 2, 3, 4"',
        "[1, 2, 3, true]",
        "[1, 2, 3, null]",
        "7",
        "null",
        '{"bbox_2d": "1, 2, 3, 4"}',
        '{"bbox_2d": [[1, 2, 3, 4]]}',
    ],
)
def test_one_element_that_is_no_box_refuses_the_whole_answer_by_its_index(box):
    assert "box 1 is not four numbers" in refusal(f"[[120, 300, 210, 400], {box}]")


@pytest.mark.parametrize("number", ["NaN", "Infinity", "-Infinity", "1e999", "9" * 5000])
def test_numbers_that_are_not_finite_are_refused(number):
    for coordinates in COORDINATES:
        error = refusal(f"[[0, 0, {number}, 1]]", coordinates=coordinates, size=SIZE)
        assert error == "box 0 holds a number that is not finite"


@pytest.mark.parametrize(
    "box",
    [
        "[210, 300, 120, 400]",  # inverted
        "[120, 400, 210, 300]",
        "[210, 400, 120, 300]",  # inverted twice: its area would come out positive
        "[120, 300, 120, 400]",  # flat
        "[120, 300, 210, 300]",
        "[-50, 300, -10, 400]",  # outside
        "[1000, 300, 1200, 400]",
        "[120, 300, 120.0000000000000001, 400]",  # flat in floating point
        "[0, 0, 1e-200, 1e-200]",  # an area too small for one
    ],
)
def test_boxes_without_area_inside_the_image_are_refused(box):
    assert "box 1 has no area inside" in refusal(f"[[120, 300, 210, 400], {box}]")


def test_boxes_that_leave_the_image_are_cut_at_its_edge():
    assert boxes_of("[[-100, 300, 210, 1e308]]") == [[0.0, 0.3, 0.21, 1.0]]
    assert boxes_of("[[300, -5, 400, 9e9]]", coordinates="pixel", size=SIZE) == [
        [0.9375, 0.0, 1.0, 1.0]
    ]


# A caller's mistakes


@pytest.mark.parametrize("answer", [None, 3, BOX.encode(), [[1, 2, 3, 4]]])
def test_what_is_no_string_raises(answer):
    with pytest.raises(TypeError, match="str"):
        parse_boxes(answer)


@pytest.mark.parametrize(
    "work", [lambda **f: parse_boxes(BOX, **f), lambda **f: format_boxes(BOX_UNIT, **f)]
)
def test_a_frame_that_cannot_be_used_raises(work):
    with pytest.raises(ValueError, match=r"norm1000.*unit.*pixel.*resized_pixel"):
        work(coordinates="absolute")
    for size in (None, (320,), (320, 0), (320, "240"), (0.5, 0.5), 320):
        for coordinates in ("pixel", "resized_pixel"):
            with pytest.raises(ValueError, match=r"size=.*width, height"):
                work(coordinates=coordinates, size=size)


# Boxes given as numbers


def test_numbers_follow_the_rules_of_text():
    assert read_boxes(np.array(BOX_UNIT)).boxes.tolist() == BOX_UNIT
    assert read_boxes([np.array(BOX_UNIT[0], dtype=np.float64)]).boxes.tolist() == BOX_UNIT
    assert read_boxes([(0, 0, np.int64(1), 2)]).boxes.tolist() == [[0.0, 0.0, 1.0, 1.0]]


@pytest.mark.parametrize(
    "boxes",
    [
        [],
        np.empty((0, 4)),
        np.zeros(4),
        np.zeros((2, 3)),
        np.array([["0", "0", "1", "1"]]),
        np.array([[False, False, True, True]]),
        np.array([[0, 0, 1, 1j]]),
        [0.1, 0.2, 0.3, 0.4],
        [["0", "0", "1", "1"]],
        [[0, 0, True, 1]],
        [np.array([False, False, True, True])],
        [[0, 0, 10**400, 1]],
        [[0, 0, np.nan, 1]],
        [[0.5, 0, 0.2, 1]],
        [None],
        ["abcd"],
    ],
)
def test_numbers_that_are_no_boxes_are_refused_without_raising(boxes):
    parsed = read_boxes(boxes)
    assert not parsed.ok
    assert parsed.error


# Writing


def test_canonical_text_of_each_frame():
    assert format_boxes(BOX_UNIT) == BOX
    assert format_boxes([[0.1, 0.25, 0.5, 0.5]], "pixel", SIZE) == "[[32, 60, 160, 120]]"
    assert format_boxes(BOX_UNIT, "unit") == "[[0.120, 0.300, 0.210, 0.400]]"
    assert format_boxes([*BOX_UNIT, [0, 0, 1, 1]]) == "[[120, 300, 210, 400], [0, 0, 1000, 1000]]"
    assert format_boxes([]) == "[]"


@pytest.mark.parametrize("boxes", [[[0.2, 0, 0.1, 1]], [[0, 0, 1, 2]], [[0, 0, np.nan, 1]], [0.1]])
def test_only_boxes_of_the_unit_frame_can_be_written(boxes):
    with pytest.raises(ValueError, match="boxes_unit"):
        format_boxes(boxes)


def sides(smallest: float = 1e-6):
    """Strategy for two sorted fractions of a side."""
    fraction = st.floats(0, 1, allow_subnormal=False)
    return st.tuples(fraction, fraction).map(sorted).filter(lambda s: s[1] - s[0] > smallest)


BOXES_UNIT = st.lists(
    st.builds(lambda x, y: [x[0], y[0], x[1], y[1]], sides(), sides()), min_size=1
)


@given(BOXES_UNIT)
def test_exact_text_gives_the_very_same_floats(boxes):
    for coordinates in ("norm1000", "unit"):
        text = format_boxes(boxes, coordinates, exact=True)
        assert boxes_of(text, coordinates=coordinates) == boxes


@given(BOXES_UNIT, st.integers(1, 4000), st.integers(1, 4000))
def test_exact_text_in_pixels_is_exact_to_the_last_bit_or_two(boxes, width, height):
    text = format_boxes(boxes, "pixel", (width, height), exact=True)
    read = boxes_of(text, coordinates="pixel", size=(width, height))
    np.testing.assert_array_max_ulp(np.array(read), np.array(boxes), maxulp=2)


@given(st.integers(2, 4000), st.integers(2, 4000), st.data())
def test_exact_text_of_whole_pixels_is_whole_and_exact(width, height, data):
    x0 = data.draw(st.integers(0, width - 1))
    y0 = data.draw(st.integers(0, height - 1))
    x1 = data.draw(st.integers(x0 + 1, width))
    y1 = data.draw(st.integers(y0 + 1, height))
    boxes = [[x0 / width, y0 / height, x1 / width, y1 / height]]
    text = format_boxes(boxes, "pixel", (width, height), exact=True)
    assert text == f"[[{x0}, {y0}, {x1}, {y1}]]"
    assert boxes_of(text, coordinates="pixel", size=(width, height)) == boxes


@given(BOXES_UNIT)
def test_rounded_text_is_valid_and_within_a_step(boxes):
    """Even of boxes thinner than a step, which plain rounding would make flat."""
    for coordinates, step in (("norm1000", 1e-3), ("unit", 1e-3), ("pixel", 1 / 240)):
        text = format_boxes(boxes, coordinates, SIZE)
        read = boxes_of(text, coordinates=coordinates, size=SIZE)
        assert np.abs(np.array(read) - boxes).max() <= 1.5 * step
