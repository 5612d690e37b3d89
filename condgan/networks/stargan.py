"""StarGAN's networks (Choi et al. 2018, table 4 and 5): image and target label in, image out; patches judged."""

from itertools import pairwise
from typing import Annotated

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.blocks import Block
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.errors import UserError
from condgan.utils.options import Width


class StarGANGenerator(Generator):
    """Images and the labels that they shall get → images, through a quarter of their size.

    The labels' vector joins the image as constant planes, at once; a 7×7 convolution of `width` channels, two of
    stride 2, residual `blocks`, two transposed convolutions, 7×7, tanh. Borders are padded with zeros: reflected ones
    would let instance norm, which keeps no running statistics, erase the planes. 8,430,528 parameters for RGB and 5
    attributes.

    `skips`: what the image was at full and half size is added on the way back, so that details need not pass through
    the quarter. `attention`: the last convolution also gives a mask A in [0, 1] per pixel, and the result is
    A · image + (1 − A) · input (Pumarola et al. 2018, eq. 1, where A stands for 1 − A).
    """

    latent_dim = None

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        width: Width = 64,
        blocks: Annotated[int, Field(ge=0, le=64)] = 6,
        skips: bool = False,
        attention: bool = False,
    ) -> None:
        super().__init__()
        _check(shape, least=8)
        self.skips, self.attention = skips, attention
        full, half, quarter = width, 2 * width, 4 * width
        self.first = _convolved(nn.Conv2d(shape.channels + labels.vector_width, full, 7, padding=3, bias=False))
        self.to_half = _convolved(nn.Conv2d(full, half, 4, 2, 1, bias=False))
        self.to_quarter = _convolved(nn.Conv2d(half, quarter, 4, 2, 1, bias=False))
        self.blocks = nn.Sequential(*(_Residual(quarter) for _ in range(blocks)))
        self.from_quarter = _convolved(nn.ConvTranspose2d(quarter, half, 4, 2, 1, bias=False))
        self.from_half = _convolved(nn.ConvTranspose2d(half, full, 4, 2, 1, bias=False))
        self.last = nn.Conv2d(full, shape.channels + attention, 7, padding=3, bias=False)

    def forward(self, images: Float[Tensor, "b c h w"], labels: Labels) -> Float[Tensor, "b c h w"]:
        planes = labels.vector()[..., None, None].expand(-1, -1, *images.shape[2:])
        full = self.first(torch.cat([images, planes], 1))
        half = self.to_half(full)
        back = self.from_quarter(self.blocks(self.to_quarter(half)))
        back = self.from_half(back + half if self.skips else back)
        drawn = self.last(back + full if self.skips else back)
        if not self.attention:
            return torch.tanh(drawn)
        mask = drawn[:, -1:].sigmoid()
        return mask * torch.tanh(drawn[:, :-1]) + (1 - mask) * images


class StarGANBackbone(Backbone):
    """`depth` 4×4 convolutions of stride 2 with leaky ReLU, from `width` channels, doubling: a map of patches.

    By default as deep as leaves a map of 2 × 2, but at most 6, as published for 128 and 256 pixels.
    """

    def __init__(
        self,
        shape: ImageShape,
        *,
        width: Width = 64,
        depth: Annotated[int, Field(ge=1, le=12)] | None = None,
        spectral_norm: Spectral | None = None,
    ) -> None:
        super().__init__()
        _check(shape, least=4)
        side = min(shape.height, shape.width)
        if depth is None:
            depth = min(6, side.bit_length() - 2)
        if side >> depth == 0:
            raise UserError(
                f"backbone.depth {depth} given: an image of {shape.height} × {shape.width} can be halved at most "
                f"{side.bit_length() - 1} times; lower it, or leave it out"
            )
        channels = [shape.channels, *(width << i for i in range(depth))]
        layers: list[nn.Module] = []
        for fewer, more in pairwise(channels):
            layers += [nn.Conv2d(fewer, more, 4, 2, 1), nn.LeakyReLU(0.01, inplace=True)]
        self.layers = nn.Sequential(*layers)
        self.features = (channels[-1], shape.height >> depth, shape.width >> depth)
        spectral_normalize(self, spectral_norm)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:
        return self.layers(images)


class _Residual(Block):
    """x plus two 3×3 convolutions of it."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            *_convolved(nn.Conv2d(channels, channels, 3, padding=1, bias=False)),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.InstanceNorm2d(channels, affine=True),
        )

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        return x + self.layers(x)


def _convolved(convolution: nn.Conv2d | nn.ConvTranspose2d) -> nn.Sequential:
    return nn.Sequential(convolution, nn.InstanceNorm2d(convolution.out_channels, affine=True), nn.ReLU(inplace=True))


def _check(shape: ImageShape, least: int) -> None:
    if shape.height % 4 or shape.width % 4 or min(shape.height, shape.width) < least:
        raise UserError(
            f"image size {shape.height} × {shape.width} given: StarGAN's networks need multiples of 4, {least} or "
            "more; set data.size to such as 64 or 128"
        )
