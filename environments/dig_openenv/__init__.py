"""DiG as an OpenEnv environment."""

from dig_env.agents.integrations.openenv import DiGAction, DiGClient, DiGObservation

__all__ = ["DiGAction", "DiGClient", "DiGObservation"]
