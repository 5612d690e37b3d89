"""Parts that several networks share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec


class LabelEmbedding(nn.Module):
    """A learned vector per label value: a table look-up for one class, a weighted sum for mixed or several.

    Drawn from N(0, 1), as torch's Embedding.
    """

    def __init__(self, labels: LabelSpec, features: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(labels.vector_width, features))

    def embed(self, labels: Labels) -> Float[Tensor, "b d"]:
        return labels.vector() @ self.weight


class Multiply(LabelEmbedding):
    """The latent, element by element, times the label's embedding."""

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent * self.embed(labels)


class Add(LabelEmbedding):
    """The latent plus the label's embedding: W (z + E y) = W z + (W E) y, a concatenation with label weights W E."""

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent + self.embed(labels)


CONDITIONING = {"multiply": Multiply, "add": Add}


def init_normal(module: nn.Module) -> None:
    """Convolutions ~ N(0, 0.02) and batch-norm gains ~ N(1, 0.02) with biases 0 (Radford et al. 2016, §3)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
