"""What an export trains with: the reward's options, the settings, and runs through the stages."""

import importlib.util
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import pytest
import torch
import yaml
from exports import TRAINERS, rows
from paths import ROOT
from qwen3_vl import save_qwen3_vl
from trl import GRPOConfig, GRPOTrainer

from dig_env import format_boxes, resolve_reward, score
from dig_env.agents import load_tiny
from dig_env.agents.cli.export import export
from dig_env.agents.data.export import ExportSettings, export_dataset
from dig_env.agents.integrations import read_truth
from dig_env.agents.integrations.trl import reward_function, reward_parts


def loaded(path):
    """The module in a file, as EasyR1 loads its reward function: by path, under another name."""
    spec = importlib.util.spec_from_file_location("custom_reward_fn", path)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize("settings", [{}, {"reward": {"match_iou": 0.75}, "thinking": False}])
def test_easyr1s_config_and_reward_file_score_as_the_game_does(settings, dataset, tmp_path):
    folder = export_dataset(dataset, tmp_path / "out", "easyr1", ExportSettings(**settings))
    reward = yaml.safe_load((folder / "config.yaml").read_text())["worker"]["reward"]
    path, name = reward["reward_function"].rsplit(":", 1)
    module = loaded(folder / path)
    assert module.REWARD_TYPE == "batch"
    inputs = []
    for row in rows(folder, "train", "mixed"):
        for answer in (row["answer"], "[[0, 0, 500, 500]]", f"Perhaps {row['answer']}", "</think>"):
            inputs.append({"response": answer, "response_length": 1, "ground_truth": row["answer"]})
    given = getattr(module, name)(inputs, **reward["reward_function_kwargs"])
    opening = "<think>" if settings.get("thinking", True) else ""
    config = resolve_reward(settings.get("reward", "full"))
    assert [row["overall"] for row in given] == [
        score(opening + entry["response"], read_truth(entry["ground_truth"]), config).total
        for entry in inputs
    ]


def test_unsloths_run_file_has_settings_that_trl_takes(tmp_path):
    settings = runpy.run_path(str(ROOT / "examples/trainers/unsloth_grpo.py"))["SETTINGS"]
    config = GRPOConfig(output_dir=str(tmp_path), use_cpu=True, bf16=False, **settings)
    assert config.num_generations == 8


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A Thinking and an Instruct model, in folders whose names say nothing."""
    folder = tmp_path_factory.mktemp("models")
    return {kind: save_qwen3_vl(folder / str(kind), thinking=kind) for kind in (True, False)}


def opening_in(format, folder):
    """The option of the reward that a trainer would take from an export."""
    if format == "trl":
        return json.loads((folder / "export.json").read_text())["reward"]["opening"]
    config = yaml.safe_load((folder / "config.yaml").read_text())
    if format == "easyr1":
        return config["worker"]["reward"]["reward_function_kwargs"]["opening"]
    return config["reward"]["custom_reward_function"]["reward_kwargs"]["opening"]


@pytest.mark.parametrize("format", TRAINERS)
@pytest.mark.parametrize("thinks", [True, False])
def test_the_reward_opens_answers_as_the_models_chat_template_does(
    format, thinks, models, dataset, tmp_path
):
    export(format, dataset.folder, tmp_path / "out", model=str(models[thinks]))
    opening = opening_in(format, tmp_path / "out")
    assert opening == ("<think>" if thinks else "")
    said = "A cube.</think>" if thinks else ""
    truth = [[0.1, 0.2, 0.3, 0.4]]
    answer = said + format_boxes(truth)
    assert reward_function(opening=opening)(completions=[answer], truth=[truth]) == [1.0]


def test_what_is_said_of_the_model_outranks_its_template(models):
    assert ExportSettings(model=str(models[False]), thinking=True).thinking is True
    assert ExportSettings(model=str(models[True]), thinking=False).thinking is False


@pytest.mark.parametrize(
    ("name", "thinks"),
    [
        ("Qwen/Qwen3-VL-8B-Thinking", True),
        ("Qwen/Qwen3-VL-4B-Instruct", False),
        ("Qwen/Qwen3.5-4B", True),
        ("Qwen/Qwen3.5-2B", False),
    ],
)
def test_a_model_that_is_not_here_is_judged_by_its_name_with_a_warning(name, thinks):
    with pytest.warns(UserWarning, match=f"no chat template of {name} .*the reward depends on it"):
        assert ExportSettings(model=name).thinking is thinks


def test_the_default_model_thinks():
    assert ExportSettings().thinking is True


@pytest.mark.parametrize(("format", "thinks"), [("easyr1", True), ("verl", False)])
def test_a_run_from_another_model_opens_answers_as_that_does(
    format, thinks, models, exported, tmp_path
):
    """With a python3 that passes on one question only, and records the rest."""
    python = tmp_path / "python3"
    python.write_text(
        "#!/usr/bin/env bash\n"
        f'if [[ $2 == dig_env.agents.policies.thinking ]]; then exec {sys.executable} "$@"; fi\n'
        f'printf "%s\\n" "$@" >> {tmp_path}/words; exit 1\n'
    )
    python.chmod(0o755)
    environment = os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}", "EASYR1": "/src"}
    environment |= {"MODEL": str(models[thinks]), "PYTHONPATH": str(ROOT)}
    subprocess.run(["bash", str(exported[format] / "run.sh")], env=environment)
    option = {
        "easyr1": "worker.reward.reward_function_kwargs.opening",
        "verl": "reward.custom_reward_function.reward_kwargs.opening",
    }[format]
    words = (tmp_path / "words").read_text().splitlines()
    assert f"{option}='{'<think>' if thinks else ''}'" in words


# The settings of EasyR1 that its documented config and its dataclasses have, as far as used here.
EASYR1_SETTINGS = {
    "data": "prompt_key answer_key image_key max_prompt_length max_response_length "
    "rollout_batch_size val_batch_size format_prompt shuffle seed min_pixels max_pixels "
    "filter_overlong_prompts",
    "algorithm": "adv_estimator disable_kl use_kl_loss kl_penalty kl_coef",
    "worker.actor": "global_batch_size micro_batch_size_per_device_for_update "
    "micro_batch_size_per_device_for_experience max_grad_norm clip_ratio_low clip_ratio_high "
    "padding_free dynamic_batching model optim offload",
    "worker.actor.model": "model_path enable_gradient_checkpointing trust_remote_code "
    "freeze_vision_tower",
    "worker.actor.optim": "lr weight_decay strategy",
    "worker.actor.offload": "offload_params offload_optimizer",
    "worker.rollout": "n temperature top_p limit_images gpu_memory_utilization "
    "tensor_parallel_size val_override_config",
    "worker.ref": "fsdp offload",
    "worker.reward": "reward_function reward_function_kwargs",
    "trainer": "total_epochs project_name logger nnodes n_gpus_per_node val_freq val_before_train "
    "save_freq save_limit",
}


def test_easyr1s_config_has_settings_that_easyr1_knows(exported):
    config = yaml.safe_load((exported["easyr1"] / "config.yaml").read_text())
    assert set(config) == {"data", "algorithm", "worker", "trainer"}
    assert set(config["worker"]) == {"actor", "rollout", "ref", "reward"}
    for section, names in EASYR1_SETTINGS.items():
        part = config
        for key in section.split("."):
            part = part[key]
        assert set(part) == set(names.split()), section
    # What it demands of them: batches that divide, and a place for two images a prompt.
    batch, mini = (
        config["data"]["rollout_batch_size"],
        config["worker"]["actor"]["global_batch_size"],
    )
    assert batch == 4 and batch % mini == 0
    assert config["worker"]["rollout"]["limit_images"] == 2


def test_easyr1s_run_trains_stage_after_stage_from_the_model_before(exported, tmp_path):
    """With a python3 that records how it was called and leaves a checkpoint where asked to."""
    calls = tmp_path / "calls"
    python = tmp_path / "bin" / "python3"
    python.parent.mkdir()
    python.write_text(
        "#!/usr/bin/env bash\n"
        f'echo "$@" >> {calls}\n'
        'for word in "$@"; do case $word in trainer.save_checkpoint_path=*)\n'
        '    mkdir -p "${word#*=}"/global_step_5 "${word#*=}"/global_step_10 ;; esac; done\n'
    )
    python.chmod(0o755)
    folder = tmp_path / "out"
    subprocess.run(["cp", "-r", str(exported["easyr1"]), str(folder)], check=True)
    environment = os.environ | {"PATH": f"{python.parent}:{os.environ['PATH']}", "EASYR1": "/src"}
    subprocess.run(
        ["bash", str(folder / "run.sh"), "trainer.nnodes=2"], env=environment, check=True
    )
    lines = calls.read_text().splitlines()
    trained, merged = lines[::2], lines[1::2]
    for line, merge, stage in zip(trained, merged, ("single", "dual", "mixed"), strict=True):
        assert f"data.train_files=data/train-{stage}.parquet" in line
        assert line.endswith("trainer.nnodes=2") and "data/test-" not in line
        assert merge == (
            f"/src/scripts/model_merger.py --local_dir checkpoints/{stage}/global_step_10/actor"
        )
    assert "model_path=Qwen/Qwen3-VL-4B-Thinking" in trained[0]
    assert f"{folder}/checkpoints/single/global_step_10/actor/huggingface" in trained[1]
    assert "data.val_files=data/validation-single.parquet" in trained[0]
    assert "trainer.val_before_train=false" in trained[1]  # there are no validation pairs of it


def test_the_embedded_policy_takes_a_grpo_step_on_the_rows(exported, tmp_path):
    functions, weights = reward_parts()
    for rewards, extra in (
        ([reward_function()], {}),
        (
            functions,
            {"reward_weights": weights, "multi_objective_aggregation": "normalize_then_sum"},
        ),
    ):
        policy = load_tiny()
        before = {name: value.clone() for name, value in policy.model.state_dict().items()}
        trainer = GRPOTrainer(
            model=policy.model,
            processing_class=policy.processor,
            reward_funcs=rewards,
            args=GRPOConfig(
                output_dir=str(tmp_path),
                per_device_train_batch_size=16,
                num_generations=8,
                max_completion_length=24,
                max_steps=1,
                learning_rate=1e-3,
                report_to=[],
                bf16=False,
                save_strategy="no",
                **extra,
            ),
            train_dataset=rows(exported["trl"], "train", "single"),
        )
        trainer.train()
        after = trainer.model.state_dict()
        assert any(not torch.equal(before[name], after[name]) for name in before)
        logged = trainer.state.log_history[0]
        names = [f"rewards/{function.__name__}/mean" for function in rewards]
        assert all(0.0 <= logged[name] <= 1.0 for name in names)


@pytest.mark.parametrize("parts", [False, True])
def test_trls_script_trains_stage_after_stage(parts, exported, models, tmp_path):
    script = runpy.run_path(str(exported["trl"] / "train.py"))
    made = []
    for name in ("reward_function", "reward_parts"):
        make = script[name]
        script["main"].__globals__[name] = lambda make=make, **options: (
            made.append(options) or make(**options)
        )
    arguments = {
        "model": models[False],
        "parts": str(parts).lower(),
        "output_dir": tmp_path / "out",
        "max_steps": 1,
        "max_completion_length": 4,
        "num_generations": 2,
        "per_device_train_batch_size": 2,
        "gradient_accumulation_steps": 1,
        "bf16": "false",
        "report_to": "none",
        "save_strategy": "no",
    }
    if parts:
        arguments["multi_objective_aggregation"] = "normalize_then_sum"
    words = [word for name, value in arguments.items() for word in (f"--{name}", str(value))]
    last = script["main"](words)
    assert Path(last) == tmp_path / "out" / "mixed" / "model"
    assert [options["opening"] for options in made] == [""]  # it starts from an Instruct model
    for stage in ("single", "dual", "mixed"):
        assert (tmp_path / "out" / stage / "model" / "model.safetensors").is_file()
