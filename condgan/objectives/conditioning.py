"""Whether an image shows what its label says: losses of label logits."""

from jaxtyping import Float
from torch import Tensor

from condgan.interfaces import DiscriminatorOutput
from condgan.labels import Labels


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


def accuracy(output: DiscriminatorOutput, labels: Labels) -> Float[Tensor, " b"]:
    """Whether the auxiliary classifier is right."""
    assert output.logits is not None, "the head gives no label logits"
    return labels.accuracy(output.logits)
