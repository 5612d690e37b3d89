"""Keep statistics of real images in the cache."""

import hashlib
import sys
import zipfile
import zlib
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from condgan.evaluation.extractors import Extractor
from condgan.evaluation.images import ImageSubset
from condgan.evaluation.metrics.texture import Contrasts
from condgan.evaluation.moments import Normal
from condgan.evaluation.statistics import FeatureStatistics, Need, Pairs, Scores, collect_statistics
from condgan.labels import LabelTable
from condgan.utils import distributed
from condgan.utils.files import cache_directory, new_file

STATISTICS_FORMAT = 2
"""Of cached statistics: changes with what `collect_statistics` finds."""


def cached_statistics(
    images: ImageSubset, key: str, extractor: Extractor, classifier: Extractor | None, needs: frozenset[Need]
) -> FeatureStatistics:
    """Collect statistics of real images, or recall them from the cache where every process has them; the leader writes.

    The cache is keyed by their content, their order, the extractor, the classifier and what is needed.
    """
    parts = [STATISTICS_FORMAT, key, extractor.name, extractor.sha256, extractor.resize, sorted(needs)]
    parts += [classifier.sha256] if classifier is not None else []
    digest = hashlib.sha256(repr(parts).encode())
    digest.update(images.order.numpy().tobytes())
    digest.update(repr([len(split) for split in images.splits]).encode())
    path = cache_directory() / "statistics" / f"{digest.hexdigest()[:32]}.npz"
    known = _load(path, images.labels) if path.is_file() else None
    missing = distributed.any_rank(known is None)
    if known is not None and not missing:
        return known
    statistics = collect_statistics(images, extractor, needs, classifier)
    if distributed.is_main():
        _keep(path, statistics)
    return statistics


def _keep(path: Path, statistics: FeatureStatistics) -> None:
    """Write statistics; their groups, which are for fakes, are left out."""
    scores, pairs, normal = statistics.scores, statistics.pairs, statistics.normal
    contrasts = statistics.contrasts
    parts = {
        "count": torch.tensor(statistics.count),
        "mean": normal and normal.mean,
        "covariance": normal and normal.covariance,
        "score_count": scores and scores.count,
        "score_probability": scores and scores.probability,
        "score_information": scores and scores.information,
        "features": statistics.features,
        "agreement": None if statistics.agreement is None else torch.tensor(statistics.agreement, dtype=torch.float64),
        "confusion": statistics.confusion,
        "errors": statistics.errors,
        "pair_index": pairs and pairs.index,
        "pair_perceptual": pairs and pairs.perceptual,
        "pair_ms_ssim": pairs and pairs.ms_ssim,
        "contrasts": contrasts and contrasts.counts,
        "alternating": contrasts and contrasts.alternating,
    }
    try:
        with new_file(path) as file, file.open("wb") as out:
            np.savez(out, **{name: part.cpu().numpy() for name, part in parts.items() if part is not None})
    except OSError as error:
        tqdm.write(f"statistics of real images cannot be kept in '{path.parent}' ({error.strerror})", file=sys.stderr)


def _load(path: Path, labels: LabelTable | None) -> FeatureStatistics | None:
    try:
        with np.load(path, allow_pickle=False) as file:
            known = {name: torch.from_numpy(file[name]) for name in file.files}
        count = int(known["count"])
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile, zlib.error):  # damaged: collected again
        return None
    normal = scores = pairs = contrasts = None
    if "mean" in known:
        normal = Normal(known["mean"], known["covariance"])
    if "score_count" in known:
        scores = Scores(*(known[f"score_{part}"] for part in ("count", "probability", "information")))
    if "pair_index" in known:
        pairs = Pairs(known["pair_index"], known.get("pair_perceptual"), known.get("pair_ms_ssim"))
    if "contrasts" in known:
        contrasts = Contrasts(known["contrasts"], known["alternating"])
    return FeatureStatistics(
        count,
        labels=labels,
        normal=normal,
        scores=scores,
        features=known.get("features"),
        agreement=float(known["agreement"]) if "agreement" in known else None,
        confusion=known.get("confusion"),
        errors=known.get("errors"),
        pairs=pairs,
        contrasts=contrasts,
    )
