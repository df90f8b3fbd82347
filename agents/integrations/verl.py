"""DiG's rows for verl, and its reward: verl's ``reward.custom_reward_function`` file.

The options travel as ``reward.custom_reward_function.reward_kwargs``. The parts come back beside
the reward, so that GDPO (``algorithm.adv_estimator=gdpo``) can weigh them by their names.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from dig_env import PARTS, Score, format_boxes
from dig_env.agents.integrations import score_responses

LIVE_PAIRS = "dig_env_pairs"
"""Name of the Ray actor of ``integrations.verl_live``, and mark of its rows."""


def verl_row(
    prompt: str, images: list[Any], truth: np.ndarray, extra_info: dict[str, Any]
) -> dict[str, Any]:
    """A pair as a row of a data set.

    Args:
        prompt: the instruction.
        images: both, in any form that verl takes.
        truth: (n, 4) true boxes, xyxy in the unit frame.
        extra_info: what verl hands on to ``compute_score``.
    """
    return {
        "data_source": "dig",
        "prompt": [{"role": "user", "content": f"<image><image>{prompt}"}],
        "images": images,
        "ability": "differential grounding",
        "reward_model": {"style": "rule", "ground_truth": format_boxes(truth, exact=True)},
        "extra_info": extra_info,
    }


def compute_score(
    data_source: str,
    solution_str: str,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    **options: Any,
) -> dict[str, float]:
    """Score one response; of a live pair, tell the curriculum.

    Args:
        data_source: verl passes it; the reward does not need it.
        solution_str: the response.
        ground_truth: the text of the true boxes.
        extra_info: of the row.
        options: see ``dig_env.agents.integrations``.

    Returns:
        "score" (the reward) and its parts: always the same keys.

    >>> compute_score("dig", "[]", "[[120, 300, 210, 400]]")["score"]
    0.0
    """
    (result,) = score_responses([solution_str], [ground_truth], **options)
    return _earned(result.total, result, extra_info)


def compute_zoom_score(
    answer: str,
    requests: int,
    ground_truth: str,
    extra_info: dict[str, Any] | None = None,
    turn_cost: float = 0.0,
    **options: Any,
) -> dict[str, float]:
    """Score a rollout of ``DiG-Zoom-v0``, as ``compute_score`` does one response.

    Args:
        answer: its last turn; "" where that was a request.
        requests: how often it asked for a zoom.
        ground_truth, extra_info, options: see ``compute_score``.
        turn_cost: what a request costs.

    Returns:
        The same keys, and "zooms": the requests.

    >>> answer = "[[120, 300, 210, 400]]"
    >>> compute_zoom_score(answer, 2, answer, turn_cost=0.25)["score"]
    0.5
    """
    (result,) = score_responses([answer], [ground_truth], **options)
    total = result.total - turn_cost * requests
    return _earned(total, result, extra_info) | {"zooms": requests}


def _earned(reward: float, result: Score, extra_info: dict[str, Any] | None) -> dict[str, float]:
    """The reward and its parts; of a live pair, tell the curriculum."""
    if extra_info and extra_info.get(LIVE_PAIRS):
        import ray  # here, since the reward alone does not need it

        ray.get_actor(LIVE_PAIRS).earned.remote(extra_info["index"], reward)
    return {"score": reward} | {name: getattr(result, name) for name in PARTS}
