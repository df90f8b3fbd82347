"""``DiG-v0`` for SkyRL: an environment of one turn, which scores the answer.

SkyRL makes it for each rollout of a row that ``dig-env export --format skyrl`` wrote::

    from skyrl_gym.envs import register

    register(id="dig", entry_point="dig_env.agents.integrations.skyrl:DiGEnv")
"""

from __future__ import annotations

import json
from typing import Any

from skyrl_gym.envs.base_text_env import BaseTextEnv, BaseTextEnvStepOutput

from dig_env import PARTS
from dig_env.agents.integrations import score_responses


class DiGEnv(BaseTextEnv):
    """One rollout's environment.

    Args:
        env_config: SkyRL passes it; nothing in it is needed.
        extras: the row's other columns: "reward_spec", with the text of the true boxes as
            "ground_truth", and "reward_options", JSON of what stands at the head of
            ``dig_env.agents.integrations``.
    """

    def __init__(self, env_config: Any = None, extras: dict[str, Any] | None = None) -> None:
        super().__init__()
        row = extras or {}
        self._truth = row["reward_spec"]["ground_truth"]
        self._options = json.loads(row["reward_options"])
        self._parts: dict[str, float] = {}

    def step(self, action: str) -> BaseTextEnvStepOutput:
        """Score the answer; the episode is over."""
        (result,) = score_responses([action], [self._truth], **self._options)
        self._parts = {name: getattr(result, name) for name in PARTS}
        return BaseTextEnvStepOutput(
            observations=[], reward=result.total, done=True, metadata={}, postprocessed_action=None
        )

    def get_metrics(self) -> dict[str, float]:
        """The parts of the reward, whose means SkyRL logs."""
        return self._parts
