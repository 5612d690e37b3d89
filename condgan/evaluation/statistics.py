"""What an extractor sees of a set of images, gathered in one pass over them by all processes together.

Axes: n images, b of a chunk, q of a sample, c channels, h × w pixels, d features, k classes, s splits, p pairs.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from tqdm import tqdm

from condgan.evaluation.extractors import Extractor, Observed
from condgan.evaluation.metrics.distances import SCORE_SPLITS, SHUFFLE
from condgan.evaluation.metrics.diversity import class_pairs, ms_ssim, perceptual_distance
from condgan.evaluation.moments import GROUPS, Moments, Normal, groups_of
from condgan.labels import LabelTable
from condgan.utils import distributed
from condgan.utils.errors import UserError

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
    """How like each other the two images of pairs of a class are."""

    index: Int[Tensor, " p"]
    """Their class."""
    perceptual: Float[Tensor, " p"] | None = None
    ms_ssim: Float[Tensor, " p"] | None = None


@dataclass(frozen=True)
class FeatureStatistics:
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

    def of_class(self, number: int) -> "FeatureStatistics":
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
        return FeatureStatistics(
            len(where), labels=self.labels.at(where), features=features, agreement=right, pairs=alike
        )


def gather(
    images: Images,
    extractor: Extractor,
    needs: frozenset[Need],
    classifier: Extractor | None = None,
    grouped: bool = False,
) -> FeatureStatistics:
    """One pass over images, of which each process looks at a part; all of them get the whole evidence.

    `classifier`: who reads their classes, where "judged" is needed. `grouped`: moments are kept in groups, for
    intervals. Raises UserError for an image whose features are not finite.
    """
    count, labels = len(images), images.labels
    moments = scores = features = stored = None
    exclusive = labels is not None and labels.spec.exclusive
    width = labels.spec.width if labels is not None and exclusive else 0
    right, judged = torch.zeros(1, dtype=torch.float64), torch.zeros(width, width, dtype=torch.long)
    group, split = groups_of(count, images.strata), splits_of(count)
    pairs = torch.empty(0, 2, dtype=torch.long)
    if {"perceptual", "ms_ssim"} & needs and labels is not None and exclusive:
        pairs = class_pairs(labels.index(), width)
    wanted = pairs.unique()
    with distributed.all_or_fail():
        for place, chunk in _shown(images, _own_part(images)):
            seen = _observed(extractor, chunk, place)
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
                if features is None:
                    features = torch.zeros(count, seen.features.shape[1])
                features[place] = seen.features.cpu()
            if "judged" in needs:
                assert classifier is not None
                assert labels is not None
                logits = (seen if classifier is extractor else _observed(classifier, chunk, place)).logits
                assert logits is not None
                claimed = labels[place].to(device)
                right += claimed.accuracy(logits).double().sum().cpu()
                if exclusive:
                    both = torch.bincount(claimed.index() * width + logits.argmax(1), minlength=width**2)
                    judged += both.view(width, width).cpu()
            if len(wanted):
                if stored is None:
                    stored = torch.zeros(len(wanted), *chunk.shape[1:], dtype=torch.uint8)
                own = (wanted >= place.start) & (wanted < place.stop)
                stored[own] = chunk[wanted[own] - place.start].cpu()
    _add_up(moments, scores, features, right, judged, stored)
    alike = None
    if labels is not None and stored is not None:
        found = _compared(stored, torch.searchsorted(wanted, pairs), extractor, needs)
        alike = Pairs(labels.index()[pairs[:, 0]], *found)
    return FeatureStatistics(
        count,
        labels=labels,
        normal=None if moments is None else moments.normal(),
        moments=moments if grouped else None,
        scores=scores,
        features=features,
        agreement=float(right / count) if "judged" in needs else None,
        judged=judged if "judged" in needs and exclusive else None,
        pairs=alike,
    )


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
    """What is seen of a chunk, as far as it is at its place."""
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
    _add_up(perceptual, structural)
    return perceptual, structural


def _add_up(*parts: Tensor | Moments | Scores | None) -> None:
    """Make each of them the sum over all processes, in place; each process has them in the same shapes."""
    for part in parts:
        for sums in vars(part).values() if isinstance(part, Moments | Scores) else [part]:
            if sums is not None:
                distributed.all_reduce(sums)


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
