"""Qwen3-VL and Qwen3.5 in miniature: their own classes, tokens and chat templates, with few and
random weights."""

from dataclasses import replace
from itertools import combinations, product
from pathlib import Path

import torch
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
from transformers import (
    AutoProcessor,
    GenerationConfig,
    PreTrainedModel,
    PreTrainedTokenizerFast,
    Qwen3_5Config,
    Qwen3_5ForConditionalGeneration,
    Qwen3VLConfig,
    Qwen3VLForConditionalGeneration,
    Qwen3VLProcessor,
)
from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil
from trl.chat_template_utils import qwen3_5_nothink_chat_template, qwen3_5_think_chat_template

PATCH, MERGE = 16, 2
SPECIAL_TOKENS = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|image_pad|>",
    "<|video_pad|>",
)
THINK_TOKENS = ("<think>", "</think>")

# What Qwen3-VL-Instruct's own template writes for turns of text and images.
CHAT_TEMPLATE = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\n' }}"
    "{%- if message.content is string %}{{- message.content }}{%- else %}"
    "{%- for part in message.content %}"
    "{%- if part.type == 'image' %}{{- '<|vision_start|><|image_pad|><|vision_end|>' }}"
    "{%- elif 'text' in part %}{{- part.text }}{%- endif %}"
    "{%- endfor %}{%- endif %}"
    "{{- '<|im_end|>\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\n' }}{%- endif %}"
)
# Qwen3-VL-Thinking's opens the thought.
THINKING_TEMPLATE = CHAT_TEMPLATE.replace("assistant\n", "assistant\n<think>\n")


IN_MINIATURE = {
    "dataset": None,
    "width": 64,
    "height": 48,
    "quality": "draft",
    "workers": 1,
    "pairs_per_step": 2,
    "rollouts": 4,
    "steps": 1,
    "max_completion_length": 8,
    "learning_rate": 1e-2,
    "wandb": "disabled",
}
"""All that a miniature on a CPU changes; and there is no vLLM."""


class ImageOnlyQwen3VLProcessor(Qwen3VLProcessor):
    """Qwen3-VL's processor for a machine without torchvision.

    The stock constructor insists on a video processor, and that one needs torchvision. transformers
    reads from a constructor's parameters which parts a processor has, so leaving the video
    processor out of them is all that it takes; everything else is inherited.
    """

    def __init__(self, image_processor=None, tokenizer=None, chat_template=None, **kwargs):
        # The parent passes None for the video processor; with two parts it falls off the end.
        super().__init__(image_processor, tokenizer, chat_template=chat_template, **kwargs)


def save_qwen3_vl(folder: Path, thinking: bool = False) -> Path:
    """Write a model of 150,400 random weights and its processor, for `from_pretrained`.

    Args:
        folder: where to.
        thinking: a Thinking model, whose answers begin in a thought.
    """
    register()
    processor = build_processor(thinking)
    build_model(processor.tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def save_qwen3_5(folder: Path, thinking: bool = False) -> Path:
    """The same for Qwen3.5: one layer of linear attention, one of full, and the original templates.

    Args:
        folder: where to.
        thinking: with the template of 4B and above, which thinks unless told otherwise; without, of
            2B and below, which does not.
    """
    register()
    processor = build_processor(thinking)
    template = qwen3_5_think_chat_template if thinking else qwen3_5_nothink_chat_template
    processor.chat_template = template
    build_qwen3_5(processor.tokenizer).save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def miniature(run, folder, out):
    """A run file's run on the small model: everything else of it stays."""
    trl = {key: value for key, value in run.trl.items() if "vllm" not in key}
    trl |= {"per_device_train_batch_size": 4, "use_cpu": True}
    return replace(run, out=str(out), model=str(folder), trl=trl, **IN_MINIATURE)


def register() -> None:
    """Let AutoProcessor find the processor's class by its name in `processor_config.json`."""
    for config in (Qwen3VLConfig, Qwen3_5Config):
        AutoProcessor.register(config, ImageOnlyQwen3VLProcessor, exist_ok=True)


def build_processor(thinking: bool = False) -> ImageOnlyQwen3VLProcessor:
    """One visual token for each 32x32 pixels of an image, as in Qwen3-VL."""
    side = PATCH * MERGE
    image_processor = Qwen2VLImageProcessorPil(
        patch_size=PATCH,
        merge_size=MERGE,
        temporal_patch_size=2,
        image_mean=[0.5, 0.5, 0.5],
        image_std=[0.5, 0.5, 0.5],
        size={"shortest_edge": side**2, "longest_edge": (8 * side) ** 2},
    )
    return ImageOnlyQwen3VLProcessor(
        image_processor,
        build_tokenizer("</think>" if thinking else ""),
        chat_template=THINKING_TEMPLATE if thinking else CHAT_TEMPLATE,
    )


def build_tokenizer(before: str = "") -> PreTrainedTokenizerFast:
    """Bytes, Qwen's special tokens, its two thinking tokens (which are not special), and answers.

    Each answer `[[x0,y0,x1,y1]]` on a coarse grid is one token, so that a model that knows nothing
    says valid and invalid ones, and GRPO has rewards that differ.

    Args:
        before: what each answer token has before the boxes, such as the end of a thought.
    """
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    backend = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, merges=[]))
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    backend.decoder = decoders.ByteLevel()
    backend.add_special_tokens([AddedToken(token, special=True) for token in SPECIAL_TOKENS])
    spans = list(combinations(range(0, 1001, 250), 2))
    answers = [f"{before}[[{x0},{y0},{x1},{y1}]]" for (x0, x1), (y0, y1) in product(spans, spans)]
    backend.add_tokens(
        [AddedToken(token, special=False, normalized=False) for token in (*THINK_TOKENS, *answers)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=backend, eos_token="<|im_end|>", pad_token="<|endoftext|>"
    )


def build_model(tokenizer: PreTrainedTokenizerFast) -> Qwen3VLForConditionalGeneration:
    """Two layers each of vision and text, with DeepStack and interleaved M-RoPE as in the original.

    The weights are the same at every call.
    """
    text = _text(tokenizer, head_dim=16, partial_rotary_factor=1.0, mrope_section=[4, 2, 2])
    vision = _VISION | {"deepstack_visual_indexes": [0]}
    config = Qwen3VLConfig(
        text_config=text, vision_config=vision, tie_word_embeddings=True, **_ids(tokenizer)
    )
    return _built(Qwen3VLForConditionalGeneration, config, tokenizer)


def build_qwen3_5(tokenizer: PreTrainedTokenizerFast) -> Qwen3_5ForConditionalGeneration:
    """Two layers of vision, one of linear and one of full attention, of which a quarter rotates."""
    text = _text(tokenizer, head_dim=32, partial_rotary_factor=0.25, mrope_section=[2, 1, 1]) | {
        "layer_types": ["linear_attention", "full_attention"],
        "linear_num_key_heads": 2,
        "linear_num_value_heads": 4,
        "linear_key_head_dim": 8,
        "linear_value_head_dim": 8,
        "tie_word_embeddings": True,
    }
    config = Qwen3_5Config(
        text_config=text, vision_config=_VISION, tie_word_embeddings=True, **_ids(tokenizer)
    )
    return _built(Qwen3_5ForConditionalGeneration, config, tokenizer)


# Ten times the usual: what a random model says should depend on what it is shown.
_RANGE = 0.2
_VISION = {
    "depth": 2,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_heads": 2,
    "patch_size": PATCH,
    "spatial_merge_size": MERGE,
    "out_hidden_size": 32,
    "num_position_embeddings": 16,
    "initializer_range": _RANGE,
}


def _text(tokenizer, head_dim, **rope):
    return {
        "vocab_size": len(tokenizer),
        "hidden_size": 32,
        "intermediate_size": 64,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "num_key_value_heads": 1,
        "head_dim": head_dim,
        "initializer_range": _RANGE,
        "rope_parameters": {
            "rope_type": "default",
            "rope_theta": 5e6,
            "mrope_interleaved": True,
            **rope,
        },
        "pad_token_id": tokenizer.pad_token_id,
    }


def _ids(tokenizer):
    return {
        f"{name}_token_id": tokenizer.convert_tokens_to_ids(token)
        for name, token in (
            ("image", "<|image_pad|>"),
            ("video", "<|video_pad|>"),
            ("vision_start", "<|vision_start|>"),
            ("vision_end", "<|vision_end|>"),
        )
    }


def _built(kind, config, tokenizer) -> PreTrainedModel:
    torch.manual_seed(0)
    model = kind(config)
    # Qwen3-VL-Instruct's own: it samples unless told otherwise, and ends a turn in two ways.
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=0.7,
        top_p=0.8,
        top_k=20,
        pad_token_id=tokenizer.pad_token_id,
        eos_token_id=[tokenizer.eos_token_id, tokenizer.pad_token_id],
    )
    return model
