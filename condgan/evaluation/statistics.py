"""Collect what metrics need of a set of images, in one pass over them by all processes together.

Axes: n images, b of a chunk, q of a sample, c channels, h × w pixels, d features, k classes, s splits, p pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from condgan.evaluation.classifier import Predictions
from condgan.evaluation.extractors import Extractor, Observed
from condgan.evaluation.metrics.distances import SCORE_SPLITS, SHUFFLE
from condgan.evaluation.metrics.diversity import class_pairs, ms_ssim, perceptual_distance
from condgan.evaluation.metrics.texture import Contrasts
from condgan.evaluation.metrics.translation import l1_sum
from condgan.evaluation.moments import GROUPS, Moments, Normal, groups_of
from condgan.labels import NEARLY, Labels, LabelTable
from condgan.sampling.translator import Translations
from condgan.utils import distributed
from condgan.utils.errors import UserError

Need = Literal[
    "moments", "scores", "features", "predictions", "perceptual", "ms_ssim", "classes", "nearest", "round trips",
    "domains", "content", "targets", "contrasts", "number",
]  # fmt: skip
"""The statistics that metrics are made of. `collect_statistics` finds all up to ms_ssim, round trips and contrasts in
one pass, and all but features in the same memory for any number of images."""
PAIRS = 256
"""Pairs of images that are compared at once."""


@runtime_checkable
class Images(Protocol):
    """Images in their order, a chunk at a time, so that they need not be in memory at once."""

    @property
    def source(self) -> str:
        """The name that messages call them by."""
        ...

    @property
    def labels(self) -> LabelTable | None:
        """The labels that each shows, or claims to; None where nobody knows."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Of their files; empty where they have none."""
        ...

    @property
    def strata(self) -> Int[Tensor, " n"] | None:
        """The number of each one's class, whoever's classes these are, where it is of one."""
        ...

    @property
    def chunk_size(self) -> int:
        """How many of them a chunk has; the last may have fewer."""
        ...

    def __len__(self) -> int: ...

    def chunks(self, part: slice = slice(None)) -> Iterator[UInt8[Tensor, "b c h w"]]:
        """Pixels of 0 … 255; of a part that begins and ends where chunks do, these alone."""
        ...

    def at(self, numbers: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        """Some of them."""
        ...


@dataclass(frozen=True)
class Scores:
    """Sums over the images of each split from which the Inception Score is made; added with +."""

    count: Float[Tensor, " s"]
    probability: Float[Tensor, "s k"]
    information: Float[Tensor, " s"]
    """Σ p log p."""

    @classmethod
    def nothing(cls, classes: int, device: torch.device | str = "cpu") -> "Scores":
        """Of no images."""
        shapes = (SCORE_SPLITS,), (SCORE_SPLITS, classes), (SCORE_SPLITS,)
        return cls(*(torch.zeros(shape, dtype=torch.float64, device=device) for shape in shapes))

    def add(self, logits: Float[Tensor, "b k"], split: Int[Tensor, " b"]) -> None:
        """Count some more images."""
        log = logits.double().log_softmax(1)
        p = log.exp()
        self.count.index_add_(0, split, torch.ones_like(p[:, 0]))
        self.probability.index_add_(0, split, p)
        self.information.index_add_(0, split, torch.where(p > 0, p * log, 0).sum(1))

    def __add__(self, other: "Scores") -> "Scores":
        return Scores(*(getattr(self, name) + getattr(other, name) for name in ("count", "probability", "information")))

    def score(self) -> tuple[float, float]:
        """Mean and spread over the splits of exp E KL(p(y|x) ‖ p(y)) (Salimans et al. 2016, §4)."""
        mean = self.probability / self.count[:, None]
        values = (self.information / self.count - torch.special.xlogy(mean, mean).sum(1)).exp()
        return float(values.mean()), float(values.std(correction=0))


def splits_of(count: int) -> Int[Tensor, " n"]:
    """The split of each of so many images, after the shuffle with which torch-fidelity splits them."""
    split = np.empty(count, np.int64)
    edges = [number * count // SCORE_SPLITS for number in range(SCORE_SPLITS + 1)]
    split[np.random.RandomState(SHUFFLE).permutation(count)] = np.repeat(np.arange(SCORE_SPLITS), np.diff(edges))
    return torch.from_numpy(split)


@dataclass(frozen=True)
class Pairs:
    """The similarity of the two images of pairs of a class."""

    index: Int[Tensor, " p"]
    """Their class."""
    perceptual: Float[Tensor, " p"] | None = None
    ms_ssim: Float[Tensor, " p"] | None = None


@dataclass(frozen=True)
class DomainReadings:
    """Predictions of images translated to one domain, or of real ones that stand for them."""

    field: int
    value: int
    shown: Predictions
    """Of images that are to show the domain's value."""
    kept: Predictions | None = None
    """Of images whose other labels are to stay."""
    content: float | None = None
    """The share of images in which what else is known of them is still seen."""
    target: float | None = None
    """The mean distance of pixels from the true translations, as a share of their range."""


@dataclass(frozen=True)
class FeatureStatistics:
    """Statistics of n images; None those that were not needed."""

    count: int | None
    """None where a file of statistics does not tell."""
    stated: bool = False
    """Whether it comes from such a file, so that nothing but the normal distribution is known."""
    labels: LabelTable | None = None
    normal: Normal | None = None
    moments: Moments | None = None
    """The same in groups."""
    scores: Scores | None = None
    features: Float[Tensor, "n d"] | None = None
    agreement: float | None = None
    """The share of images that the classifier takes for what they claim to be."""
    confusion: Int[Tensor, "k k"] | None = None
    """How many images of each class it reads as each class."""
    errors: Float[Tensor, " n"] | None = None
    """How far the number that it reads in an image is from the one that it claims, in its units; NaN of none."""
    pairs: Pairs | None = None
    nearest: Float[Tensor, " q"] | None = None
    """How far some of the images are from their nearest training image, relative to the next ones."""
    contrasts: Contrasts | None = None
    reconstruction: float | None = None
    """The mean distance of pixels, as a share of their range, of images translated to other labels and back."""
    identity: float | None = None
    """The same of images translated to their own labels."""
    translated: DomainReadings | None = None
    """Of translations to one domain."""

    @classmethod
    def of_predictions(cls, predictions: Predictions, labels: LabelTable | None = None) -> "FeatureStatistics":
        """Statistics of few images, all of which the classifier has read."""
        normal = Moments.of(predictions.features).normal()
        return cls(
            len(predictions.features),
            labels=LabelTable.of(predictions.labels) if labels is None else labels,
            normal=normal,
            features=predictions.features,
            agreement=predictions.agreement,
            errors=_errors(predictions.labels, predictions.logits),
        )

    def of_class(self, number: int) -> "FeatureStatistics":
        """Statistics of the images of one class, or of one part of a number's range."""
        classes = None if self.labels is None else self.labels.by_class()
        assert self.labels is not None
        assert classes is not None
        where = torch.nonzero(classes.index() == number).flatten()
        right = None
        errors = None if self.errors is None or not len(where) else self.errors[where]
        if errors is not None and (range := self.labels.spec.range) is not None:
            right = float((errors <= NEARLY * (range.high - range.low)).double().mean())
        if self.confusion is not None and len(where):
            right = float(self.confusion[number, number] / self.confusion[number].sum())
        alike = None
        if self.pairs is not None:
            own = self.pairs.index == number
            one, other = (None if v is None else v[own] for v in (self.pairs.perceptual, self.pairs.ms_ssim))
            alike = Pairs(self.pairs.index[own], one, other)
        features = None if self.features is None else self.features[where]
        return FeatureStatistics(
            len(where), labels=self.labels.at(where), features=features, agreement=right, errors=errors, pairs=alike
        )


def _errors(labels: Labels, logits: Float[Tensor, "n k"]) -> Float[Tensor, " n"] | None:
    """How far numbers that are read are from those that images claim, in their units; None of other labels."""
    if (range := labels.spec.range) is None:
        return None
    errors = (logits[:, 0] - labels.values[:, 0]).abs() * (range.high - range.low)
    return torch.where(labels.known[:, 0], errors, torch.nan)


class Collector(Protocol):
    """Collect one of the things that a pass over images finds."""

    def add(self, place: slice, chunk: UInt8[Tensor, "b c h w"], seen: Observed) -> None:
        """Take in the images at a place, of which there may be more in the chunk."""
        ...

    def sums(self) -> list[Tensor]:
        """Tensors that are to be added over all processes, in place."""
        ...

    def found(self) -> dict[str, Any]:
        """The fields of FeatureStatistics that they make."""
        ...


class _Moments:
    """Moments of features, in groups where these are asked for."""

    def __init__(self, images: Images, grouped: bool) -> None:
        self.group = groups_of(len(images), images.strata) if grouped else None
        self.moments: Moments | None = None

    def add(self, place: slice, chunk: Tensor, seen: Observed) -> None:
        device = seen.features.device
        groups = 1 if self.group is None else GROUPS
        self.moments = self.moments or Moments.nothing(seen.features.shape[1], groups, device)
        self.moments.add(seen.features, None if self.group is None else self.group[place].to(device))

    def sums(self) -> list[Tensor]:
        return [*vars(self.moments).values()]

    def found(self) -> dict[str, Any]:
        assert self.moments is not None
        return {"normal": self.moments.normal(), "moments": None if self.group is None else self.moments}


class _Scores:
    """Sums of class probabilities."""

    def __init__(self, images: Images) -> None:
        self.split = splits_of(len(images))
        self.scores: Scores | None = None

    def add(self, place: slice, chunk: Tensor, seen: Observed) -> None:
        assert seen.logits is not None
        self.scores = self.scores or Scores.nothing(seen.logits.shape[1], seen.logits.device)
        self.scores.add(seen.logits, self.split[place].to(seen.logits.device))

    def sums(self) -> list[Tensor]:
        return [*vars(self.scores).values()]

    def found(self) -> dict[str, Any]:
        return {"scores": self.scores}


class _Features:
    """All features."""

    def __init__(self, images: Images) -> None:
        self.count = len(images)
        self.features: Tensor | None = None

    def add(self, place: slice, chunk: Tensor, seen: Observed) -> None:
        if self.features is None:
            self.features = torch.zeros(self.count, seen.features.shape[1])
        self.features[place] = seen.features.cpu()

    def sums(self) -> list[Tensor]:
        assert self.features is not None
        return [self.features]

    def found(self) -> dict[str, Any]:
        return {"features": self.features}


class _Predictions:
    """Counts of how often the classifier reads images as what they claim to be and, of classes, as which."""

    def __init__(self, images: Images, extractor: Extractor, classifier: Extractor | None) -> None:
        assert images.labels is not None
        assert classifier is not None
        self.labels, self.classifier = images.labels, None if classifier is extractor else classifier
        self.width = images.labels.spec.width if images.labels.spec.exclusive else 0
        self.right = torch.zeros(1, dtype=torch.float64)
        self.known = torch.zeros(1, dtype=torch.long)
        self.errors = torch.zeros(len(images)) if images.labels.spec.range is not None else None
        self.confusion = torch.zeros(self.width, self.width, dtype=torch.long)

    def add(self, place: slice, chunk: Tensor, seen: Observed) -> None:
        logits = (seen if self.classifier is None else _observed(self.classifier, chunk, place)).logits
        assert logits is not None
        claimed = self.labels[place].to(logits.device)
        known = claimed.known.any(1)
        self.right += claimed.accuracy(logits)[known].double().sum().cpu()
        self.known += known.sum().cpu()
        if self.width:
            cells = (claimed.index() * self.width + logits.argmax(1))[known]
            self.confusion += cells.bincount(minlength=self.width**2).view(self.width, self.width).cpu()
        if self.errors is not None and (errors := _errors(claimed, logits)) is not None:
            self.errors[place] = errors.cpu()

    def sums(self) -> list[Tensor]:
        return [self.right, self.known, self.confusion, *([] if self.errors is None else [self.errors])]

    def found(self) -> dict[str, Any]:
        right = float(self.right / self.known)
        return {"agreement": right, "confusion": self.confusion if self.width else None, "errors": self.errors}


class _Pairs:
    """Pairs of images of a class, which are compared in the end."""

    def __init__(self, images: Images, extractor: Extractor, needs: frozenset[Need]) -> None:
        self.extractor, self.needs = extractor, needs
        self.pairs, self.index = torch.empty(0, 2, dtype=torch.long), torch.empty(0, dtype=torch.long)
        if images.labels is not None and images.labels.spec.exclusive:
            self.index = images.labels.index()
            known = torch.nonzero(self.index >= 0).flatten()
            self.pairs = known[class_pairs(self.index[known], images.labels.spec.width)]
        self.wanted = self.pairs.unique()
        self.stored: Tensor | None = None

    def add(self, place: slice, chunk: Tensor, seen: Observed) -> None:
        if not len(self.wanted):
            return
        if self.stored is None:
            self.stored = torch.zeros(len(self.wanted), *chunk.shape[1:], dtype=torch.uint8)
        own = (self.wanted >= place.start) & (self.wanted < place.stop)
        self.stored[own] = chunk[self.wanted[own] - place.start].cpu()

    def sums(self) -> list[Tensor]:
        return [] if self.stored is None else [self.stored]

    def found(self) -> dict[str, Any]:
        if self.stored is None:
            return {}
        alike = _compared(self.stored, torch.searchsorted(self.wanted, self.pairs), self.extractor, self.needs)
        return {"pairs": Pairs(self.index[self.pairs[:, 0]], *alike)}


class _Contrasts:
    """Contrasts of places."""

    def __init__(self) -> None:
        self.contrasts: Contrasts | None = None

    def add(self, place: slice, chunk: Tensor, seen: Observed) -> None:
        self.contrasts = self.contrasts or Contrasts.nothing(*chunk.shape[1:])
        self.contrasts.add(chunk[: place.stop - place.start])

    def sums(self) -> list[Tensor]:
        return [*vars(self.contrasts).values()]

    def found(self) -> dict[str, Any]:
        return {"contrasts": self.contrasts}


class _RoundTrips:
    """Sums of how far images are from themselves after a translation and back, and after one to their own labels."""

    def __init__(self, images: Images) -> None:
        assert isinstance(images, Translations)
        self.images = images
        self.far = torch.zeros(2, dtype=torch.long)

    def add(self, place: slice, chunk: Tensor, seen: Observed) -> None:
        if place.start == place.stop:
            return
        inputs, own = self.images.split.images[place], self.images.split.labels[place]
        for number, images in enumerate((chunk, inputs)):
            self.far[number] += l1_sum(self.images.model.generate(images, own).cpu(), inputs)

    def sums(self) -> list[Tensor]:
        return [self.far]

    def found(self) -> dict[str, Any]:
        reconstruction, identity = (self.far.double() / (255 * self.images.split.images.numel())).tolist()
        return {"reconstruction": reconstruction, "identity": identity}


def collect_statistics(
    images: Images,
    extractor: Extractor,
    needs: frozenset[Need],
    classifier: Extractor | None = None,
    grouped: bool = False,
) -> FeatureStatistics:
    """Collect what metrics need in one pass over images, of which each process looks at a part; all get the whole.

    `classifier`: who reads their classes, where "predictions" are needed. `grouped`: moments are kept in groups, for
    intervals. Raises UserError for an image whose features are not finite.
    """
    parts: list[Collector] = []
    if "moments" in needs:
        parts.append(_Moments(images, grouped))
    if "scores" in needs:
        parts.append(_Scores(images))
    if "features" in needs:
        parts.append(_Features(images))
    if "predictions" in needs:
        parts.append(_Predictions(images, extractor, classifier))
    if {"perceptual", "ms_ssim"} & needs:
        parts.append(_Pairs(images, extractor, needs))
    if "contrasts" in needs:
        parts.append(_Contrasts())
    if "round trips" in needs:
        parts.append(_RoundTrips(images))
    with distributed.all_or_fail():
        for place, chunk in _shown(images, _own_part(images)):
            seen = _observed(extractor, chunk, place)
            _require_finite(seen.features, extractor, images, place.start)
            for part in parts:
                part.add(place, chunk, seen)
    for part in parts:
        for sums in part.sums():
            distributed.all_reduce(sums)
    found: dict[str, Any] = {}
    for part in parts:
        found |= part.found()
    return FeatureStatistics(len(images), labels=images.labels, **found)


def _own_part(images: Images) -> slice:
    """The images that this process looks at: whole chunks, of which the processes have as many, or one less."""
    size = images.chunk_size
    chunks = math.ceil(len(images) / size)
    start, stop = (chunks * rank // distributed.size() * size for rank in (distributed.rank(), distributed.rank() + 1))
    return slice(start, min(stop, len(images)))


def _shown(images: Images, part: slice) -> Iterator[tuple[slice, UInt8[Tensor, "b c h w"]]]:
    """The chunks of a part and their places, and the leader's bar on a terminal.

    Of nothing an image at an empty place: who has none to look at still learns the shapes of what the others see.
    """
    if part.start == part.stop:
        yield part, images.at(torch.tensor([0]))
        return
    start, hidden = part.start, None if distributed.is_main() else True
    with tqdm(total=part.stop - start, desc="looking", unit="image", leave=False, disable=hidden) as bar:
        for chunk in images.chunks(part):
            yield slice(start, start + len(chunk)), chunk
            start += len(chunk)
            bar.update(len(chunk))


def _observed(extractor: Extractor, chunk: UInt8[Tensor, "b c h w"], place: slice) -> Observed:
    """Look at a chunk, as far as it is at its place."""
    seen, count = extractor(chunk), place.stop - place.start
    return Observed(seen.features[:count], None if seen.logits is None else seen.logits[:count])


def _compared(
    images: UInt8[Tensor, "n c h w"], pairs: Int[Tensor, "p 2"], extractor: Extractor, needs: frozenset[Need]
) -> tuple[Float[Tensor, " p"] | None, Float[Tensor, " p"] | None]:
    """The perceptual distance and the structural similarity of pairs, as far as they are needed."""
    perceptual = torch.zeros(len(pairs)) if "perceptual" in needs else None
    structural = torch.zeros(len(pairs), dtype=torch.float64) if "ms_ssim" in needs else None
    with distributed.all_or_fail():
        for block in torch.arange(len(pairs)).split(PAIRS)[distributed.rank() :: distributed.size()]:
            a, b = (images[side] for side in pairs[block].T)
            if perceptual is not None:
                perceptual[block] = perceptual_distance(extractor, a, b)
            if structural is not None:
                structural[block] = ms_ssim(a, b)
    for values in (perceptual, structural):
        if values is not None:
            distributed.all_reduce(values)
    return perceptual, structural


def _require_finite(features: Float[Tensor, "b d"], extractor: Extractor, images: Images, start: int) -> None:
    """Raises UserError for features that are infinite or not a number, and names the first such image."""
    finite = features.isfinite().all(1)
    if not finite.all():
        number = start + int(finite.int().argmin())
        name = f" ('{images.names[number]}')" if images.names else ""
        raise UserError(
            f"the features of extractor '{extractor.name}' for image {number}{name} of '{images.source}' are not "
            "finite: expected numbers; look at the image, or give another --extractor or --weights"
        )
