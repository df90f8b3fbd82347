"""Configuration of the embedded policy, `dig_tiny`."""

from __future__ import annotations

from typing import Any, ClassVar

from transformers import LlamaConfig, PretrainedConfig

STRIDE = 16
"""Pixels of the resized image along one side of a visual token."""


class DigTinyConfig(PretrainedConfig):
    """Sizes of a `DigTinyForConditionalGeneration`.

    Args:
        image_size: `(height, width)` in pixels that both images are resized to; multiples of 16,
            with an even number of 16 x 16 cells.
        channels: of the four convolutional stages: the encoder that both images share (stride 4),
            then the comparison at strides 4, 8 and 16.
        blocks: residual blocks in each of those four stages.
        text_config: the causal decoder, a `LlamaConfig` or its dict.
        image_token_id: the placeholder token that visual tokens replace.
    """

    model_type = "dig_tiny"
    sub_configs: ClassVar[dict[str, type]] = {"text_config": LlamaConfig}
    # TRL's `create_model_from_path` reads this attribute of every config whose class is not part
    # of transformers; with nothing in it, TRL goes on to the Auto classes.
    auto_map: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        image_size: tuple[int, int] = (96, 128),
        channels: tuple[int, int, int, int] = (48, 64, 96, 128),
        blocks: tuple[int, int, int, int] = (1, 1, 2, 2),
        text_config: LlamaConfig | dict[str, Any] | None = None,
        image_token_id: int = 0,
        **kwargs: Any,
    ):
        height, width = image_size
        if height % STRIDE or width % STRIDE or (height // STRIDE) * (width // STRIDE) % 2:
            raise ValueError(
                f"image_size is {tuple(image_size)}; give (height, width) in multiples of {STRIDE} "
                f"with an even number of {STRIDE} x {STRIDE} cells, such as (96, 128)"
            )
        if isinstance(text_config, dict):
            text_config = LlamaConfig(**text_config)
        self.image_size = list(image_size)
        self.channels = list(channels)
        self.blocks = list(blocks)
        self.text_config = text_config or LlamaConfig(**default_decoder())
        self.image_token_id = image_token_id
        super().__init__(**kwargs)

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the visual tokens of one pair."""
        height, width = self.image_size
        return height // STRIDE, width // STRIDE

    @property
    def tokens_per_image(self) -> int:
        """Placeholders that one image takes: half of the pair's visual tokens."""
        rows, columns = self.grid
        return rows * columns // 2


def default_decoder(vocab_size: int = 1100) -> dict[str, Any]:
    """Arguments of the `LlamaConfig` of a 4-layer decoder of width 128."""
    return {
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
    }
