"""The faults of the well-known AC-GAN tutorial, beside the parts that they are faults of.

`added` puts them into the tables under the name "tutorial", and `mnist-acgan-legacy.yaml` is a recipe of them.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.losses import OBJECTIVES, Objective, Penalties, Term, on_fake, on_real
from condgan.losses.adversarial import AdversarialKind
from condgan.networks import BACKBONES, GENERATORS
from condgan.networks.dcgan import ACGANBackbone, ACGANGenerator
from condgan.types import DiscriminatorOutput, ImageShape, Step

NONE = Penalties()
LEGACY = Path(__file__).parent / "mnist-acgan-legacy.yaml"


class TutorialGenerator(ACGANGenerator):
    """Batch norms of eps 0.8 but for the first, where Keras' momentum 0.8 was meant; torch's own momentum of 0.1."""

    def __init__(self, shape: ImageShape, labels: LabelSpec, *, conditioning: str = "multiply") -> None:
        super().__init__(shape, labels, conditioning=conditioning)  # pyright: ignore[reportArgumentType]
        _spoil(self)


class TutorialBackbone(ACGANBackbone):
    """The same batch norms."""

    def __init__(self, shape: ImageShape) -> None:
        super().__init__(shape)
        _spoil(self)


def _spoil(network: nn.Module) -> None:
    first = "convolutions.0"
    for name, layer in network.named_modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.momentum, layer.eps = 0.1, layer.eps if name == first else 0.8


def tutorial(
    *,
    sigmoid: bool = True,
    softmax: bool = True,
    adversarial: AdversarialKind = "non-saturating",
    penalties: Penalties = NONE,
) -> Objective:
    """AC-GAN with a sigmoid before binary cross-entropy, and a softmax before cross-entropy."""
    objective = OBJECTIVES["acgan"](adversarial=adversarial, penalties=penalties)
    terms: list[dict[str, Term]] = [dict(objective.discriminator), dict(objective.generator)]
    if sigmoid:
        terms[0]["adv"], terms[1]["adv"] = Term(sigmoid_discriminator), Term(sigmoid_generator)
    if softmax:
        losses = {"class/real": on_real(softmax_cross_entropy), "class/fake": on_fake(softmax_cross_entropy)}
        terms = [of_player | {n: Term(losses[n]) for n in of_player if n in losses} for of_player in terms]
    return replace(objective, discriminator=terms[0], generator=terms[1])


def sigmoid_discriminator(step: Step) -> Tensor:
    """Binary cross-entropy through an explicit sigmoid, whose saturation stops the gradient."""
    return _cross_entropy_of_sigmoid(step.on_real.score, 1.0) + _cross_entropy_of_sigmoid(step.on_fake.score, 0.0)


def sigmoid_generator(step: Step) -> Tensor:
    """The generator's side of it."""
    return _cross_entropy_of_sigmoid(step.on_fake.score, 1.0)


def _cross_entropy_of_sigmoid(score: Tensor, target: float) -> Tensor:
    probability = torch.sigmoid(score)
    return F.binary_cross_entropy(probability, torch.full_like(probability, target), reduction="none")


def softmax_cross_entropy(output: DiscriminatorOutput, labels: Labels) -> Tensor:
    """Cross-entropy that takes probabilities for logits.

    With 10 classes it is confined to [1.461, 2.461], and its gradient fades as the classifier grows sure.
    """
    return labels.cross_entropy(output.logits.softmax(1))


@contextmanager
def added() -> Iterator[None]:
    """Let recipes name these parts meanwhile."""
    parts: list[tuple[dict[str, Any], Any]] = [
        (GENERATORS, TutorialGenerator), (BACKBONES, TutorialBackbone), (OBJECTIVES, tutorial),
    ]  # fmt: skip
    for table, part in parts:
        table["tutorial"] = part
    try:
        yield
    finally:
        for table, _ in parts:
            del table["tutorial"]
