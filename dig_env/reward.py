"""The reward: one number for how well an answer's boxes find the differences of a pair.

After DiG ("Differential Grounding", arXiv 2512.12633). With N answered and M true boxes, the
boxes are matched one to one, min(N, M) pairs, and

    precision = n / N        recall = n / M        F1 = 2 n / (N + M)
    IoU       = sum of the matched pairs' IoU / max(N, M)
    total     = format_weight * format
                + (1 - format_weight) * (f1_weight * F1 + iou_weight * IoU)

where n counts the matched pairs that overlap by ``match_iou``. ``format`` is 1 for a valid,
non-empty list of boxes; any other answer scores 0 in everything. Where nothing differs (M = 0), the
empty list scores 1 in everything, and boxes score their format alone.

Departures from the paper, all undone by the preset "paper":

- The paper names no IoU from which on a pair counts. Taken literally n is always min(N, M), and F1
  measures no more than whether the number of boxes is right. Here it is ``match_iou``.
- The paper's IoU is the mean over the matched pairs. Then boxes spread blindly over the image earn
  more the more there are. Here what is missed and what is too much counts as 0.
- The paper matches at the least cost in L1 and GIoU. Then a wrong box can take a difference's place
  and leave another, better one to its neighbour, so that it pays. Here the matching is the
  one that earns most, and cost decides between those that earn the same; in practice both agree.

docs/reward.md has worked examples, and proves what these settings guarantee.
"""

import math
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import scipy
from numpy.typing import ArrayLike

from dig_env.answers import ParsedAnswer, answer_part, read_boxes, read_part, refused, too_long
from dig_env.boxes import Boxes, checked_boxes, iou_and_giou, l1_distance
from dig_env.reward_config import RewardConfig, RewardLike, resolve_reward

PARTS = ("format", "f1", "iou", "precision", "recall")
"""Names of a score's parts, as everything that reports them beside the reward has them."""

# Small against any real difference, large against the rounding of equal sums.
_TIE_BREAK = 1e-9
# Below this length zlib's own header and a list of boxes decide the ratio.
_MIN_REPETITIVE_LENGTH = 1000


@dataclass(frozen=True)
class Score:
    """The reward of one answer and its parts, all Python floats in [0, 1].

    Attributes:
        total: The reward.
        format: 1.0 for a valid, non-empty list of boxes, and for an empty one where nothing
            differs; else 0.0, and then all else is 0.
        f1: Harmonic mean of precision and recall; with ``RewardConfig.exact`` only where it is 1,
            else 0.
        iou: Mean IoU of the matched pairs; ``RewardConfig.iou_mean`` says over what.
        precision: Share of the answer's boxes that found a difference.
        recall: Share of the differences that were found.
        matches: (index in the answer, index in the truth, IoU) of all min(N, M) matched
            pairs, by rising index in the answer.
        answer: What was read; its ``error`` says what is wrong with it. Not compared.
    """

    total: float
    format: float
    f1: float
    iou: float
    precision: float
    recall: float
    matches: tuple[tuple[int, int, float], ...]
    answer: ParsedAnswer = field(compare=False, repr=False)


def score(
    answer: str | np.ndarray | list | tuple,
    truth_boxes: ArrayLike,
    config: RewardLike = RewardConfig(),
    *,
    coordinates: str = "norm1000",
    size: tuple[int, int] | None = None,
    answers: str = "strict",
) -> Score:
    """Score an answer against the true boxes, by the formulas at the head of this module.

    Args:
        answer: A policy's text, or its boxes as (N, 4) xyxy numbers in the unit frame. Both
            follow the same rules (see ``dig_env.answers``); an invalid answer scores 0 and
            never raises.
        truth_boxes: (M, 4) xyxy in the unit frame. M = 0: nothing differs.
        config: The settings: a name from ``REWARDS``, ``RewardConfig`` fields, or a RewardConfig.
        coordinates: The frame of a text's numbers, one of ``dig_env.COORDINATES``.
        size: The image's (width, height) in pixels; needed for a text in a frame in pixels.
        answers: How a text is read; see ``parse_boxes``.

    Raises:
        TypeError: ``answer`` is neither text nor boxes, or ``config`` is of another kind.
        ValueError: ``truth_boxes`` are not boxes in the unit frame; unknown ``coordinates`` or
            ``answers``, or a frame in pixels without ``size``; an unknown reward or setting.

    >>> score("[[120, 300, 210, 400]]", [[0.12, 0.3, 0.21, 0.4]]).total
    1.0
    >>> score("[]", []).total
    1.0
    """
    config = resolve_reward(config)
    truth = checked_boxes(truth_boxes, "truth_boxes")
    parsed = _parsed(answer, config, coordinates, size, answers)
    if not len(truth):
        right = float(parsed.empty)
        return _scored(config, parsed, float(parsed.ok or parsed.empty), right, right, right, right)
    if not parsed.ok:
        return _scored(config, parsed, 0.0, 0.0, 0.0, 0.0, 0.0)

    matches, found = _match(parsed.boxes, truth, config)
    answered, true = len(parsed.boxes), len(truth)
    f1 = 2.0 * found / (answered + true)
    overlap = math.fsum(match[2] for match in matches)
    return _scored(
        config,
        parsed,
        format=1.0,
        f1=float(f1 == 1.0) if config.exact else f1,
        iou=overlap / _iou_divisor(answered, true, config),
        precision=found / answered,
        recall=found / true,
        matches=matches,
    )


def score_batch(
    answers: Sequence[str],
    truths: Sequence[ArrayLike],
    config: RewardLike = RewardConfig(),
    *,
    coordinates: str = "norm1000",
    size: tuple[int, int] | None = None,
) -> list[Score]:
    """Score many answers, each against its own truth; the arguments are those of ``score``.

    Raises:
        ValueError: as many truths as answers are needed; or see ``score``.
    """
    if len(answers) != len(truths):
        raise ValueError(f"{len(answers)} answers and {len(truths)} truths; give one truth each")
    config = resolve_reward(config)
    return [
        score(answer, truth, config, coordinates=coordinates, size=size)
        for answer, truth in zip(answers, truths, strict=True)
    ]


def _scored(
    config: RewardConfig,
    answer: ParsedAnswer,
    format: float,
    f1: float,
    iou: float,
    precision: float,
    recall: float,
    matches: tuple[tuple[int, int, float], ...] = (),
) -> Score:
    weights = config.weights
    total = weights["format"] * format + weights["f1"] * f1 + weights["iou"] * iou
    # Rounding may carry a sum of shares beyond 1 by a hair.
    return Score(min(total, 1.0), format, f1, iou, precision, recall, matches, answer)


def _parsed(
    answer: Any,
    config: RewardConfig,
    coordinates: str,
    size: tuple[int, int] | None,
    answers: str,
) -> ParsedAnswer:
    """The boxes of a text or of numbers; see ``score``."""
    if isinstance(answer, (np.ndarray, list, tuple)):
        return read_boxes(answer)
    if not isinstance(answer, str):
        raise TypeError(
            f"answer is a {type(answer).__name__}; it must be text, or boxes as an array or list"
        )
    part = answer_part(answer)
    parsed = read_part(part, coordinates, size, answers)
    if parsed.ok or parsed.empty:
        return _guarded(part, config) or parsed
    return parsed


def _guarded(part: str, config: RewardConfig) -> ParsedAnswer | None:
    """Refuse an answer that is too long or goes round in circles; None lets it pass."""
    error = too_long(part, config.max_length) if config.max_length else ""
    if not error and config.max_repetition and len(part) >= _MIN_REPETITIVE_LENGTH:
        content = part.encode(errors="replace")
        ratio = len(content) / len(zlib.compress(content, 1))
        if ratio > config.max_repetition:
            error = f"the answer repeats itself: zlib shortens it {ratio:.0f} times"
    return refused(error) if error else None


def _match(
    boxes: Boxes, truth: Boxes, config: RewardConfig
) -> tuple[tuple[tuple[int, int, float], ...], float]:
    """Match (N, 4) to (M, 4) boxes one to one: see ``Score.matches``, and the sum of what counts.

    The cost of a pair is ``l1_cost * L1 - giou_cost * GIoU`` with the L1 distance of the corners
    (DETR's is that of centre and size).
    """
    iou_threshold = config.iou_threshold
    soft = 1.0 / iou_threshold if config.soft else 0.0
    per_credit = 2.0 * config.f1_weight / (len(boxes) + len(truth))
    per_iou = config.iou_weight / _iou_divisor(len(boxes), len(truth), config)
    of_cost, of_earned = (1.0, _TIE_BREAK) if config.matching == "cost" else (_TIE_BREAK, 1.0)
    true_boxes = truth.tolist()
    table: list[list[float]] = []
    pairs: dict[tuple[int, int], tuple[float, float]] = {}
    for row, box in enumerate(boxes.tolist()):
        table.append([])
        for column, true in enumerate(true_boxes):
            iou, giou = iou_and_giou(box, true)
            credit = 1.0 if iou >= iou_threshold else soft * iou
            earned = per_credit * credit + per_iou * iou
            cost = config.l1_cost * l1_distance(box, true) - config.giou_cost * giou
            table[-1].append(of_cost * cost - of_earned * earned)
            pairs[row, column] = iou, credit
    rows, columns = scipy.optimize.linear_sum_assignment(table)
    matched = list(zip(rows.tolist(), columns.tolist(), strict=True))
    matches = tuple([(row, column, pairs[row, column][0]) for row, column in matched])
    return matches, math.fsum([pairs[pair][1] for pair in matched])


def _iou_divisor(answered: int, true: int, config: RewardConfig) -> int:
    return max(answered, true) if config.iou_mean == "all" else min(answered, true)
