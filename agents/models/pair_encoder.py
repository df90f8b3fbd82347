"""The pair encoder: two images in, one grid of features out.

Both images go through one convolutional stem; their features are fused at stride 4, where small
objects still have several cells, and reduced together to stride 16. The means of the fused features
over each cell of that grid stand beside them: at stride 16, what is learned of places crowds out
colour, which the means keep.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from transformers import PreTrainedModel
from transformers import initialization as init
from transformers.modeling_outputs import BaseModelOutput

from dig_env.agents.models.configuration import PairEncoderConfig


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


class PairEncoder(PreTrainedModel):
    """Two images to one grid: encode each, fuse at stride 4, reduce to stride 16, keep means."""

    config_class = PairEncoderConfig
    main_input_name = "pixel_values"
    input_modalities = ("image",)

    def __init__(self, config: PairEncoderConfig):
        super().__init__(config)
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
        self.keep = nn.Sequential(norm(fine), nn.ReLU(), nn.AvgPool2d(config.patch_size // 4))
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Convolutions as He et al. (arXiv 1502.01852), the rest as transformers does."""
        super()._init_weights(module)
        if isinstance(module, nn.Conv2d):
            init.kaiming_normal_(module.weight, nonlinearity="relu")

    def forward(self, pixel_values: Tensor, **kwargs: Any) -> BaseModelOutput:
        """Features of each pair, (N, rows * columns, C), from (2N, 3, H, W) images a, b, a, b..."""
        images = pixel_values.unflatten(0, (-1, 2))
        both = torch.cat(images.unbind(1)).contiguous(memory_format=torch.channels_last)
        a, b = self.image_encoder(both).chunk(2)
        positions = coordinate_channels(a).expand(len(a), -1, -1, -1)
        fused = self.fuse(torch.cat([a + b, a - b, (a - b).abs(), positions], dim=1))
        features = torch.cat([self.compare(fused), self.keep(fused)], dim=1)
        return BaseModelOutput(last_hidden_state=features.flatten(2).transpose(1, 2))


def coordinate_channels(like: Tensor) -> Tensor:
    """(1, 2, H, W): each cell's y and x from -1 to 1 (CoordConv, arXiv 1807.03247)."""
    y = torch.linspace(-1, 1, like.shape[2], device=like.device, dtype=like.dtype)
    x = torch.linspace(-1, 1, like.shape[3], device=like.device, dtype=like.dtype)
    return torch.stack(torch.meshgrid(y, x, indexing="ij"))[None]
