"""DiG's reward for EasyR1: its ``worker.reward.reward_function`` file.

The options travel as ``worker.reward.reward_function_kwargs``.
"""

from __future__ import annotations

from typing import Any

from dig_env import PARTS
from dig_env.agents.integrations import score_responses

REWARD_NAME = "dig"
REWARD_TYPE = "batch"


def compute_score(reward_inputs: list[dict[str, Any]], **options: Any) -> list[dict[str, float]]:
    """Score a batch.

    Args:
        reward_inputs: dicts with "response" and "ground_truth", the text of the true boxes.
        options: see ``dig_env.agents.integrations``.

    Returns:
        Of each, "overall" (the reward) and its parts: always the same keys.

    >>> truth = "[[120, 300, 210, 400]]"
    >>> compute_score([{"response": truth, "response_length": 22, "ground_truth": truth}])
    [{'overall': 1.0, 'format': 1.0, 'f1': 1.0, 'iou': 1.0, 'precision': 1.0, 'recall': 1.0}]
    """
    responses = [entry["response"] for entry in reward_inputs]
    truths = [entry["ground_truth"] for entry in reward_inputs]
    return [
        {"overall": result.total} | {name: getattr(result, name) for name in PARTS}
        for result in score_responses(responses, truths, **options)
    ]
