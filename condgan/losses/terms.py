"""An objective is a paper's two equations as data: named terms for the discriminator and for the generator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from condgan.labels import Labels
from condgan.types import DiscriminatorOutput, Step

Loss = Callable[[Step], Float[Tensor, "..."]]
"""One value per image or patch, or one of all weights."""

OutputLoss = Callable[[DiscriminatorOutput, Labels], Float[Tensor, "b *patches"]]
"""What a loss says of one kind of images, real or fake."""


@dataclass(frozen=True, slots=True)
class Term:
    """A loss in a sum; with `every` n it is taken in every n-th iteration and weighs n times as much there.

    `of_weights`: it reads weights and no images, so that one part of a batch takes it for all.
    """

    loss: Loss
    weight: float = 1.0
    every: int = 1
    of_weights: bool = False


@dataclass(frozen=True, slots=True)
class Objective:
    """The terms that each player minimizes, and what is only watched in the discriminator's step."""

    discriminator: Mapping[str, Term]
    generator: Mapping[str, Term]
    watched: Mapping[str, Loss] = field(default_factory=dict)


def weighted_sum(
    terms: Mapping[str, Term], step: Step, iteration: int, part: int = 0, parts: int = 1
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum to minimize, and each term's mean, unweighted and detached: the share of one of a batch's equal parts.

    The shares of all parts add up to the whole batch's.
    """
    shares: dict[str, Tensor] = {}
    for name, term in terms.items():
        if iteration % term.every == 0 and (part == 0 or not term.of_weights):
            shares[name] = term.loss(step).mean() / (1 if term.of_weights else parts)
    total = torch.stack([terms[name].weight * terms[name].every * share for name, share in shares.items()]).sum()
    return total, {name: share.detach() for name, share in shares.items()}


def on_real(judgement: OutputLoss) -> Loss:
    """A loss of the real images."""
    return lambda step: judgement(step.on_real, step.real_labels)


def on_fake(judgement: OutputLoss) -> Loss:
    """A loss of the fake images."""
    return lambda step: judgement(step.on_fake, step.fake_labels)
