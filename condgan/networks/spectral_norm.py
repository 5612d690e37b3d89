"""Spectral normalization: weights divided by their largest singular value (Miyato et al. 2018).

Axes: k singular values, n × m the weight as a matrix, one row per output.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from jaxtyping import Float
from pydantic import PositiveFloat
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.utils import parametrize

from condgan.networks.blocks import in_weights_precision
from condgan.networks.embeddings import LabelEmbedding
from condgan.utils.options import STRICT, Depth


@dataclass(frozen=True, config=STRICT)
class Spectral:
    """How closely the largest `values` singular values are followed: by `iterations` power iterations a step."""

    values: Depth = 1
    iterations: Depth = 1
    eps: PositiveFloat = 1e-8


class SpectralNorm(nn.Module):
    """A parametrization W → W/σ₁ (Miyato et al. 2018, eq. 8), exact at first, then followed by power iteration.

    σᵢ = uᵢᵀ W vᵢ, of which the weight's gradient takes notice. The vectors move only in `iterate`, once per optimizer
    step, however often the weight is used between two of them. `rows` is the weight's axis that becomes the rows.
    """

    u: Float[Tensor, "k n"]
    v: Float[Tensor, "k m"]

    def __init__(self, weight: Float[Tensor, "..."], options: Spectral, rows: int = 0) -> None:
        super().__init__()
        self.rows, self.options = rows, options
        u, v = self._exact(weight)
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    @torch.no_grad()
    def _exact(self, weight: Float[Tensor, "..."]) -> tuple[Float[Tensor, "k n"], Float[Tensor, "k m"]]:
        """The singular vectors of a weight."""
        matrix, eps = self._matrix(weight), self.options.eps
        if matrix.is_meta:  # it has no values
            count = min(self.options.values, *matrix.shape)
            return matrix.new_empty(count, matrix.shape[0]), matrix.new_empty(count, matrix.shape[1])
        wide = matrix.shape[0] <= matrix.shape[1]
        _, vectors = torch.linalg.eigh(matrix @ matrix.T if wide else matrix.T @ matrix)
        top = vectors[:, -self.options.values :].flip(1).T
        u = (top if wide else F.normalize(top @ matrix.T, dim=1, eps=eps)).contiguous()
        return u, F.normalize(u @ matrix, dim=1, eps=eps)

    @torch.no_grad()
    def begin(self, weight: Float[Tensor, "..."]) -> None:
        """Follow another weight from now on."""
        for vectors, exact in zip((self.u, self.v), self._exact(weight), strict=True):
            vectors.copy_(exact)

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        with in_weights_precision(weight):
            return weight / (self.u[0] @ (self._matrix(weight) @ self.v[0]))

    def right_inverse(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return weight

    @torch.no_grad()
    def iterate(self, weight: Float[Tensor, "..."]) -> None:
        """Bring the vectors nearer to the singular vectors of a weight that has moved.

        Each pair is kept orthogonal to those before it (deflation by Gram-Schmidt).
        """
        matrix, eps = self._matrix(weight), self.options.eps
        for _ in range(self.options.iterations):
            for i in range(len(self.u)):
                self.v[i] = F.normalize(_apart(self.u[i] @ matrix, self.v[:i]), dim=0, eps=eps)
                self.u[i] = F.normalize(_apart(matrix @ self.v[i], self.u[:i]), dim=0, eps=eps)

    @torch.no_grad()
    def singular_values(self, weight: Float[Tensor, "..."]) -> Float[Tensor, " k"]:
        """The largest ones of the weight before the division."""
        return ((self.u @ self._matrix(weight)) * self.v).sum(1)

    def _matrix(self, weight: Tensor) -> Tensor:
        """One row per output; the channels come last, so that nothing is copied where they lie last in memory."""
        weight = weight.transpose(0, self.rows)
        return (weight.movedim(1, -1) if weight.ndim > 2 else weight).flatten(1)


def _apart(vector: Tensor, basis: Tensor) -> Tensor:
    """The part of a vector that is orthogonal to the rows of `basis`."""
    return vector - (basis @ vector) @ basis if len(basis) else vector


def spectral_normalize(network: nn.Module, options: Spectral | None, embeddings: bool = False) -> None:
    """Normalize all convolutions and linear layers in a network, after their initialization; None: none.

    `embeddings`: those of labels, too, as in discriminators; in a generator it would cripple them (Brock et al. 2019).
    """
    if options is None:
        return
    kinds = (nn.Conv2d, nn.ConvTranspose2d, nn.Linear, *([LabelEmbedding] if embeddings else []))
    for layer in list(network.modules()):
        if isinstance(layer, kinds) and not parametrize.is_parametrized(layer):
            rows = 1 if isinstance(layer, nn.ConvTranspose2d) else 0  # the axis of its outputs
            norm = SpectralNorm(layer.weight, options, rows)
            parametrize.register_parametrization(layer, "weight", norm, unsafe=True)  # which leaves out a trial of it


def spectral_norms(network: nn.Module) -> Iterator[tuple[str, SpectralNorm, Tensor]]:
    """Each spectral normalization in a network: its layer's name, itself and the weight before the division."""
    for name, module in network.named_modules():
        if isinstance(module, parametrize.ParametrizationList) and isinstance(module[0], SpectralNorm):
            yield name.removesuffix(".parametrizations.weight"), module[0], module.original  # pyright: ignore[reportReturnType]


def power_iterate(network: nn.Module) -> None:
    """Bring every spectral normalization nearer to its weight, once per optimizer step; frozen weights do not move."""
    for _, norm, weight in spectral_norms(network):
        if isinstance(weight, nn.Parameter):
            norm.iterate(weight)


def singular_values(network: nn.Module) -> dict[str, Tensor]:
    """The largest singular values of each spectrally normalized weight, before the division, by name."""
    return {name: norm.singular_values(weight) for name, norm, weight in spectral_norms(network)}
