"""Large models are put together from published parts, and trained part by part."""

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoModelForImageTextToText,
    AutoProcessor,
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen2ForCausalLM,
)

from dig_env.agents.models import (
    CompactConfig,
    CompactForConditionalGeneration,
    assemble,
    build_model,
    train_only,
)
from dig_env.agents.models.assembly import MODEL_PARTS

CLIP_COLOURS = {"image_mean": [0.48, 0.46, 0.41], "image_std": [0.27, 0.26, 0.28]}
DINO_COLOURS = {"image_mean": [0.485, 0.456, 0.406], "image_std": [0.229, 0.224, 0.225]}
IMAGE, CROP = {"type": "image"}, {"type": "image", "object": True}


def text(words):
    return {"type": "text", "text": words}


@pytest.fixture(scope="module")
def parts(tmp_path_factory):
    """Small checkpoints of the very classes of the large model, as their hub folders have them."""
    folder = tmp_path_factory.mktemp("parts")
    torch.manual_seed(0)
    sizes = {"hidden_size": 32, "num_hidden_layers": 3, "num_attention_heads": 4, "patch_size": 14}
    clip = CLIPConfig(
        vision_config=sizes | {"intermediate_size": 64, "image_size": 56},
        text_config={"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2},
    )
    CLIPModel(clip).save_pretrained(folder / "clip")
    (folder / "clip" / "preprocessor_config.json").write_text(json.dumps(CLIP_COLOURS))
    dino = Dinov2Model(Dinov2Config(**sizes | {"hidden_size": 48, "image_size": 70}))
    dino.save_pretrained(folder / "dino")
    (folder / "dino" / "preprocessor_config.json").write_text(json.dumps(DINO_COLOURS))
    letters = {letter: i for i, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    backend = Tokenizer(models.BPE(letters, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    backend.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=backend,
        eos_token="<|im_end|>",
        pad_token="<|endoftext|>",
        additional_special_tokens=["<|im_start|>"],
    )
    tokenizer.save_pretrained(folder / "qwen")
    qwen = Qwen2Config(
        vocab_size=304,
        hidden_size=64,
        intermediate_size=128,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    Qwen2ForCausalLM(qwen).save_pretrained(folder / "qwen")
    return folder


@pytest.fixture(scope="module")
def assembled(parts):
    torch.manual_seed(1)
    return assemble([parts / "clip", parts / "dino"], parts / "qwen", image_size=56)


@pytest.fixture(scope="module")
def scene():
    """Brightness falls to the right, and every pixel differs."""
    noise = np.random.default_rng(0).integers(0, 64, (40, 60, 3))
    return Image.fromarray((noise + np.linspace(190, 0, 60)[:, None]).astype(np.uint8))


def chat_inputs(processor, content, images):
    prompt = processor.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )
    return processor(text=[prompt], images=[images], return_tensors="pt")


def test_encoders_give_what_the_published_models_give_side_by_side(parts, assembled, scene):
    """CLIP before its last layer, DINOv2 after it, both without their class token."""
    model, processor = assembled
    pixels = chat_inputs(processor, [IMAGE], [scene])["pixel_values"]
    colours = (pixels + 1) / 2

    def normalized(settings):
        mean, std = (torch.tensor(v)[:, None, None] for v in settings.values())
        return (colours - mean) / std

    clip = CLIPVisionModel.from_pretrained(parts / "clip").eval()
    dino = Dinov2Model.from_pretrained(parts / "dino").eval()
    with torch.no_grad():
        seen = clip(normalized(CLIP_COLOURS), output_hidden_states=True).hidden_states[-2][:, 1:]
        other = dino(normalized(DINO_COLOURS)).last_hidden_state[:, 1:]
        found = model.model.get_image_features(pixels[:, None])
    torch.testing.assert_close(found, torch.cat([seen, other], dim=-1))


def test_text_alone_reads_as_in_the_published_decoder(parts, assembled):
    model, processor = assembled
    ids = processor.tokenizer("Where is the cube?", return_tensors="pt")
    published = Qwen2ForCausalLM.from_pretrained(parts / "qwen").eval()
    assert torch.equal(model(**ids).logits, published(**ids).logits)


def test_an_assembled_model_is_saved_and_loaded_whole(assembled, scene, tmp_path):
    model, processor = assembled
    model.save_pretrained(tmp_path)
    processor.save_pretrained(tmp_path)
    loaded = AutoModelForImageTextToText.from_pretrained(tmp_path)
    again = AutoProcessor.from_pretrained(tmp_path)
    inputs = chat_inputs(processor, [IMAGE, text("Where?")], [scene])
    same = chat_inputs(again, [IMAGE, text("Where?")], [scene])
    assert torch.equal(model(**inputs).logits, loaded(**same).logits)
    assert loaded.lm_head.weight is loaded.get_input_embeddings().weight
    assert loaded.generation_config.eos_token_id == processor.tokenizer.eos_token_id


def test_images_keep_their_aspect_and_grey_fills_the_square(assembled, scene):
    _, processor = assembled
    (pixels,) = chat_inputs(processor, [IMAGE], [scene])["pixel_values"]
    assert pixels.shape == (3, 56, 56)
    height = round(40 * 56 / 60)
    assert (pixels[:, height:] == 0).all()
    assert (pixels[:, :height].mean(dim=(0, 1)).diff() < 0.1).all()


def test_the_chat_is_written_as_qwen_expects_it(assembled):
    content = [IMAGE, text("Is "), CROP, text(" in it?")]
    said = {"role": "assistant", "content": [text("Yes.")]}
    written = assembled[1].apply_chat_template(
        [{"role": "user", "content": content}, said], tokenize=False
    )
    assert written == (
        "<|im_start|>user\n<|image_pad|>Is <|object_pad|> in it?<|im_end|>\n"
        "<|im_start|>assistant\nYes.<|im_end|>\n"
    )


@pytest.mark.parametrize(
    ("decoder", "decoder_size"),
    [
        ({"hidden_size": 1536, "intermediate_size": 8960, "num_hidden_layers": 28}, 1_543_714_304),
        ({"hidden_size": 2048, "intermediate_size": 11008, "num_hidden_layers": 36}, 3_085_938_688),
    ],
    ids=["1.5B", "3B"],
)
def test_the_full_size_has_the_published_parameters_and_576_tokens(decoder, decoder_size):
    vit = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16}
    clip = CLIPVisionConfig(**vit, intermediate_size=4096, patch_size=14, image_size=336)
    dino = Dinov2Config(**vit, patch_size=14, image_size=518)
    qwen = Qwen2Config(
        **decoder,
        vocab_size=151_936,
        num_attention_heads=decoder["hidden_size"] // 128,
        num_key_value_heads=2,
        tie_word_embeddings=True,
    )
    config = CompactConfig([clip, dino], qwen, (336, 336), [-2, None], grid_positions=False)
    assert config.tokens_per_grid == 24 * 24 == 576
    with torch.device("meta"):
        model = CompactForConditionalGeneration(config)
    width = decoder["hidden_size"]
    sizes = {
        part: sum(p.numel() for n, p in model.named_parameters() if n.startswith(MODEL_PARTS[part]))
        for part in MODEL_PARTS
    }
    assert sizes == {
        "encoders": 303_507_456 + 304_368_640,
        "projector": 2048 * width + width + width * width + width,
        "language_model": decoder_size,
    }


def test_features_on_a_coarser_grid_are_resampled_to_the_finest():
    sizes = {"hidden_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2}
    encoders = [Dinov2Config(**sizes, image_size=64, patch_size=side) for side in (32, 16)]
    model, _ = build_model([], encoders=encoders, image_size=(64, 64))
    model.eval()
    image = torch.randn(1, 1, 3, 64, 64)
    with torch.no_grad():
        found = model.model.get_image_features(image)
        coarse = model.model.encoders[0](image[0]).last_hidden_state[:, 1:]
    assert found.shape == (1, 16, 32)
    corners = found[0, [0, 3, 12, 15], :16]
    torch.testing.assert_close(corners, coarse[0])


@pytest.mark.parametrize(
    "chosen", [("projector",), ("projector", "language_model"), tuple(MODEL_PARTS)]
)
def test_only_the_chosen_parts_train(assembled, scene, chosen):
    model, processor = assembled
    train_only(model, *chosen)
    inputs = chat_inputs(processor, [IMAGE, text("Where?")], [scene])
    model.zero_grad()
    model(**inputs, labels=inputs["input_ids"]).loss.backward()
    for part, prefixes in MODEL_PARTS.items():
        moved = [p.grad is not None for n, p in model.named_parameters() if n.startswith(prefixes)]
        assert any(moved) == (part in chosen), part
    assert all(parameter.requires_grad for parameter in model.parameters()) == (len(chosen) == 3)


def test_a_part_that_does_not_exist_is_a_clear_error(assembled):
    with pytest.raises(ValueError, match="no part 'head'; the parts are encoders, projector"):
        train_only(assembled[0], "head")
