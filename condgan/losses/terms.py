"""An objective is a paper's two equations as data: named terms for the discriminator and for the generator."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
from jaxtyping import Float
from torch import Tensor

from condgan.labels import Labels
from condgan.schedules import Number, Ramp, value_at
from condgan.types import DiscriminatorOutput, Step, Tracker

Loss = Callable[[Step], Float[Tensor, "..."]]
"""One value per image or patch, or one of all weights."""

OutputLoss = Callable[[DiscriminatorOutput, Labels], Float[Tensor, "b *patches"]]
"""A loss of one kind of images, real or fake."""


@dataclass(frozen=True, slots=True)
class Term:
    """A loss in a sum, and its weight there.

    `every`: it is taken once in so many images, and weighs as much more as it is rarer (lazy regularization).
    `of_weights`: it reads weights and no images, so that one part of a batch takes it for all. `of_batch`: it compares
    the images of a batch with each other, and so sees what the discriminator says of the whole batch.
    """

    loss: Loss
    weight: Number = 1.0
    every: int = 0
    of_weights: bool = False
    of_batch: bool = False


@dataclass(frozen=True, slots=True)
class Objective:
    """The terms that each player minimizes, and what is only watched in the discriminator's step.

    `reads`: the outputs of the head that it needs, by name. `trackers`: the states that its losses read in
    `Step.modules`, made by name. `translates`: it needs a generator that translates images. `transition`: how much of
    its labels the generator is told, from 0 to 1.
    """

    discriminator: Mapping[str, Term]
    generator: Mapping[str, Term]
    watched: Mapping[str, Loss] = field(default_factory=dict)
    reads: tuple[str, ...] = ()
    trackers: Mapping[str, Callable[[], Tracker]] = field(default_factory=dict)
    translates: bool = False
    transition: Ramp | None = None

    @property
    def of_batch(self) -> bool:
        """Whether a term compares the images of a batch, which can then not be taken in parts."""
        return any(term.of_batch for term in (*self.discriminator.values(), *self.generator.values()))


def weighted_sum(
    terms: Mapping[str, Term], step: Step, images: int, part: int = 0, parts: int = 1, iteration_images: int = 1
) -> tuple[Tensor, dict[str, Tensor]]:
    """The sum to minimize, and each term's mean, unweighted and detached: the share of one of a batch's equal parts.

    The shares of all parts add up to the whole batch's. `images`: seen before this iteration, which sees
    `iteration_images`.
    """
    shares: dict[str, Tensor] = {}
    weights: list[float] = []
    for name, term in terms.items():
        rarity = max(1.0, term.every / iteration_images)
        due = rarity == 1 or images % term.every < iteration_images
        if due and (part == 0 or not term.of_weights):
            value = term.loss(step.whole if term.of_batch else step).mean()
            shares[name] = value / (1 if term.of_weights else parts)
            weights.append(value_at(term.weight, images) * rarity)
    total = torch.stack([weight * share for weight, share in zip(weights, shares.values(), strict=True)]).sum()
    return total, {name: share.detach() for name, share in shares.items()}


def on_real(judgement: OutputLoss) -> Loss:
    """A loss of the real images."""
    return lambda step: judgement(step.on_real, step.real_labels)


def on_fake(judgement: OutputLoss) -> Loss:
    """A loss of the fake images."""
    return lambda step: judgement(step.on_fake, step.fake_labels)
