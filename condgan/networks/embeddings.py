"""Labels as vectors, and how they join a latent.

Axes: b images, v the labels' vector, d features, z latents."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.types import LabelWeights

HIDDEN = 64
"""Features of a number's hidden layers."""


class LabelEmbedding(LabelWeights):
    """A learned vector per label value: a table look-up for one class, a weighted sum for mixed or several.

    Takes the labels' vectors. Drawn from N(0, std²). A number's waves go through two hidden layers first, unless it is
    `shallow`: a table of its own per norm. Of a number that is not known the embedding is 0.
    """

    def __init__(self, labels: LabelSpec, features: int, std: float = 1.0, *, shallow: bool = False) -> None:
        super().__init__()
        number = labels.range is not None and not shallow
        self.hidden = _hidden(labels.vector_width) if number else None
        self.weight = nn.Parameter(torch.empty(HIDDEN if number else labels.vector_width, features))
        nn.init.normal_(self.weight, std=std)

    def forward(self, vector: Float[Tensor, "b v"]) -> Float[Tensor, "b d"]:
        if self.hidden is None:
            return vector @ self.weight
        return vector[:, :1] * (self.hidden(vector) @ self.weight)  # the first wave is 1, or 0 of nothing known


def _hidden(width: int) -> nn.Sequential:
    return nn.Sequential(nn.Linear(width, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, HIDDEN), nn.ReLU())


class Multiply(nn.Module):
    """The latent, element by element, times the label's embedding, which is drawn from N(0, 1)."""

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.embedding, self.features = LabelEmbedding(labels, latent_dim), latent_dim

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent * self.embedding(labels.vector())


class Add(nn.Module):
    """The latent plus the label's embedding, small at first, so that the label does not drown the latent.

    W (z + E y) = W z + (W E) y: before a linear layer a concatenation whose label weights are W E.
    """

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.embedding, self.features = LabelEmbedding(labels, latent_dim, std=0.6), latent_dim

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b z"]:
        return latent + self.embedding(labels.vector())


class Concatenate(nn.Module):
    """The latent followed by the label's vector."""

    def __init__(self, labels: LabelSpec, latent_dim: int) -> None:
        super().__init__()
        self.features = latent_dim + labels.vector_width

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b d"]:
        return torch.cat([latent, labels.vector()], 1)


CONDITIONING = {"add": Add, "concatenate": Concatenate, "multiply": Multiply}
