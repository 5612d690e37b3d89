"""Light networks, for small images and processors: a residual block of one convolution for each doubling or halving.

A transposed 4×4 convolution of stride 2, as in DCGAN, has weights of its own for each pixel of a 2 × 2, and leaves
grain of that period in images. Here doubling is by nearest neighbors, fused with 3×3 convolutions
(`condgan.networks.fused_resampling`), and bilinear beside them. Discriminators halve by 4×4 convolutions of stride 2:
means would be blind to patterns of two pixels. Either takes as many multiplications.
"""

from itertools import pairwise
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.blocks import Block
from condgan.networks.fused_resampling import UpConv2d
from condgan.networks.init import InitKind, initialize
from condgan.networks.norms import NORMS, NormKind
from condgan.networks.resnet import LABELS, NormMaker, doublings
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.options import Width


def light_channels(width: int, size: int) -> dict[int, int]:
    """Channels at each resolution from 4 to `size`: `width` at the largest, doubling with each halving up to 8-fold."""
    return {r: width * min(size // r, 8) for r in (2**i for i in range(2, size.bit_length()))}


class LightUp(Block):
    """Norm, ReLU, ×2 and 3×3 at once, beside 1×1 and ×2, bilinearly."""

    def __init__(self, entering: int, leaving: int, norm: NormMaker) -> None:
        super().__init__()
        self.norm = norm(entering)
        self.conv = UpConv2d(entering, leaving)
        self.skip = nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Float[Tensor, "b c h w"], label: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        beside = F.interpolate(self.skip(x), scale_factor=2, mode="bilinear", align_corners=False)
        return self.conv(F.relu(self.norm(x, label))) + beside


class LightDown(Block):
    """Leaky ReLU 0.1 and 4×4 of stride 2, beside ÷2 by means and 1×1."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, 4, stride=2, padding=1)
        self.skip = nn.Conv2d(entering, leaving, 1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        return self.conv(F.leaky_relu(x, 0.1)) + self.skip(F.avg_pool2d(x, 2))


class LightGenerator(Generator):
    """Latent to 4 × 4 by a linear layer, a block per doubling, then norm, ReLU, 3×3, tanh.

    `conditioning` as in `ResNetGenerator`.
    """

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        width: Width = 16,
        latent_dim: Width = 64,
        conditioning: Literal["own", "shared", "none"] = "own",
        shared_dim: Width = 64,
        norm: NormKind = "batch",
        norm_eps: PositiveFloat = 1e-5,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        doublings(shape)
        self.latent_dim = latent_dim
        channels = list(light_channels(width, shape.height).values())
        self.label = LABELS[conditioning](labels, shared_dim)
        norms = self.label.norms(lambda c, affine: NORMS[norm](c, norm_eps, affine), self.label.features)
        self.linear = nn.Linear(latent_dim, channels[0] * 16)
        self.blocks = nn.ModuleList(LightUp(entering, leaving, norms) for entering, leaving in pairwise(channels))
        self.norm = norms(channels[-1])
        self.last = nn.Conv2d(channels[-1], shape.channels, 3, padding=1)
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        label = self.label(labels.vector())
        x = self.linear(latent).unflatten(1, (-1, 4, 4))
        for block in self.blocks:
            x = block(x, label)
        return torch.tanh(self.last(F.relu(self.norm(x, label))))


class LightBackbone(Backbone):
    """A 3×3 convolution, a block per halving down to 4 × 4, leaky ReLU 0.1, flattened."""

    def __init__(
        self,
        shape: ImageShape,
        *,
        width: Width = 16,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        doublings(shape)
        channels = list(reversed(light_channels(width, shape.height).values()))
        blocks = [LightDown(entering, leaving) for entering, leaving in pairwise(channels)]
        self.layers = nn.Sequential(nn.Conv2d(shape.channels, channels[0], 3, padding=1), *blocks)
        self.features = (channels[-1] * 16,)
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return F.leaky_relu(self.layers(images), 0.1).flatten(1)
