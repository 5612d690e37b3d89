"""ADC-GAN (Hou et al. 2022) as who has only the package would add it: this file, and a recipe like adc.yaml."""

import math
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from condgan.labels import Field, Labels, LabelSpec
from condgan.losses import ADVERSARIAL, OBJECTIVES, AdversarialKind, Objective, Penalties, Term, on_fake, on_real
from condgan.losses.labels import of_output
from condgan.networks import HEADS
from condgan.networks.heads import NormalizedHead
from condgan.types import DiscriminatorOutput

NONE = Penalties()


class Head(NormalizedHead):
    outputs = ("discriminative",)

    def __init__(self, features: tuple[int, ...], labels: LabelSpec, **shared: Any) -> None:
        super().__init__()
        self.score, self.classifier = (
            nn.Linear(math.prod(features), 1),
            nn.Linear(math.prod(features), 4 * labels.width),
        )
        self.finish(**shared)

    def forward(self, features: Tensor, labels: Labels) -> DiscriminatorOutput:
        of_four = self.classifier(features.flatten(1)).unflatten(1, (4, -1))
        return DiscriminatorOutput(self.score(features.flatten(1)).flatten(), named={"discriminative": of_four})


def loss(scores: Tensor, labels: Labels, *, fake: int) -> Tensor:
    def of_field(field: Field, scores: Tensor, target: Tensor) -> Tensor:
        if field.exclusive:
            return -(scores[:, fake] * target).sum(1) + scores[:, :2].flatten(1).logsumexp(1)
        chances = scores.log_softmax(1)
        return -torch.where(target > 0.5, chances[:, fake], chances[:, 2 + fake]).sum(1)

    return labels.over_fields(scores, of_field)


def objective(*, adversarial: AdversarialKind = "hinge", penalties: Penalties = NONE) -> Objective:
    adv, (real, fake) = ADVERSARIAL[adversarial], (of_output("discriminative", partial(loss, fake=f)) for f in (0, 1))
    of_d = {"adv": Term(adv.discriminator), "class/real": Term(on_real(real)), "class/fake": Term(on_fake(fake))}
    of_g = {"adv": Term(adv.generator), "as-real": Term(on_fake(real)), "as-fake": Term(on_fake(fake), -1.0)}
    return penalties.added_to(Objective(of_d, of_g, reads=("discriminative",)))


PARTS = ((HEADS, Head), (OBJECTIVES, objective))
