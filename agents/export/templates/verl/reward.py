"""The reward, for verl's reward.custom_reward_function. Its options stand in config.yaml."""

from agents.adapters.verl import compute_score

__all__ = ["compute_score"]
