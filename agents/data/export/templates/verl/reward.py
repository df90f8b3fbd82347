"""The reward, for verl's reward.custom_reward_function. Its options are in config.yaml."""

from dig_env.agents.integrations.verl import compute_score

__all__ = ["compute_score"]
