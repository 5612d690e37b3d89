"""Compare fakes with real images: choose metrics, collect statistics of both, make the numbers and their warnings.

Axes: n images, d features, q queries, k neighbors, c channels, h × w pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from condgan.data.dataset import Dataset
from condgan.evaluation.cache import cached_statistics
from condgan.evaluation.catalog import METRICS, STATED, MetricSelection, mean_row, select_metrics
from condgan.evaluation.classifier import SmallClassifier, classifier_of, content_classifier_of
from condgan.evaluation.classifier import classifier as as_extractor
from condgan.evaluation.domains import DomainReader, DomainSets
from condgan.evaluation.extractors import Extractor, find_extractor
from condgan.evaluation.images import PUBLISHED, ImageSubset, Real, size_text, stored
from condgan.evaluation.metrics.distances import DENSITY_NEIGHBORS
from condgan.evaluation.metrics.neighbors import Nearest, neighbor_sheet
from condgan.evaluation.metrics.texture import SMALLEST
from condgan.evaluation.moments import class_centroids, read_normal
from condgan.evaluation.options import EvaluationOptions
from condgan.evaluation.statistics import FeatureStatistics, Images, Need, collect_statistics
from condgan.sampling.changes import Domain
from condgan.sampling.translator import Translations
from condgan.utils import distributed
from condgan.utils.device import device
from condgan.utils.errors import UserError

SEARCHED = 1 << 30
"""Bytes of training images' features among which nearest neighbors are searched."""
QUERIES = 5_000
"""Images whose nearest neighbors are searched."""
FAR_BETTER = 0.2
"""A share of labels by which another reading of them has to be better."""
NEIGHBORS = 6
"""Training images that are searched for each."""
SHOWN = 10
"""Fakes whose neighbors are shown."""
OF_TRANSLATIONS: frozenset[Need] = frozenset({"round trips", "domains", "content", "targets"})
"""Needs that translations alone meet."""


@dataclass(frozen=True)
class Reference:
    """Statistics of real images, and of the training images that fakes may be copies of."""

    extractor: Extractor
    classifier: Extractor | None
    """The network that reads classes."""
    selection: MetricSelection
    real: FeatureStatistics
    other: FeatureStatistics | None
    """As many other real images, of the same classes, whose numbers are the ceilings."""
    training: ImageSubset | None
    """The images that fakes may be copies of."""
    seen: Float[Tensor, "n d"] | None
    """Their features."""

    @classmethod
    def of(
        cls,
        real: ImageSubset,
        other: ImageSubset | None,
        training: ImageSubset | None,
        key: str,
        extractor: Extractor,
        classifier: Extractor | None,
        selection: MetricSelection,
    ) -> "Reference":
        """Collect statistics of real images, or recall them from the cache by `key`, which stands for their content."""
        needs = selection.needs - OF_TRANSLATIONS
        found = [
            None if images is None else cached_statistics(images, key, extractor, classifier, needs)
            for images in (real, other)
        ]
        seen = None
        if training is not None and "nearest" in needs:
            width = extractor(training.at(torch.tensor([0]))).features.shape[1]
            training = training.evenly_spaced(min(len(training), SEARCHED // (4 * width)))
            seen = cached_statistics(training, key, extractor, None, frozenset({"features"})).features
        assert found[0] is not None
        reference = cls(extractor, classifier, selection, found[0], found[1], training, seen)
        return replace(reference, real=reference.with_nearest(found[0])[0]) if seen is not None else reference

    def compare(self, fakes: Images, domains: Mapping[Domain, DomainSets] | None = None) -> "Comparison":
        """Collect statistics of fakes, beside which those of translations to each domain may be given."""
        needs = self.selection.needs
        collected = collect_statistics(fakes, self.extractor, needs, self.classifier, grouped="moments" in needs)
        statistics, nearest = self.with_nearest(collected)
        return Comparison(self, fakes, statistics, nearest, domains or {})

    def with_nearest(self, statistics: FeatureStatistics) -> tuple[FeatureStatistics, Nearest | None]:
        """Add to statistics how far images are from the training images, and return the search for these."""
        if self.seen is None or statistics.features is None:
            return statistics, None
        chosen = _queries(len(statistics.features))
        nearest = Nearest.among(statistics.features[chosen], self.seen, NEIGHBORS)
        return replace(statistics, nearest=nearest.relative), nearest


@dataclass(frozen=True)
class Comparison:
    """Statistics of fakes and those of the real images that they are compared with."""

    reference: Reference
    fakes: Images
    statistics: FeatureStatistics
    nearest: Nearest | None
    domains: Mapping[Domain, DomainSets]
    """Of translations to each domain; none of what a translator did not make."""

    def metrics(self) -> dict[str, Any]:
        """The numbers, their ceilings under "real", and where there are such the same for each class or domain."""
        selection, real, other = self.reference.selection, self.reference.real, self.reference.other
        found = selection.row(self.statistics, real, other)
        if intervals := selection.intervals(self.statistics, real, found):
            found["intervals"] = intervals
        if selection.per_class:
            found["per_class"] = rows = self._per_class()
            over = selection.over_classes([*rows.values()])
            ceilings = found.get("real", {}) | over.pop("real", {})
            found |= over | ({"real": ceilings} if ceilings else {})
        return self._with_domains(found)

    def neighbors(self) -> Image.Image | None:
        """Draw the fakes that are nearest to training images, and these."""
        if self.nearest is None or self.reference.training is None:
            return None
        nearest = self.nearest.relative.argsort(stable=True)[:SHOWN]
        fakes = self.fakes.at(_queries(len(self.fakes))[nearest])
        places = self.nearest.numbers[nearest]
        images = self.reference.training.at(places.flatten()).unflatten(0, places.shape)
        return neighbor_sheet(fakes, images, self.nearest.distances[nearest])

    def class_means(self) -> tuple[Float[Tensor, "k d"], Float[Tensor, "k d"]] | None:
        """The means of each class's features, of fakes and of real images; None where some class has none of these."""
        found = []
        for one in (self.statistics, self.reference.real):
            if one.features is None or one.labels is None or not one.labels.spec.exclusive:
                return None
            found.append(class_centroids(one.features, one.labels.index(), len(one.labels.spec.classes)))
        made, real = found
        return (made, real) if torch.cat(found).isfinite().all() else None

    def _per_class(self) -> dict[str, dict[str, Any]]:
        """The numbers of each class, and as which classes the classifier reads its fakes."""
        selection, real, other = self.reference.selection, self.reference.real, self.reference.other
        labels = None if self.statistics.labels is None else self.statistics.labels.by_class()
        assert labels is not None
        classes, rows = labels.spec.classes, {}
        for number, name in enumerate(classes):
            of_other = None if other is None else other.of_class(number)
            rows[name] = selection.row(self.statistics.of_class(number), real.of_class(number), of_other, of_class=True)
            if self.statistics.confusion is not None:
                counts = zip(classes, self.statistics.confusion[number].tolist(), strict=True)
                rows[name]["judged"] = {other_name: count for other_name, count in counts if count}
        return rows

    def _with_domains(self, found: dict[str, Any]) -> dict[str, Any]:
        """Numbers with those of translations to each domain: their means first, then each field's and each domain's."""
        selection = self.reference.selection
        rows = {domain: selection.domain_row(*sets) for domain, sets in self.domains.items()}
        if not any(rows.values()):
            return found
        mean = mean_row([*rows.values()])
        whole = {name: value for name, value in (mean | found).items() if not isinstance(value, dict)}
        parts = {"real": mean.get("real", {}) | found.get("real", {}), "across": mean.get("across", {})}
        whole |= {name: part for name, part in parts.items() if part}
        whole |= {name: part for name, part in found.items() if name not in whole}
        fields = dict.fromkeys(domain.field for domain in rows)
        if len(fields) > 1:
            readings = next(iter(self.domains.values())).fake.translated
            assert readings is not None
            names = [field.name for field in readings.shown.labels.spec.fields]
            whole["per_field"] = {
                names[field]: mean_row([row for domain, row in rows.items() if domain.field == field])
                for field in fields
            }
        return whole | {"per_attribute": {domain.name: row for domain, row in rows.items()}}


def _queries(count: int) -> Tensor:
    """The numbers of the images whose neighbors are searched."""
    asked = min(count, QUERIES)
    return torch.arange(asked) * count // asked


def compare_images(
    fakes: Images, real: Real, options: EvaluationOptions, about: dict[str, Any]
) -> tuple[Comparison, dict[str, Any]]:
    """Compare fakes with real images by the metrics that are asked for; and record what the numbers are of.

    Raises UserError for metrics that cannot be told, and for options that do not fit the images.
    """
    extractor = _extractor(real, options)
    sample = (real.images or fakes).at(torch.tensor([0]))
    selection = _selected(extractor, sample, fakes, real, options)
    classifier, warnings = None, []
    if {"predictions", "domains"} & selection.needs:
        assert real.data is not None
        classifier = extractor if options.extractor == "classifier" else _shared(partial(classifier_of, real.data))
    others = real.others(fakes)
    if real.statistics is not None:
        stated, warnings = _stated(real.statistics, extractor, sample)
        reference = Reference(extractor, classifier, selection, stated, None, None, None)
    else:
        assert real.data is not None
        assert real.images is not None
        key = real.data.content_hash
        reference = Reference.of(real.images, others, real.training, key, extractor, classifier, selection)
    comparison = reference.compare(fakes, _domains(fakes, real, selection, classifier))
    about |= _record(comparison, real, others)
    warnings += _warnings(comparison, real, others, options)
    return comparison, about | {"warnings": warnings}


def find_named_extractor(options: EvaluationOptions) -> Extractor:
    """Find the extractor that is asked for by its name, first in the leader, which may download it."""
    with distributed.main_first():
        return find_extractor(options.extractor, options.weights, device())


def _extractor(real: Real, options: EvaluationOptions) -> Extractor:
    """The extractor that is asked for; the classifier is that of the real images."""
    if options.extractor != "classifier":
        return find_named_extractor(options)
    if options.weights is not None:
        raise UserError(f"--weights {options.weights} given with the classifier, which is trained here: leave it out")
    if real.data is None:
        raise UserError(
            f"statistics '{real.source}' given without --extractor: expected the one that they are of, such as "
            "inception"
        )
    return _shared(partial(classifier_of, real.data))


def _shared(make: Callable[[], SmallClassifier]) -> Extractor:
    """A classifier as an extractor, the same in all processes."""
    with distributed.main_first():
        model = make()
    distributed.broadcast([*model.state_dict().values()])
    return as_extractor(model)


def _selected(
    extractor: Extractor, sample: UInt8[Tensor, "1 c h w"], fakes: Images, real: Real, options: EvaluationOptions
) -> MetricSelection:
    """Select the metrics that are asked for. Raises UserError for those that cannot be told."""
    kind = "translator" if isinstance(fakes, Translations) else "generator"
    reasons: Mapping[str, str] = _lacking(extractor, sample, fakes, real)
    absent = {
        key: reasons[lacking[0]]
        for key, metric in METRICS.items()
        if (lacking := sorted(need for need in metric.needs if need in reasons))
    }
    selection = select_metrics(options.extractor, options.metrics, absent, kind)
    if options.metrics is not None:
        selection.require(len(fakes), None if real.images is None else len(real.images))
    return replace(selection, per_class=_per_class(options, fakes, real))


def _lacking(extractor: Extractor, sample: UInt8[Tensor, "1 c h w"], fakes: Images, real: Real) -> dict[str, str]:
    """The needs of metrics that are not met, and why not."""
    lacking: dict[str, str] = {}
    spec = None if fakes.labels is None else fakes.labels.spec
    of_classes = ("classes", "perceptual", "ms_ssim")
    if real.training is None:
        lacking["nearest"] = "it needs the training images that fakes may be copies of: --split held-out has them"
    if extractor(sample).logits is None:
        lacking["scores"] = f"extractor '{extractor.name}' tells no classes"
    if not extractor.maps(sample):
        lacking["perceptual"] = f"extractor '{extractor.name}' has no feature maps, which it compares"
    if extractor.name == "classifier" and real.data is not None and not real.data.spec.exclusive:
        lacking["scores"] = "the classifier reads no classes, of which an image has one"
    if spec is None:
        needed = "it needs labels that both sides share: give images in class folders of the same names"
        lacking |= dict.fromkeys(("predictions", *of_classes), needed)
    elif spec.range is not None:
        lacking |= dict.fromkeys(("perceptual", "ms_ssim"), "it is of classes, and this is a number")
    elif not spec.exclusive:
        lacking |= dict.fromkeys(of_classes, "it is of classes, and these are attributes")
    elif spec.width == 1:
        lacking["predictions"] = "there is one class only"
    if spec is None or spec.range is None:
        lacking["number"] = "it is of a number, and these are classes or attributes"
    if min(sample.shape[2:]) < SMALLEST:
        lacking["contrasts"] = f"the images have fewer than {SMALLEST} pixels a side"
    if real.data is not None and real.data.train.content is None:
        lacking["content"] = "the data tells nothing else of its images that could be kept"
    if real.data is not None and not real.data.exact:
        lacking["targets"] = "the data has no true translations"
    if real.statistics is not None:
        stated = "--data is a file of statistics, which tells the Fréchet distance alone: give images"
        needs = {need for metric in METRICS.values() for need in metric.needs}
        lacking |= dict.fromkeys(needs - STATED, stated)
    return lacking


def _domains(
    fakes: Images, real: Real, selection: MetricSelection, classifier: Extractor | None
) -> dict[Domain, DomainSets] | None:
    """Statistics of translations to each domain, where metrics need them."""
    if not isinstance(fakes, Translations) or "domains" not in selection.needs:
        return None
    assert real.data is not None
    assert classifier is not None
    content = None
    if "content" in selection.needs:
        content = _shared(partial(_content_classifier, real.data))
    return DomainReader(fakes, real.data, classifier, content).sets()


def _content_classifier(data: Dataset) -> SmallClassifier:
    model = content_classifier_of(data)
    assert model is not None
    return model


def _record(comparison: Comparison, real: Real, others: ImageSubset | None) -> dict[str, Any]:
    """Record the images and networks that numbers are made of."""
    extractor, classifier = comparison.reference.extractor, comparison.reference.classifier
    record = {
        "fakes": len(comparison.fakes),
        "real": comparison.reference.real.count,
        "ceilings": None if others is None else len(others),
        "split": real.split,
        "reference": real.source,
        "extractor": extractor.name,
        "extractor_sha256": extractor.sha256,
        "resize": extractor.resize,
    }
    if comparison.fakes.labels is not None and not isinstance(comparison.fakes, Translations):
        spec = comparison.fakes.labels.spec
        record["labels"] = "number" if spec.range else "classes" if spec.exclusive else "attributes"
    if classifier is not None:
        assert real.data is not None
        held_out = stored(real.data, real.source, "held-out")
        needs: frozenset[Need] = frozenset({"predictions"})
        read = cached_statistics(held_out, real.data.content_hash, classifier, classifier, needs)
        record |= {"extractor_accuracy": read.agreement, "classifier_sha256": classifier.sha256}
    return record


def _warnings(comparison: Comparison, real: Real, others: ImageSubset | None, options: EvaluationOptions) -> list[str]:
    """Say what speaks against the numbers."""
    fakes, reference, said = comparison.fakes, comparison.reference, []
    if "fd" in reference.selection.names:
        said += _doubts(reference.selection.names["fd"][0], comparison)
    if others is not None and len(others) < 0.9 * len(fakes):
        said.append(f"real images' numbers are of {len(others):,} images, not {len(fakes):,}: there are no more")
    if fakes.labels is not None and fakes.labels.spec.exclusive:
        counts = zip(fakes.labels.spec.classes, fakes.labels.counts().tolist(), strict=True)
        none = [name for name, count in counts if not count]
        if none:
            said.append(f"{len(none)} of {fakes.labels.spec.width} classes have no fakes, such as '{none[0]}'")
    one_class = real.data is not None and real.data.spec.exclusive and real.data.spec.width == 1
    if options.extractor == "classifier" and one_class:
        said.append("of one class the classifier has nothing to learn: its features are those of an untrained network")
    said += _copied(comparison) + _other_numbers(comparison)
    if not reference.extractor.known:
        said.append(f"these are not the weights that '{reference.extractor.name}' is known by: compare with no others")
    return said


def _doubts(name: str, comparison: Comparison) -> list[str]:
    """Say what speaks against a Fréchet distance."""
    assert comparison.statistics.normal is not None
    width, found = len(comparison.statistics.normal.mean), []
    counts = {"fakes": comparison.statistics.count, "real images": comparison.reference.real.count}
    if few := [f"{count:,} {what}" for what, count in counts.items() if count is not None and count <= width]:
        found.append(
            f"{name} of {' and '.join(few)} in {width:,} dimensions tells more of how few they are than of how good: "
            "compare with the same numbers of images only"
        )
    elif comparison.reference.selection.per_class and comparison.statistics.labels is not None:
        least = int(comparison.statistics.labels.counts().min())
        if least <= width:
            found.append(
                f"{name} of a class is of as few as {least} fakes in {width:,} dimensions: compare with the same only"
            )
    if name == "fid" and comparison.statistics.count is not None and comparison.statistics.count < PUBLISHED:
        count = comparison.statistics.count
        found.append(f"published FIDs are of {PUBLISHED:,} fakes, this one is of {count:,}: fewer make it larger")
    if (
        comparison.reference.real.normal is not None
        and float(comparison.reference.real.normal.covariance.trace()) < 1e-12
    ):
        found.append("the features of all real images are the same: they tell nothing")
    return found


def _copied(comparison: Comparison) -> list[str]:
    """Say where so many real images are the same that density and coverage see nothing around them."""
    features = comparison.reference.real.features
    if "manifolds" not in comparison.reference.selection.names or features is None:
        return []
    same = features.half().numpy()  # what is the same may differ by the batch in which it was seen
    _, index, counts = np.unique(same.view(f"V{same.strides[0]}")[:, 0], return_inverse=True, return_counts=True)
    copies = int((counts[index] > DENSITY_NEIGHBORS).sum())
    if not copies:
        return []
    return [
        f"{copies:,} of {len(features):,} real images are the same as {DENSITY_NEIGHBORS} others or more: no fake is "
        "nearer to them, so that density and coverage leave them out; remove the copies"
    ]


def _other_numbers(comparison: Comparison) -> list[str]:
    """Say where the classifier agrees far better if numbers of classes are their places, not their names."""
    confusion, labels = comparison.statistics.confusion, comparison.statistics.labels
    if confusion is None or labels is None or not all(name.isdecimal() for name in labels.spec.classes):
        return []
    classes, total = labels.spec.classes, max(1, int(confusion.sum()))
    right = int(confusion.trace()) / total
    for order, how in ((sorted(classes), "sorted as text"), (sorted(classes, key=int), "sorted as numbers")):
        meant = {own: order[int(name)] for own, name in enumerate(classes) if int(name) < len(order)}
        other = sum(int(confusion[own, classes.index(name)]) for own, name in meant.items()) / total
        if other > right + FAR_BETTER:
            return [
                f"the classifier agrees with {right:.0%} of the labels, and with {other:.0%} if class n is the n-th of "
                f"the real images' classes {how}, counted from 0: if that is meant, give the classes their names"
            ]
    return []


def _stated(path: Path, extractor: Extractor, sample: UInt8[Tensor, "1 c h w"]) -> tuple[FeatureStatistics, list[str]]:
    """Read a file of statistics. Raises UserError for another extractor's, or for images of another size."""
    normal, about = read_normal(path)
    width, size = extractor(sample).features.shape[1], size_text(sample)
    if about and about["extractor_sha256"] != extractor.sha256:
        raise UserError(
            f"statistics '{path}' are of extractor '{about['extractor']}' ({about['extractor_sha256'][:8]}…), not of "
            f"'{extractor.name}' ({extractor.sha256[:8]}…): give those of the same, or the images"
        )
    if len(normal.mean) != width:
        raise UserError(
            f"statistics '{path}' have {len(normal.mean)} dimensions and extractor '{extractor.name}' has {width}: "
            "give those of the same extractor, or the images"
        )
    if about and about["size"] != size:
        raise UserError(
            f"statistics '{path}' are of images of {about['size']} pixels, these are of {size}: give those of the same "
            "size, or the images"
        )
    said = [] if about else [f"'{path}' does not tell of which extractor, images and size its statistics are"]
    return FeatureStatistics(about.get("real"), stated=True, normal=normal), said


def _per_class(options: EvaluationOptions, fakes: Images, real: Real) -> bool:
    """Whether there are numbers per class. Raises UserError where they are asked for and cannot be."""
    labels = None if fakes.labels is None else fakes.labels.by_class()
    there = labels is not None and real.data is not None
    if options.per_class is None:
        cheap = options.extractor == "classifier" and options.metrics is None and not isinstance(fakes, Translations)
        return cheap and there and labels is not None and labels.spec.width > 1
    if options.per_class and (not there or labels is None):
        raise UserError(
            "--per-class given, which needs classes that both sides share: give images in class folders of the same "
            "names"
        )
    for images in (fakes, real.images) if options.per_class else ():
        assert images is not None
        assert images.labels is not None
        classes = images.labels.by_class()
        assert classes is not None
        counts = dict(zip(classes.spec.classes, classes.counts().tolist(), strict=True))
        if (few := next((name for name, count in counts.items() if count < 2), None)) is not None:
            raise UserError(
                f"--per-class given, but class '{few}' has {counts[few]} image{'s' * (counts[few] != 1)} in "
                f"'{images.source}': distances need 2 or more; add some, or leave it out"
            )
    return options.per_class
