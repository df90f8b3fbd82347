"""TRL's settings, one by one: each works in a run, or is refused by name."""

import json
from dataclasses import fields

import pytest
from trl import GRPOConfig

from dig_env.agents import GRPORun, train_grpo
from dig_env.agents.training.grpo_trainer import FIXED, OWNED, trl_config

STEPS_OF = {"steps": 2, "save_every": 0}
SAVED = {"steps": 2, "save_every": 1}
WITH_KL = STEPS_OF | {"beta": 0.01}
WORKS = {
    "optimizer": (
        STEPS_OF,
        {
            "optim": "adamw_torch",
            "optim_args": "eps=1e-7",
            "weight_decay": 0.1,
            "adam_beta1": 0.8,
            "adam_beta2": 0.95,
            "adam_epsilon": 1e-7,
            "max_grad_norm": 0.5,
            "lr_scheduler_type": "cosine_with_min_lr",
            "lr_scheduler_kwargs": {"min_lr": 1e-6},
            "warmup_steps": 1,
            "average_tokens_across_devices": False,
            "neftune_noise_alpha": None,
            "label_smoothing_factor": 0.1,
            "torch_empty_cache_steps": 1,
            "optim_target_modules": ["q_proj"],
        },
    ),
    "parts": (
        STEPS_OF,
        {
            "per_device_train_batch_size": 4,
            "gradient_accumulation_steps": 2,
            "dataloader_drop_last": True,
            "dataloader_pin_memory": False,
            "dataloader_in_order": False,
            "dataloader_multiprocessing_context": None,
            "pad_to_multiple_of": 8,
            "ddp_find_unused_parameters": False,
            "ddp_bucket_cap_mb": 10,
            "ddp_broadcast_buffers": False,
            "ddp_static_graph": False,
            "ddp_timeout": 900,
        },
    ),
    "rollouts of two steps": (STEPS_OF, {"num_iterations": 2}),
    "half a batch a step": (STEPS_OF, {"steps_per_generation": 2}),
    "half a batch a step, counted otherwise": (STEPS_OF, {"generation_batch_size": 16}),
    "precision": (
        STEPS_OF,
        {
            "bf16": True,
            "fp16": False,
            "bf16_full_eval": True,
            "fp16_full_eval": False,
            "activation_checkpointing": True,
            "activation_checkpointing_kwargs": {"use_reentrant": False},
            "use_cache": False,
            "disable_dropout": True,
            "use_cpu": True,
        },
    ),
    "checkpointing by its old name": (
        STEPS_OF,
        {"gradient_checkpointing": True, "gradient_checkpointing_kwargs": {"use_reentrant": False}},
    ),
    "sampling": (
        STEPS_OF,
        {
            "top_p": 0.9,
            "top_k": 50,
            "min_p": 0.01,
            "repetition_penalty": 1.01,
            "generation_kwargs": {"length_penalty": 1.0},
            "chat_template_kwargs": {"enable_thinking": False},
            "cache_implementation": "dynamic",
            "max_tool_calling_iterations": 1,
        },
    ),
    "loss": (
        WITH_KL,
        {
            "loss_type": "grpo",
            "scale_rewards": "batch",
            "importance_sampling_level": "sequence",
            "epsilon": 0.1,
            "epsilon_high": 0.3,
            "delta": 1.5,
            "mask_truncated_completions": True,
            "sync_ref_model": True,
            "ref_model_mixup_alpha": 0.5,
            "ref_model_sync_steps": 1,
            "top_entropy_quantile": 0.8,
            "off_policy_mask_threshold": 0.5,
            "use_bias_correction_kl": False,
            "router_aux_loss_coef": None,
            "cast_lm_head_to_fp32": False,
        },
    ),
    "entropy": (
        STEPS_OF,
        {
            "entropy_coef": 0.01,
            "use_adaptive_entropy": True,
            "entropy_coef_min": 0.001,
            "entropy_coef_max": 0.5,
            "entropy_coef_delta": 0.01,
            "entropy_target": 0.3,
        },
    ),
    "SAPO": (
        STEPS_OF,
        {"loss_type": "sapo", "sapo_temperature_neg": 1.1, "sapo_temperature_pos": 0.9},
    ),
    "VESPO": (
        STEPS_OF,
        {
            "loss_type": "vespo",
            "vespo_k_pos": 2.5,
            "vespo_lambda_pos": 2.5,
            "vespo_k_neg": 2.5,
            "vespo_lambda_neg": 2.5,
        },
    ),
    "logging": (
        SAVED,
        {
            "logging_first_step": True,
            "log_on_each_node": False,
            "logging_nan_inf_filter": False,
            "include_num_input_tokens_seen": "all",
            "log_level": "error",
            "log_level_replica": "error",
            "disable_tqdm": True,
            "report_to": ["tensorboard"],
            "run_name": "a name",
            "log_completions": True,
            "log_multimodal": False,
            "num_completions_to_print": 1,
            "log_unique_prompts": True,
            "skip_memory_metrics": False,
            "debug": "",
        },
    ),
    "saving": (
        SAVED,
        {
            "save_total_limit": 1,
            "save_on_each_node": True,
            "restore_callback_states_from_checkpoint": False,
            "full_determinism": False,
            "data_seed": 1,
            "do_train": True,
        },
    ),
}
"""Of each group: settings of the run, and of TRL, that are tried together."""

REFUSED_BY_TRL = {
    "auto_find_batch_size": True,
    "use_transformers_continuous_batching": True,
    "use_transformers_paged": True,
    "log_completions_hub_repo": "someone/something",
}
NO_EFFECT = {
    # They belong to an evaluation by the trainer, which there is not, or to other scripts.
    *("eval_delay", "per_device_eval_batch_size", "prediction_loss_only", "num_generations_eval"),
    *("eval_do_concat_batches", "eval_use_gather_object", "eval_accumulation_steps"),
    *("include_for_metrics", "batch_eval_metrics", "metric_for_best_model", "greater_is_better"),
    *("do_eval", "do_predict", "label_names", "length_column_name", "local_rank"),
}
ELSEWHERE = {
    # What is not here: GPUs, vLLM, sharding (test_qwen3_vl_runs.py), a hub, a compiler.
    *("tf32", "torch_compile", "torch_compile_backend", "torch_compile_mode", "use_liger_kernel"),
    *("liger_kernel_config", "enable_jit_checkpoint", "parallelism_config", "fsdp", "fsdp_config"),
    *("deepspeed", "ds3_gather_for_generation", "transformers_continuous_batching_config"),
    *("push_to_hub", "hub_token", "hub_private_repo", "hub_model_id", "hub_strategy"),
    *("hub_always_push", "hub_revision", "project", "trackio_space_id", "trackio_bucket_id"),
    "trackio_static_space_id",
    "ddp_backend",
    *(field.name for field in fields(GRPOConfig) if "vllm" in field.name),
}


def run_with(out, stored, trl, **changes):
    return GRPORun(
        out=str(out),
        dataset=stored,
        stages=("single",),
        pairs_per_step=2,
        rollouts=4,
        minutes=None,
        eval_pairs=0,
        trl=trl,
        **changes,
    )


def test_every_setting_is_somewhere_here():
    places = [set(trl) for _, trl in WORKS.values()] + [set(REFUSED_BY_TRL), NO_EFFECT, ELSEWHERE]
    tried = set().union(*places, OWNED, FIXED)
    assert {field.name for field in fields(GRPOConfig)} == tried
    assert not (set(OWNED) | set(FIXED)) & set().union(*places)


@pytest.mark.parametrize("name", WORKS)
def test_it_works(name, stored, tmp_path):
    changes, trl = WORKS[name]
    result = train_grpo(run_with(tmp_path / "run", stored, trl, **changes))
    assert [step.step for step in result.steps] == [1, 2]
    assert (result.checkpoint / "model.safetensors").exists()
    json.loads((tmp_path / "run/result.json").read_text())


@pytest.mark.parametrize("name", [*OWNED, *FIXED, "no_such_setting"])
def test_it_is_refused_by_name(name, tmp_path):
    with pytest.raises(ValueError, match=name):
        trl_config(GRPORun(out=str(tmp_path), trl={name: 1}), processes=1)


@pytest.mark.parametrize("name", REFUSED_BY_TRL)
def test_trl_refuses_it_by_name(name, stored, tmp_path):
    run = run_with(tmp_path, stored, {name: REFUSED_BY_TRL[name]})
    with pytest.raises(ValueError, match="continuous_batching" if "paged" in name else name):
        train_grpo(run)
