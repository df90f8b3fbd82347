"""A policy of your own: anything with ``act(observations) -> list[str]`` can be evaluated.

python examples/custom_policy.py
"""

from collections.abc import Sequence
from typing import Any

from dig_env.agents import PixelDiffPolicy, RandomPolicy, evaluate
from dig_env.scenes import RenderSettings


class CenterPolicy:
    """Always answers with the middle of the image."""

    def act(self, observations: Sequence[dict[str, Any]]) -> list[str]:
        return ["[[400, 400, 600, 600]]"] * len(observations)


settings = RenderSettings(width=128, height=96, quality="draft")
for policy in (RandomPolicy(), CenterPolicy(), PixelDiffPolicy()):
    report = evaluate(policy, stage="single", episodes=20, seed=0, settings=settings)
    print(f"{type(policy).__name__:16} reward {report.reward:.3f}  F1 {report.f1:.3f}")
