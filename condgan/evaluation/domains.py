"""Translations to each domain, read by classifiers, beside the same readings of real images.

Axes: n images, c channels, h × w pixels.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from condgan.data.dataset import Dataset
from condgan.evaluation.classifier import Predictions
from condgan.evaluation.extractors import Extractor
from condgan.evaluation.metrics import translation
from condgan.evaluation.statistics import DomainReadings, FeatureStatistics
from condgan.labels import Labels
from condgan.sampling.changes import Domain, domains, toward
from condgan.sampling.translator import Translations


class DomainSets(NamedTuple):
    """Statistics of translations to one domain, of real images that stand for them, and of other data sets' images."""

    fake: FeatureStatistics
    real: FeatureStatistics
    across: FeatureStatistics | None


@dataclass(frozen=True)
class DomainReader:
    """A translator, held-out images that it translates to every domain that they are not of, and who reads them."""

    images: Translations
    data: Dataset
    classifier: Extractor
    content_classifier: Extractor | None

    def sets(self) -> dict[Domain, DomainSets]:
        """The statistics of each domain."""
        return {domain: self._sets(domain) for domain in domains(self.data.spec)}

    @cached_property
    def _complete(self) -> Labels:
        """The images' labels, in which the discriminator reads what is not known."""
        return self.images.model.complete(self.images.split.images, self.images.split.labels[:])

    @cached_property
    def _read(self) -> Predictions:
        """The classifier's predictions of the images as they are."""
        return _predictions(self.classifier, self.images.split.images, self.images.split.labels[:])

    def _sets(self, domain: Domain) -> DomainSets:
        split, where = self.images.split, self.data.spec.where(domain.field)
        own, asked = split.labels.known[:, domain.field], toward(self._complete, domain)
        has = split.labels.values[:, where][:, domain.value] > 0.5
        changes = torch.nonzero(own & (asked.values[:, where] != self._complete.values[:, where]).any(1)).flatten()
        showing = torch.nonzero(own & (has | domain.flips)).flatten()
        others = torch.nonzero(~own).flatten()
        images, seen = self._translated(changes, asked)
        content = (self._content(images, changes), self._content(split.images[changes], changes))
        target = self._distance(images, changes, asked, domain)
        fake = DomainReadings(domain.field, domain.value, seen, seen, content[0], target)
        real = DomainReadings(domain.field, domain.value, self._read.at(showing), self._read.at(changes), content[1])
        across = None
        if len(others):
            across = DomainReadings(domain.field, domain.value, self._translated(others, asked)[1])
        return DomainSets(
            FeatureStatistics(len(changes), translated=fake),
            FeatureStatistics(len(showing), translated=real),
            None if across is None else FeatureStatistics(len(others), translated=across),
        )

    def _translated(self, index: Int[Tensor, " n"], asked: Labels) -> tuple[UInt8[Tensor, "n c h w"], Predictions]:
        """Translate some of the images, and read the translations."""
        if not len(index):
            return self.images.split.images[index], self._read.at(index)
        images = self.images.model.generate(self.images.split.images[index], asked[index])
        return images, _predictions(self.classifier, images, asked[index])

    def _content(self, images: UInt8[Tensor, "n c h w"], index: Int[Tensor, " n"]) -> float | None:
        """The share of what else is known of some of the images that is seen in these."""
        labels = self.images.split.content
        if self.content_classifier is None or labels is None:
            return None
        known = labels.known[index].any(1)
        if not known.any():
            return None
        return _predictions(self.content_classifier, images[known], labels[index[known]]).agreement

    def _distance(
        self, images: UInt8[Tensor, "n c h w"], index: Int[Tensor, " n"], asked: Labels, domain: Domain
    ) -> float | None:
        """Measure how far translations are from the true ones, where the data has any."""
        exact = self.data.exact.get(self.data.spec.fields[domain.field].name)
        if exact is None or not len(index):
            return None
        true, found = exact(self.images.numbers[index], asked[index])
        return translation.l1(images[found], true[found]) if found.any() else None


def _predictions(classifier: Extractor, images: UInt8[Tensor, "n c h w"], labels: Labels) -> Predictions:
    seen = classifier(images)
    assert seen.logits is not None
    return Predictions(seen.features.cpu(), seen.logits.cpu(), labels)
