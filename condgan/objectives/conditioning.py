"""Whether an image shows what its label says: losses of label logits."""

from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from condgan.interfaces import DiscriminatorOutput
from condgan.labels import Labels
from condgan.objectives.base import Judgement


def classify(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Cross-entropy of the auxiliary classifier: −log P(C = c | x) (Odena et al. 2017, eq. 3)."""
    assert output.logits is not None, "the head gives no label logits"
    return labels.cross_entropy(output.logits)


def classify_softmax(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Cross-entropy that takes probabilities for logits (the AC-GAN tutorial's fault).

    With 10 classes it is confined to [1.461, 2.461], and its gradient fades as the classifier grows sure.
    """
    assert output.logits is not None, "the head gives no label logits"
    return labels.cross_entropy(output.logits.softmax(1))


def classify_twin(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Cross-entropy of the twin classifier (Gong et al. 2019, eq. 6)."""
    assert output.twin is not None, "the head has no twin classifier"
    return labels.cross_entropy(output.twin)


def hinge(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Multi-class hinge of the classifier: mean over classes j of max(0, 1 − s_y + s_j)."""
    assert output.logits is not None, "the head gives no label logits"
    return multi_hinge(output.logits, labels, clamp=True)


def hinge_twin(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Multi-class hinge of the twin classifier."""
    assert output.twin is not None, "the head has no twin classifier"
    return multi_hinge(output.twin, labels, clamp=True)


def margin(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Multi-class hinge of the classifier without its clamp, for the generator."""
    assert output.logits is not None, "the head gives no label logits"
    return multi_hinge(output.logits, labels, clamp=False)


def margin_twin(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Multi-class hinge of the twin classifier without its clamp."""
    assert output.twin is not None, "the head has no twin classifier"
    return multi_hinge(output.twin, labels, clamp=False)


def multi_hinge(logits: Float[Tensor, "b k"], labels: Labels, *, clamp: bool) -> Float[Tensor, " b"]:
    """Mean over values j of max(0, 1 − s_y + s_j), without the maximum unless `clamp`; 0 where a field is unknown.

    The true class is among the j, as in TAC-GAN's code, and adds a constant 1/k. A field of independent values takes
    the mean of max(0, 1 ∓ s_j) instead.
    """
    loss = logits.new_zeros(len(logits))
    for position, field, where in labels.spec.slices():
        score, target = logits[:, where], labels.values[:, where]
        if field.exclusive:
            margins = 1 - (score * target).sum(1, keepdim=True) + score
        else:
            margins = 1 - (2 * target - 1) * score
        one = (F.relu(margins) if clamp else margins).mean(1)
        loss = loss + torch.where(labels.known[:, position], one, 0)
    return loss


class Classification(NamedTuple):
    """A label loss: the discriminator's and the generator's, of the classifier and of its twin."""

    discriminator: Judgement
    discriminator_twin: Judgement
    generator: Judgement
    generator_twin: Judgement


ClassificationKind = Literal["cross-entropy", "multi-hinge"]
CLASSIFICATION = {
    "cross-entropy": Classification(classify, classify_twin, classify, classify_twin),
    "multi-hinge": Classification(hinge, hinge_twin, margin, margin_twin),
}


def accuracy(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Whether the auxiliary classifier is right."""
    assert output.logits is not None, "the head gives no label logits"
    return labels.accuracy(output.logits)


def twin_accuracy(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Whether the twin classifier is right."""
    assert output.twin is not None, "the head has no twin classifier"
    return labels.accuracy(output.twin)
