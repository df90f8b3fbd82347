"""GRPO of a LoRA with Unsloth on one GPU, on the rows and the reward of an export for TRL.

dig-env export --format trl --model Qwen/Qwen3-VL-4B-Instruct --dataset pairs --out pairs-trl
python examples/trainers/unsloth_grpo.py pairs-trl single runs/unsloth

Needs Unsloth, which patches TRL (up to 1.15). Both images of a pair are in its row's "images".
"""

import json
import sys
from pathlib import Path

SETTINGS = {
    "num_generations": 8,
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 4,
    "max_completion_length": 1024,
    "temperature": 1.0,
    "learning_rate": 1e-5,
    "optim": "adamw_8bit",
    "max_steps": 500,
    "logging_steps": 1,
    "save_steps": 100,
    "report_to": "none",
}


def train(export: Path, stage: str, out: str) -> None:
    """Train on a stage's pairs; the adapter is in ``out``."""
    from unsloth import FastVisionModel  # isort: skip (before TRL, which it patches)
    from datasets import load_dataset
    from trl import GRPOConfig, GRPOTrainer

    from dig_env.agents.integrations.trl import reward_function
    from dig_env.agents.policies.image_tokens import without_images

    card = json.loads((export / "export.json").read_text())
    model, processor = FastVisionModel.from_pretrained(
        card["settings"]["model"], max_seq_length=4096, load_in_4bit=True, fast_inference=False
    )
    model = FastVisionModel.get_peft_model(
        model,
        r=16,
        lora_alpha=16,
        finetune_vision_layers=False,
        use_gradient_checkpointing="unsloth",
    )
    forbidden = without_images(model.config, processor.tokenizer, use_vllm=False)
    file = str(export / "data" / f"train-{stage}.parquet")
    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=reward_function(**card["reward"]),
        args=GRPOConfig(output_dir=out, generation_kwargs=forbidden, **SETTINGS),
        train_dataset=load_dataset("parquet", data_files=file, split="train"),
    )
    trainer.train()
    trainer.save_model(out)


if __name__ == "__main__":
    train(Path(sys.argv[1]), *sys.argv[2:])
