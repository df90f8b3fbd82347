"""The reward: one number for how well an answer's boxes find the differences of a pair.

After DiG ("Differential Grounding", arXiv 2512.12633). With N answered and M true boxes,
the boxes are matched one to one, min(N, M) pairs, at the least total cost, and

    precision = n_m / N        recall = n_m / M        F1 = 2 n_m / (N + M)
    IoU       = mean IoU over the matched pairs
    total     = (1 - format_weight) * (f1_weight * F1 + iou_weight * IoU)
                + format_weight * format

where n_m counts the matched pairs. ``format`` is 1 for a valid, non-empty list of boxes; any
other answer scores 0 in everything.

What the paper leaves open is a setting of ``RewardConfig``. In two points this file decides:

- A matched pair counts in n_m only if it overlaps by ``match_iou``. Without that, n_m is always
  min(N, M), and F1 measures no more than whether the number of boxes is right.
- Where two matchings cost the same, the one that earns more is taken, so that the order of the
  boxes never matters.
"""

import math
from dataclasses import dataclass, fields
from numbers import Real

import numpy as np
from numpy.typing import ArrayLike
from scipy.optimize import linear_sum_assignment

from dig_env.answers import parse_boxes, read_boxes
from dig_env.boxes import checked_boxes, iou_and_giou

# Small against any real difference in cost, large against the rounding of equal costs.
_TIE_BREAK = 1e-9


@dataclass(frozen=True)
class RewardConfig:
    """Weights of the reward; all finite numbers.

    Attributes:
        format_weight: Share of the total that a valid format earns by itself, in [0, 1].
            0.1 is our default; the paper gives no number.
        f1_weight: Share of F1 in the accuracy, in [0, 1]. 0.5 is our default, likewise.
        iou_weight: Share of IoU in the accuracy, ``1 - f1_weight``.
        match_iou: IoU from which on a matched pair counts as a difference found, in (0, 1].
            None is the paper's literal reading: every matched pair counts.
        l1_cost: Weight in the matching cost of the L1 distance, at least 0. 5, and 2 for
            ``giou_cost``, are DETR's weights (arXiv 2005.12872), also used by Perception-R1.
        giou_cost: Weight in the matching cost of -GIoU, at least 0. Not both may be 0.

    Raises:
        TypeError: a value that is not a number.
        ValueError: a value outside what is allowed above.
    """

    format_weight: float = 0.1
    f1_weight: float = 0.5
    iou_weight: float = 0.5
    match_iou: float | None = 0.5
    l1_cost: float = 5.0
    giou_cost: float = 2.0

    def __post_init__(self) -> None:
        for name in (field.name for field in fields(self)):
            value = getattr(self, name)
            if name == "match_iou" and value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, Real):
                raise TypeError(f"{name} is {value!r}; it must be a number")
            if name.endswith("_cost"):
                if not 0.0 <= value < math.inf:
                    raise ValueError(f"{name} is {value!r}; it must be finite and at least 0")
            elif not 0.0 <= value <= 1.0:
                raise ValueError(f"{name} is {value!r}; it must lie in [0, 1]")
        if self.match_iou == 0.0:
            raise ValueError("match_iou is 0; it must lie in (0, 1]: None counts every pair")
        if not math.isclose(self.f1_weight + self.iou_weight, 1.0, abs_tol=1e-9):
            raise ValueError(
                f"f1_weight is {self.f1_weight!r} and iou_weight {self.iou_weight!r}; "
                "they must add up to 1, or the reward would leave [0, 1]"
            )
        if self.l1_cost == self.giou_cost == 0.0:
            raise ValueError("l1_cost and giou_cost are both 0; one of them must match the boxes")

    @property
    def found_from(self) -> float:
        """The IoU from which on a matched pair counts: ``match_iou``, or 0 where that is None."""
        return 0.0 if self.match_iou is None else self.match_iou


@dataclass(frozen=True)
class Score:
    """The reward of one answer and its parts, all Python floats in [0, 1].

    Attributes:
        total: The reward.
        format: 1.0 for a valid, non-empty list of boxes, else 0.0; and then all else is 0.
        f1: Harmonic mean of precision and recall.
        iou: Mean IoU over all matched pairs, be they above ``match_iou`` or not.
        precision: Share of the answer's boxes that found a difference.
        recall: Share of the differences that were found.
        matches: (index in the answer, index in the truth, IoU) of all min(N, M) matched
            pairs, by rising index in the answer.
    """

    total: float
    format: float
    f1: float
    iou: float
    precision: float
    recall: float
    matches: tuple[tuple[int, int, float], ...]


_NOTHING = Score(0.0, 0.0, 0.0, 0.0, 0.0, 0.0, ())


def score(
    answer: str | np.ndarray | list | tuple,
    truth_boxes: ArrayLike,
    config: RewardConfig = RewardConfig(),
    *,
    coordinates: str = "norm1000",
    size: tuple[int, int] | None = None,
) -> Score:
    """Score an answer against the true boxes, by the formulas at the head of this module.

    Args:
        answer: A policy's text, or its boxes as (N, 4) xyxy numbers in the unit frame. Both
            follow the same rules (see ``dig_env.answers``); an invalid answer scores 0 and
            never raises.
        truth_boxes: (M, 4) xyxy in the unit frame, M at least 1.
        config: The weights.
        coordinates: The frame of a text's numbers, one of ``dig_env.answers.COORDINATES``.
        size: The image's (width, height) in pixels; needed for a text in "pixel".

    Raises:
        TypeError: ``answer`` is neither text nor boxes.
        ValueError: ``truth_boxes`` are none, or not boxes in the unit frame; unknown
            ``coordinates``, or "pixel" without ``size``.

    >>> score("[[120, 300, 210, 400]]", [[0.12, 0.3, 0.21, 0.4]]).total
    1.0
    """
    truth = checked_boxes(truth_boxes, "truth_boxes")
    if not len(truth):
        raise ValueError("truth_boxes is empty; a reward needs at least one difference")
    if isinstance(answer, str):
        parsed = parse_boxes(answer, coordinates, size)
    elif isinstance(answer, (np.ndarray, list, tuple)):
        parsed = read_boxes(answer)
    else:
        raise TypeError(
            f"answer is a {type(answer).__name__}; it must be text, or boxes as an array or list"
        )
    if not parsed.ok:
        return _NOTHING

    matches = _match(parsed.boxes, truth, config)
    found = sum(overlap >= config.found_from for _, _, overlap in matches)
    answered, true = len(parsed.boxes), len(truth)
    f1 = 2.0 * found / (answered + true)
    iou = math.fsum(overlap for _, _, overlap in matches) / len(matches)
    accuracy = config.f1_weight * f1 + config.iou_weight * iou
    total = (1.0 - config.format_weight) * accuracy + config.format_weight
    return Score(
        total=min(total, 1.0),  # the weights' rounding may exceed 1 by a hair
        format=1.0,
        f1=f1,
        iou=iou,
        precision=found / answered,
        recall=found / true,
        matches=matches,
    )


def _match(
    boxes: np.ndarray, truth: np.ndarray, config: RewardConfig
) -> tuple[tuple[int, int, float], ...]:
    """Match (N, 4) to (M, 4) boxes one to one at the least total cost; see ``Score.matches``.

    The cost of a pair is ``l1_cost * L1 - giou_cost * GIoU`` (DETR's, but with L1 as the sum of
    the corners' |differences| rather than those of centre and size).
    """
    iou, giou = iou_and_giou(boxes, truth)
    l1 = np.abs(boxes[:, None, :] - truth[None, :, :]).sum(axis=-1)
    cost = config.l1_cost * l1 - config.giou_cost * giou
    earned = config.f1_weight * 2.0 / sum(iou.shape) * (iou >= config.found_from)
    earned += config.iou_weight / min(iou.shape) * iou
    rows, columns = linear_sum_assignment(cost - _TIE_BREAK * earned)
    return tuple(zip(rows.tolist(), columns.tolist(), iou[rows, columns].tolist(), strict=True))
