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
    "AlignBlind": "agents.align.policies",
    "AlignMLLMPolicy": "agents.align.mllm",
    "AlignOracle": "agents.align.policies",
    "ApiPolicy": "agents.api_policy",
    "Episode": "agents.evaluation",
    "GRPOResult": "agents.monitor",
    "GRPORun": "agents.settings",
    "MLLMPolicy": "agents.mllm",
    "OraclePolicy": "agents.policies",
    "PixelDiffPolicy": "agents.policies",
    "Policy": "agents.policies",
    "RandomPolicy": "agents.policies",
    "Report": "agents.evaluation",
    "align_metrics": "agents.align.evaluation",
    "evaluate": "agents.evaluation",
    "evaluate_align": "agents.align.evaluation",
    "evaluate_stored": "agents.evaluation",
    "load_tiny": "agents.mllm",
    "train_grpo": "agents.grpo",
}

__all__ = sorted(_HOMES)


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'agents' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
