"""Batches for the warm-up: pairs of images as arrays, augmented, with the answer as tokens."""

from __future__ import annotations

import itertools

import numpy as np
import torch
from stored_pairs import PairArrays
from torch import Tensor
from transformers import PreTrainedTokenizerFast

from dig_env.scenes.render.nuisance import compressed, exposed, noisy

NUISANCE, CAMERA, MAY_BE_EQUAL = 1, 2, 3
"""Prompts: ``instructions()`` are one of 0, `NUISANCE` and `CAMERA`, and three further on the same
for pairs in which nothing may differ."""

CHANNEL_ORDERS = torch.tensor(list(itertools.permutations(range(3))))


def spoil(
    pairs: PairArrays, index: np.ndarray, equal: float, nuisance: float, seed: int
) -> PairArrays:
    """Some of the pairs, where the camera stays: image B equal to A, or with spoiled pixels.

    A pair in which something differs is asked as if nothing might as often as not, so that the
    prompt does not tell; a pair whose camera moves stays as it is.

    Args:
        pairs: to take from.
        index: (N,) which.
        equal: share of pairs in which nothing differs, then.
        nuisance: share whose image B has another exposure, noise or JPEG compression.
        seed: of what is drawn.
    """
    draw = np.random.default_rng(seed)
    images, boxes = pairs.images[index].copy(), pairs.boxes[index].copy()
    kinds = pairs.kinds[index].copy()
    still = kinds % MAY_BE_EQUAL != CAMERA
    alike = still & (draw.random(len(index)) < equal)
    images[alike, 1], boxes[alike] = images[alike, 0], np.nan
    open_question = alike | (draw.random(len(index)) < (0.5 if equal else 0.0))
    kinds[open_question & (kinds < MAY_BE_EQUAL)] += MAY_BE_EQUAL
    for row in np.flatnonzero(still & (draw.random(len(index)) < nuisance)):
        images[row, 1] = _spoiled(images[row, 1], draw)
        kinds[row] += NUISANCE if kinds[row] % MAY_BE_EQUAL == 0 else 0
    return PairArrays(images, boxes, pairs.stages[index], kinds)


def _spoiled(image: np.ndarray, draw: np.random.Generator) -> np.ndarray:
    """As far as the strongest rows of docs/difficulty.md, one at a time or together."""
    light, noise, compression = draw.random(3) < 0.5
    if light:
        image = exposed(image, draw.uniform(-1, 1))
    if noise or not (light or compression):
        image = noisy(image, draw.uniform(0, 16), int(draw.integers(2**31)))
    return compressed(image, int(draw.integers(20, 96))) if compression else image


def augment(
    images: Tensor, boxes: Tensor, moved: Tensor, generator: torch.Generator
) -> tuple[Tensor, Tensor]:
    """Flip, swap, permute colour channels and change the brightness of each pair at random.

    All of these leave the task as it is: the same boxes, mirrored where the images are.

    Args:
        images: (N, 2, 3, H, W) float in [-1, 1].
        boxes: (N, M, 4) unit xyxy, NaN-padded.
        moved: (N,) bool, of which pairs the camera moves: these are not swapped, since boxes are
            as image A shows them.
        generator: of what is drawn.
    """
    n = len(images)

    def coin() -> Tensor:
        return torch.rand(n, generator=generator) < 0.5

    def where(chosen: Tensor, yes: Tensor, no: Tensor) -> Tensor:
        return torch.where(chosen.view(-1, *[1] * (no.dim() - 1)), yes, no)

    for axis, (low, high) in ((-1, (0, 2)), (-2, (1, 3))):
        flip = coin()
        mirrored = boxes.clone()
        mirrored[..., low], mirrored[..., high] = 1 - boxes[..., high], 1 - boxes[..., low]
        boxes = where(flip, mirrored, boxes)
        images = where(flip, images.flip(axis), images)
    images = where(coin() & ~moved, images.flip(1), images)
    order = CHANNEL_ORDERS[torch.randint(len(CHANNEL_ORDERS), (n,), generator=generator)]
    images = images[torch.arange(n)[:, None], :, order].transpose(1, 2)
    gain = 0.9 + 0.2 * torch.rand(n, 1, 1, 1, 1, generator=generator)
    return ((images + 1) * gain - 1).clamp(-1, 1), boxes


def to_float(images: np.ndarray) -> Tensor:
    """(N, 2, H, W, 3) uint8 to (N, 2, 3, H, W) float in [-1, 1], as the image processor does."""
    return torch.from_numpy(images).permute(0, 1, 4, 2, 3).float() / 127.5 - 1


class AnswerTokens:
    """Writes boxes as the tokens of `[[x_min, y_min, x_max, y_max], ...]` and the end token.

    Boxes are in the order of their centres from left to right, so that each pair has one answer.
    """

    def __init__(self, tokenizer: PreTrainedTokenizerFast):
        ids = tokenizer.convert_tokens_to_ids
        self.first_number = ids("0")
        self.open, self.between, self.close = ids("[["), ids("], ["), ids("]]")
        self.nothing = ids("[]")
        self.end, self.pad = tokenizer.eos_token_id, tokenizer.pad_token_id

    def __call__(self, boxes: Tensor) -> Tensor:
        """(N, M, 4) unit xyxy, NaN-padded, to (N, 5 * M + 2) token ids, padded on the right.

        Without a box the answer is `[]`.
        """
        n, most, _ = boxes.shape
        order = (boxes[..., 0] + boxes[..., 2]).nan_to_num(torch.inf).argsort(dim=1)
        boxes = boxes.gather(1, order[..., None].expand_as(boxes))
        present = ~boxes[..., 0].isnan()
        numbers = (boxes.nan_to_num(0) * 1000).round().long().clamp(0, 1000) + self.first_number
        ids = torch.full((n, most, 5), self.between)
        ids[..., 1:] = numbers
        ids[:, 0, 0] = self.open
        ids[~present] = self.pad
        answer = torch.cat([ids.flatten(1), torch.full((n, 2), self.pad)], dim=1)
        count = present.sum(1)
        rows = torch.arange(n)
        answer[rows, 5 * count] = torch.where(count > 0, self.close, self.nothing)
        answer[rows, 5 * count + 1] = self.end
        return answer
