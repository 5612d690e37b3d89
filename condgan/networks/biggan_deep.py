"""BigGAN-deep's residual networks (Brock et al. 2019, app. B): bottlenecks whose skips add no parameters of their own.

BigGAN itself is an option of `condgan.networks.resnet`.
"""

from functools import partial
from typing import Annotated

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveFloat
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.attention import attention_at
from condgan.networks.blocks import Block
from condgan.networks.fused_resampling import UpConv2d
from condgan.networks.init import InitKind, initialize
from condgan.networks.norms import NORMS, NormKind
from condgan.networks.resnet import (
    NormMaker,
    Resolutions,
    SharedEmbedding,
    doublings,
    generator_multiples,
    image_layers,
    multiple,
)
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.options import Width

BOTTLENECK = 4


class DeepUpBlock(Block):
    """Norm, ReLU and convolution four times, 1×1 to a quarter of the channels, 3×3, 3×3 and 1×1; ×2 before the second.

    The skip keeps the first of the channels.
    """

    def __init__(self, fewer: int, more: int, norm: NormMaker, *, double: bool) -> None:
        super().__init__()
        hidden = max(1, fewer // BOTTLENECK)
        self.norms = nn.ModuleList([norm(fewer), norm(hidden), norm(hidden), norm(hidden)])
        self.convolutions = nn.ModuleList(
            [
                nn.Conv2d(fewer, hidden, 1),
                UpConv2d(hidden, hidden) if double else nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.Conv2d(hidden, hidden, 3, padding=1),
                nn.Conv2d(hidden, more, 1),
            ]
        )
        self.leaving = more
        self.grow = nn.Upsample(scale_factor=2) if double else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b e i j"]:
        hidden = x
        for norm, convolution in zip(self.norms, self.convolutions, strict=True):
            hidden = convolution(F.relu(norm(hidden, condition)))
        return hidden + self.grow(x[:, : self.leaving])


class DeepDownBlock(Block):
    """ReLU and convolution four times, as in `DeepUpBlock`; ÷2 before the last.

    The skip adds the channels that are missing by a 1×1 convolution.
    """

    def __init__(self, entering: int, leaving: int, *, halve: bool) -> None:
        super().__init__()
        hidden = max(1, leaving // BOTTLENECK)
        self.layers = nn.Sequential(
            nn.ReLU(), nn.Conv2d(entering, hidden, 1),
            nn.ReLU(inplace=True), nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(inplace=True), nn.Conv2d(hidden, hidden, 3, padding=1),
            nn.ReLU(inplace=True), nn.AvgPool2d(2) if halve else nn.Identity(),
            nn.Conv2d(hidden, leaving, 1),
        )  # fmt: skip
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()
        self.extra = nn.Conv2d(entering, leaving - entering, 1) if leaving > entering else None

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        skip = self.pool(x)
        if self.extra is not None:
            skip = torch.cat([skip, self.extra(skip)], 1)
        return self.layers(x) + skip


class BigGANDeepGenerator(Generator):
    """`depth` bottleneck blocks per resolution, of which the last doubles it.

    The latent and the label's shared embedding of `shared_dim` features, whole, enter the linear layer and every norm.
    """

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        width: Width = 128,
        depth: Annotated[int, Field(ge=1, le=8)] = 2,
        latent_dim: Width = 128,
        shared_dim: Width = 128,
        attention: Resolutions = (),
        norm: NormKind = "batch",
        norm_eps: PositiveFloat = 1e-5,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        doublings(shape)
        self.latent_dim = latent_dim
        self.label = SharedEmbedding(labels, shared_dim)

        def plain(channels: int, affine: bool) -> nn.Module:
            return NORMS[norm](channels, norm_eps, affine)

        norms = self.label.norms(plain, shared_dim + latent_dim)
        channels = {r: width * m for r, m in generator_multiples(shape.height).items()}
        attend = attention_at(attention, {r: c for r, c in channels.items() if r > 4}, "generator", pooled=True)
        self.linear = nn.Linear(shared_dim + latent_dim, channels[4] * 16)
        self.blocks, self.attention = nn.ModuleList(), nn.ModuleDict()
        for resolution in list(channels)[1:]:
            fewer, more = channels[resolution // 2], channels[resolution]
            block = partial(DeepUpBlock, fewer, norm=norms)
            stage = [block(fewer, double=False) for _ in range(depth - 1)] + [block(more, double=True)]
            self.blocks.append(nn.ModuleList(stage))
            self.attention[str(resolution)] = attend(resolution)
        thinnest = channels[shape.height]
        self.image = image_layers(thinnest, shape.channels, plain(thinnest, True))
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        condition = torch.cat([self.label(labels.vector()), latent], 1)
        x = self.linear(condition).unflatten(1, (-1, 4, 4))
        for stage, attend in zip(self.blocks, self.attention.values(), strict=True):
            for block in stage:  # pyright: ignore[reportGeneralTypeIssues]
                x = block(x, condition)
            x = attend(x)
        return self.image(x)


class BigGANDeepBackbone(Backbone):
    """A 3×3 convolution, then `depth` bottleneck blocks per halving down to 4 × 4; ReLU and the sum over positions."""

    def __init__(
        self,
        shape: ImageShape,
        *,
        width: Width = 128,
        depth: Annotated[int, Field(ge=1, le=8)] = 2,
        attention: Resolutions = (),
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        size, thinnest = shape.height, min(shape.height, 256)
        channels = {size >> i: width * multiple(size >> i, thinnest) for i in range(doublings(shape) + 1)}
        attend = attention_at(attention, {r: c for r, c in channels.items() if r < size}, "backbone", pooled=True)
        layers: list[nn.Module] = [nn.Conv2d(shape.channels, channels[size], 3, padding=1)]
        for resolution in list(channels)[1:]:
            entering, leaving = channels[2 * resolution], channels[resolution]
            layers.append(DeepDownBlock(entering, leaving, halve=True))
            layers += [DeepDownBlock(leaving, leaving, halve=False) for _ in range(depth - 1)]
            layers.append(attend(resolution))
        self.layers = nn.Sequential(*layers, nn.ReLU(inplace=True))
        self.features = (channels[4],)
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images).sum((2, 3))
