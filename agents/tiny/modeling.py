"""The embedded policy: a small image-text-to-text model with a bias for comparing two images.

Both images go through one convolutional encoder; their features are fused at stride 4, where
small objects still have several cells, and reduced together to one grid of visual tokens for the
pair (8 x 6 at 128 x 96 pixels), which a Llama decoder reads before it writes the answer.
For transformers, TRL and users it is a model like LLaVA: `pixel_values` holds one row per image,
two images per sequence. What differs:

1. The visual tokens belong to the pair. Each image's placeholders hold half of them.
2. Within a batch, a pair that occurs more than once (the rollouts of one GRPO group) is encoded
   once. No layer looks across samples, so the result does not depend on it.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin, PreTrainedModel
from transformers import initialization as init
from transformers.cache_utils import Cache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from agents.tiny.configuration import DigTinyConfig


def norm(channels: int) -> nn.GroupNorm:
    """Group norm of 8 channels a group: no statistics across samples."""
    return nn.GroupNorm(channels // 8, channels)


class ResidualBlock(nn.Module):
    """Two 3 x 3 convolutions around a skip connection, normalised before each."""

    def __init__(self, channels: int):
        super().__init__()
        self.norm1, self.conv1 = norm(channels), nn.Conv2d(channels, channels, 3, padding=1)
        self.norm2, self.conv2 = norm(channels), nn.Conv2d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to the same shape."""
        y = self.conv1(torch.relu(self.norm1(x)))
        return x + self.conv2(torch.relu(self.norm2(y)))


def stage(before: int, after: int, blocks: int, stride: int = 2) -> nn.Sequential:
    """A 3 x 3 convolution to `after` channels, then residual blocks."""
    down = nn.Conv2d(before, after, 3, stride=stride, padding=1)
    return nn.Sequential(down, *(ResidualBlock(after) for _ in range(blocks)))


class PairEncoder(nn.Module):
    """Two images to one grid of features: encode alike, fuse at stride 4, reduce to stride 16."""

    def __init__(self, config: DigTinyConfig):
        super().__init__()
        image, fine, middle, coarse = config.channels
        n_image, n_fine, n_middle, n_coarse = config.blocks
        self.image_encoder = nn.Sequential(
            nn.Conv2d(3, image, 8, stride=4, padding=2),
            *(ResidualBlock(image) for _ in range(n_image)),
            norm(image),
        )
        self.fuse = stage(3 * image + 2, fine, n_fine, stride=1)
        self.compare = nn.Sequential(
            stage(fine, middle, n_middle), stage(middle, coarse, n_coarse), norm(coarse), nn.ReLU()
        )

    def forward(self, image_a: Tensor, image_b: Tensor) -> Tensor:
        """(N, 3, H, W) twice to (N, C, H / 16, W / 16)."""
        both = torch.cat([image_a, image_b]).contiguous(memory_format=torch.channels_last)
        a, b = self.image_encoder(both).chunk(2)
        positions = coordinate_channels(a).expand(len(a), -1, -1, -1)
        fused = self.fuse(torch.cat([a + b, a - b, (a - b).abs(), positions], dim=1))
        return self.compare(fused)


def coordinate_channels(like: Tensor) -> Tensor:
    """(1, 2, H, W): each cell's y and x from -1 to 1 (CoordConv, arXiv 1807.03247)."""
    y = torch.linspace(-1, 1, like.shape[2], device=like.device, dtype=like.dtype)
    x = torch.linspace(-1, 1, like.shape[3], device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]


class DigTinyPreTrainedModel(PreTrainedModel):
    """Ties the models to their configuration and says what they support."""

    config_class = DigTinyConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def _init_weights(self, module: nn.Module) -> None:
        """Convolutions as He et al. (arXiv 1502.01852), the rest as transformers does."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")


class DigTinyModel(DigTinyPreTrainedModel):
    """Pair encoder, projector and decoder, without the language-model head."""

    def __init__(self, config: DigTinyConfig):
        super().__init__(config)
        rows, columns = config.grid
        width = config.text_config.hidden_size
        self.pair_encoder = PairEncoder(config)
        self.projector = nn.Sequential(
            nn.Linear(config.channels[-1], width), nn.GELU(), nn.Linear(width, width)
        )
        self.positions = nn.Embedding(rows * columns, width)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding of the decoder."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding of the decoder."""
        self.language_model.set_input_embeddings(value)

    def get_pair_features(self, pixel_values: Tensor) -> Tensor:
        """Features of each pair, (N, C, rows, columns), from (2N, 3, H, W) images a, b, a, b...

        Raises:
            ValueError: if the images do not come in pairs or are not of the configured size.
        """
        expected = (3, *self.config.image_size)
        if pixel_values.shape[0] % 2 or tuple(pixel_values.shape[1:]) != expected:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}; dig_tiny compares pairs: "
                f"give (2N, 3, {expected[1]}, {expected[2]}), images a and b of each pair in turn"
            )
        pairs = pixel_values.to(self.dtype).unflatten(0, (-1, 2))
        distinct, index = first_occurrences(pairs)
        features = self.pair_encoder(*pairs[distinct].unbind(1))
        return features[index]

    def visual_tokens(self, features: Tensor) -> Tensor:
        """(N, C, rows, columns) pair features to (N, rows * columns, width) decoder inputs."""
        return self.projector(features.flatten(2).transpose(1, 2)) + self.positions.weight

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs,
    ) -> BaseModelOutputWithPast:
        """Run the decoder over text and visual tokens.

        Args:
            input_ids: (B, L) tokens with two runs of image placeholders a sequence.
            pixel_values: (2B, 3, H, W) images a and b of each sequence in turn; given once, with
                the placeholders, and not while decoding with a cache.
            attention_mask: (B, L), 0 at (left) padding.
        """
        if inputs_embeds is None:
            inputs_embeds = self.get_input_embeddings()(input_ids)
        if pixel_values is not None:
            visual = self.visual_tokens(self.get_pair_features(pixel_values))
            inputs_embeds = self._place(input_ids, inputs_embeds, visual)
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **{k: v for k, v in kwargs.items() if k != "return_dict"},
        )

    def _place(self, input_ids: Tensor, inputs_embeds: Tensor, visual: Tensor) -> Tensor:
        """Put the visual tokens where the placeholders are."""
        placeholders = input_ids == self.config.image_token_id
        if int(placeholders.sum()) != visual.shape[0] * visual.shape[1]:
            raise ValueError(
                f"{int(placeholders.sum())} image placeholders for {visual.shape[0]} pairs of "
                f"{visual.shape[1]} visual tokens; let DigTinyProcessor write the placeholders"
            )
        return inputs_embeds.masked_scatter(placeholders[..., None], visual.to(inputs_embeds.dtype))


class DigTinyForConditionalGeneration(DigTinyPreTrainedModel, GenerationMixin):
    """The embedded policy: two images and an instruction in, a list of boxes out."""

    def __init__(self, config: DigTinyConfig):
        super().__init__(config)
        text = config.text_config
        self.model = DigTinyModel(config)
        self.lm_head = nn.Linear(text.hidden_size, text.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding of the decoder."""
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding of the decoder."""
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        """The language-model head."""
        return self.lm_head

    def set_output_embeddings(self, value: nn.Module) -> None:
        """Replace the language-model head."""
        self.lm_head = value

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        labels: torch.LongTensor | None = None,
        use_cache: bool | None = None,
        logits_to_keep: int | Tensor = 0,
        **kwargs,
    ) -> CausalLMOutputWithPast:
        """Logits (B, L or the last `logits_to_keep`, vocabulary), and a loss if `labels` are given.

        See `DigTinyModel.forward` for the other arguments.
        """
        outputs = self.model(
            input_ids=input_ids,
            pixel_values=pixel_values,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            inputs_embeds=inputs_embeds,
            use_cache=use_cache,
        )
        keep = slice(-logits_to_keep, None) if isinstance(logits_to_keep, int) else logits_to_keep
        logits = self.lm_head(outputs.last_hidden_state[:, keep])
        loss = None
        if labels is not None:
            loss = self.loss_function(
                logits=logits,
                labels=labels,
                vocab_size=self.config.text_config.vocab_size,
                **kwargs,
            )
        return CausalLMOutputWithPast(
            loss=loss,
            logits=logits,
            past_key_values=outputs.past_key_values,
            hidden_states=outputs.hidden_states,
            attentions=outputs.attentions,
        )


def first_occurrences(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the distinct rows, and for each row its place among them.

    Rows are grouped by a hash and then compared exactly; should two different rows share a hash,
    every row counts as distinct.

    >>> first_occurrences(torch.tensor([[1.0], [2.0], [1.0]]))
    (tensor([0, 1]), tensor([0, 1, 0]))
    """
    flat = rows.flatten(1)
    weights = torch.linspace(1, 2, flat.shape[1], device=flat.device, dtype=torch.float32)
    keys = flat.float() @ weights
    _, index = torch.unique(keys, return_inverse=True)
    order = torch.arange(len(flat), device=flat.device)
    distinct = torch.full((int(index.max()) + 1,), len(flat), device=flat.device)
    distinct = distinct.scatter_reduce(0, index, order, "amin")
    if len(distinct) == len(flat) or not torch.equal(flat[distinct][index], flat):
        return order, order
    return distinct, index


def write_numbers_smoothly(model: DigTinyForConditionalGeneration, first_number_id: int) -> None:
    """Start the embeddings and output rows of the integers 0-1000 as Fourier features.

    Neighbouring integers then begin alike, so what is learnt about 500 holds for 501. Wavelengths
    run from twice the range to 50 units (as positional encodings, arXiv 1706.03762, section 3.5).

    Args:
        model: a newly initialised model, changed in place.
        first_number_id: the token of 0; the others follow it in order.
    """
    width = model.config.text_config.hidden_size
    unit = torch.linspace(0, 1, 1001)[:, None]
    frequencies = math.pi * torch.logspace(0, math.log10(40), width // 2)[None]
    features = torch.cat([torch.sin(unit * frequencies), torch.cos(unit * frequencies)], dim=1)
    rows = slice(first_number_id, first_number_id + 1001)
    for weight in (model.get_input_embeddings().weight, model.get_output_embeddings().weight):
        spread = weight.detach().std()
        with torch.no_grad():
            weight[rows] = features / features.std() * spread
