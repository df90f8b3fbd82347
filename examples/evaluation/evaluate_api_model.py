"""Evaluate a model behind any OpenAI-compatible endpoint that sees images.

vllm serve Qwen/Qwen3-VL-4B-Thinking --reasoning-parser qwen3
python examples/evaluation/evaluate_api_model.py http://localhost:8000/v1 Qwen/Qwen3-VL-4B-Thinking
"""

import sys

from dig_env.agents.evaluation.pairs import evaluate
from dig_env.agents.policies.endpoint import ApiPolicy
from dig_env.answers import habit_of
from dig_env.scenes import RenderSettings

base_url, model = sys.argv[1:]
policy = ApiPolicy(base_url, model, max_tokens=8192, concurrency=4)
report = evaluate(
    policy,
    stage="dual",
    episodes=20,
    settings=RenderSettings(320, 240, "draft"),
    batch_size=20,
    **habit_of(model),  # dialect and frame that the prompt asks for and answers are read in
)
for metric, (mean, low, high) in report.to_json()["intervals"].items():
    print(f"{metric:15} {mean:.3f}  ({low:.3f} to {high:.3f})")
print(policy.usage)
