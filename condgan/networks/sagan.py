"""The DCGAN-shaped networks of the public 64-pixel SAGAN codes: full self-attention at two sizes.

The paper's SAGAN (Zhang et al. 2019) is an option of `condgan.networks.resnet`.
"""

from typing import Literal

import torch
from jaxtyping import Float
from pydantic import PositiveFloat
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.attention import attention_at
from condgan.networks.init import InitKind, initialize
from condgan.networks.norms import NORMS, NormKind
from condgan.networks.resnet import LABELS, Resolutions, doublings
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.options import Width


def channels_at(width: int, size: int) -> dict[int, int]:
    """Channels of the features at each resolution from 4 to size/2: `width` at the largest, doubling up to 16 times."""
    return {r: width * min(size // (2 * r), 16) for r in (2**i for i in range(2, size.bit_length() - 1))}


class SAGANDCGANGenerator(Generator):
    """Transposed 4×4 convolutions with norm and ReLU from the latent to the image, spectrally normalized but the last.

    `attention`: resolutions at which full self-attention follows. `conditioning` as in `ResNetGenerator` (`none` in the
    public code). `spectral_attention`: normalize the attention's convolutions and the last one, too.
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
        attention: Resolutions = (),
        norm: NormKind = "batch",
        norm_eps: PositiveFloat = 1e-5,
        init: InitKind | None = "normal",
        spectral_norm: Spectral | None = Spectral(),
        spectral_attention: bool = False,
    ) -> None:
        super().__init__()
        doublings(shape)
        self.latent_dim = latent_dim
        channels = channels_at(width, shape.height)
        attend = attention_at(attention, channels, "generator", pooled=False)
        self.label = LABELS[conditioning](labels, shared_dim)
        norms = self.label.norms(lambda c, affine: NORMS[norm](c, norm_eps, affine), self.label.features)
        self.convolutions, self.norms = nn.ModuleList(), nn.ModuleList()
        self.attention = nn.ModuleDict()
        entering = latent_dim
        for resolution, leaving in channels.items():
            stride, padding = (1, 0) if resolution == 4 else (2, 1)
            self.convolutions.append(nn.ConvTranspose2d(entering, leaving, 4, stride, padding))
            self.norms.append(norms(leaving))
            self.attention[str(resolution)] = attend(resolution)
            entering = leaving
        self.last = nn.ConvTranspose2d(entering, shape.channels, 4, 2, 1)
        initialize(self, init)
        for part in (self.convolutions, *([self.attention, self.last] if spectral_attention else [])):
            spectral_normalize(part, spectral_norm)

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        x, label = latent[..., None, None], self.label(labels.vector())
        for convolution, norm, attend in zip(self.convolutions, self.norms, self.attention.values(), strict=True):
            x = attend(torch.relu(norm(convolution(x), label)))
        return torch.tanh(self.last(x))


class SAGANDCGANBackbone(Backbone):
    """4×4 convolutions of stride 2 with leaky ReLU 0.1 down to 4 × 4, flattened.

    A linear head on it is the public code's last 4×4 convolution. `attention` and `spectral_attention` as in the
    generator; the public code normalizes neither the attention nor the head.
    """

    def __init__(
        self,
        shape: ImageShape,
        *,
        width: Width = 64,
        attention: Resolutions = (),
        init: InitKind | None = "normal",
        spectral_norm: Spectral | None = Spectral(),
        spectral_attention: bool = False,
    ) -> None:
        super().__init__()
        doublings(shape)
        channels = dict(reversed(channels_at(width, shape.height).items()))
        attend = attention_at(attention, channels, "backbone", pooled=False)
        self.convolutions, self.attention = nn.ModuleList(), nn.ModuleDict()
        entering = shape.channels
        for resolution, leaving in channels.items():
            convolution = nn.Conv2d(entering, leaving, 4, 2, 1)
            self.convolutions.append(nn.Sequential(convolution, nn.LeakyReLU(0.1, inplace=True)))
            self.attention[str(resolution)] = attend(resolution)
            entering = leaving
        self.features = (entering * 16,)
        initialize(self, init)
        for part in (self.convolutions, *([self.attention] if spectral_attention else [])):
            spectral_normalize(part, spectral_norm)

    def stages(self) -> list[nn.Module]:
        pairs = zip(self.convolutions, self.attention.values(), strict=True)
        return [part for pair in pairs for part in pair if part.state_dict()]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        x = images
        for convolution, attend in zip(self.convolutions, self.attention.values(), strict=True):
            x = attend(convolution(x))
        return x.flatten(1)
