"""GRPO with TRL on these pairs: one run a stage, each from the model of the one before.

    python train.py                          # or: accelerate launch train.py
    python train.py --parts true --multi_objective_aggregation normalize_then_sum
    python train.py --model Qwen/Qwen3-VL-4B-Instruct --use_vllm true

TRL and dig-env must be installed. All of TRL's GRPOConfig are options; the defaults here are
EasyR1's. Test pairs are in data/test-*.parquet; nothing here reads them.
"""

import copy
import json
from dataclasses import dataclass
from pathlib import Path

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer, TrlParser

from dig_env.agents.integrations.trl import reward_function, reward_parts
from dig_env.agents.policies.image_tokens import without_images_of
from dig_env.agents.policies.thinking import opening_of_model

HERE = Path(__file__).parent
EXPORT = json.loads((HERE / "export.json").read_text())
DEFAULTS = {
    "output_dir": str(HERE / "checkpoints"),
    "learning_rate": 1e-6,
    "weight_decay": 1e-2,
    "lr_scheduler_type": "constant",
    "num_train_epochs": 15,
    "num_generations": 5,
    "temperature": 1.0,
    "max_completion_length": 2048,
    "beta": 1e-2,
    "epsilon": 0.2,
    "epsilon_high": 0.3,
    # One group at a time through the model, 16 groups an optimiser step and device.
    "per_device_train_batch_size": 5,
    "gradient_accumulation_steps": 16,
    "bf16": True,
    "logging_steps": 1,
}


@dataclass
class Options:
    """What to train.

    Attributes:
        model: folder or hub name to start from.
        thinking: whether its chat template opens the answer with "<think>"; by default as the
            template says, or the export for its own model.
        parts: whether the reward's parts are separate rewards, with its weights.
    """

    model: str = EXPORT["settings"]["model"]
    thinking: bool | None = None
    parts: bool = False


def main(arguments: list[str] | None = None) -> str:
    """Train through the stages; returns the last model's folder."""
    parser = TrlParser((Options, GRPOConfig))
    parser.set_defaults(**DEFAULTS)
    options, config = parser.parse_args_and_config(arguments)
    reward = EXPORT["reward"]
    if options.thinking is not None:
        reward["opening"] = "<think>" if options.thinking else ""
    elif options.model != EXPORT["settings"]["model"]:
        reward["opening"] = opening_of_model(options.model, download=True)
    if options.parts:
        functions, config.reward_weights = reward_parts(**reward)
    else:
        functions = [reward_function(**reward)]
    model = options.model
    # A sampled image token has no image, and the next step fails.
    forbidden = without_images_of(model, config.use_vllm)
    config.generation_kwargs = (config.generation_kwargs or {}) | forbidden
    for stage in EXPORT["pairs"]["train"]:
        own_config = copy.copy(config)
        own_config.output_dir = str(Path(config.output_dir, stage))
        trainer = GRPOTrainer(
            model=model,
            reward_funcs=functions,
            args=own_config,
            train_dataset=load_dataset(
                "parquet", data_files=str(HERE / "data" / f"train-{stage}.parquet"), split="train"
            ),
        )
        trainer.train()
        model = f"{own_config.output_dir}/model"
        trainer.save_model(model)  # with its processor
    return model


if __name__ == "__main__":
    print("model:", main())
