"""The run files of examples/qwen3_vl: checked at full size without weights, run in miniature."""

import json
import runpy
import sys
from dataclasses import fields, replace
from pathlib import Path

import pytest
import sharded_run
import torch
from accelerate.commands.config.config_args import load_config_from_file
from accelerate.commands.launch import launch_command_parser
from peft import LoraConfig, PeftModel, get_peft_model
from PIL import Image
from qwen3_vl import IN_MINIATURE, build_processor, miniature, save_qwen3_5, save_qwen3_vl
from ranks import Job
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl import GRPOConfig

from dig_env.agents import MLLMPolicy, train_grpo
from dig_env.agents.cli.main import main
from dig_env.agents.policies.mllm import pair_messages
from dig_env.agents.policies.thinking import opening_of, set_thinking
from dig_env.agents.training.run_file import read_run
from dig_env.scenes import STAGES

FOLDER = Path("examples/qwen3_vl")
FSDP = FOLDER / "fsdp.yaml"
FILES = sorted(set(FOLDER.glob("*.yaml")) - {FSDP})
RUNS = {path.stem: read_run(path) for path in FILES}
LORA = {name: run for name, run in RUNS.items() if run.lora}
each_run = pytest.mark.parametrize("run", RUNS.values(), ids=RUNS)
# In miniature a generation's sizes are one model: files that differ in it alone are one run.
DIFFERENT = {str(replace(run, model="", out="")): name for name, run in RUNS.items()}


@pytest.fixture(scope="module")
def budget():
    return runpy.run_path("benchmarks/qwen3_vl_budget.py")


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return save_qwen3_vl(tmp_path_factory.mktemp("thinking"), thinking=True)


@pytest.fixture(scope="module")
def folders(folder, tmp_path_factory):
    """The small model of each run file: of its generation, and with its template."""
    qwen3_5 = {
        size: save_qwen3_5(tmp_path_factory.mktemp(f"qwen3_5_{size}"), thinking=size == "4b")
        for size in ("2b", "4b")
    }
    return {name: qwen3_5[name[-2:]] if "qwen3_5" in name else folder for name in RUNS}


def weights(path):
    return AutoModelForImageTextToText.from_pretrained(path, dtype="float32").state_dict()


@pytest.mark.parametrize("name", DIFFERENT.values())
def test_a_run_file_trains_the_small_model_and_leaves_one_that_loads(name, folders, tmp_path):
    run, folder = RUNS[name], folders[name]
    result = train_grpo(miniature(run, folder, tmp_path))
    (step,) = result.steps
    assert step.zero_variance_groups < 1  # otherwise there was nothing to learn
    start, trained = weights(folder), weights(result.checkpoint)
    assert start.keys() == trained.keys()
    changed = {name for name in start if not torch.equal(start[name], trained[name])}
    if run.lora:
        adapted = tuple(f".{name}.weight" for name in run.lora["target_modules"])
        assert changed == {name for name in start if name.endswith(adapted)}
        assert not any("visual" in name for name in changed)
    else:
        for part in ("visual.patch_embed", "visual.blocks.0", "visual.deepstack", "language_model"):
            assert any(part in name for name in changed), part
    opening = MLLMPolicy.from_pretrained(result.checkpoint, device="cpu").opening
    assert opening == ("" if run.thinking is False else "<think>")


def sharded(output, folder, out, *rest):
    """Two processes of tests/helpers/sharded_run.py."""
    return Job(output, 2, sharded_run.train, str(folder), str(out), *rest)


@pytest.fixture(scope="module", params=["full_8b", "lora_8b"])
def sharded_and_whole(request, folder, tmp_path_factory):
    """The checkpoints of two processes with the weights in two shares, and with all in each."""
    out = tmp_path_factory.mktemp("sharded")
    runs = {"sharded": str(FSDP), "whole": "none"}
    for name, fsdp in runs.items():
        sharded(out / "output", folder, out / name, fsdp, request.param, 0).wait()
    return [out / name for name in runs]


def test_a_sharded_model_is_not_evaluated_while_it_is_trained(folder, tmp_path):
    job = sharded(tmp_path / "output", folder, tmp_path / "run", str(FSDP), "full_8b", 1)
    with pytest.raises(AssertionError, match="eval_pairs=1: a model whose weights are sharded"):
        job.wait()


def test_shared_out_weights_learn_what_whole_ones_do(folder, sharded_and_whole):
    start, *ends = (
        weights(path) for path in (folder, *(p / "checkpoint" for p in sharded_and_whole))
    )
    sharded, whole = (
        torch.cat([(end[name] - start[name]).flatten() for name in start]) for end in ends
    )
    assert whole.abs().max() > 1e-3
    # They differ where FSDP's bfloat16 is rounded elsewhere than autocast's.
    assert torch.cosine_similarity(sharded, whole, dim=0) > 0.95
    first, second = (json.loads((path / "history.json").read_text()) for path in sharded_and_whole)
    assert [step["reward"] for step in first] == pytest.approx([step["reward"] for step in second])
    stored = [
        load_file(path / "checkpoint" / "model.safetensors").keys() for path in sharded_and_whole
    ]
    assert stored[0] == stored[1]  # tied weights once


@each_run
def test_what_a_run_file_says_to_trl_is_in_its_vocabulary(run, tmp_path):
    known = {field.name for field in fields(GRPOConfig)}
    assert run.trl.keys() <= known
    rest = {"num_generations": 4, "output_dir": str(tmp_path), "use_cpu": True}
    config = GRPOConfig(**(run.trl | rest))
    assert config.bf16 and config.gradient_checkpointing and config.use_vllm


@each_run
def test_a_run_file_divides_its_answers_among_its_gpus(run):
    gpus = 1 if run.lora else 8
    share, rest = divmod(run.pairs_per_step * run.rollouts, gpus)
    assert rest == 0 and share % run.rollouts == 0
    assert share % run.trl["per_device_train_batch_size"] == 0


@each_run
def test_a_prompt_and_the_longest_answer_fit_what_vllm_is_told(run, budget):
    tokens = budget["prompt_tokens"](run, 640, 480) + run.max_completion_length
    assert tokens <= run.trl["vllm_max_model_length"]


def test_the_accelerate_file_is_in_accelerates_vocabulary_and_wraps_the_models_layers(budget):
    config = load_config_from_file(str(FSDP))  # refuses unknown keys
    known = vars(launch_command_parser().parse_args(["script.py"]))
    assert config.fsdp_config.keys() <= known.keys()
    wrapped = config.fsdp_config["fsdp_transformer_layer_cls_to_wrap"].split(",")
    assert set(wrapped) == set(budget["full_size_model"]("Qwen3-VL-4B")._no_split_modules)
    assert config.num_processes == 8


PUBLISHED = {
    "Qwen3-VL-2B": 2.13,
    "Qwen3-VL-4B": 4.44,
    "Qwen3-VL-8B": 8.77,
    "Qwen3.5-2B": 2.21,  # without the layer that guesses several tokens
    "Qwen3.5-4B": 4.54,
}
"""Parameters in billions."""


@pytest.mark.parametrize("size", PUBLISHED)
def test_the_full_size_model_has_as_many_parameters_as_published(size, budget):
    model = budget["full_size_model"](size)
    assert round(model.num_parameters() / 1e9, 2) == PUBLISHED[size]


@pytest.mark.parametrize("name", LORA)
def test_lora_finds_its_layers_in_the_full_size_language_model(name, budget):
    run = LORA[name]
    model = budget["full_size_model"](budget["size_of"](run))
    text = model.config.text_config
    linears = {
        layer: (module.in_features, module.out_features)
        for layer, module in model.named_modules()
        if layer.rpartition(".")[2] in run.lora["target_modules"]
    }
    # An MLP's three, four of full attention, and of linear attention three but for its gates.
    layers = text.num_hidden_layers
    linear = text.layer_types.count("linear_attention") if "qwen3_5" in name else 0
    assert len(linears) == 3 * layers + 4 * (layers - linear) + 3 * linear
    assert all(layer.startswith("model.language_model.layers.") for layer in linears)
    adapted = get_peft_model(model, LoraConfig(**run.lora))
    trained = [p.numel() for p in adapted.parameters() if p.requires_grad]
    # A of (r, in) and B of (out, r) beside each.
    assert sum(trained) == run.lora["r"] * sum(map(sum, linears.values()))


@pytest.mark.parametrize(
    ("size", "tokens"),
    [((320, 240), 80), ((512, 384), 192), ((640, 480), 300), ((100, 100), 64), ((321, 245), 80)],
)
def test_an_image_has_one_token_for_32x32_pixels_of_its_resized_self(size, tokens, budget):
    processor = Qwen2VLImageProcessorPil(
        patch_size=budget["PATCH"],
        merge_size=budget["MERGE"],
        size={"shortest_edge": budget["MIN_PIXELS"], "longest_edge": budget["MAX_PIXELS"]},
    )
    grid = processor([Image.new("RGB", size)], return_tensors="pt")["image_grid_thw"][0]
    assert int(grid.prod()) // budget["MERGE"] ** 2 == budget["image_tokens"](*size) == tokens


def test_the_committed_budget_is_what_the_script_works_out(budget, tmp_path):
    budget["main"](out=tmp_path / "budget.json")
    committed = json.loads(Path("docs/results/qwen3_vl_budget.json").read_text())
    assert json.loads((tmp_path / "budget.json").read_text()) == committed


def test_every_run_fits_its_gpus(budget):
    committed = json.loads(Path("docs/results/qwen3_vl_budget.json").read_text())
    for name, found in committed["runs"].items():
        assert max(found["memory"]["learning_gb"], found["memory"]["rollouts_gb"]) < 75, name
        assert found["memory"]["vllm_cache_gb"] > 0, name


def prompt(processor, **switch):
    return processor.apply_chat_template(
        pair_messages("Which?"), add_generation_prompt=True, tokenize=False, **switch
    )


def test_without_thinking_the_thought_is_closed_where_the_template_opens_it():
    processor = build_processor(thinking=True)
    before = prompt(processor)
    set_thinking(processor, False)
    assert prompt(processor) == before + "\n</think>\n\n"
    set_thinking(processor, True)
    assert prompt(processor) == before and before.endswith("assistant\n<think>\n")


def test_with_thinking_an_instruct_model_is_told_to_think_and_its_thought_is_opened():
    processor = build_processor()
    before = prompt(processor)
    set_thinking(processor, True)
    asked, rest = prompt(processor).split(before)
    assert asked.startswith("<|im_start|>system\n") and "</think>" in asked
    assert rest == "<think>\n"
    set_thinking(processor, False)
    assert prompt(processor) == before


@pytest.mark.parametrize("of_4b", [False, True])
def test_qwen3_5_is_switched_by_its_own_template(of_4b, folders):
    """As its ``enable_thinking`` does; unless told, the one of 4B thinks and the one of 2B not."""
    processor = AutoProcessor.from_pretrained(folders[f"lora_qwen3_5_{'4b' if of_4b else '2b'}"])
    original = processor.chat_template
    assert opening_of(original) == ("<think>" if of_4b else "")
    for thinking in (True, False, True):
        set_thinking(processor, thinking)
        own = prompt(processor)
        assert opening_of(processor.chat_template) == ("<think>" if thinking else "")
        processor.chat_template = original
        assert own == prompt(processor, enable_thinking=thinking)


def test_a_saved_processor_keeps_whether_to_think(folder, tmp_path):
    processor = AutoProcessor.from_pretrained(folder)
    set_thinking(processor, False)
    processor.save_pretrained(tmp_path)
    assert prompt(AutoProcessor.from_pretrained(tmp_path)) == prompt(processor)


def test_a_template_that_is_not_chatml_is_refused():
    processor = build_processor()
    processor.chat_template = "{{ messages[0].content }}"
    with pytest.raises(ValueError, match="ChatML"):
        set_thinking(processor, False)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rollout: 5", "no setting 'rollout'; there are .*rollouts"),
        ("steps: many", "steps='many': give int"),
        ("steps: true", "steps=True: give int"),
        ("- steps", "holds list: give a mapping"),
        ("steps: [", "is not YAML"),
        ("stages: [triple]", "unknown stage 'triple'"),
        ("reward: best", "best"),
    ],
)
def test_a_wrong_run_file_is_refused(text, message, tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text(text)
    with pytest.raises(ValueError, match=message):
        read_run(path)


def test_a_run_file_changes_its_base(tmp_path):
    (tmp_path / "base.yaml").write_text("steps: 3\nseed: 1\ntrl: {weight_decay: 0.1, bf16: true}")
    (tmp_path / "run.yaml").write_text("base: base.yaml\nsteps: 4\ntrl: {bf16: false}")
    run = read_run(tmp_path / "run.yaml")
    assert (run.steps, run.seed) == (4, 1)
    assert run.trl == {"weight_decay": 0.1, "bf16": False}


def test_a_run_file_takes_a_stage_that_a_module_registers(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_stages.py").write_text(
        "from dig_env.scenes import Difficulty, register_stage\n"
        "register_stage('from_yaml', Difficulty())\n"
    )
    (tmp_path / "run.yaml").write_text("stages: ['my_stages:from_yaml', single]")
    assert read_run(tmp_path / "run.yaml").stages == ("from_yaml", "single")
    STAGES.pop("from_yaml")


def test_numbers_without_a_dot_are_numbers(tmp_path):
    path = tmp_path / "run.yaml"
    path.write_text("learning_rate: 1e-6\ntrl: {weight_decay: 1e-2, lr_scheduler_type: constant}")
    run = read_run(path)
    assert run.learning_rate == 1e-6
    assert run.trl == {"weight_decay": 0.01, "lr_scheduler_type": "constant"}


def test_the_command_line_changes_what_a_run_file_says(folder, tmp_path, monkeypatch, capsys):
    run_file = tmp_path / "run.yaml"
    small = {key: value for key, value in IN_MINIATURE.items() if value is not None}
    settings = small | {"model": str(folder), "eval_pairs": 0, "steps": 5, "stages": ["single"]}
    run_file.write_text(json.dumps(settings))  # JSON is YAML
    out = tmp_path / "run"
    changes = ["--steps", "1", "--out", str(out), "--minutes", "9"]
    monkeypatch.setattr(sys, "argv", ["dig-env", "train", "--config", str(run_file), *changes])
    main()
    printed, progress = capsys.readouterr()
    assert "1 of 1 steps" in progress
    assert f"checkpoint: {out / 'checkpoint'}" in printed.replace("\n", "")
    assert not isinstance(MLLMPolicy.from_pretrained(out / "checkpoint").model, PeftModel)
