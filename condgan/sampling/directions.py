"""What latents and labels first meet in a generator, and the directions of latents that move it most.

Axes: z latent coordinates, k classes, d directions, s steps, n numbers that the first layers give, b images.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.autograd import forward_ad

from condgan.labels import Labels, LabelSpec
from condgan.sampling.fuse import MADE_AT_ONCE_ON, sharing_weights
from condgan.sampling.latents import latent_dim
from condgan.types import Generator, LabelWeights
from condgan.utils.arguments import whole
from condgan.utils.device import tf32
from condgan.utils.errors import UserError

LAYERS = (nn.Linear, nn.Conv2d, nn.ConvTranspose2d, LabelWeights)
"""What has weights that multiply what enters."""
MOVED_BY = 5.0
"""How far latents are moved on either side, unless another number is asked for."""


class Directions(NamedTuple):
    """Directions in which a step of a latent moves what its first layers give, the farthest first."""

    vectors: Float[Tensor, "d z"]
    """Orthogonal, of length 1; the largest coordinate of each is positive."""
    strengths: Float[Tensor, " d"]
    """How far a step of length 1 moves it: singular values of the layers' weights."""

    def rows(self) -> list[list[int | float]]:
        """Of each its number from 1 on, its strength and its coordinates."""
        both = zip(self.strengths.tolist(), self.vectors.tolist(), strict=True)
        return [[number, strength, *vector] for number, (strength, vector) in enumerate(both, 1)]


def latent_directions(generator: Generator, labels: Labels, count: int) -> Directions:
    """The directions n of length 1 with the largest |A n| (SeFa: Shen & Zhou 2021, eq. 4 and 5).

    They are eigenvectors of AᵀA, where A is the Jacobian of what the first layers give, those that the latent meets
    before any other with weights: of one linear layer its weight as it is used, after spectral normalization. Several
    layers' are stacked, so that of a hierarchical latent each direction stays within one part. `labels`: of one image,
    which matter where a label multiplies the latent. Raises UserError for more directions than coordinates.
    """
    count = whole("directions", count, 1, latent_dim(generator))
    response = latent_response(generator, labels).double()
    squares, vectors = torch.linalg.eigh(response @ response.T)  # in ascending order
    vectors, squares = vectors.flip(1).T[:count], squares.flip(0)[:count].clamp(min=0)
    largest = vectors.gather(1, vectors.abs().argmax(1, keepdim=True))
    return Directions((vectors * largest.sign()).float(), squares.sqrt().float())


def latent_response(generator: Generator, labels: Labels) -> Float[Tensor, "z n"]:
    """How what the first layers give changes with each coordinate of the latent, at 0; by labels of one image."""
    dim = latent_dim(generator)

    def entering(coordinates: Tensor) -> tuple[Tensor, Labels]:
        latents = forward_ad.make_dual(torch.zeros_like(coordinates), coordinates)
        values, known = (one.expand(len(latents), -1) for one in (labels.values, labels.known))
        return latents, Labels(labels.spec, values, known)

    response = _response(generator, dim, entering)
    if response is None:
        raise UserError("this generator's latent meets no layer with weights: there is nothing to compare")
    return response


def label_response(generator: Generator, spec: LabelSpec) -> Float[Tensor, "k n"] | None:
    """How what the first layers that see the label give changes with the share of each class, at equal shares of all.

    Of label embeddings these are their rows; None where no layer sees the label.
    """
    dim, count = latent_dim(generator), len(spec.classes)

    def entering(shares: Tensor) -> tuple[Tensor, Labels]:
        values = forward_ad.make_dual(torch.full_like(shares, 1 / count), shares)
        known = torch.ones(len(shares), 1, dtype=torch.bool, device=shares.device)
        return torch.zeros(len(shares), dim, device=shares.device), Labels(spec, values, known)

    return _response(generator, count, entering)


@torch.no_grad()
def _response(
    generator: Generator, count: int, entering: Callable[[Tensor], tuple[Tensor, Labels]]
) -> Float[Tensor, "m n"] | None:
    """The derivatives of what the first layers give with respect to `count` numbers, a row for each; None of none.

    By forward differentiation: what leaves a layer is recorded and goes on as a constant, so that no later layer is
    taken for a first one.
    """
    network, found = sharing_weights(generator), list[Tensor]()
    device = next(network.parameters()).device

    def record(_layer: nn.Module, _inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        given, moves = forward_ad.unpack_dual(output)
        if moves is not None:
            found.append(moves.flatten(1))
        return given

    for layer in network.modules():
        if isinstance(layer, LAYERS):
            layer.register_forward_hook(record)
    rows = []
    for part in torch.eye(count, device=device).split(MADE_AT_ONCE_ON["cpu"]):
        with tf32(False), forward_ad.dual_level():
            network(*entering(part))
        if not found:
            return None
        rows.append(torch.cat(found, 1).cpu())
        found.clear()
    return torch.cat(rows)


def steps_along(
    latents: Float[Tensor, "b z"], vectors: Float[Tensor, "d z"], reach: int | float, steps: int
) -> Float[Tensor, "b d s z"]:
    """Latents on their way along each direction, from −`reach` to +`reach`, in so many steps, both ends included."""
    offsets = torch.linspace(-reach, reach, steps)[:, None] * vectors[:, None]
    return latents[:, None, None] + offsets
