"""Networks shaped like DCGAN: AC-GAN's of the well-known MNIST tutorial (Odena et al. 2017 in the small).

Where the tutorial passes 0.8 as batch norm's eps, Keras' momentum 0.8 was meant: torch's 0.2.
"""

from itertools import pairwise
from typing import Annotated, Literal

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.blocks import Dropout2d
from condgan.networks.embeddings import CONDITIONING
from condgan.networks.fused_resampling import UpConv2d
from condgan.networks.init import init_normal
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.errors import UserError
from condgan.utils.options import Width

MOMENTUM = 0.2


class ACGANGenerator(Generator):
    """Latent and label to s/4 × s/4 by a linear layer, then twice ×2 and a 3×3 convolution.

    `width` channels at s/4 and s/2, half of them at s; 1,050,985 parameters at 32 × 32 × 1 and 10 classes.
    `conditioning`: `concatenate` the label to the latent, as the paper does (Odena et al. 2017, §4); `add` its
    embedding, in as many parameters as the tutorial; `multiply` by it, the tutorial's way, in which the latent's sign
    and scale drown the label.
    """

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        latent_dim: Width = 100,
        width: Annotated[int, Field(ge=2, le=1 << 16)] = 128,
        conditioning: Literal["add", "concatenate", "multiply"] = "add",
    ) -> None:
        super().__init__()
        _check(shape)
        self.latent_dim = latent_dim
        self.start = (width, shape.height // 4, shape.width // 4)
        self.condition = CONDITIONING[conditioning](labels, latent_dim)
        self.linear = nn.Linear(self.condition.features, width * self.start[1] * self.start[2])
        self.convolutions = nn.Sequential(
            nn.BatchNorm2d(width, momentum=MOMENTUM),
            UpConv2d(width, width),
            nn.BatchNorm2d(width, momentum=MOMENTUM),
            nn.LeakyReLU(0.2, inplace=True),
            UpConv2d(width, width // 2),
            nn.BatchNorm2d(width // 2, momentum=MOMENTUM),
            nn.LeakyReLU(0.2, inplace=True),
            nn.Conv2d(width // 2, shape.channels, 3, padding=1),
        )
        init_normal(self)

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        x = self.linear(self.condition(latent, labels))
        return torch.tanh(self.convolutions(x.unflatten(1, self.start)))


class ACGANBackbone(Backbone):
    """Four 3×3 convolutions of stride 2 with leaky ReLU, channel dropout and, but for the first, batch norm.

    `width`, 2·, 4· and 8·`width` channels, flattened. With the classifier head 103,243 parameters at 32 × 32 × 1
    and 10 classes.
    """

    def __init__(
        self,
        shape: ImageShape,
        *,
        width: Width = 16,
        dropout: Annotated[float, Field(ge=0, lt=1)] = 0.25,
    ) -> None:
        super().__init__()
        _check(shape)
        layers: list[nn.Module] = []
        channels = [shape.channels, width, 2 * width, 4 * width, 8 * width]
        for i, (fewer, more) in enumerate(pairwise(channels)):
            layers += [
                nn.Conv2d(fewer, more, 3, stride=2, padding=1),
                nn.LeakyReLU(0.2, inplace=True),
                Dropout2d(dropout),
            ]
            layers += [nn.BatchNorm2d(more, momentum=MOMENTUM)] if i else []
        self.layers = nn.Sequential(*layers)
        self.features = (8 * width * (shape.height // 16) * (shape.width // 16),)
        init_normal(self)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images).flatten(1)


def _check(shape: ImageShape) -> None:
    if shape.height % 16 or shape.width % 16:
        raise UserError(
            f"image size {shape.height} × {shape.width} given: AC-GAN's networks need multiples of 16; "
            "set data.size to such as 16, 32 or 64"
        )
