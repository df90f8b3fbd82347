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

from collections.abc import Sequence
from typing import Any, cast

from dig_env import RewardLike, Score, parse_boxes, score_batch


def read_truth(text: str) -> list[list[float]]:
    """The true boxes of a row, xyxy in the unit frame.

    Args:
        text: what ``dig_env.format_boxes(boxes, exact=True)`` wrote, whatever frame the policy
            answers in; the floats are the very same.

    Raises:
        ValueError: it is not such a text: nothing could be scored against it.
    """
    parsed = parse_boxes(text)
    if not (parsed.ok or parsed.empty):
        raise ValueError(
            f"the ground truth {text!r:.80} holds no boxes ({parsed.error}): write it with "
            "dig_env.format_boxes(boxes, exact=True), as 'dig-env export' does"
        )
    return parsed.boxes.tolist()


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
