#!/usr/bin/env bash
# The paper's curriculum with ms-swift: one run a stage, each from the model that the one before left.
#
#   NPROC_PER_NODE=8 bash run.sh [--num_train_epochs 5 ...]
#
# ms-swift (4), vLLM and dig-env must be installed. The settings are EasyR1's defaults.
# Test pairs are in data/test-*.jsonl; nothing here reads them.
set -euo pipefail
cd "$$(dirname "$$0")"

model=$model_for_shell
thinking=$thinking
if [[ -n $${MODEL:-} ]]; then # another model than the export's: it may think, or not
    model=$$MODEL
    thinking=$$([[ -n $$(python3 -m dig_env.agents.policies.thinking "$$MODEL") ]] && echo true || echo false)
fi
for stage in $stages; do
    validation=(--split_dataset_ratio 0)
    if [[ " $validated " == *" $$stage "* ]]; then
        validation=(--val_dataset "data/validation-$$stage.jsonl" --eval_strategy steps --eval_steps 50)
    fi
    swift rlhf --rlhf_type grpo \
        --model "$$model" --enable_thinking "$$thinking" \
        --dataset "data/train-$$stage.jsonl" "$${validation[@]}" \
        --external_plugins dig_plugin.py --reward_funcs dig \
        --output_dir "checkpoints/$$stage" --add_version false \
        --tuner_type full --freeze_vit false --torch_dtype bfloat16 \
        --use_vllm true --vllm_mode colocate --vllm_limit_mm_per_prompt '{"image": 2}' \
        --vllm_gpu_memory_utilization 0.5 --vllm_max_model_len 4096 --sleep_level 1 \
        --learning_rate 1e-6 --weight_decay 1e-2 --lr_scheduler_type constant --num_train_epochs 15 \
        --num_generations 5 --temperature 1.0 --max_completion_length 2048 \
        --beta 1e-2 --epsilon 0.2 --epsilon_high 0.3 \
        --per_device_train_batch_size 5 --gradient_accumulation_steps 16 \
        --save_only_model true --logging_steps 1 "$$@"
    model=$$(ls -d "checkpoints/$$stage"/checkpoint-* | sort -V | tail -n 1)
done
echo "model: $$model"
