"""A question as a picture for people: the image, the crops, the words, and the boxes."""

from __future__ import annotations

import textwrap

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from dig_env.align.questions import BoxTruth, DescriptionTruth, Question
from dig_env.answers import parse_boxes
from dig_env.drawing import ANSWERED_COLOR, MIN_HEIGHT_PX, TRUE_COLOR

TEXT_PX = 12
_CROP_PX = 72


def draw_question(
    question: Question, turn: int = 0, answer: str | None = None, coordinates: str = "norm1000"
) -> np.ndarray:
    """Draw one turn of a question; an answer adds the true box (green) and the answered ones (red).

    Args:
        question: see there.
        turn: which of its turns.
        answer: what was answered to it; None before that.
        coordinates: frame of the answer.

    Returns:
        (H, W, 3) uint8; its size depends on the question, not on the answer.
    """
    asked = question.turns[turn]
    factor = max(1, -(-MIN_HEIGHT_PX // question.size[1]))
    width, height = (side * factor for side in question.size)
    picture = Image.fromarray(question.image).resize((width, height), Image.Resampling.NEAREST)
    if answer is not None:
        _outline(picture, _true_boxes(asked.truth), TRUE_COLOR)
        _outline(picture, parse_boxes(answer, coordinates, question.size).boxes, ANSWERED_COLOR)
    lines = [
        line
        for part in (asked.prompt, f"> {answer}" if answer else ">")
        for line in textwrap.wrap(part.replace("\n", " "), width // (TEXT_PX // 2) - 2)
    ][:12]
    crops_height = _CROP_PX + 4 if asked.crops else 0
    sheet = Image.new("RGB", (width, height + crops_height + 12 * (TEXT_PX + 3)), "white")
    sheet.paste(picture)
    for index, crop in enumerate(asked.crops):
        small = Image.fromarray(crop).resize((_CROP_PX, _CROP_PX))
        sheet.paste(small, (index * (_CROP_PX + 4), height + 4))
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(TEXT_PX)
    for index, line in enumerate(lines):
        draw.text((4, height + crops_height + index * (TEXT_PX + 3)), line, fill="black", font=font)
    return np.array(sheet)


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
