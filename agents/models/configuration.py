"""Configurations of the compact model and of its pair encoder."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

from transformers import AutoConfig, PretrainedConfig


class PairEncoderConfig(PretrainedConfig):
    """Sizes of a `PairEncoder`, which compares two images on one grid of visual tokens.

    Args:
        image_size: `(height, width)` in pixels; multiples of 16, with an even number of 16 x 16
            cells, since each image of a pair takes half of them.
        channels: of the four convolutional stages: the one that both images share (stride 4),
            then the comparison at strides 4, 8 and 16.
        blocks: residual blocks in each of those four stages.
    """

    model_type = "dig_pair_encoder"
    patch_size = 16
    images_per_grid = 2

    def __init__(
        self,
        image_size: tuple[int, int] = (96, 128),
        channels: tuple[int, int, int, int] = (48, 64, 96, 128),
        blocks: tuple[int, int, int, int] = (1, 1, 2, 2),
        **kwargs: Any,
    ):
        height, width = image_size
        side = self.patch_size
        if height % side or width % side or (height // side) * (width // side) % 2:
            raise ValueError(
                f"image_size is {tuple(image_size)}; give (height, width) in multiples of {side} "
                f"with an even number of {side} x {side} cells, such as (96, 128)"
            )
        self.image_size, self.channels, self.blocks = list(image_size), list(channels), list(blocks)
        super().__init__(**kwargs)

    @property
    def hidden_size(self) -> int:
        """Width of the features: those of stride 16, and the means of those of stride 4."""
        return self.channels[-1] + self.channels[1]


class CompactConfig(PretrainedConfig):
    """Parts and sizes of a `CompactForConditionalGeneration`.

    Args:
        vision_configs: one per encoder: any model of transformers' whose `last_hidden_state` is
            (N, extra + rows * columns, hidden_size), or a `PairEncoderConfig`; or their dicts.
        text_config: of any causal decoder, or its dict.
        image_size: `(height, width)` in pixels of the images that all encoders get.
        vision_layers: for each encoder the index into its `hidden_states` that is read, or None
            for its `last_hidden_state`.
        vision_normalizations: for each encoder `(mean, std)` of the colours in [0, 1] that it
            expects, three numbers each, or None for colours in [-1, 1].
        grid_positions: whether each place of the grid has a learned embedding that is added to the
            visual tokens there.
        image_token_id: stands for the visual tokens of images that share a grid with others.
        object_token_id: stands for those of an image that is seen by itself. It may be beyond the
            decoder's vocabulary: it is neither looked up nor sampled.

    Raises:
        ValueError: the encoders disagree about how many images share a grid.
    """

    model_type = "dig_compact"
    sub_configs: ClassVar[dict[str, type]] = {"text_config": AutoConfig}
    # TRL's `create_model_from_path` reads this attribute of every config whose class is not part
    # of transformers; with nothing in it, TRL falls back to the Auto classes.
    auto_map: ClassVar[dict[str, str]] = {}

    def __init__(
        self,
        vision_configs: Sequence[PretrainedConfig | dict[str, Any]] | None = None,
        text_config: PretrainedConfig | dict[str, Any] | None = None,
        image_size: tuple[int, int] = (96, 128),
        vision_layers: Sequence[int | None] | None = None,
        vision_normalizations: Sequence[tuple[list[float], list[float]] | None] | None = None,
        grid_positions: bool = True,
        image_token_id: int = 0,
        object_token_id: int = 1,
        **kwargs: Any,
    ):
        vision_configs = vision_configs or [PairEncoderConfig(image_size)]
        self.vision_configs = [_config(part) for part in vision_configs]
        self.text_config = _config(text_config or default_decoder())
        self.image_size = list(image_size)
        self.vision_layers = list(vision_layers or [None] * len(self.vision_configs))
        self.vision_normalizations = list(
            vision_normalizations or [None] * len(self.vision_configs)
        )
        self.grid_positions = grid_positions
        self.image_token_id, self.object_token_id = image_token_id, object_token_id
        super().__init__(**kwargs)
        self.tie_word_embeddings = self.text_config.tie_word_embeddings
        shared = [_images_per_grid(part) for part in self.vision_configs]
        if len(set(shared)) > 1:
            kinds = [part.model_type for part in self.vision_configs]
            raise ValueError(
                f"the encoders {', '.join(kinds)} put {', '.join(map(str, shared))} images on one "
                "grid; combine encoders of single images, or pair encoders, not both"
            )

    @property
    def images_per_grid(self) -> int:
        """Images that share one grid of visual tokens: 2 for pair encoders, else 1."""
        return _images_per_grid(self.vision_configs[0])

    @property
    def grids(self) -> list[tuple[int, int]]:
        """Rows and columns of the features of each encoder."""
        height, width = self.image_size
        sides = [part.patch_size for part in self.vision_configs]
        return [(height // side, width // side) for side in sides]

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of the visual tokens: those of the finest encoder."""
        return max(self.grids)

    @property
    def tokens_per_grid(self) -> int:
        """Visual tokens of one grid, and placeholders of an image that is seen by itself."""
        rows, columns = self.grid
        return rows * columns

    def to_dict(self) -> dict[str, Any]:
        """The configuration as JSON, its encoders included."""
        parts = [part.to_dict() for part in self.vision_configs]
        for part in parts:
            del part["transformers_version"]
        return super().to_dict() | {"vision_configs": parts}


def default_decoder(vocab_size: int = 1100) -> dict[str, Any]:
    """A 4-layer Llama decoder of width 128, with weights initialised at 1 / sqrt(width).

    At the 0.02 that large decoders begin with, a small one is slow to look up a place by its
    coordinates.
    """
    return {
        "model_type": "llama",
        "vocab_size": vocab_size,
        "hidden_size": 128,
        "intermediate_size": 256,
        "num_hidden_layers": 4,
        "num_attention_heads": 4,
        "num_key_value_heads": 4,
        "head_dim": 32,
        "max_position_embeddings": 512,
        "tie_word_embeddings": False,
        "initializer_range": 0.09,
    }


def _config(part: PretrainedConfig | dict[str, Any]) -> PretrainedConfig:
    return AutoConfig.for_model(**part) if isinstance(part, dict) else part


def _images_per_grid(part: PretrainedConfig) -> int:
    # Configurations of transformers' own encoders do not have the attribute: they see one image.
    return getattr(part, "images_per_grid", 1)
