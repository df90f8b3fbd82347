"""Scores of the policies that need no training, and of the embedded one, on held-out pairs.

python benchmarks/baselines.py --out docs/results/baselines.json
"""

from __future__ import annotations

import json
import platform
from pathlib import Path

import tyro

from agents.evaluation import held_out_pairs, mean_metrics, play
from agents.mllm import named_policy
from scenes import STAGES, Renderer, RenderSettings, available_cores
from scenes.files import write_whole

POLICIES = ("random", "pixeldiff", "tiny", "oracle")


def main(pairs: int = 200, seed: int = 0, out: Path = Path("docs/results/baselines.json")) -> None:
    """Play the same test pairs with each policy.

    Args:
        pairs: held-out pairs of each stage.
        seed: of the draw of pairs.
        out: file for the results.
    """
    settings = RenderSettings(width=128, height=96, quality="draft", device="cpu")
    scores: dict[str, dict[str, dict[str, float]]] = {}
    with Renderer(settings, available_cores()) as renderer:
        for stage in STAGES:
            held_out = list(held_out_pairs(renderer, stage, pairs, seed))
            for name in POLICIES:
                metrics = mean_metrics(play(named_policy(name), held_out))
                scores.setdefault(name, {})[stage] = {
                    metric: round(value, 4) for metric, value in metrics.items()
                }
                print(f"{stage:6} {name:10} {scores[name][stage]}")
    table = {
        "command": "python benchmarks/baselines.py",
        "machine": f"{available_cores()} cores, {platform.machine()}",
        "pairs": pairs,
        "seed": seed,
        "split": "test",
        "size": [settings.width, settings.height],
        "quality": settings.quality,
        "scores": scores,
    }
    write_whole(out, json.dumps(table, indent=2).encode() + b"\n")
    print(f"results: {out}")


if __name__ == "__main__":
    tyro.cli(main)
