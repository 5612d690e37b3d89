"""Light networks for small images and processors: one convolution per doubling or halving, none of them a transposed 4×4.

A transposed 4×4 convolution of stride 2 has weights of its own for each pixel of a 2 × 2, and grain of that period
follows. Here doubling is by nearest neighbors and halving by means (`condgan.networks.fused_resampling`), which cost as
much.
"""

from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.fused_resampling import DownConv2d, UpConv2d
from condgan.networks.init import InitKind, initialize
from condgan.networks.norms import NORMS, NormKind
from condgan.networks.resnet import LABELS, doublings, upsample
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.options import Width


def channels_at(width: int, size: int) -> dict[int, int]:
    """Channels at each resolution from 4 to `size`: `width` at the largest, doubling up to 8 times with each halving."""
    return {r: width * min(size // r, 8) for r in (2**i for i in range(2, size.bit_length()))}


class SmoothUpConv2d(nn.Conv2d):
    """A 3×3 convolution, padded by 1, of what is doubled bilinearly: a transposed 6×6 one of stride 2."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving, 3, padding=1)
        line = torch.tensor([1.0, 3.0, 3.0, 1.0]) / 4
        self.register_buffer("doubling", line.outer(line)[None, None], persistent=False)

    def forward(self, x):
        flat = self.weight.flatten(0, 1)[:, None]
        kernel = F.conv2d(flat, self.doubling.to(flat.dtype), padding=3).unflatten(0, self.weight.shape[:2])[:, :, 0]
        kernel = kernel.flip(2, 3).transpose(0, 1).contiguous(memory_format=torch.channels_last)
        return F.conv_transpose2d(x, kernel, self.bias, stride=2, padding=2)


class LightGenerator(Generator):
    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        width: Width = 32,
        latent_dim: Width = 64,
        conditioning: Literal["own", "shared", "none"] = "own",
        shared_dim: Width = 64,
        residual: bool = False,
        twice: bool = False,
        blur: bool = False,
        norm: NormKind = "batch",
        norm_eps: PositiveFloat = 1e-5,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        doublings(shape)
        self.latent_dim = latent_dim
        self.residual = residual
        channels = channels_at(width, shape.height)
        self.label = LABELS[conditioning](labels, shared_dim)
        norms = self.label.norms(lambda c, affine: NORMS[norm](c, norm_eps, affine), self.label.features)
        self.linear = nn.Linear(latent_dim, channels[4] * 16)
        self.norms, self.convolutions, self.skips = nn.ModuleList(), nn.ModuleList(), nn.ModuleList()
        self.second, self.second_norms = nn.ModuleList(), nn.ModuleList()
        entering = channels[4]
        for leaving in list(channels.values())[1:]:
            self.norms.append(norms(entering))
            self.convolutions.append((SmoothUpConv2d if blur else UpConv2d)(entering, leaving))
            if residual:
                self.skips.append(nn.Conv2d(entering, leaving, 1))
            if twice:
                self.second_norms.append(norms(leaving))
                self.second.append(nn.Conv2d(leaving, leaving, 3, padding=1))
            entering = leaving
        self.last_norm = norms(entering)
        self.last = nn.Conv2d(entering, shape.channels, 3, padding=1)
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        label = self.label(labels.vector())
        x = self.linear(latent).unflatten(1, (-1, 4, 4))
        for i, (norm, convolution) in enumerate(zip(self.norms, self.convolutions, strict=True)):
            hidden = convolution(F.relu(norm(x, label)))
            if self.second:
                hidden = self.second[i](F.relu(self.second_norms[i](hidden, label)))
            x = hidden + upsample(self.skips[i](x)) if self.residual else hidden
        return torch.tanh(self.last(F.relu(self.last_norm(x, label))))


class LightBackbone(Backbone):
    def __init__(
        self,
        shape: ImageShape,
        *,
        width: Width = 32,
        residual: bool = False,
        smooth: bool = True,
        init: InitKind | None = "ortho",
        spectral_norm: Spectral | None = Spectral(),
    ) -> None:
        super().__init__()
        doublings(shape)
        channels = list(reversed(channels_at(width, shape.height).values()))
        self.residual = residual
        self.first = nn.Conv2d(shape.channels, channels[0], 3, padding=1)
        self.convolutions, self.skips = nn.ModuleList(), nn.ModuleList()
        for entering, leaving in zip(channels, channels[1:], strict=False):
            self.convolutions.append(DownConv2d(entering, leaving) if smooth else nn.Conv2d(entering, leaving, 4, 2, 1))
            if residual:
                self.skips.append(nn.Conv2d(entering, leaving, 1))
        self.features = (channels[-1] * 16,)
        initialize(self, init)
        spectral_normalize(self, spectral_norm)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        x = self.first(images)
        for i, convolution in enumerate(self.convolutions):
            hidden = convolution(F.leaky_relu(x, 0.1))
            x = hidden + self.skips[i](F.avg_pool2d(x, 2)) if self.residual else hidden
        return F.leaky_relu(x, 0.1).flatten(1)
