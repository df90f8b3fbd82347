"""Tokens that stand for images in a prompt, which an answer must not hold.

A model that samples one asks for an image that is not there, and the next pass through it fails
(verl-project/verl, issues 1640 and 3469). TRL forbids one of them, and with vLLM none; verl the
image's and the video's, with vLLM alone; EasyR1 the image's.
"""

from __future__ import annotations

from typing import Any

from dig_env.scenes.extras import extra

with extra("train"):
    from transformers import (
        AutoConfig,
        AutoTokenizer,
        PreTrainedConfig,
        PreTrainedTokenizerBase,
        ProcessorMixin,
    )

_NAMES = ("image", "video", "vision_start", "vision_end", "object")


def image_tokens(names: PreTrainedConfig | ProcessorMixin) -> list[int]:
    """The ids that a model's config or processor names: of images, videos, and what stands around
    them."""
    ids = (getattr(names, f"{name}_token_id", None) for name in _NAMES)
    return sorted({token for token in ids if token is not None})


def without_images(
    config: PreTrainedConfig, tokenizer: PreTrainedTokenizerBase, use_vllm: bool
) -> dict[str, Any]:
    """What forbids these tokens, for ``GRPOConfig(generation_kwargs=...)``.

    Args:
        config: of the model.
        tokenizer: of the model.
        use_vllm: whether vLLM samples, whose setting is "bad_words", or transformers.
    """
    tokens = image_tokens(config)
    if not tokens:
        return {}
    if use_vllm:
        return {"bad_words": tokenizer.convert_ids_to_tokens(tokens)}
    return {"suppress_tokens": tokens}


def without_images_of(model: str, use_vllm: bool) -> dict[str, Any]:
    """``without_images`` of a folder or a hub name."""
    config = AutoConfig.from_pretrained(model)
    return without_images(config, AutoTokenizer.from_pretrained(model), use_vllm)
