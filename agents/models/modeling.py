"""The compact model: vision encoders, a projector and a causal decoder, as in LLaVA.

Every encoder sees every image; their features are concatenated at each place of the grid, go
through a two-layer perceptron and take the place of the image's placeholders in the text. What
differs from LLaVA (arXiv 2304.08485):

1. Any number of encoders. Features on coarser grids are resampled to the finest one.
2. An encoder may put two images on one grid (`PairEncoder`). Each image's placeholders then hold
   half of the visual tokens. An image that is seen by itself is compared with itself, and has all
   of them. `pixel_values` has one row per image either way: the tokens say which is which.
3. Within a batch, images that occur more than once are encoded once, and rows that begin with the
   same images and text (the rollouts of one GRPO group) go through the decoder once as far as they
   agree. No part looks across samples, so the result does not depend on it.
"""

from __future__ import annotations

import copy
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from transformers import AutoModel, GenerationConfig, GenerationMixin, PreTrainedModel
from transformers.cache_utils import Cache, DynamicCache
from transformers.modeling_outputs import BaseModelOutputWithPast, CausalLMOutputWithPast

from dig_env.agents.models.configuration import CompactConfig


class CompactPreTrainedModel(PreTrainedModel):
    """Ties the models to their configuration and says what they support."""

    config_class = CompactConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    input_modalities = ("image", "text")
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True


class CompactModel(CompactPreTrainedModel):
    """Encoders, projector and decoder, without the language-model head."""

    def __init__(self, config: CompactConfig):
        super().__init__(config)
        features = sum(part.hidden_size for part in config.vision_configs)
        width = config.text_config.hidden_size
        # transformers hands its own dtype to `text_config` only.
        self.encoders = nn.ModuleList(
            AutoModel.from_config(part, dtype=config.dtype) for part in config.vision_configs
        )
        self.projector = nn.Sequential(
            nn.Linear(features, width), nn.GELU(), nn.Linear(width, width)
        )
        if config.grid_positions:
            self.positions = nn.Embedding(config.tokens_per_grid, width)
        self.language_model = AutoModel.from_config(config.text_config)
        self.post_init()

    def get_input_embeddings(self) -> nn.Module:
        """The token embedding of the decoder."""
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        """Replace the token embedding of the decoder."""
        self.language_model.set_input_embeddings(value)

    def get_image_features(self, images: Tensor) -> Tensor:
        """What the encoders see, (G, tokens, features), in (G, images per grid, 3, H, W) images."""
        distinct, index = first_occurrences(images)
        images = images[distinct].flatten(0, 1)
        parts = []
        for number, encoder in enumerate(self.encoders):
            layer = self.config.vision_layers[number]
            output = encoder(
                pixel_values=normalized(images, self.config.vision_normalizations[number]),
                output_hidden_states=layer is not None,
            )
            seen = output.last_hidden_state if layer is None else output.hidden_states[layer]
            parts.append(resampled(seen, self.config.grids[number], self.config.grid))
        return torch.cat(parts, dim=-1)[index]

    def visual_tokens(self, images: Tensor) -> Tensor:
        """Decoder inputs, (G, tokens, width), for (G, images per grid, 3, H, W) images."""
        tokens = self.projector(self.get_image_features(images))
        return tokens + self.positions.weight if self.config.grid_positions else tokens

    def forward(
        self,
        input_ids: torch.LongTensor | None = None,
        pixel_values: torch.FloatTensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: torch.LongTensor | None = None,
        past_key_values: Cache | None = None,
        inputs_embeds: torch.FloatTensor | None = None,
        use_cache: bool | None = None,
        **kwargs: Any,
    ) -> BaseModelOutputWithPast:
        """Run the decoder over text and visual tokens.

        Args:
            input_ids: (B, L) tokens with the placeholders that the processor writes.
            pixel_values: (N, 3, H, W) colours in [-1, 1] of all images of the batch, in their
                order in the text; given once, with the placeholders, and not while decoding with
                a cache.
            attention_mask: (B, L), 0 at (left) padding.

        Raises:
            ValueError: images and placeholders do not fit together, or the images do not have the
                configured size.
        """
        start = self._shared_start(input_ids, attention_mask, pixel_values, past_key_values)
        if start is not None:
            return self._forward_shared(
                start, input_ids, pixel_values, attention_mask, position_ids, past_key_values
            )
        if inputs_embeds is None:
            assert input_ids is not None, "give input_ids or inputs_embeds"
            objects = input_ids == self.config.object_token_id
            known = input_ids.masked_fill(objects, self.config.image_token_id)
            inputs_embeds = self.get_input_embeddings()(known)
        if pixel_values is not None:
            inputs_embeds = self._place(input_ids, inputs_embeds, pixel_values.to(self.dtype))
        return self.language_model(
            inputs_embeds=inputs_embeds,
            attention_mask=attention_mask,
            position_ids=position_ids,
            past_key_values=past_key_values,
            use_cache=use_cache,
            **{k: v for k, v in kwargs.items() if k != "return_dict"},
        )

    def _shared_start(
        self,
        input_ids: Tensor | None,
        attention_mask: Tensor | None,
        pixel_values: Tensor | None,
        past_key_values: Cache | None,
    ) -> tuple[Tensor, Tensor, int] | None:
        """Rows that begin alike: the first of each kind, each row's place among these, and how many
        tokens they share. None where none do, or the decoder would keep no cache of them."""
        if input_ids is None or pixel_values is None or len(pixel_values) % len(input_ids):
            return None
        checkpointed = self.training and getattr(
            self.language_model, "gradient_checkpointing", False
        )
        cache_is_new = past_key_values is None or (
            type(past_key_values) is DynamicCache and not past_key_values.get_seq_length()
        )
        if checkpointed or not cache_is_new:
            return None
        slots = [input_ids == self.config.image_token_id, input_ids == self.config.object_token_id]
        if any((slot.sum(dim=1) != slot[0].sum()).any() for slot in slots):
            return None
        first, index = first_occurrences(pixel_values.unflatten(0, (len(input_ids), -1)))
        if len(first) == len(input_ids):
            return None
        agree = input_ids == input_ids[first][index]
        if attention_mask is not None:
            agree = agree & (attention_mask == attention_mask[first][index])
        length = int(agree.all(dim=0).long().cumprod(dim=0).sum())
        if any(slot[:, length:].any() for slot in slots):
            return None
        return first, index, length

    def _forward_shared(
        self,
        start: tuple[Tensor, Tensor, int],
        input_ids: Tensor,
        pixel_values: Tensor,
        attention_mask: Tensor | None,
        position_ids: Tensor | None,
        past_key_values: Cache | None,
    ) -> BaseModelOutputWithPast:
        """As ``forward``, but what rows share is decoded once."""
        first, index, length = start
        images = pixel_values.unflatten(0, (len(input_ids), -1))
        cache = past_key_values
        if cache is None:
            cache = DynamicCache(config=self.config.text_config)
        before = self.forward(
            input_ids[first, :length],
            images[first].flatten(0, 1),
            None if attention_mask is None else attention_mask[first, :length],
            None if position_ids is None else position_ids[first, :length],
            past_key_values=cache,
            use_cache=True,
        )
        cache.batch_select_indices(index)
        hidden = before.last_hidden_state[index]
        if length < input_ids.shape[1]:
            after = self.forward(
                input_ids[:, length:],
                attention_mask=attention_mask,
                position_ids=None if position_ids is None else position_ids[:, length:],
                past_key_values=cache,
                use_cache=True,
            )
            hidden = torch.cat([hidden, after.last_hidden_state], dim=1)
        return BaseModelOutputWithPast(last_hidden_state=hidden, past_key_values=cache)

    def _place(self, input_ids: Tensor, inputs_embeds: Tensor, pixel_values: Tensor) -> Tensor:
        """Put the visual tokens where the placeholders are."""
        images = input_ids == self.config.image_token_id
        objects = input_ids == self.config.object_token_id
        alone = self._seen_alone(input_ids[images | objects], pixel_values)
        shared = self.config.images_per_grid
        together = pixel_values[~alone].unflatten(0, (-1, shared))
        single = pixel_values[alone][:, None].expand(-1, shared, -1, -1, -1)
        visual = self.visual_tokens(torch.cat([together, single])).to(inputs_embeds.dtype)
        placed = inputs_embeds.masked_scatter(images[..., None], visual[: len(together)])
        return placed.masked_scatter(objects[..., None], visual[len(together) :])

    def _seen_alone(self, placeholders: Tensor, pixel_values: Tensor) -> Tensor:
        """Whether each image is seen by itself, (N,) bool, from the placeholders of the batch."""
        expected = (3, *self.config.image_size)
        if tuple(pixel_values.shape[1:]) != expected:
            raise ValueError(
                f"pixel_values has shape {tuple(pixel_values.shape)}, but this model takes "
                f"(images, {', '.join(map(str, expected))}); let CompactProcessor make them"
            )
        tokens, shared = self.config.tokens_per_grid, self.config.images_per_grid
        # A placeholder of an image that shares its grid counts as many times as images share it,
        # so that every image, alone or not, takes `tokens` units.
        units = torch.where(placeholders == self.config.object_token_id, 1, shared)
        first = (units.cumsum(0) - units) % tokens == 0
        alone = placeholders[first] == self.config.object_token_id
        if int(units.sum()) != tokens * len(pixel_values) or int((~alone).sum()) % shared:
            # TRL's SFTTrainer knows these first words, and adds what truncation does.
            raise ValueError(
                f"Image features and image tokens do not match: {len(placeholders)} placeholders "
                f"for {len(pixel_values)} images. Each takes {tokens // shared}, or {tokens} where "
                "it is seen by itself; let CompactProcessor write them, and do not cut them off"
            )
        return alone


class CompactForConditionalGeneration(CompactPreTrainedModel, GenerationMixin):
    """The compact model with its language-model head: images and text in, text out."""

    # Decoders like Llama and Qwen tie them, if their configuration says so.
    _tied_weights_keys: ClassVar[dict[str, str]] = {
        "lm_head.weight": "model.language_model.embed_tokens.weight"
    }

    def __init__(self, config: CompactConfig):
        super().__init__(config)
        text = config.text_config
        self.model = CompactModel(config)
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

    def generate(
        self, *args: Any, generation_config: GenerationConfig | None = None, **kwargs: Any
    ) -> Any:
        """As in transformers, but placeholders are never written: no image belongs to them."""
        never = [self.config.image_token_id, self.config.object_token_id]
        if generation_config is None:
            kwargs |= {"suppress_tokens": never}
        else:  # TRL's forbids the first one only
            generation_config = copy.copy(generation_config)
            generation_config.suppress_tokens = never
        return super().generate(*args, generation_config=generation_config, **kwargs)

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
        **kwargs: Any,
    ) -> CausalLMOutputWithPast:
        """Logits (B, L or the last `logits_to_keep`, vocabulary), and a loss if `labels` are given.

        See `CompactModel.forward` for the other arguments.
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


def normalized(images: Tensor, expected: tuple[list[float], list[float]] | None) -> Tensor:
    """(N, 3, H, W) colours in [-1, 1] as an encoder expects them: minus mean, divided by std."""
    if expected is None:
        return images
    mean, std = (images.new_tensor(numbers)[:, None, None] for numbers in expected)
    return ((images + 1) / 2 - mean) / std


def resampled(seen: Tensor, grid: tuple[int, int], to: tuple[int, int]) -> Tensor:
    """The (N, extra + rows * columns, C) output of an encoder on another grid, (N, tokens, C).

    Tokens beside the grid come first in transformers' encoders (class, registers): left out.
    """
    rows, columns = grid
    cells = seen[:, -rows * columns :]
    if grid == to:
        return cells
    cells = cells.transpose(1, 2).unflatten(2, grid)
    cells = nn.functional.interpolate(cells, to, mode="bilinear", align_corners=False)
    return cells.flatten(2).transpose(1, 2)


def first_occurrences(rows: Tensor) -> tuple[Tensor, Tensor]:
    """Indices of the distinct rows, and for each row its place among them.

    Rows are grouped by a hash and then compared exactly; should two different rows share a hash,
    every row counts as distinct. So may equal rows of a few numbers, whose hashes can round apart.

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
    # Row by row, since a copy of all rows would cost more than the comparison.
    alike = zip(flat, distinct[index].tolist(), order.tolist(), strict=True)
    if len(distinct) == len(flat) or not all(
        first == place or torch.equal(row, flat[first]) for row, first, place in alike
    ):
        return order, order
    return distinct, index
