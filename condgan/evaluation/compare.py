"""Real images that fakes are held against, and the numbers that come of it.

Axes: n images, d features, q queries, k neighbors, c channels, h × w pixels.
"""

import hashlib
import sys
import zipfile
import zlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from condgan.evaluation.catalog import Asked
from condgan.evaluation.extractors import Extractor
from condgan.evaluation.images import ImageSubset
from condgan.evaluation.metrics.neighbors import Nearest, neighbor_sheet
from condgan.evaluation.moments import Normal
from condgan.evaluation.statistics import FeatureStatistics, Images, Need, Pairs, Scores, gather
from condgan.labels import LabelTable
from condgan.utils import distributed
from condgan.utils.files import cache_directory, new_file

STATISTICS_FORMAT = 1
"""Of cached evidence: changes with what `gather` finds."""
SEARCHED = 1 << 30
"""Bytes of training images' features among which nearest neighbors are searched."""
QUERIES = 5_000
"""Images whose nearest neighbors are searched."""
NEIGHBORS = 6
"""Training images that are searched for each."""
SHOWN = 10
"""Fakes whose neighbors are shown."""


@dataclass(frozen=True)
class Reference:
    """Real images as an extractor sees them, and what else fakes are held against."""

    extractor: Extractor
    classifier: Extractor | None
    """Who reads classes."""
    asked: Asked
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
        asked: Asked,
    ) -> "Reference":
        """Look at real images, or recall them from the cache by `key`, which stands for their content."""
        found = [
            None if images is None else evidence_of(images, key, extractor, classifier, asked.needs)
            for images in (real, other)
        ]
        seen = None
        if training is not None and "copies" in asked.names:
            width = extractor(training.at(torch.tensor([0]))).features.shape[1]
            training = training.some(min(len(training), SEARCHED // (4 * width)))
            seen = evidence_of(training, key, extractor, None, frozenset({"features"})).features
        assert found[0] is not None
        reference = cls(extractor, classifier, asked, found[0], found[1], training, seen)
        return replace(reference, real=reference.with_nearest(found[0])[0]) if seen is not None else reference

    def look(self, fakes: Images) -> "Look":
        """Look at fakes once."""
        grouped = "fd" in self.asked.names
        fake, nearest = self.with_nearest(gather(fakes, self.extractor, self.asked.needs, self.classifier, grouped))
        return Look(self, fakes, fake, nearest)

    def with_nearest(self, evidence: FeatureStatistics) -> tuple[FeatureStatistics, Nearest | None]:
        """Evidence that knows how far images are from the training images, and the search for these."""
        if self.seen is None or evidence.features is None:
            return evidence, None
        chosen = _queries(len(evidence.features))
        nearest = Nearest.among(evidence.features[chosen], self.seen, NEIGHBORS)
        return replace(evidence, nearest=nearest.relative), nearest


@dataclass(frozen=True)
class Look:
    """What was seen of fakes."""

    reference: Reference
    fakes: Images
    evidence: FeatureStatistics
    nearest: Nearest | None

    def metrics(self) -> dict[str, Any]:
        """The numbers, their ceilings under "real", and where asked for the same for each class."""
        asked, real, other = self.reference.asked, self.reference.real, self.reference.other
        found = asked.row(self.evidence, real, other)
        if intervals := asked.interval(self.evidence, real, found):
            found["intervals"] = intervals
        if asked.per_class and self.evidence.labels is not None:
            found["per_class"] = {
                name: asked.row(
                    self.evidence.of_class(number),
                    real.of_class(number),
                    None if other is None else other.of_class(number),
                    of_class=True,
                )
                | _judged(self.evidence, number)
                for number, name in enumerate(self.evidence.labels.spec.classes)
            }
            found |= asked.over_classes([*found["per_class"].values()], found)
        return found

    def neighbors(self) -> Image.Image | None:
        """The fakes that are nearest to training images, and these."""
        if self.nearest is None or self.reference.training is None:
            return None
        nearest = self.nearest.relative.argsort(stable=True)[:SHOWN]
        fakes = self.fakes.at(_queries(len(self.fakes))[nearest])
        places = self.nearest.numbers[nearest]
        images = self.reference.training.at(places.flatten()).unflatten(0, places.shape)
        return neighbor_sheet(fakes, images, self.nearest.distances[nearest])


def _queries(count: int) -> Tensor:
    """The numbers of the images whose neighbors are searched."""
    asked = min(count, QUERIES)
    return torch.arange(asked) * count // asked


def _judged(evidence: FeatureStatistics, number: int) -> dict[str, Any]:
    """As what the classifier reads the fakes of a class."""
    if evidence.judged is None or evidence.labels is None:
        return {}
    names = evidence.labels.spec.classes
    counts = evidence.judged[number].tolist()
    return {"judged": {name: count for name, count in zip(names, counts, strict=True) if count}}


def evidence_of(
    images: ImageSubset, key: str, extractor: Extractor, classifier: Extractor | None, needs: frozenset[Need]
) -> FeatureStatistics:
    """What `gather` finds in real images, from the cache where every process has it; the leader keeps it there.

    The cache is keyed by their content, their order, the extractor, the classifier and what is needed.
    """
    parts = [STATISTICS_FORMAT, key, extractor.name, extractor.sha256, extractor.resize, sorted(needs)]
    parts += [classifier.sha256] if classifier is not None else []
    digest = hashlib.sha256(repr(parts).encode())
    digest.update(images.order.numpy().tobytes())
    digest.update(repr([len(split) for split in images.splits]).encode())
    path = cache_directory() / "evidence" / f"{digest.hexdigest()[:32]}.npz"
    known = _load(path, images.labels) if path.is_file() else None
    missing = distributed.any_rank(known is None)
    if known is not None and not missing:
        return known
    evidence = gather(images, extractor, needs, classifier)
    if distributed.is_main():
        _keep(path, evidence)
    return evidence


def _keep(path: Path, evidence: FeatureStatistics) -> None:
    """Write evidence; its groups, which are for fakes, are left out."""
    scores, pairs, normal = evidence.scores, evidence.pairs, evidence.normal
    parts = {
        "count": torch.tensor(evidence.count),
        "mean": normal and normal.mean,
        "covariance": normal and normal.covariance,
        "score_count": scores and scores.count,
        "score_probability": scores and scores.probability,
        "score_information": scores and scores.information,
        "features": evidence.features,
        "agreement": None if evidence.agreement is None else torch.tensor(evidence.agreement, dtype=torch.float64),
        "judged": evidence.judged,
        "pair_index": pairs and pairs.index,
        "pair_perceptual": pairs and pairs.perceptual,
        "pair_ms_ssim": pairs and pairs.ms_ssim,
    }
    try:
        with new_file(path) as file, file.open("wb") as out:
            np.savez(out, **{name: part.cpu().numpy() for name, part in parts.items() if part is not None})
    except OSError as error:
        tqdm.write(
            f"what was seen of real images cannot be kept in '{path.parent}' ({error.strerror})", file=sys.stderr
        )


def _load(path: Path, labels: LabelTable | None) -> FeatureStatistics | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            known = {name: torch.from_numpy(file[name]) for name in file.files}
        count = int(known["count"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):  # damaged: gathered again
        return None
    normal = scores = pairs = None
    if "mean" in known:
        normal = Normal(known["mean"], known["covariance"])
    if "score_count" in known:
        scores = Scores(*(known[f"score_{part}"] for part in ("count", "probability", "information")))
    if "pair_index" in known:
        pairs = Pairs(known["pair_index"], known.get("pair_perceptual"), known.get("pair_ms_ssim"))
    return FeatureStatistics(
        count,
        labels=labels,
        normal=normal,
        scores=scores,
        features=known.get("features"),
        agreement=float(known["agreement"]) if "agreement" in known else None,
        judged=known.get("judged"),
        pairs=pairs,
    )
