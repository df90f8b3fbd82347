"""DiG's reward for TRL's trainers: as one function, or as three with weights.

Both read the column ``truth`` (a row's boxes, xyxy in the unit frame), which ``dig-env export
--format trl`` writes. The parts are for ``multi_objective_aggregation="normalize_then_sum"`` (GDPO,
arXiv 2601.05242): each part is normalised within its group before the weights count.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from dig_env import PARTS, RewardLike, Score, resolve_reward
from dig_env.agents.integrations import score_responses
from dig_env.agents.policies.messages import reply_text, said_and_thought

RewardFunction = Callable[..., list[float]]
"""What TRL's ``reward_funcs`` holds: keyword arguments of parallel lists, one reward each."""


def reward_function(reward: Any = "full", **options: Any) -> RewardFunction:
    """The whole reward, named "dig"; logs the means of its parts as "dig/f1" and so on.

    Args:
        reward, options: see ``dig_env.agents.integrations``.

    >>> dig = reward_function()
    >>> dig(completions=["[[120, 300, 210, 400]]"], truth=[[[0.12, 0.3, 0.21, 0.4]]])
    [1.0]
    """

    def dig(
        *,
        completions: list[Any],
        truth: list[Any],
        log_metric: Callable[[str, float], None] | None = None,
        **_: Any,
    ) -> list[float]:
        scores = score_responses(
            [final_answer(completion) for completion in completions],
            truth,
            reward=reward,
            **options,
        )
        if log_metric is not None:
            log_parts(scores, log_metric)
        return [result.total for result in scores]

    return dig


def log_parts(scores: Sequence[Score], log_metric: Callable[[str, float], None]) -> None:
    """Log the mean of each part of the scores."""
    for name in PARTS:
        log_metric(f"dig/{name}", sum(getattr(s, name) for s in scores) / len(scores))


def reward_parts(
    reward: RewardLike = "full", **options: Any
) -> tuple[list[RewardFunction], list[float]]:
    """The reward's three parts, for ``reward_funcs``, and their weights, for ``reward_weights``.

    Weight times part, summed in this order (and cut at 1), is the whole reward to the last bit.

    Args:
        reward, options: see ``dig_env.agents.integrations``.
    """
    weights = resolve_reward(reward).weights
    return [_part(name, reward, options) for name in weights], list(weights.values())


def _part(name: str, reward: Any, options: dict[str, Any]) -> RewardFunction:
    def part(*, completions: list[Any], truth: list[Any], **_: Any) -> list[float]:
        scores = score_responses(
            [final_answer(completion) for completion in completions],
            truth,
            reward=reward,
            **options,
        )
        return [getattr(result, name) for result in scores]

    part.__name__ = f"dig_{name}"  # TRL names the part's metrics after it
    return part


def final_answer(completion: Any) -> str:
    """The answer in a completion, which is a text or, where prompts are conversations, messages.

    "" where the last message is no answer: a tool's result, a call of a tool, or without content.
    A thought that TRL has split off is put before the answer again, where it belongs to no answer.
    """
    if isinstance(completion, str):
        return completion
    last = completion[-1] if completion else {}
    if last.get("role", "assistant") != "assistant" or last.get("tool_calls"):
        return ""
    return reply_text(*said_and_thought(last))
