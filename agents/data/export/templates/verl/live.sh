#!/usr/bin/env bash
# One run with verl through all stages: a curriculum chooses each pair's stage, and fresh pairs are
# rendered as it trains.
#
#   bash live.sh [data.dig.workers=16 +data.dig.curriculum.promote_at=0.6 trainer.total_training_steps=500 ...]
#   bash live.sh data.train_files=/path/of/pairs  # stored ones, of the export's size
#
# data.dig is dig_env.agents.integrations.live.LiveSettings. Of the export, validation pairs are
# read. The same command resumes.
set -euo pipefail
cd "$$(dirname "$$0")"

model=()
if [[ -n $${MODEL:-} ]]; then # another model than the config's: it may think, or not
    model=(actor_rollout_ref.model.path="$$MODEL"
        "reward.custom_reward_function.reward_kwargs.opening='$$(python3 -m dig_env.agents.policies.thinking "$$MODEL")'")
fi
validation=()
for stage in $validated; do
    validation+=("$$PWD/data/validation-$$stage.parquet")
done
if ((!$${#validation[@]})); then # verl wants a file all the same
    validation=("$$(ls -d "$$PWD"/data/train-*.parquet | head -n 1)")
    model+=(trainer.test_freq=-1 trainer.val_before_train=false)
fi
python3 -m verl.trainer.main_ppo --config-path="$$PWD" --config-name=config \
    data.train_files=fresh \
    data.val_files="[$$(IFS=, && echo "$${validation[*]}")]" \
    data.custom_cls.path=pkg://dig_env.agents.integrations.verl_live \
    data.custom_cls.name=LiveDataset \
    data.dataloader_num_workers=0 \
    +data.dig.curriculum="{_target_: dig_env.Curriculum, stages: [single, dual, mixed]}" \
    '+data.dig.rollouts=$${actor_rollout_ref.rollout.n}' \
    '+data.dig.ahead=$${data.train_batch_size}' \
    +data.dig.coordinates=$coordinates \
    +data.dig.render="{width: $width, height: $height}" \
    +data.dig.workers=8 \
    reward.custom_reward_function.path="$$PWD/reward.py" \
    actor_rollout_ref.rollout.agent.agent_loop_config_path="$$PWD/agent.yaml" \
    trainer.experiment_name=live \
    trainer.default_local_dir="$$PWD/checkpoints/live" \
    "$${model[@]}" "$$@"
