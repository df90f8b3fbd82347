"""The embedded policy: a small image-text-to-text model that ships with the package.

Importing this module registers `dig_tiny` with transformers' Auto classes.
"""

from transformers import (
    AutoConfig,
    AutoImageProcessor,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForImageTextToText,
    AutoProcessor,
)

from agents.tiny.configuration import DigTinyConfig, default_decoder
from agents.tiny.modeling import (
    DigTinyForConditionalGeneration,
    DigTinyModel,
    write_numbers_smoothly,
)
from agents.tiny.processing import DigTinyImageProcessor, DigTinyProcessor, build_processor

__all__ = [
    "DigTinyConfig",
    "DigTinyForConditionalGeneration",
    "DigTinyImageProcessor",
    "DigTinyModel",
    "DigTinyProcessor",
    "build_model",
    "build_processor",
]

AutoConfig.register("dig_tiny", DigTinyConfig)
AutoModel.register(DigTinyConfig, DigTinyModel)
AutoModelForImageTextToText.register(DigTinyConfig, DigTinyForConditionalGeneration)
# TRL loads the KL reference of any model class it does not know as a causal LM.
AutoModelForCausalLM.register(DigTinyConfig, DigTinyForConditionalGeneration)
AutoImageProcessor.register(DigTinyConfig, slow_image_processor_class=DigTinyImageProcessor)
AutoProcessor.register(DigTinyConfig, DigTinyProcessor)


def build_model(
    instructions: list[str], **config_kwargs
) -> tuple[DigTinyForConditionalGeneration, DigTinyProcessor]:
    """A newly initialised model and the processor that fits it.

    Args:
        instructions: texts whose sentences the tokenizer shall know.
        config_kwargs: arguments of `DigTinyConfig` other than the token ids.
    """
    config = DigTinyConfig(**config_kwargs)
    processor = build_processor(instructions, config)
    tokenizer = processor.tokenizer
    decoder = default_decoder(len(tokenizer)) | (config_kwargs.get("text_config") or {})
    decoder |= {
        "vocab_size": len(tokenizer),
        "pad_token_id": tokenizer.pad_token_id,
        "bos_token_id": tokenizer.bos_token_id,
        "eos_token_id": tokenizer.eos_token_id,
    }
    config = DigTinyConfig(
        **(config_kwargs | {"text_config": decoder, "image_token_id": processor.image_token_id})
    )
    model = DigTinyForConditionalGeneration(config)
    write_numbers_smoothly(model, tokenizer.convert_tokens_to_ids("0"))
    return model, processor
