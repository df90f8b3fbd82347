"""The compact model is an ordinary transformers model; each image goes where its slot is."""

import numpy as np
import pytest
import torch
from batches import to_float
from PIL import Image
from transformers import (
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
    Dinov2Config,
    GenerationConfig,
)

from dig_env import instruction, parse_boxes
from dig_env.agents.models import CompactConfig, PairEncoderConfig, build_model
from dig_env.agents.models.modeling import first_occurrences
from dig_env.agents.models.tokenization import IMAGE_TOKEN, OBJECT_TOKEN
from dig_env.agents.policies.mllm import MLLMPolicy, load_tiny, pair_messages

WORDS = ["Where", "is", "it", "the", "cube"]
IMAGE, CROP = {"type": "image"}, {"type": "image", "object": True}
CHATS = {
    "pair": [IMAGE, IMAGE, {"type": "text", "text": instruction()}],
    "lone": [IMAGE, {"type": "text", "text": "Where is the cube?"}],
    "crop": [IMAGE, {"type": "text", "text": "Where is"}, CROP, {"type": "text", "text": "?"}],
    "two crops and a pair": [CROP, IMAGE, CROP, IMAGE, {"type": "text", "text": "Where?"}],
    "three": [IMAGE, IMAGE, IMAGE, {"type": "text", "text": "Where?"}],
    "text": [{"type": "text", "text": "Where is it?"}],
}


def slots(name):
    return sum(part["type"] == "image" for part in CHATS[name])


@pytest.fixture(scope="module")
def by_pairs():
    """The embedded policy's kind: one encoder, which compares two images."""
    torch.manual_seed(0)
    model, processor = build_model([instruction()], WORDS)
    return model.eval(), processor


@pytest.fixture(scope="module")
def by_ones():
    """Two encoders of single images, on grids of 6 x 8 and 3 x 4."""
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoders = [Dinov2Config(**sizes, image_size=128, patch_size=side) for side in (16, 32)]
    model, processor = build_model([instruction()], WORDS, encoders)
    return model.eval(), processor


@pytest.fixture(params=["by_pairs", "by_ones"])
def compact(request):
    return request.getfixturevalue(request.param)


@pytest.fixture(scope="module")
def images():
    return np.random.default_rng(0).integers(0, 256, (12, 96, 128, 3), dtype=np.uint8)


def inputs_of(processor, names, images):
    """A batch of the chats of these names, filled from `images` in turn."""
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": CHATS[name]}], add_generation_prompt=True, tokenize=False
        )
        for name in names
    ]
    rest = iter(images)
    filled = [[next(rest) for _ in range(slots(name))] for name in names]
    return processor(text=texts, images=filled, padding=True, return_tensors="pt")


MIXED = ["pair", "lone", "crop", "two crops and a pair", "text"]


@pytest.mark.parametrize("auto_class", [AutoModelForImageTextToText, AutoModelForCausalLM])
def test_a_saved_model_loads_through_the_auto_classes_with_identical_logits(
    compact, images, tmp_path, auto_class
):
    model, processor = compact
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = auto_class.from_pretrained(tmp_path).eval()
    loaded_processor = AutoProcessor.from_pretrained(tmp_path)
    before, after = (inputs_of(p, MIXED, images) for p in (processor, loaded_processor))
    for key in before:
        assert torch.equal(before[key], after[key]), key
    assert torch.equal(model(**before).logits, loaded(**after).logits)


def test_a_model_loads_whole_in_the_dtype_that_is_asked_for(compact, images, tmp_path):
    model, processor = compact
    model.save_pretrained(tmp_path)
    half = AutoModelForImageTextToText.from_pretrained(tmp_path, dtype="bfloat16")
    assert {parameter.dtype for parameter in half.parameters()} == {torch.bfloat16}
    assert half(**inputs_of(processor, MIXED, images)).logits.isfinite().all()


@pytest.mark.parametrize(
    ("chat", "written"),
    [
        ("pair", {IMAGE_TOKEN: 48}),
        ("lone", {OBJECT_TOKEN: 48}),
        ("crop", {OBJECT_TOKEN: 96}),
        ("two crops and a pair", {IMAGE_TOKEN: 48, OBJECT_TOKEN: 96}),
        ("three", {IMAGE_TOKEN: 48, OBJECT_TOKEN: 48}),
    ],
)
def test_a_pair_shares_a_grid_and_any_other_image_has_one(by_pairs, images, chat, written):
    _, processor = by_pairs
    inputs = inputs_of(processor, [chat], images)
    assert len(inputs["pixel_values"]) == slots(chat)
    for token in (IMAGE_TOKEN, OBJECT_TOKEN):
        token_id = processor.tokenizer.convert_tokens_to_ids(token)
        assert (inputs["input_ids"] == token_id).sum() == written.get(token, 0), token


def test_every_image_has_a_grid_where_encoders_see_one(by_ones, images):
    _, processor = by_ones
    ids = inputs_of(processor, ["two crops and a pair"], images)["input_ids"]
    assert (ids == processor.image_token_id).sum() == (ids == processor.object_token_id).sum() == 96


def placed(model, inputs):
    """(B, L, width) decoder inputs."""
    embeddings = model.get_input_embeddings()(inputs["input_ids"].clamp(max=1))
    return model.model._place(inputs["input_ids"], embeddings, inputs["pixel_values"])


def test_each_slot_holds_the_tokens_of_its_image(compact, images):
    model, processor = compact
    inputs = inputs_of(processor, MIXED, images)
    pixels = iter(inputs["pixel_values"])
    shared = model.config.images_per_grid

    def seen(*group):
        return model.model.visual_tokens(torch.stack(group)[None])[0]

    for name, ids, row in zip(MIXED, inputs["input_ids"], placed(model, inputs), strict=True):
        parts = [part for part in CHATS[name] if part["type"] == "image"]
        own = [next(pixels) for _ in parts]
        crops = [p for p, part in zip(own, parts, strict=True) if part is CROP]
        whole = [p for p, part in zip(own, parts, strict=True) if part is IMAGE]
        if len(whole) == shared == 2:
            at_images = [seen(*whole)]
            at_objects = [seen(crop, crop) for crop in crops]
        elif shared == 2:
            at_images, at_objects = [], [seen(image, image) for image in own]
        else:
            at_images, at_objects = [seen(i) for i in whole], [seen(crop) for crop in crops]
        for token, expected in (
            (processor.image_token_id, at_images),
            (processor.object_token_id, at_objects),
        ):
            found = row[ids == token]
            expected = torch.cat(expected) if expected else found[:0]
            torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)


def test_a_batch_answers_as_its_members_do_alone(compact, images):
    """Whatever else is in it, and however much padding stands on the left."""
    model, processor = compact
    together = model(**inputs_of(processor, MIXED, images)).logits[:, -1]
    used = 0
    for i, name in enumerate(MIXED[:-1]):
        alone = model(**inputs_of(processor, [name], images[used:])).logits[:, -1]
        torch.testing.assert_close(together[i : i + 1], alone, rtol=1e-3, atol=1e-4)
        used += slots(name)


def test_one_list_of_images_for_all_texts_is_the_same_as_one_list_each(compact, images):
    _, processor = compact
    nested = inputs_of(processor, ["lone", "crop"], images)
    texts = [
        processor.apply_chat_template(
            [{"role": "user", "content": CHATS[name]}], add_generation_prompt=True, tokenize=False
        )
        for name in ("lone", "crop")
    ]
    flat = processor(text=texts, images=list(images[:3]), padding=True, return_tensors="pt")
    assert all(torch.equal(nested[key], flat[key]) for key in nested)


def test_images_of_any_size_are_resized(compact):
    _, processor = compact
    pixels = inputs_of(processor, ["pair"], np.zeros((2, 240, 320, 3), np.uint8))["pixel_values"]
    assert pixels.shape == (2, 3, 96, 128)


def test_arrays_become_the_pixels_that_the_image_processor_gives(by_pairs, images):
    pixels = inputs_of(by_pairs[1], ["pair"] * 6, images)["pixel_values"]
    torch.testing.assert_close(pixels, to_float(images.reshape(6, 2, 96, 128, 3)).flatten(0, 1))


@pytest.mark.parametrize("name", ["tiny", "tiny-start"])
def test_the_shipped_policies_take_lone_images_and_crops(name, images):
    policy = load_tiny(name)
    inputs = inputs_of(policy.processor, ["lone", "crop", "pair"], images)
    output = policy.model.generate(**inputs, max_new_tokens=8)
    assert (output[:, inputs["input_ids"].shape[1] :] < 1016).all()


def test_generation_with_a_cache_equals_generation_without(compact, images):
    model, processor = compact
    inputs = inputs_of(processor, MIXED, images)
    cached, plain = (
        model.generate(**inputs, max_new_tokens=12, do_sample=False, use_cache=use_cache)
        for use_cache in (True, False)
    )
    assert torch.equal(cached, plain)


@pytest.mark.parametrize("how", ["settings", "a configuration"])
def test_placeholders_are_never_generated(compact, images, how):
    """TRL forbids the first one only, and no image would belong to the other in its loss."""
    model, processor = compact
    inputs = inputs_of(processor, ["lone"] * 8, images)
    placeholders = torch.tensor([processor.image_token_id, processor.object_token_id])

    def likeliest_are_placeholders(module, args, logits):
        return logits.index_fill(-1, placeholders, 100.0)

    hook = model.lm_head.register_forward_hook(likeliest_are_placeholders)
    settings = {"max_new_tokens": 8, "do_sample": True}
    if how == "a configuration":
        config = GenerationConfig(**settings, suppress_tokens=[processor.image_token_id])
        settings = {"generation_config": config}
    drawn = model.generate(**inputs, **settings)
    hook.remove()
    assert not torch.isin(drawn[:, inputs["input_ids"].shape[1] :], placeholders).any()


def test_images_that_repeat_in_a_batch_are_seen_as_when_they_are_apart(compact, images):
    model, _ = compact
    shared = model.config.images_per_grid
    groups = to_float(images.reshape(6, 2, 96, 128, 3))[:, :shared]
    repeated = groups[[0, 1, 0, 2, 1]]
    features = model.model.get_image_features(repeated)
    for i, group in enumerate(repeated):
        apart = model.model.get_image_features(group[None])[0]
        torch.testing.assert_close(features[i], apart, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize("name", ["pair", "two crops and a pair"])
def test_rows_that_begin_alike_are_decoded_once_to_the_same_losses(
    compact, images, name, monkeypatch
):
    """Two groups of four rollouts, whose answers differ."""
    model, processor = compact
    per_row = slots(name)
    groups = [images[:per_row], images[per_row : 2 * per_row]]
    inputs = inputs_of(
        processor, [name] * 8, [one for of in groups for _ in range(4) for one in of]
    )
    answers = torch.randint(0, 1000, (8, 6), generator=torch.Generator().manual_seed(0))
    ids = torch.cat([inputs["input_ids"], answers], dim=1)
    mask = torch.cat([inputs["attention_mask"], torch.ones_like(answers)], dim=1)
    decoded, found = [], []

    def count(module, arguments, output):
        decoded.append(output.last_hidden_state.shape[:2].numel())

    hook = model.model.language_model.register_forward_hook(count)
    for shares in (True, False):
        if not shares:
            monkeypatch.setattr(type(model.model), "_shared_start", lambda *_: None)
        model.zero_grad()
        output = model(ids, inputs["pixel_values"], mask, labels=ids)
        output.loss.backward()
        gradients = torch.cat(
            [one.grad.flatten() for one in model.parameters() if one.grad is not None]
        )
        greedy = model.generate(**inputs, max_new_tokens=6, do_sample=False)
        found.append((output.logits, output.loss, gradients, greedy))
    hook.remove()
    model.zero_grad()
    for shared, apart in zip(*found, strict=True):
        torch.testing.assert_close(shared, apart, rtol=1e-4, atol=1e-5)
    prompt = ids.shape[1] - 6
    assert decoded[:3] == [2 * prompt, 8 * 6, 2 * prompt], (
        "training, then the prompts of generation"
    )


def test_rows_of_one_picture_and_other_questions_are_not_taken_for_alike(compact, images):
    model, processor = compact
    names = ["lone", "lone", "crop", "crop"]
    one, other = images[0], images[1]
    inputs = inputs_of(processor, names, [one, one, one, other, one, one])
    together = model(**inputs).logits[:, -1]
    for row, (name, pictures) in enumerate(
        [("lone", [one]), ("lone", [one]), ("crop", [one, other]), ("crop", [one, one])]
    ):
        alone = model(**inputs_of(processor, [name], pictures)).logits[:, -1]
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-3, atol=1e-4)


def test_pictures_that_repeat_are_processed_once_and_stand_in_their_places(compact, images):
    _, processor = compact
    pictures = [Image.fromarray(image) for image in images[[0, 1, 0, 2, 1]]]
    pixels = processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
    for picture, row in zip(pictures, pixels, strict=True):
        alone = processor.image_processor(picture, return_tensors="pt")["pixel_values"][0]
        torch.testing.assert_close(row, alone, rtol=0, atol=0)


def test_first_occurrences_groups_equal_rows_only(images):
    rows = to_float(images.reshape(6, 2, 96, 128, 3))[[0, 1, 0, 2, 3, 1]]
    distinct, index = first_occurrences(rows)
    assert len(distinct) == 4
    assert torch.equal(rows[distinct][index], rows)


def test_the_policy_answers_each_observation_with_text(by_pairs, images):
    policy = MLLMPolicy(*by_pairs, max_new_tokens=22, batch_size=2)
    pairs = images[:6].reshape(3, 2, 96, 128, 3)
    observations = [{"image_a": a, "image_b": b, "prompt": instruction()} for a, b in pairs]
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
        PairEncoderConfig(image_size=(100, 128))


def test_encoders_that_see_one_image_and_two_do_not_mix():
    with pytest.raises(ValueError, match="dinov2, dig_pair_encoder put 1, 2 images"):
        CompactConfig([Dinov2Config(), PairEncoderConfig()])


@pytest.mark.parametrize("given", [0, 1, 3])
def test_more_or_fewer_images_than_slots_are_a_clear_error(compact, images, given):
    _, processor = compact
    text = processor.apply_chat_template(pair_messages("?"), tokenize=False)
    with pytest.raises(ValueError, match=f"2 slots for images, but {given} images"):
        processor(text=[text], images=[list(images[:given])] if given else None)


def test_placeholders_that_were_cut_off_are_a_clear_error(compact, images):
    """In the words that TRL's SFTTrainer knows, and explains."""
    model, processor = compact
    inputs = inputs_of(processor, ["crop"], images)
    with pytest.raises(ValueError, match="Image features and image tokens do not match"):
        model(input_ids=inputs["input_ids"][:, :80], pixel_values=inputs["pixel_values"])


def test_pixels_of_another_size_are_a_clear_error(compact, images):
    model, processor = compact
    inputs = inputs_of(processor, ["lone"], images)
    with pytest.raises(ValueError, match=r"takes \(images, 3, 96, 128\)"):
        model(input_ids=inputs["input_ids"], pixel_values=inputs["pixel_values"][..., :64])
