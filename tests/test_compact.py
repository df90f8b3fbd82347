"""The embedded policy is an ordinary transformers model, and its tokens say what they should."""

import json

import numpy as np
import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText, AutoProcessor

from agents.mllm import MLLMPolicy, pair_messages
from agents.compact import CompactConfig, build_model
from agents.compact.batches import AnswerTokens, augment, to_float
from agents.compact.modeling import first_occurrences
from dig_env import format_boxes, instruction, parse_boxes


@pytest.fixture(scope="module")
def tiny():
    torch.manual_seed(0)
    model, processor = build_model([instruction()])
    return model.eval(), processor


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (3, 2, 96, 128, 3), dtype=np.uint8)


def inputs_of(processor, images, prompts=None):
    prompts = prompts or [instruction()] * len(images)
    texts = [
        processor.apply_chat_template(
            pair_messages(prompt), add_generation_prompt=True, tokenize=False
        )
        for prompt in prompts
    ]
    return processor(
        text=texts, images=[list(pair) for pair in images], padding=True, return_tensors="pt"
    )


@pytest.mark.parametrize("auto_class", [AutoModelForImageTextToText, AutoModelForCausalLM])
def test_a_saved_model_loads_through_the_auto_classes_with_identical_logits(
    tiny, images, tmp_path, auto_class
):
    model, processor = tiny
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = auto_class.from_pretrained(tmp_path).eval()
    loaded_processor = AutoProcessor.from_pretrained(tmp_path)
    before, after = inputs_of(processor, images), inputs_of(loaded_processor, images)
    for key in before:
        assert torch.equal(before[key], after[key]), key
    assert torch.equal(model(**before).logits, loaded(**after).logits)


def test_the_weights_fit_in_sixteen_megabytes(tiny, tmp_path):
    model, _ = tiny
    model.save_pretrained(tmp_path)
    assert sum(f.stat().st_size for f in tmp_path.glob("*.safetensors")) <= 16 * 2**20


@pytest.mark.parametrize("count", [1, 2, 5])
def test_box_lists_round_trip_exactly(tiny, count):
    tokenizer = tiny[1].tokenizer
    rng = np.random.default_rng(count)
    for _ in range(50):
        text = json.dumps(rng.integers(0, 1001, (count, 4)).tolist())
        assert tokenizer.decode(tokenizer.encode(text), skip_special_tokens=True) == text


def test_every_integer_and_every_sentence_of_the_instruction_is_one_known_token(tiny):
    tokenizer = tiny[1].tokenizer
    for number in range(1001):
        assert len(tokenizer.encode(f"{number}")) == 1
    ids = tokenizer.encode(instruction())
    assert len(ids) == 2
    assert tokenizer.unk_token_id not in ids


def test_a_foreign_prompt_is_read_as_unknown_sentences(tiny):
    tokenizer = tiny[1].tokenizer
    assert tokenizer.encode("Where is the cat?") == [tokenizer.unk_token_id]


def test_two_images_become_the_pairs_visual_tokens(tiny, images):
    model, processor = tiny
    inputs = inputs_of(processor, images)
    rows, columns = model.config.grid
    placeholders = (inputs["input_ids"] == processor.image_token_id).sum(1)
    assert placeholders.tolist() == [rows * columns] * len(images)
    assert inputs["pixel_values"].shape == (2 * len(images), 3, 96, 128)


def test_images_of_any_size_are_resized(tiny):
    _, processor = tiny
    pair = np.zeros((2, 240, 320, 3), np.uint8)
    assert inputs_of(processor, [pair])["pixel_values"].shape == (2, 3, 96, 128)


def test_arrays_become_the_pixels_that_the_image_processor_gives(tiny, images):
    pixels = inputs_of(tiny[1], images)["pixel_values"]
    torch.testing.assert_close(pixels, to_float(images).flatten(0, 1))


def test_generation_with_a_cache_equals_generation_without(tiny, images):
    model, processor = tiny
    inputs = inputs_of(processor, images)
    cached, plain = (
        model.generate(**inputs, max_new_tokens=12, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, plain)


def test_a_batch_answers_as_its_members_do_alone(tiny, images):
    model, processor = tiny
    prompts = [instruction(), "Where is it?", "One. Two. Three. Four."]
    batch = inputs_of(processor, images, prompts)
    together = model(**batch).logits[:, -1]
    for i in range(len(images)):
        alone = model(**inputs_of(processor, images[i : i + 1], prompts[i : i + 1])).logits[:, -1]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-4)


def test_pairs_that_repeat_in_a_batch_get_the_same_answer_as_encoded_apart(tiny, images):
    model, _ = tiny
    pixels = to_float(images)
    repeated = pixels[[0, 1, 0, 2, 1]]
    features = model.model.get_pair_features(repeated.flatten(0, 1))
    for i, pair in enumerate(repeated):
        torch.testing.assert_close(
            features[i], model.model.get_pair_features(pair)[0], rtol=1e-3, atol=1e-4
        )


def test_first_occurrences_groups_equal_rows_only():
    rows = torch.randn(4, 7)[[0, 1, 0, 2, 3, 1]]
    distinct, index = first_occurrences(rows)
    assert len(distinct) == 4
    assert torch.equal(rows[distinct][index], rows)


def test_answer_tokens_are_the_tokens_of_the_formatted_boxes(tiny):
    tokenizer = tiny[1].tokenizer
    tokens = AnswerTokens(tokenizer)
    boxes = torch.tensor(
        [[[0.5, 0.1, 0.7, 0.2], [0.0, 0.25, 0.125, 1.0]], [[0.1] * 2 + [0.3] * 2, [torch.nan] * 4]]
    )
    written = tokenizer.batch_decode(tokens(boxes), skip_special_tokens=True)
    assert written == ["[[0, 250, 125, 1000], [500, 100, 700, 200]]", "[[100, 100, 300, 300]]"]
    assert written[1] == format_boxes(boxes[1, :1].numpy())
    for text, row in zip(written, tokens(boxes), strict=True):
        ids = [*tokenizer.encode(text), tokenizer.eos_token_id]
        assert row[: len(ids)].tolist() == ids
        assert set(row[len(ids) :].tolist()) <= {tokenizer.pad_token_id}


def test_augmented_boxes_follow_what_is_in_the_images():
    images = -torch.ones(64, 2, 3, 24, 32)
    images[:, 1, :, 3:9, 4:20] = 1.0
    boxes = torch.tensor([[[4 / 32, 3 / 24, 20 / 32, 9 / 24], [torch.nan] * 4]]).repeat(64, 1, 1)
    images, boxes = augment(images, boxes, torch.Generator().manual_seed(0))
    assert len(boxes[:, 0].unique(dim=0)) == 4
    for pair, box in zip(images, boxes[:, 0], strict=True):
        ys, xs = torch.nonzero((pair[0] != pair[1]).any(0), as_tuple=True)
        seen = [xs.min() / 32, ys.min() / 24, (xs.max() + 1) / 32, (ys.max() + 1) / 24]
        torch.testing.assert_close(box, torch.stack(seen), rtol=0, atol=1e-6)


def test_the_policy_answers_each_observation_with_text(tiny, images):
    policy = MLLMPolicy(*tiny, max_new_tokens=22, batch_size=2)
    observations = [{"image_a": a, "image_b": b, "prompt": instruction()} for a, b in images]
    answers = policy.act(observations)
    assert len(answers) == 3
    assert answers[2] == policy.act(observations[2:])[0]
    assert policy.act([]) == []
    assert all("<" not in answer for answer in answers)
    assert all(isinstance(parse_boxes(answer).ok, bool) for answer in answers)


def test_a_model_that_does_not_exist_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such folder"):
        MLLMPolicy.from_pretrained(tmp_path / "nowhere")


def test_a_folder_without_a_model_is_a_clear_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="no complete model"):
        MLLMPolicy.from_pretrained(tmp_path)


def test_an_image_size_that_does_not_fit_the_grid_is_a_clear_error():
    with pytest.raises(ValueError, match="multiples of 16"):
        CompactConfig(image_size=(100, 128))


def test_an_odd_number_of_images_is_a_clear_error(tiny):
    with pytest.raises(ValueError, match="pairs"):
        tiny[0].model.get_pair_features(torch.zeros(3, 3, 96, 128))
