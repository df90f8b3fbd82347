"""Instruction data on disk: what it holds, that trainers read it, that it is reproducible."""

import ast
import json
import re
from pathlib import Path

import numpy as np
import pytest
from datasets import load_dataset
from expression_reader import described, meant
from paths import ROOT
from PIL import Image
from qwen3_vl import build_model, build_processor, register
from small import SMALL
from trl import SFTConfig, SFTTrainer
from trl.chat_template_utils import qwen3_vl_chat_template

from dig_env.agents.cli import main as cli
from dig_env.agents.data.instructions.dataset import AlignData, write_align_data
from dig_env.align import TASKS, AlignSettings
from dig_env.scenes import (
    Difficulty,
    PairDataset,
    RenderSettings,
    pair_seed_range,
    render_dataset,
    views,
)

SETTINGS = AlignSettings("unit", crop_px=32)
TINY = RenderSettings(64, 48, "draft", "cpu")


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    path = tmp_path_factory.mktemp("align") / "pairs"
    render_dataset(path, {"mixed": 8}, "train", SMALL, workers=1)
    render_dataset(path, {"mixed": 2}, "test", SMALL, workers=1)
    return path


def load(folder, **options):
    """With a cache of its own, since `datasets` takes folders of one name for the same."""
    return load_dataset(str(folder), cache_dir=f"{folder}-cache", **options)


def data(pairs, **fields):
    fields = {"rows_per_file": 20, "per_pair": 12} | fields
    return AlignData(settings=SETTINGS, dataset=str(pairs), **fields)


@pytest.fixture(scope="module")
def trl(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("trl")
    write_align_data(folder, 60, data(pairs))
    write_align_data(folder, 10, data(pairs), "test")
    return folder


@pytest.fixture(scope="module")
def llava(pairs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("llava")
    write_align_data(folder, 60, data(pairs, format="llava"))
    return folder


def content(folder):
    """Every file's bytes, by path."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(Path(folder).rglob("*"))
        if path.is_file()
    }


def test_tasks_share_the_examples_and_pairs_are_not_drained(trl):
    rows = load(trl, split="train")
    assert len(rows) == 60
    assert {task: rows["task"].count(task) for task in TASKS} == dict.fromkeys(TASKS, 6)
    seeds = list(rows["pair_seed"])
    assert max(seeds.count(seed) for seed in seeds) <= 12


def test_no_pair_is_asked_the_same_twice(pairs, tmp_path):
    """A description has few wordings, so that draws soon repeat themselves."""
    write_align_data(tmp_path, 10, data(pairs, tasks=("description",)))
    rows = load(tmp_path, split="train")
    asked = {(row["pair_seed"], row["side"], str(row["messages"][0])) for row in rows}
    assert len(asked) == 10
    assert len(set(rows["pair_seed"])) < 10, "some pair was asked more than once"


def test_splits_share_no_pair(trl, pairs):
    by_split = load(trl)
    assert set(by_split) == {"train", "test"}
    for split, rows in by_split.items():
        assert all(seed in pair_seed_range(split) for seed in rows["pair_seed"])


def test_messages_are_what_trl_documents(trl):
    for row in load(trl, split="train"):
        roles = [message["role"] for message in row["messages"]]
        assert roles == ["user", "assistant"] * (len(roles) // 2)
        parts = [part for message in row["messages"] for part in message["content"]]
        assert {part["type"] for part in parts} <= {"image", "text"}
        slots = [bool(part["object"]) for part in parts if part["type"] == "image"]
        assert slots == [False] + [True] * (len(row["images"]) - 1), "all but the first are crops"
        assert all(part["text"] for part in parts if part["type"] == "text")
        assert row["images"][0].size == (SMALL.width, SMALL.height)
        assert all(crop.size == (32, 32) for crop in row["images"][1:])


def test_the_answers_are_right(trl, pairs):
    """To a second reader of the words, who looks at the stored pair."""
    dataset = PairDataset(pairs)
    checked = []
    for row in load(trl, split="train"):
        view = views(dataset.pair(row["pair_seed"]))["ab".index(row["side"])]
        prompt, answer = (
            "".join(part["text"] or "" for part in message["content"])
            for message in row["messages"][:2]
        )
        if row["task"] == "text_to_box":
            text = re.search(r"\n.*?(the .+?)(?: in the image)?[.?] Answer", prompt)[1]
            (meant_id,) = meant(text, view)
            (seen,) = (seen for seen in view.objects if seen.id == meant_id)
            np.testing.assert_allclose(json.loads(answer)[0], view.box_unit(seen), atol=6e-4)
        elif row["task"] == "existence":
            noun = re.search(r" a (.+?)(?: in the image)?\?", prompt)[1]
            assert answer == ("yes" if described(noun, view) else "no")
        elif row["task"] == "description":
            lines = answer.splitlines()
            assert len(lines) == len(view.objects)
            for line in lines:
                noun, _, box = line.partition(" [")
                boxes = [view.box_unit(seen) for seen in described(noun, view)]
                assert any(np.allclose(json.loads("[" + box), true, atol=6e-4) for true in boxes)
        else:
            continue
        checked.append(row["task"])
    assert len(checked) == 18


def documented(text):
    """The settings of the text's ``SFTConfig(...)``."""
    blocks = "\n".join(re.findall(r"```python\n(.*?)```", text, re.DOTALL))
    calls = (node for node in ast.walk(ast.parse(blocks)) if isinstance(node, ast.Call))
    (config,) = (call for call in calls if getattr(call.func, "id", "") == "SFTConfig")
    return {field.arg: ast.literal_eval(field.value) for field in config.keywords}


@pytest.mark.parametrize("where", ["page", "card"])
def test_trl_trains_on_it_as_documented_and_learns_the_answers_only(where, trl, tmp_path):
    text = trl / "README.md" if where == "card" else ROOT / "docs/align.md"
    register()
    processor = build_processor()
    # The published template, of which TRL knows which tokens are the assistant's.
    processor.chat_template = qwen3_vl_chat_template
    rows = load(trl, split="train")
    chosen = [list(rows["task"]).index(task) for task in ("box_to_crop", "conversation")]
    arguments = SFTConfig(
        output_dir=tmp_path,
        max_steps=1,
        per_device_train_batch_size=2,
        use_cpu=True,
        bf16=False,
        report_to=[],
        save_strategy="no",
        **documented(text.read_text()),
    )
    trainer = SFTTrainer(
        build_model(processor.tokenizer),
        args=arguments,
        train_dataset=rows.select(chosen),
        processing_class=processor,
    )
    learnt = set()
    for batch in trainer.get_train_dataloader():
        learnt |= {
            processor.tokenizer.decode(row[label != -100])
            for row, label in zip(batch["input_ids"], batch["labels"], strict=True)
        }
    assert learnt == {
        "".join(f"{answer}<|im_end|>\n" for answer in said_by(rows[index], "assistant"))
        for index in chosen
    }
    assert 0 < trainer.train().training_loss < 20


def said_by(row, role):
    return [m["content"][0]["text"] for m in row["messages"] if m["role"] == role]


def test_llava_conversations_name_a_file_for_every_slot(llava):
    entries = json.loads((llava / "train.json").read_text())
    assert len(entries) == 60 == len({entry["id"] for entry in entries})
    for entry in entries:
        turns = entry["conversations"]
        assert [turn["from"] for turn in turns] == ["human", "gpt"] * (len(turns) // 2)
        slots = sum(turn["value"].count("<image>") for turn in turns)
        assert slots == len(entry["image"])
        assert "<object>" not in str(turns)
        sizes = [Image.open(llava / name).size for name in entry["image"]]
        assert sizes == [(SMALL.width, SMALL.height), *[(32, 32)] * (slots - 1)]
    assert {task: sum(e["task"] == task for e in entries) for task in TASKS} == dict.fromkeys(
        TASKS, 6
    )


def test_llama_factory_finds_data_sets_columns_and_roles_as_it_documents_them(llava):
    """Its own code does not install here; by hand it read these rows (docs/trainers.md)."""
    info = json.loads((llava / "dataset_info.json").read_text())
    assert info == {
        "dig_align_train": {
            "file_name": "train.json",
            "formatting": "sharegpt",
            "columns": {"messages": "conversations", "images": "image"},
        }
    }
    for row in json.loads((llava / "train.json").read_text()):
        roles = [turn["from"] for turn in row["conversations"]]
        assert roles == ["human", "gpt"] * (len(roles) // 2)
        said = "".join(turn["value"] for turn in row["conversations"])
        assert said.count("<image>") == len(row["image"])


def test_both_formats_hold_the_same(trl, llava):
    rows = load(trl, split="train")
    entries = json.loads((llava / "train.json").read_text())
    for row, entry in zip(rows, entries, strict=True):
        answers = said_by(row, "assistant")
        assert answers == [
            turn["value"] for turn in entry["conversations"] if turn["from"] == "gpt"
        ]
        for image, name in zip(row["images"], entry["image"], strict=True):
            np.testing.assert_array_equal(np.array(image), np.array(Image.open(llava / name)))


@pytest.mark.parametrize("format", ["trl", "llava"])
def test_a_run_that_was_stopped_ends_up_the_same(pairs, trl, llava, tmp_path, format):
    wanted = data(pairs, format=format)

    def stop(done, total):
        if done >= 45:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_align_data(tmp_path, 60, wanted, on_example=stop)
    assert not (tmp_path / "README.md").exists()
    told = []
    write_align_data(tmp_path, 60, wanted, on_example=lambda done, total: told.append(done))
    assert 20 <= told[0] < 60
    assert told[-1] == 60
    if format == "trl":
        write_align_data(tmp_path, 10, wanted, "test")
    assert content(tmp_path) == content(trl if format == "trl" else llava)


def test_a_lost_file_is_written_again(pairs, trl, tmp_path):
    write_align_data(tmp_path, 60, data(pairs))
    write_align_data(tmp_path, 10, data(pairs), "test")
    (tmp_path / "data" / "train-00001.parquet").unlink()
    write_align_data(tmp_path, 60, data(pairs))
    assert content(tmp_path) == content(trl)


def test_the_card_counts_and_says_how_it_was_made(trl):
    card = (trl / "README.md").read_text()
    assert "70 instructions" in card
    assert "| text_to_box | 6 | 1 |" in card
    assert "license: apache-2.0" in card
    assert "Boxes: unit" in card
    assert "blender 4." in card


def test_fresh_pairs_are_rendered_and_asked_from_the_command_line(tmp_path, capsys):
    out = str(tmp_path / "fresh")
    small = ["--width", "64", "--height", "48", "--quality", "draft", "--device", "cpu"]
    small += ["--workers", "1", "--crop-px", "32"]
    asked = ["questions", "--task", "text_to_box,existence", "--count", "4", "--out", out, *small]
    run(asked)
    rows = load(out, split="train")
    assert rows["task"].count("existence") == 2
    assert rows[0]["images"][0].size == (64, 48)
    before = content(out)
    run(asked)
    assert content(out) == before
    assert "questions:" in capsys.readouterr().out


def run(arguments, monkeypatch=pytest.MonkeyPatch()):
    with monkeypatch.context() as patched:
        patched.setattr("sys.argv", ["dig-env", *arguments])
        cli.main()


def test_what_a_folder_cannot_take_is_an_error_that_says_why(pairs, trl, tmp_path):
    with pytest.raises(ValueError, match="started with 60 examples of train, not 61"):
        write_align_data(trl, 61, data(pairs))
    with pytest.raises(ValueError, match="written with other per_pair"):
        write_align_data(trl, 60, data(pairs, per_pair=3))
    (tmp_path / "notes.txt").touch()
    with pytest.raises(ValueError, match="no align.json"):
        write_align_data(tmp_path, 6, data(pairs))
    with pytest.raises(ValueError, match=r"8 pairs of .* give \d+ examples, not 500.*per_pair"):
        write_align_data(tmp_path / "many", 500, data(pairs))
    with pytest.raises(ValueError, match="count=0"):
        write_align_data(tmp_path / "none", 0, data(pairs))
    with pytest.raises(ValueError, match="format='csv'.*trl, llava"):
        data(pairs, format="csv")


def test_a_task_that_pairs_cannot_carry_ends_with_an_error(tmp_path, renderer):
    folder = tmp_path / "lone"
    lone = {"lone": Difficulty(objects=(1, 1), changes=("color",))}
    render_dataset(folder, {"lone": 1}, "train", TINY, difficulties=lone, workers=1)
    wanted = AlignData(("relation",), settings=SETTINGS, dataset=str(folder))
    with pytest.raises(ValueError, match="give 0 examples, not 2"):
        write_align_data(tmp_path / "out", 2, wanted)
