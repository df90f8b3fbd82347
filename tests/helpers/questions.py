"""Questions that are written by hand."""

import numpy as np

from dig_env.agents.evaluation.asked import FRAME, AskedQuestion
from dig_env.align import AlignSettings, Question, Turn
from dig_env.align.questions import BoxTruth


def box_question(box: list[float]) -> AskedQuestion:
    """About a black image; its answer is this box, xyxy in the unit frame."""
    turn = Turn("<image>\nFind it.", BoxTruth(np.array(box)))
    question = Question("text_to_box", np.zeros((96, 128, 3), np.uint8), (turn,))
    return AskedQuestion(question, {"task": "text_to_box", "pair_seed": 0}, AlignSettings(FRAME))
