"""Train with TRL on pairs that are rendered while it trains; nothing is exported.

python examples/trainers/trl_live.py Qwen/Qwen3-VL-4B-Instruct 500
"""

import sys
from functools import partial

from datasets import Dataset
from trl import GRPOConfig, GRPOTrainer

from dig_env import Curriculum
from dig_env.agents.integrations.live import LivePairs
from dig_env.agents.integrations.trl_live import DiGEnvironment
from dig_env.agents.policies.image_tokens import without_images_of
from dig_env.envs.pairs import FreshPairs
from dig_env.scenes import RenderSettings

PAIRS, ROLLOUTS = 4, 8  # of a step


def train(model: str, steps: int, width: int = 320, height: int = 240, **settings: object) -> float:
    """Train for some steps; returns the mean reward of the last."""
    source = FreshPairs(RenderSettings(width, height, "draft"), "train", workers=1)
    pairs = LivePairs(source, Curriculum(), rollouts=ROLLOUTS)
    common = {
        "output_dir": "runs/trl-live",
        "per_device_train_batch_size": PAIRS * ROLLOUTS,
        "num_generations": ROLLOUTS,
        "max_completion_length": 1024,
        "max_tool_calling_iterations": 2,
        "max_steps": steps,
        "generation_kwargs": without_images_of(model, use_vllm=False),
        "shuffle_dataset": False,
        "logging_steps": 1,
        "report_to": "none",
    }
    try:
        trainer = GRPOTrainer(
            model,
            environment_factory=partial(DiGEnvironment, pairs),
            args=GRPOConfig(**(common | settings)),  # type: ignore[arg-type]
            train_dataset=Dataset.from_list(pairs.rows(PAIRS * steps)),
        )
        trainer.train()
    finally:
        source.close()
    rewards = [entry["reward"] for entry in trainer.state.log_history if "reward" in entry]
    return float(rewards[-1])


if __name__ == "__main__":
    print(f"mean reward of the last step: {train(sys.argv[1], int(sys.argv[2])):.3f}")
