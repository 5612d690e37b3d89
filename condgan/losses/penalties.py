"""Penalties on a discriminator's gradient and on weights."""

from collections.abc import Iterator

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from condgan.labels import Labels
from condgan.losses.terms import Term
from condgan.schedules import Weight
from condgan.types import LabelWeights, Step, full_precision
from condgan.utils import distributed
from condgan.utils.options import STRICT


@dataclass(frozen=True, config=STRICT)
class Penalties:
    """Weights of the penalties that any objective may add; each is a term of the player's one loss.

    `orthogonal_…` is β of β |W Wᵀ ⊙ (1 − I)|²; BigGAN-PyTorch adds half of its gradient, so its 1e-4 is 5e-5 here.
    """

    gradient_penalty: Weight = 0.0
    r1: Weight = 0.0
    orthogonal_discriminator: Weight = 0.0
    orthogonal_generator: Weight = 0.0

    def discriminator(self) -> dict[str, Term]:
        """The discriminator's terms."""
        return _weighted(
            {
                "gradient-penalty": Term(gradient_penalty, self.gradient_penalty),
                "r1": Term(r1, self.r1),
                "orthogonal": Term(
                    lambda step: orthogonal(full_precision(step.discriminator)),
                    self.orthogonal_discriminator,
                    of_weights=True,
                ),
            }
        )

    def generator(self) -> dict[str, Term]:
        """The generator's terms."""
        penalty = Term(
            lambda step: orthogonal(full_precision(step.generator)), self.orthogonal_generator, of_weights=True
        )
        return _weighted({"orthogonal": penalty})


def _weighted(terms: dict[str, Term]) -> dict[str, Term]:
    """Those that count at all."""
    return {name: term for name, term in terms.items() if term.weight}


def gradient_penalty(step: Step) -> Float[Tensor, " b"]:
    """(|∇ D(x̂)| − 1)² at a random point between a real and a fake image (Gulrajani et al. 2017, eq. 3).

    The point goes with the real image's label. Over patches, the gradient is that of their sum.
    """
    real, fake = step.shown_real, step.shown_fake
    weight = distributed.draw_rows(torch.rand, len(real), 1, 1, 1, dtype=real.dtype, device=real.device)
    between = torch.lerp(fake.detach(), real, weight)
    gradient = _input_gradient(step.discriminator, between, step.real_labels)
    return (gradient.flatten(1).norm(dim=1) - 1).square()


def r1(step: Step) -> Float[Tensor, " b"]:
    """½ |∇ D(x)|² at the real images (Mescheder et al. 2018, eq. 9)."""
    gradient = _input_gradient(step.discriminator, step.shown_real.detach().clone(), step.real_labels)
    return gradient.flatten(1).square().sum(1) / 2


def _input_gradient(discriminator: nn.Module, images: Tensor, labels: Labels) -> Tensor:
    """The gradient of each image's score with respect to its pixels, itself differentiable."""
    images.requires_grad_(True)
    with sdpa_kernel(SDPBackend.MATH):  # the fast attention kernels have no second derivative
        score = full_precision(discriminator)(images, labels).score.sum()
        return torch.autograd.grad(score, images, create_graph=True)[0]


def orthogonal(network: nn.Module) -> Float[Tensor, ""]:
    """|W Wᵀ ⊙ (1 − I)|², summed over all weights of two axes or more but the labels' (Brock et al. 2019, eq. 3).

    The rows of W are a layer's outputs; where weights are spectrally normalized, those before the division count.
    """
    return torch.stack([_off_diagonal(weight) for weight in _matrices(network)]).sum()


def _matrices(network: nn.Module) -> Iterator[Tensor]:
    """The weights that are penalized, a row per output."""
    for module in network.modules():
        if parametrize.is_parametrized(module, "weight"):
            weight = module.parametrizations.weight.original  # pyright: ignore
        else:
            weight = getattr(module, "weight", None)
        if not isinstance(weight, nn.Parameter) or weight.ndim < 2 or isinstance(module, LabelWeights):
            continue
        yield (weight.transpose(0, 1) if isinstance(module, nn.ConvTranspose2d) else weight).flatten(1)


def _off_diagonal(matrix: Tensor) -> Tensor:
    """|W Wᵀ ⊙ (1 − I)|², where W is tall through |Wᵀ W|² = |W Wᵀ|², which is smaller."""
    rows, columns = matrix.shape
    if rows <= columns:
        gram = matrix @ matrix.T
        return (gram - gram.diag().diag()).square().sum()
    return (matrix.T @ matrix).square().sum() - matrix.square().sum(1).square().sum()
