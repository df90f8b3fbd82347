"""Losses of the warm-up: the answer's tokens, and a dense hint where the differences lie."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

IGNORE = 0


class SoftNumberLoss(nn.Module):
    """Cross-entropy in which a number token's label is spread over the neighbouring integers.

    An integer is one token, so plain cross-entropy calls 499 as wrong for 500 as 3 is. A Gaussian
    label gives near misses credit (as the distribution labels of arXiv 2006.04388 do for boxes).

    Args:
        first_number: token id of 0; 1-1000 follow.
        sigma: width of the label in thousandths of the image; 0 is plain cross-entropy.
    """

    def __init__(self, first_number: int, sigma: float):
        super().__init__()
        self.first, self.sigma = first_number, sigma
        if sigma > 0:
            value = torch.arange(1001.0)
            table = torch.exp(-0.5 * ((value[:, None] - value[None]) / sigma) ** 2)
            self.register_buffer("labels", table / table.sum(1, keepdim=True), persistent=False)

    def forward(self, logits: Tensor, answer: Tensor, pad: int) -> Tensor:
        """Mean loss over the tokens of `answer` (N, T) that are not `pad`; logits (N, T, V)."""
        keep = answer != pad
        logp, answer = logits[keep].log_softmax(-1), answer[keep]
        loss = -logp.gather(1, answer[:, None]).squeeze(1)
        if self.sigma > 0:
            number = (answer >= self.first) & (answer <= self.first + 1000)
            labels = self.labels[answer[number] - self.first]
            soft = -(labels * logp[number, self.first : self.first + 1001]).sum(-1)
            loss = loss.masked_scatter(number, soft)
        return loss.mean()


class DenseHint(nn.Module):
    """A throw-away head on the pair features: is a difference's centre in this cell, and its box?

    It reaches the convolutions before the decoder has learnt to attend to anything, and is left
    out of the saved model.

    Args:
        channels: of the pair features.
        grid: their (rows, columns).
    """

    def __init__(self, channels: int, grid: tuple[int, int]):
        super().__init__()
        self.grid = grid
        self.head = nn.Conv2d(channels, 5, 1)

    def forward(self, features: Tensor, boxes: Tensor) -> Tensor:
        """Mean loss; features (N, C, rows, columns), boxes (N, M, 4) unit xyxy, NaN-padded."""
        output = self.head(features)
        pair, number = torch.nonzero(~boxes[..., 0].isnan(), as_tuple=True)
        box = boxes[pair, number]
        rows, columns = self.grid
        column = ((box[:, 0] + box[:, 2]) / 2 * columns).long().clamp(0, columns - 1)
        row = ((box[:, 1] + box[:, 3]) / 2 * rows).long().clamp(0, rows - 1)
        target = torch.zeros_like(output[:, 0])
        target[pair, row, column] = 1
        centre = F.binary_cross_entropy_with_logits(
            output[:, 0], target, pos_weight=torch.tensor(4.0, device=target.device)
        )
        regression = F.smooth_l1_loss(output[pair, 1:, row, column].sigmoid(), box, beta=0.02)
        return 4 * centre + 10 * regression
