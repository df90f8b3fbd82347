"""Exports hold the pairs to the last pixel and bit, apart by split and stage, ready to train on."""

import base64
import importlib.util
import io
import json
import os
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from datasets import load_dataset
from paths import ROOT
from PIL import Image
from pycocotools.coco import COCO
from qwen3_vl import save_qwen3_vl
from small import SMALL
from trl import GRPOConfig, GRPOTrainer

from dig_env import format_boxes, instruction, parse_boxes, resolve_reward, score
from dig_env.agents import load_tiny
from dig_env.agents.cli.export import export
from dig_env.agents.data.export import FORMATS, ExportSettings, export_dataset
from dig_env.agents.integrations import read_truth
from dig_env.agents.integrations.trl import reward_function, reward_parts
from dig_env.scenes import CHANGES, PairDataset, render_dataset

TRAINERS = ("trl", "easyr1", "verl")
COUNTS = {
    "train": {"single": 4, "dual": 4, "mixed": 5},
    "validation": {"single": 2},
    "test": {"single": 1, "mixed": 2},
}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    folder = tmp_path_factory.mktemp("export") / "pairs"
    for split, counts in COUNTS.items():
        render_dataset(folder, counts, split, SMALL)
    return PairDataset(folder)


@pytest.fixture(scope="module")
def exported(dataset, tmp_path_factory):
    folder = tmp_path_factory.mktemp("formats")
    return {name: export_dataset(dataset, folder / name, name) for name in FORMATS}


def rows(folder, split, stage):
    return load_dataset(
        "parquet", data_files=str(folder / "data" / f"{split}-{stage}.parquet"), split="train"
    )


def truth_of(format, row):
    if format == "trl":
        return row["truth"]
    text = row["answer"] if format == "easyr1" else row["reward_model"]["ground_truth"]
    return read_truth(text)


@pytest.mark.parametrize("format", TRAINERS)
def test_rows_hold_the_very_pixels_and_boxes_of_the_pairs(format, exported, dataset):
    for split, counts in COUNTS.items():
        for stage, count in counts.items():
            table = rows(exported[format], split, stage)
            assert table["pair_seed"] == list(dataset.pair_seeds(stage, split))
            assert len(table) == count
            for row in table:
                pair = dataset.pair(row["pair_seed"])
                image_a, image_b = (np.asarray(image) for image in row["images"])
                assert np.array_equal(image_a, pair.image_a)
                assert np.array_equal(image_b, pair.image_b)
                assert truth_of(format, row) == pair.boxes_unit.tolist()
                assert row["stage"] == stage


@pytest.mark.parametrize("format", TRAINERS)
def test_each_split_and_stage_is_a_file_of_its_own(format, exported):
    names = {path.name for path in (exported[format] / "data").iterdir()}
    assert names == {
        f"{split}-{stage}.parquet" for split, counts in COUNTS.items() for stage in counts
    }


def test_a_row_of_easyr1_has_as_many_image_tokens_as_images(exported):
    row = rows(exported["easyr1"], "train", "single")[0]
    assert row["problem"] == "<image><image>" + instruction("norm1000")
    assert len(row["images"]) == 2


def test_a_row_of_verl_is_a_chat_with_image_tokens_and_a_rule_based_truth(exported):
    row = rows(exported["verl"], "test", "mixed")[1]
    assert row["prompt"] == [{"role": "user", "content": "<image><image>" + instruction()}]
    assert row["reward_model"]["style"] == "rule"
    assert row["extra_info"] == {"split": "test", "index": 1}
    assert row["data_source"] == "dig"


def test_a_row_of_nemo_gym_is_a_request_with_images_the_truth_and_the_rewards_options(
    exported, dataset
):
    (line,) = (exported["nemo"] / "data/validation-single.jsonl").read_text().splitlines()[:1]
    row = json.loads(line)
    pair = dataset.pair(row["pair_seed"])
    ((message,),) = row["responses_create_params"].values()
    *images, text = message["content"]
    for part, pixels in zip(images, (pair.image_a, pair.image_b), strict=True):
        assert part["type"] == "input_image"
        file = base64.b64decode(part["image_url"].removeprefix("data:image/png;base64,"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(file))), pixels)
    assert text == {"type": "input_text", "text": instruction()}
    assert read_truth(row["truth"]) == pair.boxes_unit.tolist()
    assert row["reward_options"]["opening"] == "<think>"


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
    ("name", "thinks"), [("Qwen/Qwen3-VL-8B-Thinking", True), ("Qwen/Qwen3-VL-4B-Instruct", False)]
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


def test_coco_loads_with_pycocotools_and_masks_agree_with_boxes(exported, dataset):
    seen = set()
    for split, counts in COUNTS.items():
        for stage in counts:
            coco = COCO(exported["coco"] / f"instances-{split}-{stage}.json")
            for image in coco.imgs.values():
                pair = dataset.pair(image["pair_seed"])
                side = image["side"]
                present = [
                    diff for diff in pair.differences if getattr(diff, f"box_{side}") is not None
                ]
                annotations = coco.imgToAnns[image["id"]]
                assert len(annotations) == len(present)
                for annotation, diff in zip(annotations, present, strict=True):
                    x, y, width, height = annotation["bbox"]
                    assert (x, y, x + width, y + height) == getattr(diff, f"box_{side}")
                    mask = coco.annToMask(annotation)
                    ys, xs = np.nonzero(mask)
                    assert (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1) == (
                        *(x, y),
                        *(x + width, y + height),
                    )
                    assert annotation["area"] == mask.sum() == getattr(diff, f"visible_{side}")
                    assert coco.cats[annotation["category_id"]]["name"] == diff.change
                    seen.add(diff.change)
                assert (exported["coco"] / image["file_name"]).is_file()
            assert [category["name"] for category in coco.cats.values()] == list(CHANGES)
    assert len(seen) > 2


@pytest.mark.parametrize("coordinates", ["norm1000", "unit", "pixel"])
def test_llavas_answers_earn_full_marks_but_for_rounding(coordinates, dataset, tmp_path):
    settings = ExportSettings(coordinates=coordinates)
    folder = export_dataset(dataset, tmp_path / "out", "llava", settings)
    entries = json.loads((folder / "train-dual.json").read_text())
    seeds = dataset.pair_seeds("dual", "train")
    for entry, seed in zip(entries, seeds, strict=True):
        human, answer = entry["conversations"]
        assert human["value"].count("<image>") == len(entry["image"]) == 2
        assert human["value"].endswith(instruction(coordinates, (128, 96)))
        pair = dataset.pair(seed)
        result = score(answer["value"], pair.boxes_unit, coordinates=coordinates, size=(128, 96))
        assert result.f1 == 1.0 and result.iou > 0.95
        assert all((folder / name).is_file() for name in entry["image"])


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


def test_the_card_says_what_was_exported_and_how(dataset, tmp_path):
    settings = ExportSettings("strict", "pixel", thinking=False)
    card = json.loads(
        (export_dataset(dataset, tmp_path / "out", "trl", settings) / "export.json").read_text()
    )
    assert card["pairs"] == COUNTS
    assert list(card["pairs"]["train"]) == ["single", "dual", "mixed"]  # the curriculum's order
    assert card["reward"] == {
        "reward": "strict",
        "coordinates": "pixel",
        "size": [128, 96],
        "opening": "",
    }


def test_an_export_is_repeatable_to_the_byte_and_replaces_the_one_before(dataset, tmp_path):
    def content():
        files = sorted(path for path in (tmp_path / "out").rglob("*") if path.is_file())
        return {path.relative_to(tmp_path): path.read_bytes() for path in files}

    export_dataset(dataset, tmp_path / "out", "verl")
    first = content()
    export_dataset(dataset, tmp_path / "out", "easyr1")
    assert content() != first
    export_dataset(dataset, tmp_path / "out", "verl")
    assert content() == first


def test_an_export_that_fails_leaves_the_one_before(dataset, tmp_path):
    out = export_dataset(dataset, tmp_path / "out", "trl")
    subprocess.run(["cp", "-r", str(dataset.folder), str(tmp_path / "pairs")], check=True)
    damaged = tmp_path / "pairs" / "data" / "train-mixed-00000.parquet"
    content = bytearray(damaged.read_bytes())
    content[1000:3000] = bytes(2000)
    damaged.write_bytes(content)
    with pytest.raises(ValueError, match="is damaged.*dig-env audit"):
        export_dataset(tmp_path / "pairs", out, "easyr1")
    assert json.loads((out / "export.json").read_text())["format"] == "trl"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["out", "pairs"]


def test_a_folder_that_is_no_export_is_never_replaced(dataset, tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(ValueError, match="no earlier export"):
        export_dataset(dataset, tmp_path, "coco")
    assert (tmp_path / "thesis.txt").is_file()


def test_what_cannot_be_exported_is_refused(dataset, tmp_path):
    with pytest.raises(ValueError, match="unknown format 'voc'; the formats are trl"):
        export_dataset(dataset, tmp_path / "out", "voc")
    with pytest.raises(ValueError, match="unknown reward 'best'"):
        ExportSettings(reward="best")
    with pytest.raises(ValueError, match="coordinates='inches'"):
        export_dataset(dataset, tmp_path / "out", "trl", ExportSettings(coordinates="inches"))
    render_dataset(tmp_path / "held out", {"single": 1}, "test", SMALL)
    with pytest.raises(ValueError, match="no training pairs, only test"):
        export_dataset(tmp_path / "held out", tmp_path / "out", "verl")
    assert not (tmp_path / "out").exists()


def test_the_command_says_where_the_result_lies(dataset, capsys):
    export("llava", dataset.folder)
    assert f"18 pairs\nllava: {dataset.folder.parent / 'pairs-llava'}" in capsys.readouterr().out
    assert parse_boxes(
        json.loads((dataset.folder.parent / "pairs-llava" / "train-single.json").read_text())[0][
            "conversations"
        ][1]["value"]
    ).ok
