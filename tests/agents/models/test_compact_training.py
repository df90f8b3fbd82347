"""TRL trains the compact model on pairs, lone images and crops together."""

import numpy as np
import pytest
import torch
from datasets import Dataset, load_from_disk
from PIL import Image
from trl import GRPOConfig, GRPOTrainer, SFTConfig, SFTTrainer

from dig_env import instruction
from dig_env.agents.models import build_model

IMAGE, CROP = {"type": "image"}, {"type": "image", "object": True}


def text(words):
    return {"type": "text", "text": words}


@pytest.fixture(scope="module")
def conversations(tmp_path_factory):
    """Pairs, lone images and crops in one table, written to disk and read back."""
    rng = np.random.default_rng(0)

    def picture(height=96, width=128):
        return Image.fromarray(rng.integers(0, 256, (height, width, 3), dtype=np.uint8))

    asked = [
        ([IMAGE, IMAGE, text(instruction())], "[[1, 2, 3, 4]]", [picture(), picture()]),
        ([IMAGE, text("Where is it?")], "[10, 20, 30, 40]", [picture(240, 320)]),
        ([IMAGE, text("Is "), CROP, text(" in it?")], "Yes.", [picture(), picture(30, 20)]),
        ([CROP, text(" is "), CROP, text("?")], "No.", [picture(20, 30), picture(40, 50)]),
    ]
    rows = []
    for content, answer, images in asked:
        turns = [(content, answer), ([text("Is it?")], "Yes.")]
        messages = [
            {"role": role, "content": said if role == "user" else [text(said)]}
            for turn in turns
            for role, said in zip(("user", "assistant"), turn, strict=True)
        ]
        rows.append({"messages": messages, "images": images})
    folder = str(tmp_path_factory.mktemp("conversations"))
    Dataset.from_list(rows).save_to_disk(folder)
    return load_from_disk(folder)


@pytest.fixture
def small():
    torch.manual_seed(0)
    words = ["Where", "is", "it", "Is", "in", "Yes", "No"]
    return build_model([instruction()], words, decoder={"num_hidden_layers": 1})


TRAINING = {"max_steps": 2, "report_to": [], "use_cpu": True, "save_strategy": "no"}


def test_sft_learns_the_assistants_turns_of_pairs_lone_images_and_crops(
    small, conversations, tmp_path
):
    model, processor = small
    before = [parameter.clone() for parameter in model.parameters()]
    trainer = SFTTrainer(
        model=model,
        processing_class=processor,
        train_dataset=conversations,
        args=SFTConfig(
            str(tmp_path), **TRAINING, per_device_train_batch_size=4, assistant_only_loss=True
        ),
    )
    batch = trainer.data_collator([dict(row) for row in conversations])
    assert len(batch["pixel_values"]) == 7
    learnt = [
        processor.tokenizer.decode(ids[labels != -100], skip_special_tokens=True)
        for ids, labels in zip(batch["input_ids"], batch["labels"], strict=True)
    ]
    answers = ["[[1, 2, 3, 4]]", "[10, 20, 30, 40]", "Yes.", "No."]
    assert learnt == [f"{answer} Yes." for answer in answers]
    trainer.train()
    assert np.isfinite(trainer.state.log_history[-1]["train_loss"])
    moved = [not torch.equal(a, b) for a, b in zip(before, model.parameters(), strict=True)]
    assert all(moved)


def test_grpo_runs_on_pairs_lone_images_and_crops_in_parts(small, conversations, tmp_path):
    model, processor = small
    rows = [{"prompt": row["messages"][:1], "images": row["images"]} for row in conversations]
    trainer = GRPOTrainer(
        model=model,
        processing_class=processor,
        reward_funcs=lambda completions, **_: [float(len(str(said)) % 7) for said in completions],
        train_dataset=Dataset.from_list(rows * 4),
        args=GRPOConfig(
            str(tmp_path),
            **TRAINING,
            num_generations=4,
            per_device_train_batch_size=8,
            steps_per_generation=2,
            max_completion_length=8,
        ),
    )
    trainer.train()
    assert np.isfinite(trainer.state.log_history[-1]["train_loss"])
