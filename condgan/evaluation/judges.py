"""Judges of fakes: classifiers that know all real images but a fold, and a run's discriminator.

Axes: n fakes, m real images, k classes, d features.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor, nn

from condgan.data.dataset import Split
from condgan.evaluation.classifier import SmallClassifier, trained_classifier
from condgan.evaluation.moments import class_centroids
from condgan.evaluation.selection import folds_of, log_agreement, nearness, ranks
from condgan.labels import LabelTable
from condgan.types import DiscriminatorOutput, to_float
from condgan.utils.device import tf32

JUDGES = 3
"""Classifiers, each of which has not learned from one of so many parts of the real images."""
JUDGED_AT_ONCE = 256


class Judge(NamedTuple):
    """A classifier, and what it says of the real images that it has not learned from."""

    model: SmallClassifier
    centroids: Float[Tensor, "k d"]
    """Of the images that it has learned from."""
    classes: Int[Tensor, " m"]
    agreement: Float[Tensor, " m"]
    nearness: Float[Tensor, " m"]

    def scores(self, images: UInt8[Tensor, "n c h w"], labels: LabelTable) -> tuple[Tensor, Tensor]:
        """How sure of its class it is of each image, and how near the class's centroid that is."""
        return _scores(self.model, self.centroids, images, labels)


def _scores(
    model: SmallClassifier, centroids: Float[Tensor, "k d"], images: UInt8[Tensor, "n c h w"], labels: LabelTable
) -> tuple[Tensor, Tensor]:
    seen, classes = model.predict(images, labels[:]), labels.index().cpu()
    return log_agreement(seen.logits, classes), nearness(seen.features, classes, centroids)


@dataclass(frozen=True)
class CrossFitted:
    """Classifiers of real images: each ranks fakes among those that it has not learned from, and their mean counts."""

    judges: list[Judge]

    @classmethod
    def of(cls, real: Split, content_hash: str, where: torch.device | str = "cpu") -> "CrossFitted":
        """Load them from the cache, or train them."""
        classes, spec = real.labels.index().cpu(), real.labels.spec
        folds, judges = folds_of(classes, JUDGES), list[Judge]()
        for number in range(JUDGES):
            mine, others = (folds != number).nonzero().squeeze(1), (folds == number).nonzero().squeeze(1)
            known, unknown = real.at(mine), real.at(others)
            key = f"{content_hash} all but fold {number} of {JUDGES}"
            model = trained_classifier(known.images, known.labels, key, where)
            features = model.predict(known.images, known.labels[:]).features
            centroids = class_centroids(features, classes[mine], spec.width)
            scores = _scores(model, centroids, unknown.images, unknown.labels)
            judges.append(Judge(model, centroids, classes[others], *scores))
        return cls(judges)

    def agreement(self, images: UInt8[Tensor, "n c h w"], labels: LabelTable) -> Float[Tensor, " n"]:
        """Ranks by how sure of its class classifiers are; NaN for a class of which none holds a real image back."""
        return self._mean([(judge, judge.scores(images, labels)[0], judge.agreement) for judge in self.judges], labels)

    def centroid(self, images: UInt8[Tensor, "n c h w"], labels: LabelTable) -> Float[Tensor, " n"]:
        """Ranks by how near the class's centroid is, likewise."""
        return self._mean([(judge, judge.scores(images, labels)[1], judge.nearness) for judge in self.judges], labels)

    def _mean(self, scores: list[tuple[Judge, Tensor, Tensor]], labels: LabelTable) -> Float[Tensor, " n"]:
        """The mean rank by scores of fakes and of the real images that each judge has not learned from."""
        of_each = [ranks(mine, labels.index(), of_real, judge.classes) for judge, mine, of_real in scores]
        return torch.stack(of_each).nanmean(0)


def joint_logits(said: DiscriminatorOutput, classes: Int[Tensor, " n"]) -> Float[Tensor, " n"]:
    """What a discriminator says of real or fake, image and class together, on any scale.

    A score that knows the class as it is; with a twin classifier, log p(y|x) − log q(y|x) is added (Gong et al. 2019);
    of one classifier for both (Hou et al. 2022), its logits' difference alone.
    """
    y = classes[:, None]
    if "adc" in said.named:
        real, fake = said.named["adc"][:, :2].unbind(1)
        return (real - fake).gather(1, y).squeeze(1)
    score = said.score.flatten(1).mean(1) if said.score.ndim > 1 else said.score
    if "twin" in said.named:
        p, q = (said.named[name].log_softmax(1).gather(1, y).squeeze(1) for name in ("logits", "twin"))
        return score + p - q
    return score


@torch.inference_mode()
def discriminator_logits(
    discriminator: nn.Module, images: UInt8[Tensor, "n c h w"], labels: LabelTable
) -> Float[Tensor, " n"]:
    """What a discriminator in evaluation mode says of images of 0 … 255."""
    where, found = next(discriminator.parameters()).device, list[Tensor]()
    with tf32(False):
        for start in range(0, len(images), JUDGED_AT_ONCE):
            part = slice(start, start + JUDGED_AT_ONCE)
            own = labels.at(part)
            said = discriminator(to_float(images[part].to(where)), own[:].to(where))
            found.append(joint_logits(said, own.index().to(where)).cpu())
    return torch.cat(found)
