"""Multilayer perceptrons for points instead of images, such as mixtures of Gaussians (Gong et al. 2019, §4.1).

A point of n coordinates is an n × 1 × 1 image; its values are not confined to [−1, 1].
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.networks.embeddings import LabelEmbedding
from condgan.types import Backbone, Generator, ImageShape
from condgan.utils.options import Width


def _hidden(entering: int, width: int) -> list[nn.Module]:
    """Three linear layers with tanh between them."""
    return [
        nn.Linear(entering, width), nn.Tanh(),
        nn.Linear(width, width), nn.Tanh(),
        nn.Linear(width, width),
    ]  # fmt: skip


class MLPGenerator(Generator):
    """The latent and the label's embedding, concatenated, through three hidden layers to a point."""

    def __init__(
        self,
        shape: ImageShape,
        labels: LabelSpec,
        *,
        width: Width = 10,
        latent_dim: Width = 2,
        embedding_dim: Width = 2,
    ) -> None:
        super().__init__()
        self.latent_dim, self.shape = latent_dim, tuple(shape)
        self.embedding = LabelEmbedding(labels, embedding_dim)
        layers = _hidden(latent_dim + embedding_dim, width)
        self.layers = nn.Sequential(*layers, nn.Linear(width, shape.channels * shape.height * shape.width))

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        points = self.layers(torch.cat([latent, self.embedding(labels.vector())], 1))
        return points.unflatten(1, self.shape)


class MLPBackbone(Backbone):
    """A point through three hidden layers to `width` features."""

    def __init__(self, shape: ImageShape, *, width: Width = 10) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), *_hidden(shape.channels * shape.height * shape.width, width))
        self.features = (width,)

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d"]:
        return self.layers(images)
