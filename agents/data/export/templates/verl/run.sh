#!/usr/bin/env bash
# The paper's curriculum with verl: one run a stage, each from the model that the one before left.
#
#   bash run.sh [trainer.n_gpus_per_node=4 trainer.nnodes=2 ...]
#
# verl and dig-env must be installed; on several machines, on each, with this folder at the same
# place and 'ray start' run before. If it is stopped, the same command resumes from the last checkpoint.
# Test pairs are in data/test-*.parquet; nothing here reads them.
set -euo pipefail
cd "$$(dirname "$$0")"

start=$model_for_shell
model=$${MODEL:-$$start}
opening=()
if [[ -n $${MODEL:-} ]]; then # another model than the config's: it may think, or not
    opening=("reward.custom_reward_function.reward_kwargs.opening='$$(python3 -m dig_env.agents.policies.thinking "$$MODEL")'")
fi
for stage in $stages; do
    if [[ " $validated " == *" $$stage "* ]]; then
        validation=(data.val_files="$$PWD/data/validation-$$stage.parquet")
    else # verl wants a file all the same
        validation=(data.val_files="$$PWD/data/train-$$stage.parquet"
            trainer.test_freq=-1 trainer.val_before_train=false)
    fi
    python3 -m verl.trainer.main_ppo --config-path="$$PWD" --config-name=config \
        data.train_files="$$PWD/data/train-$$stage.parquet" \
        "$${validation[@]}" \
        reward.custom_reward_function.path="$$PWD/reward.py" \
        actor_rollout_ref.rollout.agent.agent_loop_config_path="$$PWD/agent.yaml" \
        actor_rollout_ref.model.path="$$model" \
        trainer.experiment_name="$$stage" \
        trainer.default_local_dir="$$PWD/checkpoints/$$stage" \
        "$${opening[@]}" "$$@"
    last=checkpoints/$$stage/global_step_$$(cat "checkpoints/$$stage/latest_checkpointed_iteration.txt")
    python3 -m verl.model_merger merge --backend fsdp \
        --local_dir "$$last/actor" --target_dir "$$last/merged"
    model=$$PWD/$$last/merged
done
echo "model: $$model"
