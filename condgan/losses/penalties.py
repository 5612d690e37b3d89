"""Penalties on a discriminator's scores, on their gradient, and on weights."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from math import isqrt

import torch
from jaxtyping import Float
from pydantic.dataclasses import dataclass
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.nn.utils import parametrize

from condgan.labels import Labels
from condgan.losses.consistency import fake_consistency, real_consistency
from condgan.losses.lecam import Anchors, lecam
from condgan.losses.terms import Objective, Term
from condgan.schedules import Weight
from condgan.types import DiscriminatorOutput, LabelWeights, Step, full_precision, is_rounded
from condgan.utils import distributed
from condgan.utils.options import STRICT

FINITE_STEP = 0.01
"""How far approximate penalties step, in pixel values of [−1, 1]."""


@dataclass(frozen=True, config=STRICT)
class Penalties:
    """Weights of the penalties that any objective may add; each is a term of the player's one loss.

    `orthogonal_…` is β of β |W Wᵀ ⊙ (1 − I)|²; BigGAN-PyTorch adds half of its gradient, so its 1e-4 is 5e-5 here.
    `consistency` is of real images, `consistency_fake` of fakes; `consistency_flip`: images may be mirrored for both.
    """

    gradient_penalty: Weight = 0.0
    r1: Weight = 0.0
    r2: Weight = 0.0
    approximate_r1: Weight = 0.0
    approximate_r2: Weight = 0.0
    lecam: Weight = 0.0
    consistency: Weight = 0.0
    consistency_fake: Weight = 0.0
    consistency_flip: bool = False
    centering: Weight = 0.0
    orthogonal_discriminator: Weight = 0.0
    orthogonal_generator: Weight = 0.0
    spectral_groups: Weight = 0.0

    @property
    def of_gradient(self) -> bool:
        """Whether one is of the gradient of each image's score, which needs scores that depend on one image alone."""
        return any((self.gradient_penalty, self.r1, self.r2, self.approximate_r1, self.approximate_r2))

    def added_to(self, objective: Objective) -> Objective:
        """An objective with these penalties, and with the states that they read."""
        return replace(
            objective,
            discriminator={**objective.discriminator, **self.discriminator()},
            generator={**objective.generator, **self.generator()},
            trackers={**objective.trackers, **({"lecam": Anchors} if self.lecam else {})},
        )

    def discriminator(self) -> dict[str, Term]:
        """The discriminator's terms."""
        return _weighted(
            {
                "gradient-penalty": Term(gradient_penalty, self.gradient_penalty),
                "r1": Term(r1, self.r1),
                "r2": Term(r2, self.r2),
                "approximate-r1": Term(approximate_r1, self.approximate_r1),
                "approximate-r2": Term(approximate_r2, self.approximate_r2),
                "lecam": Term(lecam, self.lecam),
                "consistency/real": Term(partial(real_consistency, flip=self.consistency_flip), self.consistency),
                "consistency/fake": Term(partial(fake_consistency, flip=self.consistency_flip), self.consistency_fake),
                "centering": Term(centering, self.centering, of_batch=True),
                "orthogonal": Term(
                    lambda step: orthogonal(full_precision(step.discriminator)),
                    self.orthogonal_discriminator,
                    of_weights=True,
                ),
            }
        )

    def generator(self) -> dict[str, Term]:
        """The generator's terms."""
        return _weighted(
            {
                "orthogonal": Term(
                    lambda step: orthogonal(full_precision(step.generator)),
                    self.orthogonal_generator,
                    of_weights=True,
                ),
                "spectral-groups": Term(
                    lambda step: spectral_groups(full_precision(step.generator)),
                    self.spectral_groups,
                    of_weights=True,
                ),
            }
        )


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


def r2(step: Step) -> Float[Tensor, " b"]:
    """½ |∇ D(x̂)|² at the fakes (Mescheder et al. 2018, eq. 10)."""
    gradient = _input_gradient(step.discriminator, step.shown_fake.detach().clone(), step.fake_labels)
    return gradient.flatten(1).square().sum(1) / 2


def approximate_r1(step: Step) -> Float[Tensor, " b"]:
    """½ |(D(x + σε) − D(x)) / σ|² with ε from N(0, 1), near `r1` in the mean (arXiv:2509.24935).

    It needs no second derivative. x is what the discriminator is shown, so that both passes see one augmentation.
    """
    return _squared_slope(step.discriminator, step.shown_real.detach(), step.real_labels, lambda: step.on_real) / 2


def approximate_r2(step: Step) -> Float[Tensor, " b"]:
    """The same at the fakes, near `r2`."""
    return _squared_slope(step.discriminator, step.shown_fake.detach(), step.fake_labels, lambda: step.on_fake) / 2


def _squared_slope(
    discriminator: nn.Module, images: Tensor, labels: Labels, said: Callable[[], DiscriminatorOutput]
) -> Tensor:
    """How much each image's score, over patches their sum, changes along a random direction, by the way, squared.

    `said`: what the discriminator says of the images in the step, which is taken where it is not rounded to bfloat16:
    the difference is small.
    """
    noise = distributed.draw_rows(torch.randn, *images.shape, dtype=images.dtype, device=images.device)
    if is_rounded(discriminator):
        discriminator = full_precision(discriminator)
        before = discriminator(images, labels).score
    else:
        before = said().score
    change = discriminator(images + FINITE_STEP * noise, labels).score - before
    return (change.reshape(len(images), -1).sum(1) / FINITE_STEP).square()


def centering(step: Step) -> Float[Tensor, ""]:
    """The square of the mean score of a batch's real and fake images, to keep scores around 0 (arXiv:2511.22475)."""
    return torch.stack([step.on_real.score, step.on_fake.score]).mean().square()


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


def spectral_groups(generator: nn.Module) -> Float[Tensor, ""]:
    """σ₁² of each label value's gains less 1, and biases, in a norm's table (Rangwani et al. 2022).

    A row of a table is a matrix as near to a square as its length allows. The mean over label values, summed over
    tables; the paper also weighs rare classes more.
    """
    tables = [layer.weight for layer in generator.modules() if isinstance(layer, LabelWeights)]
    return torch.stack([_squared_norm(_in_groups(table)).mean() for table in tables]).sum()  # pyright: ignore[reportArgumentType]


def _in_groups(table: Float[Tensor, "k c"]) -> Float[Tensor, "k n m"]:
    channels = table.shape[1]
    rows = max(rows for rows in range(1, isqrt(channels) + 1) if channels % rows == 0)
    return table.unflatten(1, (rows, -1))


def _squared_norm(matrices: Float[Tensor, "k n m"]) -> Float[Tensor, " k"]:
    """The largest σ² of each: the mean of all, weighed by their 32nd power, by five squarings of W Wᵀ."""
    gram = matrices @ matrices.mT
    with torch.no_grad():
        power = _unit_trace(gram)
        for _ in range(5):
            power = _unit_trace(power @ power)
    return (gram * power).sum((1, 2))


def _unit_trace(matrices: Tensor) -> Tensor:
    trace = matrices.diagonal(dim1=1, dim2=2).sum(1)
    return matrices / trace.clamp(min=torch.finfo(trace.dtype).tiny)[:, None, None]


def _off_diagonal(matrix: Tensor) -> Tensor:
    """|W Wᵀ ⊙ (1 − I)|², where W is tall through |Wᵀ W|² = |W Wᵀ|², which is smaller."""
    rows, columns = matrix.shape
    if rows <= columns:
        gram = matrix @ matrix.T
        return (gram - gram.diag().diag()).square().sum()
    return (matrix.T @ matrix).square().sum() - matrix.square().sum(1).square().sum()
