"""The game between real and fake: what each player minimizes given the discriminator's scores."""

from functools import cached_property
from typing import Literal, NamedTuple

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from condgan.losses.terms import Loss
from condgan.schedules import Number, value_at
from condgan.types import DiscriminatorOutput, Step


class Adversarial(NamedTuple):
    """A discriminator's and a generator's adversarial loss."""

    discriminator: Loss
    generator: Loss


def non_saturating_discriminator(step: Step) -> Float[Tensor, "b *patches"]:
    """−log σ(D(x)) − log(1 − σ(D(G(z)))) (Goodfellow et al. 2014, eq. 1)."""
    return F.softplus(-step.on_real.score) + F.softplus(step.on_fake.score)


def non_saturating_generator(step: Step) -> Float[Tensor, "b *patches"]:
    """−log σ(D(G(z))) (Goodfellow et al. 2014, §3)."""
    return F.softplus(-step.on_fake.score)


def hinge_discriminator(step: Step) -> Float[Tensor, "b *patches"]:
    """max(0, 1 − D(x)) + max(0, 1 + D(G(z))) (Miyato et al. 2018, eq. 16)."""
    return F.relu(1 - step.on_real.score) + F.relu(1 + step.on_fake.score)


def linear_generator(step: Step) -> Float[Tensor, "b *patches"]:
    """−D(G(z)): the generator's side of hinge (Miyato et al. 2018, eq. 17) and Wasserstein losses."""
    return -step.on_fake.score


def least_squares_discriminator(step: Step) -> Float[Tensor, "b *patches"]:
    """½ (D(x) − 1)² + ½ D(G(z))² (Mao et al. 2017, eq. 9)."""
    return ((step.on_real.score - 1).square() + step.on_fake.score.square()) / 2


def least_squares_generator(step: Step) -> Float[Tensor, "b *patches"]:
    """½ (D(G(z)) − 1)² (Mao et al. 2017, eq. 9)."""
    return (step.on_fake.score - 1).square() / 2


def wasserstein_discriminator(step: Step) -> Float[Tensor, "b *patches"]:
    """D(G(z)) − D(x) (Arjovsky et al. 2017, eq. 2), which needs a gradient penalty and no spectral norm."""
    return step.on_fake.score - step.on_real.score


def relativistic_discriminator(step: Step) -> Float[Tensor, "b *patches"]:
    """−log σ(D(xᵢ) − D(x̂ᵢ)): each real image against the fake at its place (Huang et al. 2024).

    R3GAN compares images of one label: `schedule.fake_labels=batch` gives fakes the labels of the real images at their
    places. Otherwise the two labels of a pair are drawn independently.
    """
    return F.softplus(step.on_fake.score - step.on_real.score)


def relativistic_generator(step: Step) -> Float[Tensor, "b *patches"]:
    """−log σ(D(x̂ᵢ) − D(xᵢ)), of the same pairs; here the generator's step also asks for the scores of real images."""
    return F.softplus(step.on_real.score - step.on_fake.score)


def feature_matching(step: Step) -> Float[Tensor, " d"]:
    """|E h(x) − E h(G(z))| of the features of a batch (Salimans et al. 2016, §3.1, who square it)."""
    real, fake = step.on_real.features, step.on_fake.features
    assert real is not None
    assert fake is not None
    return (real.mean(0) - fake.mean(0)).abs()


def of_best(loss: Loss, share: Number) -> Loss:
    """A loss of the fakes that score highest alone, this share of a batch (Sinha et al. 2020)."""

    def judge(step: Step) -> Float[Tensor, "k *patches"]:
        score = step.on_fake.score.detach()
        score = score.reshape(len(score), -1).mean(1)
        count = max(1, round(value_at(share, step.images) * len(score)))
        return loss(step)[score.topk(count).indices]

    return judge


def by_score(loss: Loss, name: str) -> Loss:
    """The same loss of another score that the head gives, such as the `unconditional` one."""
    return lambda step: loss(_ByScore(step, name))


class _ByScore(Step):
    """What a game reads of a step, with other scores of the head."""

    def __init__(self, step: Step, name: str) -> None:
        self._step, self._name, self.images = step, name, step.images

    @cached_property
    def on_real(self) -> DiscriminatorOutput:
        return DiscriminatorOutput(self._step.on_real.named[self._name])

    @cached_property
    def on_fake(self) -> DiscriminatorOutput:
        return DiscriminatorOutput(self._step.on_fake.named[self._name])


AdversarialKind = Literal["hinge", "non-saturating", "least-squares", "wasserstein", "relativistic"]
ADVERSARIAL = {
    "hinge": Adversarial(hinge_discriminator, linear_generator),
    "non-saturating": Adversarial(non_saturating_discriminator, non_saturating_generator),
    "least-squares": Adversarial(least_squares_discriminator, least_squares_generator),
    "wasserstein": Adversarial(wasserstein_discriminator, linear_generator),
    "relativistic": Adversarial(relativistic_discriminator, relativistic_generator),
}
SIGNED: tuple[AdversarialKind, ...] = ("hinge", "non-saturating")
"""Those whose scores are above 0 for what looks real and below for what does not."""
