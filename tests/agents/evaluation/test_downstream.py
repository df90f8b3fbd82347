"""What docs/evaluation.md needs of our own; lmms-eval itself is in tests/frameworks."""

import runpy

import numpy as np
import pytest
import torch
from paths import ROOT
from peft import LoraConfig, get_peft_model
from PIL import Image
from qwen3_vl import save_qwen3_vl
from transformers import AutoModelForImageTextToText, AutoProcessor

from dig_env import format_boxes
from dig_env.agents.policies.mllm import pair_messages

TRUTH = [0.125, 0.25, 0.5, 0.75]


@pytest.fixture(scope="module")
def task():
    return runpy.run_path(str(ROOT / "examples/evaluation/lmms_eval/rec_norm1000.py"))


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    return save_qwen3_vl(tmp_path_factory.mktemp("downstream") / "base")


@pytest.mark.parametrize(
    ("answer", "box"),
    [
        (format_boxes([TRUTH], "norm1000", exact=True), TRUTH),
        ('```json\n[{"bbox_2d": [125, 250, 500, 750], "label": "cube"}]\n```', TRUTH),
        ("No [0, 0, 1000, 1000].</think>\n[[125, 250, 500, 750], [0, 0, 9, 9]]", TRUTH),
        ("It is on the left.", [0, 0, 0, 0]),
        ("[[500, 250, 125, 750]]", [0, 0, 0, 0]),
        ("", [0, 0, 0, 0]),
    ],
)
def test_the_first_valid_box_of_an_answer_counts_in_thousandths(task, answer, box):
    results = task["process_results"]({"bbox": TRUTH, "answer": "cube"}, [answer])
    assert set(results) == {"refcoco_ACC@0.5", "refcoco_IoU"}
    for result in results.values():
        assert result == {"bbox": TRUTH, "pred": box}


def logits(model, processor, **template):
    text = processor.apply_chat_template(
        pair_messages("Find it."), add_generation_prompt=True, tokenize=False, **template
    )
    images = [[Image.fromarray(np.full((64, 64, 3), level, np.uint8)) for level in (40, 200)]]
    inputs = processor(text=[text], images=images, return_tensors="pt")
    with torch.inference_mode():
        return model.eval()(**inputs).logits


def test_a_merged_adapter_says_what_base_and_adapter_say(small, tmp_path):
    processor = AutoProcessor.from_pretrained(small)
    base = AutoModelForImageTextToText.from_pretrained(small)
    before = logits(base, processor)
    config = LoraConfig(target_modules=["q_proj", "v_proj"], init_lora_weights=False)
    torch.manual_seed(0)
    adapted = get_peft_model(base, config)
    adapted.save_pretrained(tmp_path / "adapter")
    processor.save_pretrained(tmp_path / "adapter")
    expected = logits(adapted, processor)

    merge_lora = runpy.run_path(str(ROOT / "examples/trainers/merge_lora.py"))["merge_lora"]
    merge_lora(tmp_path / "adapter", tmp_path / "merged")

    merged = AutoModelForImageTextToText.from_pretrained(tmp_path / "merged")
    result = logits(merged, AutoProcessor.from_pretrained(tmp_path / "merged"))
    torch.testing.assert_close(result, expected, rtol=1e-4, atol=1e-4)
    assert (expected - before).abs().max() > 0.01


def test_a_template_takes_the_switch_that_lmms_eval_gives_it(small):
    model = AutoModelForImageTextToText.from_pretrained(small)
    processor = AutoProcessor.from_pretrained(small)
    thinking = logits(model, processor, enable_thinking=True)
    assert torch.equal(thinking, logits(model, processor))
