"""What an extractor sees of a set of images, gathered in one pass over them.

Axes: n images, b of a chunk, q of a sample, c channels, h × w pixels, d features, k classes, s splits, p pairs.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from condgan.errors import UserError
from condgan.labels import LabelTable
from condgan.metrics.distances import SHUFFLE, SPLITS
from condgan.metrics.diversity import class_pairs, ms_ssim, perceptual_distance
from condgan.metrics.extractors import Extractor
from condgan.metrics.moments import GROUPS, Moments, Normal, groups_of

Need = Literal["moments", "scores", "features", "judged", "perceptual", "ms_ssim"]
"""What can be gathered; all but features in the same memory for any number of images."""
PAIRS = 256
"""Pairs of images that are compared at once."""


@runtime_checkable
class Images(Protocol):
    """Images in their order, a chunk at a time, so that they need not be in memory at once."""

    @property
    def source(self) -> str:
        """What messages call them."""
        ...

    @property
    def labels(self) -> LabelTable | None:
        """What each of them shows, or claims to; None where nobody knows."""
        ...

    @property
    def names(self) -> Sequence[str]:
        """Of their files; empty where they have none."""
        ...

    @property
    def strata(self) -> Int[Tensor, " n"] | None:
        """The number of each one's class, whoever's classes these are, where it is of one."""
        ...

    def __len__(self) -> int: ...

    def chunks(self) -> Iterator[UInt8[Tensor, "b c h w"]]:
        """Pixels of 0 … 255."""
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
        shapes = (SPLITS,), (SPLITS, classes), (SPLITS,)
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
    edges = [number * count // SPLITS for number in range(SPLITS + 1)]
    split[np.random.RandomState(SHUFFLE).permutation(count)] = np.repeat(np.arange(SPLITS), np.diff(edges))
    return torch.from_numpy(split)


@dataclass(frozen=True)
class Pairs:
    """How like each other the two images of pairs of a class are."""

    index: Int[Tensor, " p"]
    """Their class."""
    perceptual: Float[Tensor, " p"] | None = None
    ms_ssim: Float[Tensor, " p"] | None = None


@dataclass(frozen=True)
class Evidence:
    """What was gathered of n images; None what was not asked for."""

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
    judged: Int[Tensor, "k k"] | None = None
    """How many images of each class it reads as each class."""
    pairs: Pairs | None = None
    nearest: Float[Tensor, " q"] | None = None
    """How far some of the images are from their nearest training image, relative to the next ones."""

    def of_class(self, number: int) -> "Evidence":
        """Of the images of one class."""
        assert self.labels is not None
        where = torch.nonzero(self.labels.index() == number).flatten()
        right = None
        if self.judged is not None and len(where):
            right = float(self.judged[number, number] / self.judged[number].sum())
        alike = None
        if self.pairs is not None:
            own = self.pairs.index == number
            one, other = (None if v is None else v[own] for v in (self.pairs.perceptual, self.pairs.ms_ssim))
            alike = Pairs(self.pairs.index[own], one, other)
        features = None if self.features is None else self.features[where]
        return Evidence(len(where), labels=self.labels.at(where), features=features, agreement=right, pairs=alike)


def gather(
    images: Images,
    extractor: Extractor,
    needs: frozenset[Need],
    classifier: Extractor | None = None,
    grouped: bool = False,
) -> Evidence:
    """One pass over images. `classifier`: who reads their classes, where "judged" is needed.

    `grouped`: moments are kept in groups, for intervals. Raises UserError for an image whose features are not finite.
    """
    count, labels = len(images), images.labels
    moments = scores = judged = None
    features, right, kept = [], [], []
    exclusive = labels is not None and labels.spec.exclusive
    group, split = groups_of(count, images.strata), splits_of(count)
    pairs = torch.empty(0, 2, dtype=torch.long)
    if {"perceptual", "ms_ssim"} & needs and labels is not None and exclusive:
        pairs = class_pairs(labels.index(), labels.spec.width)
    wanted = pairs.unique()
    start = 0
    for chunk in _shown(images):
        place = slice(start, start + len(chunk))
        start = place.stop
        seen = extractor(chunk)
        _require_finite(seen.features, extractor, images, place.start)
        device = seen.features.device
        if "moments" in needs:
            moments = moments or Moments.nothing(seen.features.shape[1], GROUPS if grouped else 1, device)
            moments.add(seen.features, group[place].to(device) if grouped else None)
        if "scores" in needs:
            assert seen.logits is not None
            scores = scores or Scores.nothing(seen.logits.shape[1], device)
            scores.add(seen.logits, split[place].to(device))
        if "features" in needs:
            features.append(seen.features.cpu())
        if "judged" in needs:
            assert classifier is not None
            assert labels is not None
            logits = (seen if classifier is extractor else classifier(chunk)).logits
            assert logits is not None
            claimed = labels[place].to(device)
            right.append(claimed.accuracy(logits).double().sum())
            if exclusive:
                width = labels.spec.width
                both = torch.bincount(claimed.index() * width + logits.argmax(1), minlength=width**2).view(width, width)
                judged = both if judged is None else judged + both
        if len(wanted):
            kept.append(chunk[wanted[(wanted >= place.start) & (wanted < place.stop)] - place.start].cpu())
    alike = None
    if labels is not None and kept:
        stored, at = torch.cat(kept), torch.searchsorted(wanted, pairs)
        perceptual, structural = [], []
        for block in at.split(PAIRS):
            a, b = stored[block[:, 0]], stored[block[:, 1]]
            if "perceptual" in needs:
                perceptual.append(perceptual_distance(extractor, a, b))
            if "ms_ssim" in needs:
                structural.append(ms_ssim(a, b))
        found = (torch.cat(values) if values else None for values in (perceptual, structural))
        alike = Pairs(labels.index()[pairs[:, 0]], *found)
    return Evidence(
        count,
        labels=labels,
        normal=None if moments is None else moments.normal(),
        moments=moments if grouped else None,
        scores=scores,
        features=torch.cat(features) if features else None,
        agreement=float(torch.stack(right).sum() / count) if right else None,
        judged=None if judged is None else judged.cpu(),
        pairs=alike,
    )


def _shown(images: Images) -> Iterator[UInt8[Tensor, "b c h w"]]:
    """The chunks, and a bar on a terminal."""
    with tqdm(total=len(images), desc="looking", unit="image", leave=False, disable=None) as bar:
        for chunk in images.chunks():
            yield chunk
            bar.update(len(chunk))


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
