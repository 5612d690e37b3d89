"""Whether an image shows what its label says: losses of label logits."""

from collections.abc import Callable
from functools import partial
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from condgan.labels import Field, Labels, squared_error
from condgan.losses.terms import OutputLoss


def multi_hinge(logits: Float[Tensor, "b k"], labels: Labels, *, clamp: bool) -> Float[Tensor, " b"]:
    """Mean over values j of max(0, 1 − s_y + s_j), without the maximum unless `clamp`; 0 where a field is unknown.

    The true class is among the j, as in TAC-GAN's code, and adds a constant 1/k. A field of independent values takes
    the mean of max(0, 1 ∓ s_j) instead, and a number its squared error.
    """

    def of_field(field: Field, score: Tensor, target: Tensor) -> Tensor:
        if field.range is not None:
            return squared_error(score, target)
        if not field.exclusive:
            margins = 1 - (2 * target - 1) * score
            return F.relu(margins) if clamp else margins
        margins = 1 - (score * target).sum(1, keepdim=True) + score
        return (F.relu(margins) if clamp else margins).mean(1)

    return labels.over_fields(logits, of_field, mean=True)


def adc(logits: Float[Tensor, "b s k"], labels: Labels, *, fake: bool) -> Float[Tensor, " b"]:
    """−log P(real, y | x), or of (fake, y), by ADC-GAN's classifier; 0 where a field is unknown.

    Rows s: real and fake; of independent values then both again for images without the value, so that each value has a
    softmax over four. A class has one over all real and fake classes (Hou et al. 2022, eq. 8).
    """

    def of_field(field: Field, scores: Tensor, target: Tensor) -> Tensor:
        if field.exclusive:
            chances = scores[:, :2].flatten(1).log_softmax(1).unflatten(1, (2, -1))
            return -(chances[:, int(fake)] * target).sum(1)
        chances = scores.log_softmax(1)
        return -(chances[:, int(fake)] * target + chances[:, 2 + int(fake)] * (1 - target))

    return labels.over_fields(logits, of_field)


def classes_and_fake(classes: Float[Tensor, "b c"], labels: Labels, *, fake: bool) -> Float[Tensor, " b"]:
    """max(0, 1 − o_y + max over j ≠ y of o_j) of all classes and fake as the last one (Kavalerov et al. 2019, eq. 4).

    `fake`: y is the last one. Where the class is not known, it is the likeliest one, and fake the only other.
    """
    of_classes, of_fake = classes[:, :-1], classes[:, -1]
    known, chosen = labels.known[:, 0], labels.values.bool()
    likeliest = of_classes.amax(1)
    if fake:
        return F.relu(1 - of_fake + likeliest)
    own = torch.where(known, of_classes.masked_fill(~chosen, -torch.inf).amax(1), likeliest)
    others = of_classes.masked_fill(chosen | ~known[:, None], -torch.inf).amax(1)
    return F.relu(1 - own + torch.maximum(others, of_fake))


def of_output(name: str, loss: Callable[[Tensor, Labels], Tensor]) -> OutputLoss:
    """A loss of what the head gives by this name."""
    return lambda output, labels: loss(output.named[name], labels)


def _cross_entropy(logits: Tensor, labels: Labels) -> Tensor:
    """−log P(C = c | x) (Odena et al. 2017, eq. 3; for the twin Gong et al. 2019, eq. 6)."""
    return labels.cross_entropy(logits)


def _accuracy(logits: Tensor, labels: Labels) -> Tensor:
    return labels.accuracy(logits)


class LabelLoss(NamedTuple):
    """A loss of the label that an image claims, by the classifier and by its twin."""

    classifier: OutputLoss
    twin: OutputLoss


def _both(judgement: Callable[[Tensor, Labels], Tensor]) -> LabelLoss:
    return LabelLoss(of_output("logits", judgement), of_output("twin", judgement))


CROSS_ENTROPY = _both(_cross_entropy)
HINGE, MARGIN = _both(partial(multi_hinge, clamp=True)), _both(partial(multi_hinge, clamp=False))
ACCURACY = _both(_accuracy)

ClassificationKind = Literal["cross-entropy", "multi-hinge"]
CLASSIFICATION = {"cross-entropy": (CROSS_ENTROPY, CROSS_ENTROPY), "multi-hinge": (HINGE, MARGIN)}
"""The discriminator's and the generator's label loss."""
