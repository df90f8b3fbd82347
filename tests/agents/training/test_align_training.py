"""The supervised stages of the compact model: what they show it, train, and leave."""

import contextlib
import dataclasses
import itertools
import json
import os
import re
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from ranks import Job
from small import SMALL
from transformers import CLIPVisionConfig, Dinov2Config

from dig_env import format_boxes, instruction
from dig_env.agents.cli import main as cli
from dig_env.agents.data.instructions.dataset import AlignData, write_align_data
from dig_env.agents.models import MODEL_PARTS, build_model, with_words_of
from dig_env.agents.policies.mllm import EMBEDDED, MLLMPolicy
from dig_env.agents.training.align import train_align
from dig_env.agents.training.align_stages import ALIGN_STAGES, AlignRun
from dig_env.agents.training.conversations import Conversations
from dig_env.agents.training.run_folder import latest_checkpoint
from dig_env.align import TASKS, AlignSettings
from dig_env.scenes import PairDataset, render_dataset


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("align") / "pairs"
    render_dataset(folder, {"mixed": 8}, "train", SMALL, workers=1)
    return folder


@pytest.fixture(scope="module")
def data(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    settings = AlignSettings(crop_px=32, options=2)
    write_align_data(folder, 80, AlignData(settings=settings, dataset=str(pairs), per_pair=16))
    return folder


def run(data, out, **fields):
    short = {"questions": 12, "batch_size": 4, "turns": 2, "save_every": 0, "model": "tiny-start"}
    return AlignRun(
        data=str(data), out=str(out), **{"stage": "1b", "preset": "tiny"} | short | fields
    )


def said(row):
    return [
        "".join(part.get("text") or "" for part in message["content"])
        for message in row["messages"]
    ]


def image_of(row):
    return np.array(row["images"][0]).tobytes()


def test_every_question_is_asked_once_an_epoch(data):
    alone = Conversations(data, tuple(TASKS))
    assert alone.questions == len(alone) == 80
    once = sorted(said(row) for row in alone)
    for epochs, turns in ((1, 4), (2, 1), (2, 4)):
        rows = Conversations(data, tuple(TASKS), turns=turns, epochs=epochs, batch_size=4)
        turns_of = list(itertools.chain.from_iterable(said(row) for row in rows))
        expected = list(itertools.chain.from_iterable(once * epochs))
        strip = [text.strip() for text in turns_of]
        assert sorted(strip) == sorted(text.strip() for text in expected)


def test_a_conversation_is_about_one_image_and_has_a_slot_for_each_of_its_images(data):
    rows = Conversations(data, tuple(TASKS), turns=4, batch_size=4)
    assert len(rows) < 60, "questions were merged"
    alone = Conversations(data, tuple(TASKS))
    asked = {(image_of(row), text.strip()) for row in alone for text in said(row)}
    for row in rows:
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        parts = [part for message in row["messages"] for part in message["content"]]
        slots = [bool(part["object"]) for part in parts if part["type"] == "image"]
        assert slots == [False] + [True] * (len(row["images"]) - 1)
        assert {(image_of(row), text.strip()) for text in said(row)} <= asked


def test_a_description_is_not_merged_with_questions_that_it_answers(data):
    for row in Conversations(data, ("description", "text_to_box"), turns=8):
        described = [text for text in said(row)[1::2] if "\n" in text]
        assert not described or len(row["messages"]) == 2


def test_pairs_take_their_share_and_are_answered_with_their_boxes(data, pairs):
    rows = Conversations(data, ("existence",), epochs=3, pairs=pairs, pair_share=0.25, batch_size=4)
    dataset = PairDataset(pairs)
    answers = {
        dataset.pair(seed).image_a.tobytes(): format_boxes(dataset.pair(seed).boxes_unit)
        for seed in dataset.pair_seeds(split="train")
    }
    about_pairs = [row for row in rows if len(row["images"]) == 2]
    assert len(about_pairs) == round(len(rows) / 4)
    for row in about_pairs:
        assert said(row) == [instruction(), answers[image_of(row)]]


def test_an_order_follows_from_its_seed(data):
    orders = [
        [said(row) for row in Conversations(data, tuple(TASKS), turns=4, batch_size=4, seed=seed)]
        for seed in (0, 0, 1)
    ]
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize(
    ("tasks", "message"),
    [(("relation", "flying"), "has no training rows of flying; it has box_to_crop, box_to_text")],
)
def test_tasks_that_the_data_lacks_are_named(data, tasks, message):
    with pytest.raises(ValueError, match=message):
        Conversations(data, tasks)


def test_a_folder_without_data_says_how_to_write_some(tmp_path):
    with pytest.raises(FileNotFoundError, match="dig-env questions"):
        Conversations(tmp_path, ("existence",))


def test_words_are_learnt_and_nothing_else_is_forgotten(data):
    """The embedded policy's vocabulary grows; what it says of pairs stays as it was."""
    policy = MLLMPolicy.from_pretrained(EMBEDDED["tiny"], device="cpu", dtype="float32")
    texts = Conversations(data, ("existence",)).texts
    model, processor = with_words_of(policy.model, policy.processor, texts)
    ids = processor.tokenizer(texts)["input_ids"]
    assert not any(processor.tokenizer.unk_token_id in line for line in ids)
    answers = [text.strip() for text in texts if re.fullmatch(r"[\d\[\], ]+|yes|no|[a-z ]+", text)]
    assert len(answers) > 40
    assert [processor.tokenizer.decode(processor.tokenizer.encode(a)) for a in answers] == answers
    image = np.random.default_rng(0).integers(0, 256, (2, 96, 128, 3), dtype=np.uint8)
    observation = {"image_a": image[0], "image_b": image[1], "prompt": instruction()}
    larger = MLLMPolicy(model, processor, max_new_tokens=24)
    small = MLLMPolicy(policy.model, policy.processor, max_new_tokens=24)
    assert larger.act([observation]) == small.act([observation])
    again = with_words_of(model, processor, texts)
    assert again[0] is model
    assert again[1] is processor


@pytest.fixture(scope="module")
def assembled(tmp_path_factory):
    """The source's kind of model, small: two encoders of one image."""
    folder = tmp_path_factory.mktemp("compact")
    encoders = [
        CLIPVisionConfig(
            hidden_size=16, intermediate_size=16, num_hidden_layers=2, num_attention_heads=2,
            image_size=32, patch_size=16,
        ),
        Dinov2Config(
            hidden_size=16, num_hidden_layers=1, num_attention_heads=2, image_size=32, patch_size=16
        ),
    ]  # fmt: skip
    torch.manual_seed(0)
    model, processor = build_model(
        [instruction()], (), encoders, {"num_hidden_layers": 1}, image_size=(32, 32)
    )
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


@pytest.mark.parametrize("stage", ALIGN_STAGES["source"])
def test_a_stage_trains_its_parts_and_freezes_the_others(data, assembled, tmp_path, stage):
    settings = run(data, tmp_path, stage=stage, preset="source", model=str(assembled))
    before, after = (
        MLLMPolicy.from_pretrained(folder, device="cpu").model
        for folder in (assembled, train_align(settings).checkpoint)
    )
    moved = set()
    for name, weight in before.named_parameters():
        trained = after.get_parameter(name)
        # What has a row for each word grew.
        if weight.shape == trained.shape and not torch.equal(weight, trained):
            moved |= {part for part, prefixes in MODEL_PARTS.items() if name.startswith(prefixes)}
    assert moved == set(ALIGN_STAGES["source"][stage].train)


def test_a_small_model_can_begin_from_nothing_and_learns_with_muon(data, tmp_path):
    """The same seed begins alike; Muon's part is the decoder's matrices, and both parts move."""
    fields = {"model": "new", "questions": 8, "trl": {"logging_steps": 1}}
    with pytest.raises(ValueError, match="optimizer='sgd': give one of adamw, muon"):
        run(data, tmp_path / "sgd", optimizer="sgd")
    trained = {
        name: MLLMPolicy.from_pretrained(
            train_align(run(data, tmp_path / name, optimizer=name, **fields)).checkpoint,
            device="cpu",
            dtype="float32",
        ).model
        for name in ("adamw", "muon")
    }
    began = train_align(run(data, tmp_path / "none", learning_rate=1e-12, **fields)).checkpoint
    began = MLLMPolicy.from_pretrained(began, device="cpu", dtype="float32").model
    layer = "model.language_model.layers.0.mlp.up_proj.weight"
    for name, moved in trained.items():
        step = moved.get_parameter(layer) - began.get_parameter(layer)
        singular = torch.linalg.svdvals(step)
        # Every direction of Muon's step is about as long; few of AdamW's matter.
        assert (singular.median() > 0.5 * singular.max()) == (name == "muon")
        assert not torch.equal(moved.lm_head.weight, began.lm_head.weight)


def test_the_sources_numbers():
    """TinyGroundingGPT, arXiv 2411.09691: learning rates, batches and epochs of its stages."""
    told = {
        name: (stage.learning_rate, stage.batch_size, stage.epochs, "encoders" in stage.train)
        for name, stage in ALIGN_STAGES["source"].items()
    }
    assert told == {
        "1a": (1e-3, 32, 1, False),
        "1b": (2e-5, 32, 1, False),
        "2": (2e-5, 32, 1, False),
        "3": (2e-5, 16, 2, False),
    }


def on_the_cpu(*words):
    """What ``accelerate launch --cpu`` runs in each of its processes."""
    os.environ["ACCELERATE_USE_CPU"] = "true"
    sys.argv = ["dig-env", *words]
    cli.main()


def test_two_processes_under_accelerate_learn_what_one_does(data, assembled, tmp_path):
    enough = {"questions": 44, "turns": 1}  # for a loss to be noted, which is every ten steps
    alone = train_align(run(data, tmp_path / "one", model=str(assembled), **enough))
    command = ["align", "--stage=1b", "--preset=tiny", f"--data={data}", f"--model={assembled}"]
    command += ["--save-every=0", "--questions=44", "--batch-size=4", "--turns=1"]
    said = Job(tmp_path / "output", 2, on_the_cpu, *command, f"--out={tmp_path / 'two'}").wait()
    assert said.count("checkpoint:") == 1, "the first process alone reports"
    history = json.loads((tmp_path / "two" / "history.json").read_text())
    losses = [entry["loss"] for entry in history["log"]]
    assert losses == pytest.approx([loss for _, loss in alone.losses], rel=1e-3) != []


class Stop(Exception):
    pass


def test_a_stopped_run_goes_on_to_the_same_weights(data, pairs, tmp_path):
    fields = {"questions": 60, "turns": 2, "save_every": 4, "pairs": str(pairs)}

    def stop(step, steps, loss):
        assert steps > 4
        if step >= 4:
            raise Stop

    torch.set_num_threads(1)
    with pytest.raises(Stop):
        train_align(run(data, tmp_path / "stopped", trl={"logging_steps": 5}, **fields), stop)
    results = [
        train_align(run(data, tmp_path / name, trl={"logging_steps": 5}, **fields))
        for name in ("stopped", "whole")
    ]
    weights = [
        MLLMPolicy.from_pretrained(result.checkpoint, device="cpu").model.state_dict()
        for result in results
    ]
    assert all(torch.equal(weights[0][name], weights[1][name]) for name in weights[0])
    assert (
        train_align(run(data, tmp_path / "whole", trl={"logging_steps": 5}, **fields), stop)
        == (results[1])
    ), "a run that has ended is not trained again"
    with pytest.raises(ValueError, match="holds a run with seed=0, not 1"):
        train_align(run(data, tmp_path / "whole", seed=1, **fields))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda then: then | {"seed": 7, "turns": 3}, "seed=7, not 0, turns=3, not 2|turns.*seed"),
        (lambda then: {k: v for k, v in then.items() if k != "optimizer"}, "no optimizer, as one"),
        (lambda then: then | {"kernel": "old"}, "kernel='old', which this version does not know"),
        (lambda then: [1], "settings that cannot be read"),
        (lambda then: {}, "no stage, as one of another version"),
    ],
)
def test_a_run_of_another_version_says_what_differs(data, tmp_path, change, message):
    settings = json.loads(json.dumps(dataclasses.asdict(run(data, tmp_path))))
    (tmp_path / "run.json").write_text(json.dumps(change(settings)))
    with pytest.raises(ValueError, match=message) as refused:
        train_align(run(data, tmp_path))
    assert "another --out" in str(refused.value)
    assert json.loads((tmp_path / "run.json").read_text()) == change(settings)


@pytest.mark.parametrize("content", ["", "{", '{"log": []}', '{"log": [{}], "questions": 1}', "[]"])
def test_a_history_of_another_version_is_named(data, tmp_path, content):
    (tmp_path / "history.json").write_text(content)
    with pytest.raises(ValueError, match=r"history.json is not what a run .* another --out"):
        train_align(run(data, tmp_path))


def test_a_checkpoint_that_was_cut_off_is_passed_over(data, tmp_path):
    """The trainer writes its state last; whoever is killed before leaves none, or a part of it."""
    fields = {"questions": 40, "save_every": 4, "trl": {"logging_steps": 5}}

    def stop(step, steps, loss):
        raise Stop

    with pytest.raises(Stop):
        train_align(run(data, tmp_path, **fields), stop)
    half = tmp_path / "trainer" / "checkpoint-8"
    half.mkdir()
    for left in (None, "", '{"epoch": 1.0, "glob'):
        if left is not None:
            (half / "trainer_state.json").write_text(left)
        found = latest_checkpoint(str(tmp_path), "trainer_state.json")
        assert found == half.with_name("checkpoint-4")
    result = train_align(run(data, tmp_path, **fields))
    assert MLLMPolicy.from_pretrained(result.checkpoint, device="cpu")


def test_losses_fall_and_are_the_answers_alone(data, tmp_path):
    """A few dozen steps on one task: yes or no costs less than the first guess among all words."""
    fields = {"tasks": ("existence",), "questions": 160, "learning_rate": 3e-3}
    result = train_align(run(data, tmp_path, trl={"logging_steps": 4}, **fields))
    losses = [loss for _, loss in result.losses]
    assert losses[-1] < 1 < 4 < losses[0]
    history = json.loads((tmp_path / "history.json").read_text())
    assert history["log"][-1]["loss"] == losses[-1]


def test_other_models_are_refused(data, tmp_path):
    from qwen3_vl import build_model, build_processor, register

    register()
    processor = build_processor()
    build_model(processor.tokenizer).save_pretrained(tmp_path / "qwen")
    processor.save_pretrained(tmp_path / "qwen")
    with pytest.raises(ValueError, match="the stages train a compact model"):
        train_align(run(data, tmp_path / "out", model=str(tmp_path / "qwen")))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"stage": "4"}, "stage='4': give one of 1a, 1b, 2, 3"),
        ({"preset": "huge"}, "preset='huge': give one of source, tiny"),
        ({"questions": 0}, "questions=0: give more than 0"),
        ({"pair_share": 1.0}, "pair_share=1.0: give 0 to below 1"),
    ],
)
def test_settings_out_of_range_are_refused(fields, message):
    with pytest.raises(ValueError, match=message):
        run("data", "out", **fields)


def test_the_command_trains_and_the_next_evaluates(data, pairs, tmp_path, monkeypatch, capsys):
    def call(*arguments):
        monkeypatch.setattr("sys.argv", ["dig-env", *map(str, arguments)])
        cli.main()
        return capsys.readouterr().out

    printed = call(
        "align", "--stage", "2", "--preset", "tiny", "--model", "tiny", "--data", data,
        "--out", tmp_path / "run", "--questions", 8, "--batch-size", 4,
    )  # fmt: skip
    checkpoint = tmp_path / "run" / "checkpoint"
    assert f"checkpoint: {checkpoint}" in printed
    assert "1 of 1 steps" in (tmp_path / "run" / "report.html").read_text()
    for policy, right in ((checkpoint, None), ("oracle", 1.0)):
        out = tmp_path / "result.json"
        # After one step nothing that the policy says may be readable, which is an exit code of 1.
        with contextlib.suppress(SystemExit):
            call(
                "eval-align", "--policy", policy, "--task", "existence,box_to_crop",
                "--episodes", 6, "--dataset", pairs, "--split", "train", "--options", 2,
                "--max-tokens", 8, "--out", out,
            )  # fmt: skip
        assert "Worst answers" in out.with_suffix(".html").read_text()
        tasks = json.loads(out.read_text())["tasks"]
        assert list(tasks) == ["existence", "box_to_crop"]
        assert right is None or all(task["accuracy"][0] == right for task in tasks.values())


def test_crops_reach_the_model_as_crops(data, assembled):
    """A crop's slot is an object's, not one more image, also after a trip through Parquet."""
    policy = MLLMPolicy.from_pretrained(EMBEDDED["tiny"], device="cpu")
    rows = Conversations(data, ("box_to_crop",))
    _, processor = with_words_of(policy.model, policy.processor, rows.texts)
    row = rows[0]
    text = processor.apply_chat_template(row["messages"], tokenize=False)
    assert (text.count(processor.image_token), text.count(processor.object_token)) == (1, 2)
    assert all(isinstance(image, Image.Image) for image in row["images"])
