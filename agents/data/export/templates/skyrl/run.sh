#!/usr/bin/env bash
# The paper's curriculum with SkyRL: one run a stage, each from the model that the one before left.
#
#   GPUS=8 bash run.sh [trainer.epochs=5 ...]
#
# SkyRL, a vLLM for its vision-language generator, and dig-env must be installed. The settings are
# EasyR1's defaults. The reward's options are in the rows. Test pairs are in data/test-*.parquet;
# nothing here reads them.
set -euo pipefail
cd "$$(dirname "$$0")"

model=$model_for_shell
gpus=$${GPUS:-8}
for stage in $stages; do
    validation=(data.val_data="['$$PWD/data/train-$$stage.parquet']"
        trainer.eval_before_train=false trainer.eval_interval=-1)
    if [[ " $validated " == *" $$stage "* ]]; then
        validation=(data.val_data="['$$PWD/data/validation-$$stage.parquet']" trainer.eval_interval=5)
    fi
    python3 train.py \
        data.train_data="['$$PWD/data/train-$$stage.parquet']" "$${validation[@]}" \
        environment.env_class=dig \
        trainer.policy.model.path="$$model" \
        trainer.strategy=fsdp trainer.placement.colocate_all=true \
        trainer.placement.policy_num_gpus_per_node="$$gpus" \
        trainer.placement.ref_num_gpus_per_node="$$gpus" \
        generator.inference_engine.num_engines="$$gpus" \
        generator.inference_engine.tensor_parallel_size=1 \
        generator.inference_engine.gpu_memory_utilization=0.6 \
        generator.vision_language_generator=true generator.batched=false \
        trainer.remove_microbatch_padding=false \
        trainer.algorithm.advantage_estimator=grpo \
        trainer.algorithm.use_kl_loss=true trainer.algorithm.kl_loss_coef=1.0e-2 \
        trainer.algorithm.eps_clip_low=0.2 trainer.algorithm.eps_clip_high=0.3 \
        trainer.policy.optimizer_config.lr=1.0e-6 \
        trainer.epochs=15 trainer.train_batch_size=$batch_size \
        trainer.policy_mini_batch_size=$mini_batch_size \
        trainer.max_prompt_length=2048 generator.sampling_params.max_generate_length=2048 \
        generator.sampling_params.temperature=1.0 generator.n_samples_per_prompt=5 \
        trainer.logger=console trainer.project_name=dig trainer.run_name="$$stage" \
        trainer.ckpt_path="$$PWD/checkpoints/$$stage" \
        trainer.export_path="$$PWD/models/$$stage" trainer.hf_save_interval=1000000 "$$@"
    model=$$(ls -d "$$PWD/models/$$stage"/global_step_*/policy | sort -V | tail -n 1)
done
echo "model: $$model"
