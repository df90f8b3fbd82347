"""The reward under the names and arguments that other trainers ask for.

Each adapter turns a framework's arguments into answers and truths, and calls ``dig_env.score``;
none computes anything of its own. They share four options:

- ``reward``: a name from ``dig_env.REWARDS``, or ``dig_env.RewardConfig`` fields.
- ``coordinates``: the frame that the prompt asked for, one of ``dig_env.COORDINATES``.
- ``size``: (width, height) of the images in pixels, for frames in pixels only.
- ``opening``: what the chat template has already written of the answer, "<think>" for a Thinking
  model. Trainers pass the response without it, and a thought that was cut off would read as
  an answer.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any, cast

from dig_env import RewardLike, Score, parse_boxes, score_batch


def read_truth(text: str) -> list[list[float]]:
    """The true boxes of a row, xyxy in the unit frame.

    Args:
        text: what ``dig_env.format_boxes(boxes, exact=True)`` wrote, whatever frame the policy
            answers in: one JSON list of [x0, y0, x1, y1] in thousandths; the floats are the very
            same.

    Raises:
        ValueError: it is anything else, such as pixels beyond 1000 or numbers from 0 to 1: every
            score against it would be wrong.
    """
    try:
        rows = json.loads(text)
    except (ValueError, RecursionError):
        rows = None
    if not isinstance(rows, list):
        raise _no_truth(text, "is not one JSON list")
    for index, row in enumerate(rows):
        is_box = isinstance(row, list) and [type(v) in (int, float) for v in row] == [True] * 4
        if not is_box:
            raise _no_truth(text, f"has {row!r:.60} in place of box {index}")
        x0, y0, x1, y1 = row
        if not (0 <= x0 < x1 <= 1000 and 0 <= y0 < y1 <= 1000):  # NaN fails too
            raise _no_truth(text, f"has the box {row}, which is none within 0 to 1000")
        if max(x1, y1) <= 1:
            raise _no_truth(text, f"has the box {row}, which is in the frame 0 to 1")
    parsed = parse_boxes(text)
    if not (parsed.ok or parsed.empty):
        raise _no_truth(text, f"cannot be read: {parsed.error}")
    return parsed.boxes.tolist()


def _no_truth(text: str, why: str) -> ValueError:
    return ValueError(
        f"the ground truth {text!r:.80} {why}. As text it is [[x0, y0, x1, y1], ...] in "
        "thousandths of the image's width and height, [] where nothing differs: write it with "
        "dig_env.format_boxes(boxes_unit, exact=True), as 'dig-env export' does"
    )


def score_responses(
    responses: Sequence[str],
    truths: Sequence[Any],
    *,
    reward: RewardLike = "full",
    coordinates: str = "norm1000",
    size: Sequence[int] | None = None,
    opening: str = "",
) -> list[Score]:
    """Score responses as a trainer holds them.

    Args:
        responses: texts as generated, without what the chat template wrote.
        truths: of each, a text for ``read_truth``, or rows of boxes in the unit frame.
        reward, coordinates, size, opening: see the head of this package. Settings that come out of
            a trainer's configuration may be its own kinds of mapping and list.

    Raises:
        ValueError, TypeError: a truth that is none, or a wrong option. Never for a response.
    """
    return score_batch(
        [opening + response for response in responses],
        [read_truth(truth) if isinstance(truth, str) else truth for truth in truths],
        reward,
        coordinates=coordinates,
        size=None if size is None else cast(tuple[int, int], tuple(size)),
    )
