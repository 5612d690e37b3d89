"""Residual networks: SN-GAN's (Miyato & Koyama 2018), SAGAN's (Zhang et al. 2019) and BigGAN's (Brock et al. 2019).

They differ in options alone. Resolutions are powers of two from 16; channels are multiples of `width`.
"""

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import Field, PositiveFloat, PositiveInt
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.attention import attention_at
from condgan.networks.blocks import Block
from condgan.networks.embeddings import LabelEmbedding
from condgan.networks.fused_resampling import DownConv2d, UpConv2d
from condgan.networks.init import InitKind, initialize
from condgan.networks.norms import NORMS, Conditional, NormKind, Unconditional
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.errors import UserError
from condgan.utils.options import Width

Resolutions = Annotated[tuple[PositiveInt, ...], Field(max_length=12)]
NormMaker = Callable[[int], nn.Module]
"""Channels → a norm that takes (images, condition)."""


def doublings(shape: ImageShape) -> int:
    """How often 4 × 4 is doubled to the image's size. Raises UserError unless it is a square power of two from 16."""
    size = shape.height
    if shape.width != size or size < 16 or size & (size - 1):
        raise UserError(
            f"image size {shape.height} × {shape.width} given: these networks need a square power of two from 16; "
            "set data.size to such as 16, 32, 64 or 128"
        )
    return int(math.log2(size)) - 2


def multiple(resolution: int, thinnest: int) -> int:
    """Channels at a resolution, as a multiple of the width: 1 at `thinnest`, doubling with every halving.

    It stops at 8, and at 16 from 8 × 8 on. Small images (`thinnest` 32 or less) have 4 throughout (Miyato et al. 2018,
    table 4); all published tables (Brock et al. 2019, tables 4–6 and SN-GAN's) follow.
    """
    return 4 if thinnest <= 32 else min(max(1, thinnest // resolution), 16 if resolution <= 8 else 8)


def generator_multiples(size: int) -> dict[int, int]:
    """The multiple at each resolution from 4 to `size` in a generator."""
    thinnest = size if size <= 32 else min(max(size, 128), 256)
    return {r: multiple(r, thinnest) for r in (2**i for i in range(2, int(math.log2(size)) + 1))}


def backbone_stages(size: int) -> list[tuple[int, int, int]]:
    """Of each block in a backbone: the resolution that enters, the one that leaves, and the multiple that leaves.

    The resolution halves down to 4, or to 8 in small images; blocks that keep it follow, log₂(size) − 1 in all.
    """
    thinnest, last = min(size, 256), 8 if size <= 32 else 4
    entering = [max(size >> i, last) for i in range(int(math.log2(size)))]
    return [(r, after, multiple(r, thinnest)) for r, after in pairwise(entering)]


class LabelNorms(nn.Module):
    """The label's vector as it is; every norm looks up its own gains and biases."""

    def __init__(self, labels: LabelSpec, features: int) -> None:
        super().__init__()
        self.labels, self.features = labels, labels.vector_width

    def norms(self, norm: Callable[[int, bool], nn.Module], features: int) -> NormMaker:
        if features > self.features:
            raise UserError(
                "generator.hierarchical given with conditioning 'own': "
                "a table of the label cannot depend on the latent; set generator.conditioning=shared"
            )
        return lambda channels: Conditional(
            norm(channels, False),
            *(LabelEmbedding(self.labels, channels, std=0.02, shallow=True) for _ in ("gain", "bias")),
        )

    def forward(self, vector: Float[Tensor, "b v"]) -> Float[Tensor, "b v"]:
        return vector


class SharedEmbedding(LabelEmbedding):
    """One embedding of the label, from which every norm computes gain and bias (Brock et al. 2019, §3.1)."""

    def __init__(self, labels: LabelSpec, features: int) -> None:
        super().__init__(labels, features)
        self.features = features

    def norms(self, norm: Callable[[int, bool], nn.Module], features: int) -> NormMaker:
        return partial(_linear_norm, norm, features)


class NoLabel(nn.Module):
    """Nothing of the label; the norms depend on the latent where it is hierarchical, else on nothing."""

    def __init__(self, labels: LabelSpec, features: int) -> None:
        super().__init__()
        self.features = 0

    def norms(self, norm: Callable[[int, bool], nn.Module], features: int) -> NormMaker:
        if features == 0:
            return lambda channels: Unconditional(norm(channels, True))
        return partial(_linear_norm, norm, features)

    def forward(self, vector: Float[Tensor, "b v"]) -> Float[Tensor, "b 0"]:
        return vector[:, :0]


def _linear_norm(norm: Callable[[int, bool], nn.Module], features: int, channels: int) -> Conditional:
    return Conditional(
        norm(channels, False), nn.Linear(features, channels, bias=False), nn.Linear(features, channels, bias=False)
    )


LABELS = {"own": LabelNorms, "shared": SharedEmbedding, "none": NoLabel}


class UpBlock(Block):
    """Norm, ReLU, ×2 and 3×3 at once, norm, ReLU, 3×3, beside 1×1 and ×2."""

    def __init__(self, fewer: int, more: int, norm: NormMaker) -> None:
        super().__init__()
        self.norm1, self.norm2 = norm(fewer), norm(more)
        self.conv1 = UpConv2d(fewer, more)
        self.conv2 = nn.Conv2d(more, more, 3, padding=1)
        self.skip = nn.Conv2d(fewer, more, 1)

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b e 2*h 2*w"]:
        hidden = self.conv1(F.relu(self.norm1(x, condition)))
        hidden = self.conv2(F.relu_(self.norm2(hidden, condition)))
        return hidden + upsample(self.skip(x))  # a 1×1 convolution commutes with ×2, and costs a quarter before it


def upsample(x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c 2*h 2*w"]:
    """×2 by nearest neighbors."""
    return F.interpolate(x, scale_factor=2)


class DownBlock(Block):
    """ReLU, 3×3, ReLU, 3×3 and ÷2 at once, beside ÷2 and 1×1; the first block of all has no ReLU at its entrance."""

    def __init__(self, entering: int, leaving: int, hidden: int, *, first: bool, halve: bool) -> None:
        super().__init__()
        self.enter = nn.Identity() if first else nn.ReLU()  # not in place: the skip takes the same input
        self.conv1 = nn.Conv2d(entering, hidden, 3, padding=1)
        self.conv2 = DownConv2d(hidden, leaving) if halve else nn.Conv2d(hidden, leaving, 3, padding=1)
        self.pool = nn.AvgPool2d(2) if halve else nn.Identity()
        self.skip = nn.Conv2d(entering, leaving, 1) if halve or entering != leaving else nn.Identity()

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b e i j"]:
        hidden = self.conv2(F.relu_(self.conv1(self.enter(x))))
        return hidden + self.skip(self.pool(x))  # a 1×1 convolution commutes with the mean


def image_layers(channels: int, image_channels: int, norm: nn.Module) -> nn.Sequential:
    """A generator's last layers, from features to an image: norm, ReLU, 3×3, tanh."""
    return nn.Sequential(norm, nn.ReLU(inplace=True), nn.Conv2d(channels, image_channels, 3, padding=1), nn.Tanh())


class ResNetGenerator(Generator):
    """Latent to 4 × 4 by a linear layer, then a block per doubling, each with norms that depend on the label.

    `conditioning`: each norm has a table of its `own`, or all use a `shared` embedding of `shared_dim` features
    (Brock et al. 2019, §3.1), or `none` looks at the label. `hierarchical`: the latent is split; its first part enters
    the linear layer and each block's norms get another (§3.1). `attention`: the resolutions after whose block
    self-attention follows. Spectral norm everywhere but in the label's tables, which it would cripple.
    """

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        width: Width = 64,
        latent_dim: Width = 128,
        conditioning: Literal["own", "shared", "none"] = "own",
        shared_dim: Width = 128,
        hierarchical: bool = False,
        attention: Resolutions = (),
        norm: NormKind = "batch",
        norm_eps: PositiveFloat = 1e-5,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        blocks = doublings(shape)
        self.latent_dim = latent_dim
        self.parts = _parts(latent_dim, blocks, hierarchical)
        self.label = LABELS[conditioning](labels, shared_dim)

        def plain(channels: int, affine: bool) -> nn.Module:
            return NORMS[norm](channels, norm_eps, affine)

        norms = self.label.norms(plain, self.label.features + self.parts[1])
        channels = {r: width * m for r, m in generator_multiples(shape.height).items()}
        attend = attention_at(attention, {r: c for r, c in channels.items() if r > 4}, "generator", pooled=True)
        self.linear = nn.Linear(self.parts[0], channels[4] * 16)
        self.blocks, self.attention = nn.ModuleList(), nn.ModuleDict()
        for resolution in list(channels)[1:]:
            self.blocks.append(UpBlock(channels[resolution // 2], channels[resolution], norms))
            self.attention[str(resolution)] = attend(resolution)
        thinnest = channels[shape.height]
        self.image = image_layers(thinnest, shape.channels, plain(thinnest, True))
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        label = self.label(labels.vector())
        first, *parts = latent.split(self.parts, 1)
        x = self.linear(first).unflatten(1, (-1, 4, 4))
        for i, (block, attend) in enumerate(zip(self.blocks, self.attention.values(), strict=True)):
            x = attend(block(x, torch.cat([label, parts[i]], 1)))
        return self.image(x)


def _parts(latent_dim: int, blocks: int, hierarchical: bool) -> list[int]:
    """How many of the latent's coordinates enter the linear layer and each block."""
    if not hierarchical:
        return [latent_dim] + [0] * blocks
    if latent_dim % (blocks + 1):
        nearest = max(1, round(latent_dim / (blocks + 1))) * (blocks + 1)
        raise UserError(
            f"generator.latent_dim {latent_dim} given: a hierarchical latent has {blocks + 1} equal parts at this "
            f"size; set a multiple of it, such as {nearest}"
        )
    return [latent_dim // (blocks + 1)] * (blocks + 1)


class ResNetBackbone(Backbone):
    """A block per halving down to 4 × 4, and one that keeps it (at 32 px and below: down to 8 × 8, and two that do).

    ReLU and the sum over positions follow.

    `thin`: blocks are as wide inside as the channels that enter, as in SN-GAN, else as those that leave. `attention`:
    the resolutions, as they leave a block, at which self-attention follows the first block that reaches them.
    """

    def __init__(
        self,
        shape: ImageShape,
        *,
        width: Width = 64,
        thin: bool = False,
        attention: Resolutions = (),
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        doublings(shape)
        stages = backbone_stages(shape.height)
        channels = {after: width * m for r, after, m in stages if after < r}
        attend = attention_at(attention, channels, "backbone", pooled=True)
        layers: list[nn.Module] = []
        entering = shape.channels
        for i, (resolution, after, m) in enumerate(stages):
            leaving, halve = width * m, after < resolution
            hidden = entering if thin else leaving
            layers.append(DownBlock(entering, leaving, hidden, first=i == 0, halve=halve))
            layers += [attend(after)] if halve else []
            entering = leaving
        self.layers = nn.Sequential(*layers, nn.ReLU(inplace=True))
        self.features = (entering,)
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images).sum((2, 3))
