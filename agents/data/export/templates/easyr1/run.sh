#!/usr/bin/env bash
# The paper's curriculum with EasyR1: one run a stage, each from the model that the one before left.
#
#   EASYR1=/path/to/EasyR1 bash run.sh [trainer.n_gpus_per_node=4 ...]
#
# EasyR1 and dig-env must be installed. If it is stopped, the same command resumes from the last checkpoint.
# Test pairs are in data/test-*.parquet; nothing here reads them.
set -euo pipefail
cd "$$(dirname "$$0")"
: "$${EASYR1:?set it to the folder of the EasyR1 checkout, whose scripts/model_merger.py is needed}"

start=$model_for_shell
model=$${MODEL:-$$start}
opening=()
if [[ -n $${MODEL:-} ]]; then # another model than the config's: it may think, or not
    opening=("worker.reward.reward_function_kwargs.opening='$$(python3 -m dig_env.agents.policies.thinking "$$MODEL")'")
fi
for stage in $stages; do
    if [[ " $validated " == *" $$stage "* ]]; then
        validation=(data.val_files="data/validation-$$stage.parquet")
    else # EasyR1 wants a file all the same
        validation=(data.val_files="data/train-$$stage.parquet"
            trainer.val_freq=-1 trainer.val_before_train=false)
    fi
    python3 -m verl.trainer.main config=config.yaml \
        data.train_files="data/train-$$stage.parquet" \
        "$${validation[@]}" \
        worker.actor.model.model_path="$$model" \
        trainer.experiment_name="$$stage" \
        trainer.save_checkpoint_path="checkpoints/$$stage" \
        "$${opening[@]}" "$$@"
    last=$$(ls -d "checkpoints/$$stage"/global_step_* | sort -V | tail -n 1)
    python3 "$$EASYR1/scripts/model_merger.py" --local_dir "$$last/actor"
    model=$$PWD/$$last/actor/huggingface
done
echo "model: $$model"
