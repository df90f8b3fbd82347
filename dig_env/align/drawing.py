"""A question as a picture for people: the image, the crops, the words, and the boxes."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dig_env.align.questions import BoxTruth, DescriptionTruth, Question
from dig_env.answers import parse_boxes
from dig_env.drawing import ANSWERED_COLOR, MIN_HEIGHT_PX, TRUE_COLOR

TEXT_PX = 12
LINE_PX = TEXT_PX + 3
MAX_LINES = 24
_CROP_PX = 72


def draw_question(
    question: Question, answers: Sequence[str] = (), coordinates: str = "norm1000"
) -> np.ndarray:
    """Draw the last answered turn of a question, or its first before any answer.

    Earlier turns are there in words. An answer adds the true boxes (green) and the answered (red).

    Args:
        question: see there.
        answers: what was answered so far, one a turn.
        coordinates: frame of the answers.

    Returns:
        (H, W, 3) uint8; its size depends on the question, not on the answers.
    """
    last = max(0, len(answers) - 1)
    factor = max(1, -(-MIN_HEIGHT_PX // question.size[1]))
    width, height = (side * factor for side in question.size)
    picture = Image.fromarray(question.image).resize((width, height), Image.Resampling.NEAREST)
    if answers:
        _outline(picture, _true_boxes(question.turns[last].truth), TRUE_COLOR)
        answered = parse_boxes(answers[last], coordinates, question.size).boxes
        _outline(picture, answered, ANSWERED_COLOR)
    crops = [crop for turn in question.turns for crop in turn.crops]
    text_top = height + (_CROP_PX + 4 if crops else 0)
    sheet = Image.new("RGB", (width, text_top + MAX_LINES * LINE_PX), "white")
    sheet.paste(picture)
    for index, crop in enumerate(crops):
        small = Image.fromarray(crop).resize((_CROP_PX, _CROP_PX))
        sheet.paste(small, (index * (_CROP_PX + 4), height + 4))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
    for index, line in enumerate(_lines(question, answers, width // (TEXT_PX // 2) - 2)):
        draw.text((4, text_top + index * LINE_PX), line, fill="black", font=font)
    return np.array(sheet)


def _lines(question: Question, answers: Sequence[str], columns: int) -> list[str]:
    """The messages so far, wrapped; the earliest are left out where there is no room."""
    lines = []
    for index, turn in enumerate(question.turns[: max(1, len(answers))]):
        lines += textwrap.wrap(turn.prompt, columns)
        answer = answers[index] if answers else ""
        for line in answer[: MAX_LINES * columns].splitlines() or [""]:
            lines += textwrap.wrap(f"> {line}", columns)
    return lines[-MAX_LINES:]


def _true_boxes(truth: object) -> np.ndarray:
    if isinstance(truth, BoxTruth):
        return truth.box[None]
    if isinstance(truth, DescriptionTruth):
        return np.array([box for _, box in truth.objects])
    return np.empty((0, 4))


def _outline(picture: Image.Image, boxes: np.ndarray, color: tuple[int, int, int]) -> None:
    draw = ImageDraw.Draw(picture)
    for x0, y0, x1, y1 in (boxes * (picture.size * 2)).tolist():
        draw.rectangle((x0, y0, max(x0, x1 - 1), max(y0, y1 - 1)), outline=color, width=2)
