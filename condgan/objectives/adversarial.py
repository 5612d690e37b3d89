"""The game between real and fake: what each player minimizes given the discriminator's scores."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from condgan.interfaces import Step
from condgan.objectives.base import Loss


class Adversarial(NamedTuple):
    """A discriminator's and a generator's adversarial loss."""

    discriminator: Loss
    generator: Loss


def non_saturating_discriminator(step: Step) -> Float[Tensor, " b"]:
    """−log σ(D(x)) − log(1 − σ(D(G(z)))) (Goodfellow et al. 2014, eq. 1)."""
    return F.softplus(-step.on_real.score) + F.softplus(step.on_fake.score)


def non_saturating_generator(step: Step) -> Float[Tensor, " b"]:
    """−log σ(D(G(z))) (Goodfellow et al. 2014, §3)."""
    return F.softplus(-step.on_fake.score)


def _cross_entropy_of_sigmoid(score: Tensor, target: float) -> Tensor:
    probability = torch.sigmoid(score)
    return F.binary_cross_entropy(probability, torch.full_like(probability, target), reduction="none")


def sigmoid_discriminator(step: Step) -> Float[Tensor, " b"]:
    """The same through an explicit sigmoid, whose saturation stops the gradient (the AC-GAN tutorial's)."""
    return _cross_entropy_of_sigmoid(step.on_real.score, 1.0) + _cross_entropy_of_sigmoid(step.on_fake.score, 0.0)


def sigmoid_generator(step: Step) -> Float[Tensor, " b"]:
    """The generator's side of the explicit sigmoid."""
    return _cross_entropy_of_sigmoid(step.on_fake.score, 1.0)


ADVERSARIAL = {
    "non-saturating": Adversarial(non_saturating_discriminator, non_saturating_generator),
    "non-saturating-sigmoid": Adversarial(sigmoid_discriminator, sigmoid_generator),
}
