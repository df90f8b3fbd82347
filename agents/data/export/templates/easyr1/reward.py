"""The reward, for EasyR1's worker.reward.reward_function. Its options are in config.yaml."""

from dig_env.agents.integrations.easyr1 import REWARD_NAME, REWARD_TYPE, compute_score

__all__ = ["REWARD_NAME", "REWARD_TYPE", "compute_score"]
