"""DiG's reward for verl: its ``reward.custom_reward_function`` file.

The options travel as ``reward.custom_reward_function.reward_kwargs``. The parts come back beside
the reward, so that GDPO (``algorithm.adv_estimator=gdpo``) can weigh them by their names.
"""

from __future__ import annotations

from typing import Any

from dig_env import PARTS
from dig_env.agents.integrations import score_responses


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, float]:
    """Score one response.

    Args:
        data_source, extra_info: verl passes them; the reward needs neither.
        solution_str: the response.
        ground_truth: the text of the true boxes.
        options: see ``dig_env.agents.integrations``.

    Returns:
        "score" (the reward) and its parts: always the same keys.

    >>> compute_score("dig", "[]", "[[120, 300, 210, 400]]")["score"]
    0.0
    """
    (result,) = score_responses([solution_str], [ground_truth], **options)
    return {"score": result.total} | {name: getattr(result, name) for name in PARTS}
