"""R3GAN's networks: residual blocks without norms, whose middle convolution works in groups (Huang et al. 2024).

Axes: b images, c channels, h × w pixels, z latents, d features.
"""

import math
from itertools import pairwise
from typing import TypeVar

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.blocks import Block
from condgan.networks.embeddings import LabelEmbedding
from condgan.networks.resnet import doublings
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.options import Depth, Width

WIDE_UP_TO = 32
"""The resolution up to which all stages have the full width; it halves with each doubling after it."""
SLOPE = 0.2
"""Of leaky ReLUs below 0."""


class GroupedBlock(Block):
    """1×1 to twice the channels, 3×3 in groups, 1×1 back, with leaky ReLUs between them; at first it adds nothing.

    `blocks`: in the whole network; the more, the smaller its weights at first (Zhang et al. 2019, Fixup).
    """

    def __init__(self, channels: int, groups: int, blocks: int) -> None:
        super().__init__()
        self.widen = nn.Conv2d(channels, 2 * channels, 1)
        self.grouped = nn.Conv2d(2 * channels, 2 * channels, 3, padding=1, groups=groups)
        self.narrow = nn.Conv2d(2 * channels, channels, 1, bias=False)
        gain = math.sqrt(2 / (1 + SLOPE**2)) * blocks**-0.25
        for layer, scale in ((self.widen, gain), (self.grouped, gain), (self.narrow, 0.0)):
            _drawn(layer, scale)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        hidden = F.leaky_relu(self.widen(x), SLOPE)
        return x + self.narrow(F.leaky_relu(self.grouped(hidden), SLOPE))


class Doubling(nn.Module):
    """1×1 where channels change, then ×2, bilinearly."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.channels = _mixing(entering, leaving)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e 2*h 2*w"]:
        return F.interpolate(self.channels(x), scale_factor=2, mode="bilinear", align_corners=False)


class Halving(nn.Module):
    """÷2 by means with weights (1, 3, 3, 1) / 8 in each direction, then 1×1 where channels change."""

    kernel: Tensor

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        weights = (1 / 8, 3 / 8, 3 / 8, 1 / 8)
        kernel = torch.tensor([[[[row * column for column in weights] for row in weights]]], device="cpu")
        self.register_buffer("kernel", kernel, persistent=False)  # of which no file has the values
        self.channels = _mixing(entering, leaving)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        kernel = self.kernel.to(x.dtype).expand(x.shape[1], -1, -1, -1)
        return self.channels(F.conv2d(x, kernel, stride=2, padding=1, groups=x.shape[1]))


class R3GANGenerator(Generator):
    """Latent and label's embedding weigh a learned 4 × 4 pattern of each channel; then blocks and doublings, and 1×1.

    Nothing confines its values to [−1, 1]; images are clamped when they become pixels. `group`: so many channels of the
    middle convolutions work together, or somewhat more where they do not divide all.
    """

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        width: Width = 768,
        blocks: Depth = 2,
        group: Width = 16,
        latent_dim: Width = 64,
        embedding_dim: Width = 64,
    ) -> None:
        super().__init__()
        stages = _stages(shape, width, group)
        every, entering = blocks * len(stages), latent_dim + embedding_dim
        self.latent_dim = latent_dim
        self.embedding = LabelEmbedding(labels, embedding_dim, std=labels.vector_width**-0.5)
        self.pattern = nn.Parameter(torch.empty(stages[0][0], 4, 4))
        nn.init.normal_(self.pattern)
        self.linear = _drawn(nn.Linear(entering, stages[0][0], bias=False))
        layers: list[nn.Module] = [GroupedBlock(*stages[0], every) for _ in range(blocks)]
        for (before, _), (channels, own) in pairwise(stages):
            layers += [Doubling(before, channels), *(GroupedBlock(channels, own, every) for _ in range(blocks))]
        self.layers = nn.Sequential(*layers, _drawn(nn.Conv2d(stages[-1][0], shape.channels, 1, bias=False)))

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        both = torch.cat([latent, self.embedding(labels.vector())], 1)
        return self.layers(self.pattern * self.linear(both)[:, :, None, None])


class R3GANBackbone(Backbone):
    """1×1, blocks and halvings, a weighted sum over 4 × 4 for each channel, and a linear layer to as many features.

    `group` as of the generator.
    """

    def __init__(self, shape: ImageShape, *, width: Width = 768, blocks: Depth = 2, group: Width = 16) -> None:
        super().__init__()
        stages = _stages(shape, width, group)[::-1]
        every, lowest = blocks * len(stages), stages[-1][0]
        layers: list[nn.Module] = [_drawn(nn.Conv2d(shape.channels, stages[0][0], 1, bias=False))]
        for (channels, own), (after, _) in pairwise(stages):
            layers += [*(GroupedBlock(channels, own, every) for _ in range(blocks)), Halving(channels, after)]
        layers += [GroupedBlock(*stages[-1], every) for _ in range(blocks)]
        layers += [_drawn(nn.Conv2d(lowest, lowest, 4, groups=lowest, bias=False)), nn.Flatten()]
        self.layers = nn.Sequential(*layers, _drawn(nn.Linear(lowest, lowest, bias=False)))
        self.features = (lowest,)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images)


def _stages(shape: ImageShape, width: int, group: int) -> list[tuple[int, int]]:
    """The channels of each resolution from 4 on, and the groups of its middle convolutions."""
    sizes = [4 << power for power in range(doublings(shape) + 1)]
    widths = [max(1, width // max(1, size // WIDE_UP_TO)) for size in sizes]
    return [(channels, _groups(2 * channels, group)) for channels in widths]


def _groups(channels: int, group: int) -> int:
    """The most groups of so many channels or more that divide all."""
    return next(count for count in range(max(1, channels // group), 0, -1) if channels % count == 0)


def _mixing(entering: int, leaving: int) -> nn.Module:
    return nn.Identity() if entering == leaving else _drawn(nn.Conv2d(entering, leaving, 1, bias=False))


Layer = TypeVar("Layer", nn.Conv2d, nn.Linear)


def _drawn(layer: Layer, gain: float = 1.0) -> Layer:
    """A layer with weights from N(0, gain² / inputs of each output) (He et al. 2015), and biases of 0."""
    nn.init.normal_(layer.weight, 0.0, gain / math.sqrt(layer.weight[0].numel()))
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
    return layer
