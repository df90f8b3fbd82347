"""Who plays and learns: policies, evaluation, GRPO training, reports and the command line.

Names are imported on first use, since some need torch and TRL, which take seconds to load.
"""

import importlib
import os
from typing import Any

# Learner and Blender share the cores. OpenMP threads that spin while they wait for a sibling that
# lost its core made a GRPO step on two cores six times slower; this must be set before torch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

_HOMES = {
    "AlignBlind": "dig_env.agents.policies.align",
    "AlignMLLMPolicy": "dig_env.agents.policies.align_mllm",
    "AlignOracle": "dig_env.agents.policies.align",
    "ApiPolicy": "dig_env.agents.policies.endpoint",
    "Episode": "dig_env.agents.evaluation.episodes",
    "GRPOResult": "dig_env.agents.training.monitor",
    "GRPORun": "dig_env.agents.training.settings",
    "MLLMPolicy": "dig_env.agents.policies.mllm",
    "OraclePolicy": "dig_env.agents.policies.policy",
    "PixelDiffPolicy": "dig_env.agents.policies.policy",
    "Policy": "dig_env.agents.policies.policy",
    "RandomPolicy": "dig_env.agents.policies.policy",
    "EvaluationResult": "dig_env.agents.evaluation.pairs",
    "align_metrics": "dig_env.agents.evaluation.align",
    "evaluate": "dig_env.agents.evaluation.pairs",
    "evaluate_align": "dig_env.agents.evaluation.align",
    "evaluate_external": "dig_env.agents.evaluation.pairs",
    "evaluate_stored": "dig_env.agents.evaluation.pairs",
    "load_tiny": "dig_env.agents.policies.mllm",
    "train_grpo": "dig_env.agents.training.grpo",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
