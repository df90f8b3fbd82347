"""What verifiers looks for under the id "DiG-v0": one taskset, one harness, one environment."""

from dig_env.agents.integrations.verifiers import DiGEnvironment, DiGHarness, DiGTaskset

__all__ = ["DiGEnvironment", "DiGHarness", "DiGTaskset"]
