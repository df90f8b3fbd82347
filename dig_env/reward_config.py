"""Settings of the reward, and those that have a name."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, Literal, get_args

from dig_env.scenes.arguments import one_of, real, whole

Matching = Literal["reward", "cost"]
IoUMean = Literal["all", "matched"]


@dataclass(frozen=True)
class RewardConfig:
    """Settings of the reward.

    Attributes:
        format_weight: Share of the total that a valid format earns by itself, in [0, 1].
            0.1 is our default; the paper gives no number.
        f1_weight: Share of F1 in the accuracy, in [0, 1]. 0.5 is our default, too.
        iou_weight: Share of IoU in the accuracy, ``1 - f1_weight``.
        match_iou: IoU from which on a matched pair counts as a difference found, in (0, 1].
            None is the paper's literal reading: every matched pair counts.
        soft: Whether a pair below ``match_iou`` counts in part, as IoU / ``match_iou``, instead
            of not at all.
        exact: Whether F1 counts only where it is 1: every difference is found, and no box finds
            none.
        matching: "reward" matches for the most reward, and at the least cost where that is equal;
            "cost" matches at the least cost, and for the most reward where that is equal.
        iou_mean: "all" divides the summed IoU by max(N, M); "matched", as the paper, by the
            number of matched pairs.
        l1_cost: Weight in the matching cost of the L1 distance, at least 0. 5, and 2 for
            ``giou_cost``, are DETR's weights (arXiv 2005.12872), also used by Perception-R1.
        giou_cost: Weight in the matching cost of -GIoU, at least 0. Not both may be 0.
        max_length: Most characters of an answer that earns anything, if fewer than
            ``dig_env.answers.MAX_ANSWER_LENGTH``. Thoughts are not counted, here and below. About
            four characters are a token.
        max_repetition: An answer of at least 1,000 characters earns nothing if zlib shortens it
            more often than this; None: no limit. Prose is shortened 2 to 3 times, a dull
            enumeration of similar objects 7 times, a sentence said 12 times over 12 times.
            (Whisper rejects loops in the same way, arXiv 2212.04356.)

    Raises:
        ValueError: a value outside what is allowed above.
    """

    format_weight: float = 0.1
    f1_weight: float = 0.5
    iou_weight: float = 0.5
    match_iou: float | None = 0.5
    soft: bool = False
    exact: bool = False
    matching: Matching = "reward"
    iou_mean: IoUMean = "all"
    l1_cost: float = 5.0
    giou_cost: float = 2.0
    max_length: int | None = None
    max_repetition: float | None = 12.0

    def __post_init__(self) -> None:
        for name in ("format_weight", "f1_weight", "iou_weight"):
            real(name, getattr(self, name), 0, 1)
        for name in ("l1_cost", "giou_cost"):
            real(name, getattr(self, name), 0)
        if self.match_iou is not None:
            real("match_iou", self.match_iou, 0, 1, above=True)
        if self.max_length is not None:
            whole("max_length", self.max_length, 1)
        if self.max_repetition is not None:
            real("max_repetition", self.max_repetition, 1)
        one_of("matching", self.matching, get_args(Matching))
        one_of("iou_mean", self.iou_mean, get_args(IoUMean))
        for name in ("soft", "exact"):
            if not isinstance(getattr(self, name), bool):
                raise ValueError(f"{name}={getattr(self, name)!r}: give True or False")
        if self.soft and self.match_iou is None:
            raise ValueError("soft=True and match_iou=None: a part needs a whole; set match_iou")
        if not math.isclose(self.f1_weight + self.iou_weight, 1.0, abs_tol=1e-9):
            raise ValueError(
                f"f1_weight={self.f1_weight!r} and iou_weight={self.iou_weight!r}: give two that "
                "add up to 1, or the reward would leave [0, 1]"
            )
        if self.l1_cost == self.giou_cost == 0.0:
            raise ValueError("l1_cost=0 and giou_cost=0: one of them must match the boxes")

    @property
    def iou_threshold(self) -> float:
        """The IoU from which on a matched pair counts: ``match_iou``, or 0 where that is None."""
        return 0.0 if self.match_iou is None else self.match_iou

    @property
    def weights(self) -> dict[str, float]:
        """What each part weighs: the total is the sum of weight times part, in this order."""
        accuracy = 1.0 - self.format_weight
        return {
            "format": self.format_weight,
            "f1": accuracy * self.f1_weight,
            "iou": accuracy * self.iou_weight,
        }


REWARDS: dict[str, RewardConfig] = {
    "full": RewardConfig(),
    "paper": RewardConfig(match_iou=None, matching="cost", iou_mean="matched", max_repetition=None),
    "dense": RewardConfig(soft=True),
    "strict": RewardConfig(format_weight=0.0, match_iou=0.75, max_length=8192),
    "format": RewardConfig(format_weight=1.0),
    "iou": RewardConfig(f1_weight=0.0, iou_weight=1.0),
    "f1": RewardConfig(f1_weight=1.0, iou_weight=0.0),
    "exact": RewardConfig(format_weight=0.0, f1_weight=1.0, iou_weight=0.0, exact=True),
}
"""Settings by name.

- "full": the default.
- "paper": DiG's formulas to the letter. Not monotonic: see the head of this module.
- "dense": without the step at ``match_iou``, for policies that rarely get so far.
- "strict": nothing for the format, F1 at IoU 0.75, short answers; for late training.
- "format", "iou", "f1": the ablations of the paper's reward, beside "full".
- "exact": all or nothing: 1 if every difference is found and nothing else is boxed.
"""


RewardLike = str | Mapping[str, Any] | RewardConfig
"""A name from ``REWARDS``, a mapping of ``RewardConfig`` fields, or a RewardConfig: what every
function and setting of this package takes as a reward."""


def resolve_reward(reward: RewardLike | None) -> RewardConfig:
    """The settings that a user's reward means; None is "full".

    Raises:
        TypeError, ValueError: none of these; or see ``RewardConfig``.

    >>> resolve_reward({"match_iou": 0.75}).match_iou
    0.75
    """
    if reward is None:
        return RewardConfig()
    if isinstance(reward, RewardConfig):
        return reward
    if isinstance(reward, str):
        if reward not in REWARDS:
            raise ValueError(f"unknown reward {reward!r}; the rewards are {', '.join(REWARDS)}")
        return REWARDS[reward]
    if not isinstance(reward, Mapping):
        raise TypeError(
            f"reward is a {type(reward).__name__}; give a name ({', '.join(REWARDS)}), a "
            "mapping of RewardConfig fields, or a RewardConfig"
        )
    names = [entry.name for entry in fields(RewardConfig)]
    unknown = [name for name in reward if name not in names]
    if unknown:
        raise ValueError(f"unknown reward setting {unknown[0]!r}; there are {', '.join(names)}")
    return RewardConfig(**reward)
