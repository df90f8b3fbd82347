"""New compact models: small ones from scratch, and large ones from pretrained parts."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoTokenizer,
    BaseImageProcessor,
    PretrainedConfig,
    PreTrainedModel,
    PreTrainedTokenizerBase,
)

from dig_env.agents.models.configuration import CompactConfig, default_decoder
from dig_env.agents.models.modeling import CompactForConditionalGeneration
from dig_env.agents.models.processing import (
    CHAT_TEMPLATE,
    CHATML_TEMPLATE,
    CompactImageProcessor,
    CompactProcessor,
)
from dig_env.agents.models.tokenization import IMAGE_TOKEN, OBJECT_TOKEN, build_tokenizer

MODEL_PARTS = {
    "encoders": ("model.encoders.",),
    "projector": ("model.projector.", "model.positions."),
    "language_model": ("model.language_model.", "lm_head."),
}
"""How the names of each part's parameters begin."""

LAYERS = {"clip_vision_model": -2}
"""Encoders of which a layer before the last is read; LLaVA's choice for CLIP."""


def build_model(
    instructions: Sequence[str],
    words: Iterable[str] = (),
    encoders: Sequence[PretrainedConfig] | None = None,
    decoder: dict[str, Any] | None = None,
    **config_kwargs: Any,
) -> tuple[CompactForConditionalGeneration, CompactProcessor]:
    """A newly initialised small model and the processor that fits it.

    Args:
        instructions, words: what the tokenizer shall know (`build_tokenizer`).
        encoders: configurations; by default one `PairEncoderConfig`, for 128 x 96 pixels.
        decoder: what differs from `default_decoder`.
        config_kwargs: further arguments of `CompactConfig`, such as `image_size`.
    """
    tokenizer = build_tokenizer(instructions, words)
    image_token_id, object_token_id = tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, OBJECT_TOKEN])
    config = CompactConfig(
        vision_configs=encoders,
        text_config=default_decoder(len(tokenizer))
        | (decoder or {})
        | {
            "pad_token_id": tokenizer.pad_token_id,
            "bos_token_id": tokenizer.bos_token_id,
            "eos_token_id": tokenizer.eos_token_id,
        },
        image_token_id=image_token_id,
        object_token_id=object_token_id,
        **config_kwargs,
    )
    height, width = config.image_size
    model = CompactForConditionalGeneration(config)
    write_numbers_smoothly(model, tokenizer.convert_tokens_to_ids("0"))
    if config.grid_positions:
        write_positions_smoothly(model)
    images = CompactImageProcessor(size={"height": height, "width": width})
    return model, _processor(config, images, tokenizer, CHAT_TEMPLATE)


def assemble(
    encoders: Sequence[str | Path],
    decoder: str | Path,
    image_size: int = 336,
    dtype: str = "auto",
) -> tuple[CompactForConditionalGeneration, CompactProcessor]:
    """A model of pretrained parts with a new projector, and its processor::

        assemble(
            ["openai/clip-vit-large-patch14-336", "facebook/dinov2-large"],
            "Qwen/Qwen2.5-1.5B-Instruct",
        )

    Args:
        encoders: hub names or folders of vision models, or of models that have one (CLIP).
        decoder: hub name or folder of a causal language model with a ChatML template (Qwen).
        image_size: side in pixels of the square that images are padded to.
        dtype: of all weights; "auto" is the decoder checkpoint's own.
    """
    language = AutoModelForCausalLM.from_pretrained(decoder, dtype=dtype)
    tokenizer = AutoTokenizer.from_pretrained(decoder, padding_side="left")
    tokenizer.add_tokens([IMAGE_TOKEN, OBJECT_TOKEN], special_tokens=True)
    if len(tokenizer) > language.config.vocab_size:
        language.resize_token_embeddings(len(tokenizer))
    image_token_id, object_token_id = tokenizer.convert_tokens_to_ids([IMAGE_TOKEN, OBJECT_TOKEN])
    vision = [_vision_model(name, language.dtype) for name in encoders]
    config = CompactConfig(
        vision_configs=[part.config for part in vision],
        text_config=language.config,
        image_size=(image_size, image_size),
        vision_layers=[LAYERS.get(part.config.model_type) for part in vision],
        vision_normalizations=[_normalization(name) for name in encoders],
        grid_positions=False,
        image_token_id=image_token_id,
        object_token_id=object_token_id,
    )
    with torch.device("meta"):
        model = CompactForConditionalGeneration(config)
    model.model.projector.to_empty(device="cpu").to(language.dtype)
    std = config.text_config.initializer_range
    for layer in model.model.projector:
        if isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, std=std)
            nn.init.zeros_(layer.bias)
    model.model.encoders = nn.ModuleList(vision)
    model.model.language_model, model.lm_head = language.base_model, language.lm_head
    model.generation_config = language.generation_config
    frame = {"height": image_size, "width": image_size}
    images = CompactImageProcessor(
        size={"max_height": image_size, "max_width": image_size}, do_pad=True, pad_size=frame
    )
    return model.eval(), _processor(config, images, tokenizer, CHATML_TEMPLATE)


def train_only(model: CompactForConditionalGeneration, *parts: str) -> None:
    """Freeze all parameters but those of the given parts.

    Args:
        model: changed in place.
        parts: of `MODEL_PARTS`: "encoders", "projector", "language_model".

    Raises:
        ValueError: there is no such part.
    """
    for part in parts:
        if part not in MODEL_PARTS:
            raise ValueError(f"no part {part!r}; the parts are {', '.join(MODEL_PARTS)}")
    chosen = tuple(prefix for part in parts for prefix in MODEL_PARTS[part])
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(name.startswith(chosen))


def write_numbers_smoothly(model: CompactForConditionalGeneration, first_number_id: int) -> None:
    """Start the embeddings and output rows of the integers 0-1000 as Fourier features.

    Neighbouring integers then begin alike, so what is learned about 500 holds for 501. Wavelengths
    run from twice the range to 50 units (as positional encodings, arXiv 1706.03762, section 3.5).

    Args:
        model: a newly initialised model, changed in place.
        first_number_id: the token of 0; the others follow it in order.
    """
    features = _waves(torch.linspace(0, 1, 1001), model.config.text_config.hidden_size)
    rows = slice(first_number_id, first_number_id + 1001)
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        spread = weight.detach().std()
        with torch.no_grad():
            weight[rows] = features / features.std() * spread


def write_positions_smoothly(model: CompactForConditionalGeneration) -> None:
    """Start the embedding of each place of the grid as waves, like ``write_numbers_smoothly``.

    Half of each is of x and half of y, of the middle of the cell. They begin as strong as what is
    seen there: half of a normalised embedding's unit spread.

    Args:
        model: a newly initialised model, changed in place.
    """
    (rows, columns), width = model.config.grid, model.config.text_config.hidden_size
    x, y = ((torch.arange(cells) + 0.5) / cells for cells in (columns, rows))
    of_x, of_y = (
        _waves(x, width // 2).repeat(rows, 1),
        _waves(y, width // 2).repeat_interleave(columns, 0),
    )
    features = torch.cat([of_x, of_y], dim=1)
    with torch.no_grad():
        model.model.positions.weight.copy_(features / features.std() / 2)


def _waves(unit: torch.Tensor, width: int) -> torch.Tensor:
    """(N, width) sines and cosines of N numbers from 0 to 1."""
    frequencies = math.pi * torch.logspace(0, math.log10(40), width // 2)
    angles = unit[:, None] * frequencies
    return torch.cat([torch.sin(angles), torch.cos(angles)], dim=1)


def _vision_model(name: str | Path, dtype: torch.dtype) -> PreTrainedModel:
    config = AutoConfig.from_pretrained(name)
    if "vision_config" in config.sub_configs:
        config = config.vision_config
    return AutoModel.from_pretrained(name, config=config, dtype=dtype)


def _normalization(name: str | Path) -> tuple[list[float], list[float]]:
    settings, _ = BaseImageProcessor.get_image_processor_dict(name)
    return settings["image_mean"], settings["image_std"]


def _processor(
    config: CompactConfig,
    images: CompactImageProcessor,
    tokenizer: PreTrainedTokenizerBase,
    template: str,
) -> CompactProcessor:
    return CompactProcessor(
        images,
        tokenizer,
        tokens_per_grid=config.tokens_per_grid,
        images_per_grid=config.images_per_grid,
        chat_template=template,
    )
