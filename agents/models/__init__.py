"""The compact multimodal model, of which the embedded policy is a small one.

Importing this module registers `dig_compact` and `dig_pair_encoder` with transformers' Auto
classes.
"""

from dig_env.scenes.extras import extra

with extra("train"):
    from transformers import (
        AutoConfig,
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForImageTextToText,
        AutoProcessor,
    )

    # Before 5.18 transformers itself has it only where torchvision is.
    from transformers.models.auto.image_processing_auto import AutoImageProcessor

    from dig_env.agents.models.assembly import MODEL_PARTS, assemble, build_model, train_only
    from dig_env.agents.models.configuration import CompactConfig, PairEncoderConfig
    from dig_env.agents.models.modeling import CompactForConditionalGeneration, CompactModel
    from dig_env.agents.models.pair_encoder import PairEncoder
    from dig_env.agents.models.processing import CompactImageProcessor, CompactProcessor
    from dig_env.agents.models.tokenization import build_tokenizer
    from dig_env.agents.models.vocabulary import with_words_of

__all__ = [
    "MODEL_PARTS",
    "CompactConfig",
    "CompactForConditionalGeneration",
    "CompactImageProcessor",
    "CompactModel",
    "CompactProcessor",
    "PairEncoder",
    "PairEncoderConfig",
    "assemble",
    "build_model",
    "build_tokenizer",
    "train_only",
    "with_words_of",
]

AutoConfig.register("dig_pair_encoder", PairEncoderConfig)
AutoModel.register(PairEncoderConfig, PairEncoder)
AutoConfig.register("dig_compact", CompactConfig)
AutoModel.register(CompactConfig, CompactModel)
AutoModelForImageTextToText.register(CompactConfig, CompactForConditionalGeneration)
# TRL loads the KL reference of any model class it does not know as a causal LM.
AutoModelForCausalLM.register(CompactConfig, CompactForConditionalGeneration)
AutoImageProcessor.register(CompactConfig, slow_image_processor_class=CompactImageProcessor)
AutoProcessor.register(CompactConfig, CompactProcessor)
