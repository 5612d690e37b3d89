"""Parts that several networks share."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec


class LabelEmbedding(nn.Module):
    """A learned vector per label value: a table look-up for one class, a weighted sum for mixed or several.

    Drawn from N(0, std²).
    """

    def __init__(self, labels: LabelSpec, features: int, std: float = 1.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(std * torch.randn(labels.vector_width, features))

    def forward(self, labels: Labels) -> Float[Tensor, "b d"]:
        return labels.vector() @ self.weight


class Multiply(nn.Module):
    """The latent, element by element, times the label's embedding, which is drawn from N(0, 1)."""

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.embedding, self.features = LabelEmbedding(labels, latent_dim), latent_dim

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent * self.embedding(labels)


class Add(nn.Module):
    """The latent plus the label's embedding, small at first, so that the label does not drown the latent.

    W (z + E y) = W z + (W E) y: before a linear layer a concatenation whose label weights are W E.
    """

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.embedding, self.features = LabelEmbedding(labels, latent_dim, std=0.6), latent_dim

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent + self.embedding(labels)


class Concatenate(nn.Module):
    """The latent followed by the label's vector."""

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.features = latent_dim + labels.vector_width

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b d"]:
        return torch.cat([latent, labels.vector()], 1)


CONDITIONING = {"add": Add, "concatenate": Concatenate, "multiply": Multiply}


def init_normal(module: nn.Module) -> None:
    """Convolutions ~ N(0, 0.02) and batch-norm gains ~ N(1, 0.02) with biases 0 (Radford et al. 2016, §3)."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            nn.init.normal_(layer.weight, 0.0, 0.02)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.weight, 1.0, 0.02)
            nn.init.zeros_(layer.bias)
