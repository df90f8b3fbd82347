"""DiG's reward in TRL: whole, or in parts that GDPO normalises one by one. Trains two steps each.

python examples/trainers/trl_reward.py

The embedded policy on sixteen pairs that are rendered first; a real run is the train.py that
"dig-env export --format trl" writes (docs/trainers.md).
"""

from datasets import load_dataset
from trl import GRPOConfig, GRPOTrainer

from dig_env.agents import load_tiny
from dig_env.agents.data.export import export_dataset
from dig_env.agents.integrations.trl import reward_function, reward_parts
from dig_env.scenes import RenderSettings, render_dataset

render_dataset("runs/pairs", {"single": 16}, settings=RenderSettings(128, 96, "draft"))
export_dataset("runs/pairs", "runs/pairs-trl", "trl")
rows = load_dataset("parquet", data_files="runs/pairs-trl/data/train-single.parquet", split="train")

parts, weights = reward_parts("full")
for functions, settings in (
    ([reward_function("full")], {}),
    (parts, {"reward_weights": weights, "multi_objective_aggregation": "normalize_then_sum"}),
):
    policy = load_tiny()
    trainer = GRPOTrainer(
        model=policy.model,
        processing_class=policy.processor,
        reward_funcs=functions,
        train_dataset=rows,
        args=GRPOConfig(
            output_dir="runs/trl_reward",
            per_device_train_batch_size=32,
            num_generations=8,
            max_completion_length=24,
            temperature=0.3,
            max_steps=2,
            logging_steps=1,
            bf16=False,
            report_to=[],
            save_strategy="no",
            **settings,
        ),
    )
    trainer.train()
    for step in trainer.state.log_history[:2]:
        print({name: round(step[name], 3) for name in step if name.endswith(("reward", "/mean"))})
