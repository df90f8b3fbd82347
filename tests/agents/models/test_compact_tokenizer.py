"""Texts come back from their tokens exactly; numbers, brackets and sentences are single tokens."""

import itertools
import json

import numpy as np
import pytest
import torch
from batches import AnswerTokens

from dig_env import format_boxes, instruction
from dig_env.agents.models import build_tokenizer
from dig_env.agents.models.tokenization import MARKS

WORDS = [
    "Where",
    "is",
    "the",
    "small",
    "red-brown",
    "cube",
    "left",
    "of",
    "it",
    "at",
    "Yes",
    "No",
    "there",
    "are",
    "in",
    "photographer's",
]


@pytest.fixture(scope="module")
def plain():
    return build_tokenizer([instruction()])


@pytest.fixture(scope="module")
def worded():
    return build_tokenizer([instruction()], WORDS)


@pytest.fixture(params=["plain", "worded"])
def tokenizer(request):
    return request.getfixturevalue(request.param)


def decoded(tokenizer, text):
    return tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True)


@pytest.mark.parametrize("count", [0, 1, 2, 5])
def test_box_lists_round_trip_exactly(tokenizer, count):
    rng = np.random.default_rng(count)
    for _ in range(50):
        text = json.dumps(rng.integers(0, 1001, (count, 4)).tolist())
        assert decoded(tokenizer, text) == text


def test_every_integer_and_every_sentence_of_the_instruction_is_one_known_token(tokenizer):
    for number in range(1001):
        assert len(tokenizer.encode(f"{number}")) == 1
    ids = tokenizer.encode(instruction())
    assert len(ids) == 2
    assert tokenizer.unk_token_id not in ids


def test_words_do_not_change_the_tokens_of_the_instruction_and_of_boxes(plain, worded):
    for text in (instruction(), "[[1, 2, 3, 1000], [5, 6, 7, 8]]", "[1, 2, 3, 4]", "[]"):
        assert worded.encode(text) == plain.encode(text)


def test_without_words_a_foreign_sentence_is_one_unknown(plain):
    assert plain.encode("Where is the cat?") == [plain.unk_token_id]


def test_with_words_each_foreign_word_is_one_unknown(worded):
    ids = worded.encode("Where is the black cat?")
    assert [i == worded.unk_token_id for i in ids] == [False, False, False, True, True, False]


@pytest.mark.parametrize(
    "text",
    [
        "Where is the small cube?",
        "Yes, it is at [120, 300, 210, 400].",
        "No: there are 2, 3, 4 in it (the red-brown cube left of 1000); Yes!",
        "the cube [1, 2, 3, 4], the photographer's [5, 6, 7, 8]\nYes.\n\nNo (3).",
        "there are [[1, 2, 3, 4], [5, 6, 7, 8]], 3 in it",
        instruction() + " Where is it?",
    ],
)
def test_text_of_known_words_numbers_and_marks_comes_back(worded, text):
    assert worded.unk_token_id not in worded.encode(text)
    assert decoded(worded, text) == text


def test_any_two_pieces_side_by_side_come_back(worded):
    """Set as usual: no space before a closing mark or after an opening one; numbers as a list."""
    pieces = ["cube", "7", "[1, 2, 3, 4]", "[[1, 2, 3, 4]]", *MARKS]
    for middle in itertools.product(pieces, repeat=2):
        text = "Yes"
        for before, after in itertools.pairwise(["Yes", *middle, "No"]):
            joined = before in "(\n" or after in ".,:;?!)\n"
            text += ("" if joined else ", " if before == after == "7" else " ") + after
        assert decoded(worded, text) == text


def test_what_is_not_a_word_is_a_clear_error():
    with pytest.raises(ValueError, match="'red cube' is not a word"):
        build_tokenizer([], ["Yes", "red cube"])


def test_answer_tokens_are_the_tokens_of_the_formatted_boxes(tokenizer):
    tokens = AnswerTokens(tokenizer)
    boxes = torch.tensor(
        [[[0.5, 0.1, 0.7, 0.2], [0.0, 0.25, 0.125, 1.0]], [[0.1] * 2 + [0.3] * 2, [torch.nan] * 4]]
    )
    written = tokenizer.batch_decode(tokens(boxes), skip_special_tokens=True)
    assert written == ["[[0, 250, 125, 1000], [500, 100, 700, 200]]", "[[100, 100, 300, 300]]"]
    assert written[1] == format_boxes(boxes[1, :1].numpy())
    for text, row in zip(written, tokens(boxes), strict=True):
        ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
        assert row[: len(ids)].tolist() == ids
        assert set(row[len(ids) :].tolist()) <= {tokenizer.pad_token_id}
