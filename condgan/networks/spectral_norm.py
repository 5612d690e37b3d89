"""Spectral normalization: weights divided by their largest singular value (Miyato et al. 2018).

Axes: k singular values, n × m the weight as a matrix, one row per output.
"""

from collections.abc import Iterator
from typing import Any

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

    σᵢ = uᵢᵀ W vᵢ, of which the weight's gradient takes notice. The vectors move only by `TrainedNorms.iterate`, once
    per optimizer step, however often the weight is used between two of them. `rows` is the weight's axis that becomes
    the rows.
    """

    u: Float[Tensor, "k n"]
    v: Float[Tensor, "k m"]
    at_hand: Tensor | None = None
    """The normalized weight, where `TrainedNorms` keep it; copies of this have none."""
    version: int = -1
    """Of the weight that it was made of."""

    def __init__(self, weight: Float[Tensor, "..."], options: Spectral, rows: int = 0) -> None:
        super().__init__()
        self.rows, self.options = rows, options
        u, v = self._exact(weight)
        self.register_buffer("u", u)
        self.register_buffer("v", v)

    @torch.no_grad()
    def _exact(self, weight: Float[Tensor, "..."]) -> tuple[Float[Tensor, "k n"], Float[Tensor, "k m"]]:
        """The singular vectors of a weight."""
        matrix, eps = self.matrix(weight), self.options.eps
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

    def __getstate__(self) -> dict[str, Any]:
        return {name: value for name, value in vars(self).items() if name != "at_hand"}

    def forward(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        if self.at_hand is not None and self.version == weight._version:
            return self.at_hand if weight.requires_grad else self.at_hand.detach()
        with in_weights_precision(weight):
            return weight / self.sigma(weight)

    def sigma(self, weight: Float[Tensor, "..."]) -> Float[Tensor, ""]:
        """σ₁ of a weight."""
        return self.u[0] @ (self.matrix(weight) @ self.v[0])

    def right_inverse(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "..."]:
        return weight

    @torch.no_grad()
    def singular_values(self, weight: Float[Tensor, "..."]) -> Float[Tensor, " k"]:
        """The largest ones of the weight before the division."""
        return ((self.u @ self.matrix(weight)) * self.v).sum(1)

    def matrix(self, weight: Float[Tensor, "..."]) -> Float[Tensor, "n m"]:
        """One row per output; the channels come last, so that nothing is copied where they lie last in memory."""
        weight = weight.transpose(0, self.rows)
        return (weight.movedim(1, -1) if weight.ndim > 2 else weight).flatten(1)

    def weight_of(self, matrix: Float[Tensor, "n m"], shape: torch.Size) -> Float[Tensor, "..."]:
        """The weight whose matrix this is."""
        if len(shape) > 2:
            matrix = matrix.view(len(matrix), *shape[2:], shape[1 - self.rows]).movedim(-1, 1)
        return matrix.transpose(0, self.rows)


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


def _point(vectors: list[Tensor], towards: list[Tensor], eps: list[float]) -> None:
    """Let unit vectors point to where others do."""
    lengths = torch._foreach_norm(towards)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_clamp_min_(lengths, eps)  # pyright: ignore[reportPrivateImportUsage]
    torch._foreach_copy_(vectors, torch._foreach_div(towards, lengths))  # pyright: ignore[reportPrivateImportUsage]


class TrainedNorms:
    """The spectral normalizations of a network that trains; those of frozen weights, which do not move, are left out.

    `at_hand`: normalized weights are computed once per optimizer step, for all layers together. They are what layers
    read and gradients are taken for, so that no forward pass divides, and no backward pass differentiates a division.
    A loss depends on W by W/σ alone, where it does not read W itself, so that what `add_gradients` makes of them are
    W's gradients, however often it was differentiated. Until it is closed.
    """

    def __init__(self, network: nn.Module, at_hand: bool = False) -> None:
        found = [(norm, weight) for _, norm, weight in spectral_norms(network) if isinstance(weight, nn.Parameter)]
        self.norms = [norm for norm, _ in found]
        self.weights: list[Tensor] = [weight for _, weight in found]
        self.keeps = at_hand and bool(found)
        self.sigmas: list[Tensor] = []
        if self.keeps:
            self._normalize()

    @torch.no_grad()
    def iterate(self) -> None:
        """Bring singular vectors nearer to those of weights that an optimizer has moved, of all layers together.

        Each pair is kept orthogonal to those before it (deflation by Gram-Schmidt).
        """
        for turn in range(max((norm.options.iterations for norm in self.norms), default=0)):
            for i in range(max(len(norm.u) for norm in self.norms)):
                some = [
                    (norm, norm.matrix(weight))
                    for norm, weight in zip(self.norms, self.weights, strict=True)
                    if turn < norm.options.iterations and i < len(norm.u)
                ]
                eps = [norm.options.eps for norm, _ in some]
                towards = [_apart(norm.u[i] @ matrix, norm.v[:i]) for norm, matrix in some]
                _point([norm.v[i] for norm, _ in some], towards, eps)
                towards = [_apart(matrix @ norm.v[i], norm.u[:i]) for norm, matrix in some]
                _point([norm.u[i] for norm, _ in some], towards, eps)
        if self.keeps:
            self._normalize()

    @torch.no_grad()
    def add_gradients(self) -> None:
        """Add to the gradients of weights W what comes from those of W/σ: (g − ⟨g, W/σ⟩ u vᵀ) / σ (eq. 12)."""
        if not self.keeps:
            return
        found = [
            (norm, weight, sigma, normalized, normalized.grad)
            for norm, weight, sigma in zip(self.norms, self.weights, self.sigmas, strict=True)
            if (normalized := norm.at_hand) is not None and normalized.grad is not None
        ]
        if not found:
            return
        norms, weights, sigmas, normalized, gradients = map(list, zip(*found, strict=True))
        along = [product.sum() for product in torch._foreach_mul(gradients, normalized)]  # pyright: ignore
        sides = torch._foreach_mul([norm.u[0] for norm in norms], along)  # pyright: ignore[reportPrivateImportUsage]
        changes = [
            norm.weight_of(torch.outer(side, norm.v[0]), gradient.shape)
            for norm, side, gradient in zip(norms, sides, gradients, strict=True)
        ]
        torch._foreach_sub_(gradients, changes)  # pyright: ignore[reportPrivateImportUsage]
        torch._foreach_div_(gradients, sigmas)  # pyright: ignore[reportPrivateImportUsage]
        for weight, one, gradient in zip(weights, normalized, gradients, strict=True):
            weight.grad = gradient if weight.grad is None else weight.grad.add_(gradient)
            one.grad = None

    def close(self) -> None:
        """Let layers divide by themselves again."""
        for norm in self.norms:
            vars(norm).pop("at_hand", None)  # also where the interpreter ends

    @torch.no_grad()
    def _normalize(self) -> None:
        self.sigmas = [norm.sigma(weight) for norm, weight in zip(self.norms, self.weights, strict=True)]
        normalized = torch._foreach_div(self.weights, self.sigmas)  # pyright: ignore[reportPrivateImportUsage]
        for norm, weight, one in zip(self.norms, self.weights, normalized, strict=True):
            norm.at_hand, norm.version = one.requires_grad_(), weight._version


def singular_values(network: nn.Module) -> dict[str, Tensor]:
    """The largest singular values of each spectrally normalized weight, before the division, by name."""
    return {name: norm.singular_values(weight) for name, norm, weight in spectral_norms(network)}
