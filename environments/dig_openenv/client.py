"""The typed client, where OpenEnv's tools look for it."""

from dig_env.agents.integrations.openenv import DiGClient

__all__ = ["DiGClient"]
