"""GRPO on Qwen3-VL: the code of the demo with another model and real image sizes. Needs a GPU.

python examples/train_qwen3_vl.py

The learning rate, rollouts, KL coefficient and answer length are EasyR1's defaults; a Thinking
model writes its reasoning first, and what follows the last </think> is the answer.
"""

from agents import GRPORun, train_grpo
from agents.report import write_report

run = GRPORun(
    out="runs/qwen3-vl",
    model="Qwen/Qwen3-VL-4B-Thinking",
    width=512,
    height=384,
    quality="standard",
    pairs_per_step=16,
    rollouts=5,
    steps=300,
    minutes=None,
    learning_rate=1e-6,
    beta=1e-2,
    temperature=1.0,
    max_completion_length=2048,
    wandb="offline",
    trl={
        "lr_scheduler_type": "constant",
        "bf16": True,
        "gradient_checkpointing": True,
        "epsilon_high": 0.3,
        # One group at a time through the model, 16 groups an optimiser step.
        "per_device_train_batch_size": 5,
        "gradient_accumulation_steps": 16,
    },
)

if __name__ == "__main__":
    for name, path in write_report(train_grpo(run)).items():
        print(f"{name}: {path}")
