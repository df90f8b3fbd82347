"""What an answer earns, from 0 to 1, in every alignment task.

What counts of a text is what ``dig_env.answers`` counts: what follows the last thought, and
``<answer>...</answer>`` within that. No text raises, and the time is linear in its length; an
answer with more than ``MAX_ANSWER_LENGTH`` characters, or 1,000 opening brackets, earns 0.

- A box: ``dig_env.score`` with its defaults, 0.1 for a readable list of boxes, 0.45 F1 at IoU 0.5
  and 0.45 IoU. Right is one box with an IoU of at least 0.5, as in REC accuracy@50.
- Words: the share of the asked attributes that are named rightly. Naming two different values of
  an attribute is wrong. Synonyms are those of ``dig_env.align.words``.
- A choice: 1 for the right letter, else 0. A letter is a capital A to H by itself, or any within
  "(b)" or "answer: b", or all that there is but punctuation. Two different letters are wrong. A
  capital A before a word is an article where another letter is named, and a letter where none is.
- Yes or no: 1 for the right word, else 0. Both words are wrong.
- A description of n items where there are m objects: an item is a box and the words before it.
  Items and objects whose boxes have an IoU of at least 0.5 are matched one to one so that the sum
  of their attribute shares is greatest, and

      reward = 2 * sum of the matched pairs' attribute shares / (n + m)

  which is F1 at IoU 0.5 times the mean attribute share of the matched pairs.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

import numpy as np
import scipy

from dig_env.align.questions import (
    LETTERS,
    BoxTruth,
    ChoiceTruth,
    DescriptionTruth,
    Truth,
    WordsTruth,
    YesNoTruth,
)
from dig_env.align.words import attribute_share, read_attributes
from dig_env.answers import answer_part, parse_boxes, too_long
from dig_env.boxes import iou_and_giou
from dig_env.reward import score

MATCH_IOU = 0.5
"""IoU from which a box finds an object."""

_MAX_BRACKETS = 1000

_MARKED = re.compile(
    r"\( ?([a-hA-H]) ?\)|\b(?i:answer|option|choice)(?: is)?:? ?([A-H])\b|\b(?i:answer): ?([a-h])\b"
)
_ALONE = re.compile(r"(?<![\w'])([A-H])(?![\w'])|^\W*([a-h])\W*$")
_ARTICLE = re.compile(r"(?<![\w'])A (?!or\b|and\b)(?=[a-z])")
_YES_NO = re.compile(r"\b(yes|no)\b", re.I)
_BRACKETED = re.compile(r"\[ ?\[?([^\[\]]{1,200})\] ?\]?")


@dataclass(frozen=True)
class Grade:
    """What an answer earned.

    Attributes:
        reward: from 0 to 1.
        right: whether the benchmarks' measure of accuracy counts it: a box of IoU 0.5, all asked
            words, the letter, yes or no; of a description, that it earned everything.
        iou: of the first answered box with the true one; 0.0 in tasks without a box.
        read: what was understood, in plain words; "" if nothing was.
        error: why nothing was understood, or "".
    """

    reward: float
    right: bool
    iou: float = 0.0
    read: str = ""
    error: str = ""


def grade(answer: str, truth: Truth, coordinates: str, size: tuple[int, int]) -> Grade:
    """Grade an answer by the rules at the head of this module.

    Args:
        answer: anything that a policy may have written.
        truth: what is right.
        coordinates: frame of the answer's boxes, one of ``dig_env.COORDINATES``.
        size: (width, height) of the image in pixels.

    Raises:
        TypeError: the answer is not a string.
    """
    if not isinstance(answer, str):
        raise TypeError(f"an answer is a str, not a {type(answer).__name__}")
    if isinstance(truth, BoxTruth):
        return _grade_box(answer, truth, coordinates, size)
    text = answer_part(answer)
    if error := too_long(text):
        return Grade(0.0, False, error=error)
    if text.count("[") > _MAX_BRACKETS:
        return Grade(0.0, False, error=f"the answer has more than {_MAX_BRACKETS} opening brackets")
    match truth:
        case WordsTruth():
            return _grade_words(text, truth)
        case ChoiceTruth():
            return _grade_choice(text, truth)
        case YesNoTruth():
            return _grade_yes_no(text, truth)
        case DescriptionTruth():
            return _grade_description(text, truth, coordinates, size)


def _grade_box(answer: str, truth: BoxTruth, coordinates: str, size: tuple[int, int]) -> Grade:
    result = score(answer, truth.box[None], coordinates=coordinates, size=size)
    boxes = result.answer.boxes
    if not len(boxes):
        return Grade(result.total, False, error=result.answer.error)
    iou, _ = iou_and_giou(boxes[0].tolist(), truth.box.tolist())
    right = len(boxes) == 1 and iou >= MATCH_IOU
    return Grade(result.total, right, iou, f"{len(boxes)} box{'es'[: 2 * (len(boxes) > 1)]}")


def _grade_words(text: str, truth: WordsTruth) -> Grade:
    named = read_attributes(text)
    read = " ".join(value for name in truth.attributes for value in sorted(named[name]))
    share = attribute_share(text, truth.attributes)
    error = "" if read else f"no {' or '.join(truth.attributes)} was named"
    return Grade(share, share == 1.0, read=read, error=error)


def _grade_choice(text: str, truth: ChoiceTruth) -> Grade:
    letters = _letters(text) or _letters(text, articles=True)
    if len(letters) != 1:
        found = " and ".join(sorted(letters))
        return Grade(0.0, False, error=f"one letter is an answer, not {found or 'none'}")
    (letter,) = letters
    right = LETTERS.index(letter) == truth.index
    return Grade(float(right), right, read=letter)


def _letters(text: str, articles: bool = False) -> set[str]:
    """The letters that a text names; ``articles`` counts an A before a word too."""
    without = text if articles else _ARTICLE.sub("", text)
    found = [*_MARKED.findall(text), *_ALONE.findall(without)]
    return {letter.upper() for groups in found for letter in groups if letter}


def _grade_yes_no(text: str, truth: YesNoTruth) -> Grade:
    words = {word.lower() for word in _YES_NO.findall(text)}
    if len(words) != 1:
        found = "both" if words else "neither"
        return Grade(0.0, False, error=f"yes or no is an answer, and the text has {found}")
    (word,) = words
    right = (word == "yes") == truth.yes
    return Grade(float(right), right, read=word)


def _grade_description(
    text: str, truth: DescriptionTruth, coordinates: str, size: tuple[int, int]
) -> Grade:
    items = _items(text, coordinates, size)
    if not items:
        return Grade(
            0.0, False, error="no object with a box [x_min, y_min, x_max, y_max] was found"
        )
    shares = np.zeros((len(items), len(truth.objects)))
    for row, (words, box) in enumerate(items):
        for column, (attributes, true_box) in enumerate(truth.objects):
            if box is not None and iou_and_giou(box, true_box.tolist())[0] >= MATCH_IOU:
                shares[row, column] = attribute_share(words, attributes)
    earned = shares[scipy.optimize.linear_sum_assignment(shares, maximize=True)].sum()
    reward = min(float(2 * earned / sum(shares.shape)), 1.0)
    return Grade(reward, reward == 1.0, read=f"{len(items)} object{'s'[: len(items) > 1]}")


def _items(
    text: str, coordinates: str, size: tuple[int, int]
) -> list[tuple[str, list[float] | None]]:
    """The phrases and boxes of a description; None for a box that is none, which counts as well."""
    items = []
    position = 0
    for match in _BRACKETED.finditer(text):
        boxes = parse_boxes(f"[[{match[1]}]]", coordinates, size).boxes
        words = text[position : match.start()]
        items.append((words, boxes[0].tolist() if len(boxes) == 1 else None))
        position = match.end()
    return items
