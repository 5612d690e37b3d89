"""How good class-conditional images are, overall and per class, beside the same numbers for real images."""

from statistics import fmean
from typing import Any

from condgan.metrics.distances import density_and_coverage, frechet, mean_pairwise
from condgan.metrics.features import Judged

Pair = dict[str, float | None]
"""A metric of the fakes ("fake") and its ceiling ("real"); None where a class has fewer than two images."""

HIGHER_IS_BETTER = {"fd_classifier": False, "label_agreement": True, "density": True, "coverage": True}
"""What a checkpoint is scored by during training."""


def score(fake: Judged, real: Judged) -> dict[str, float]:
    """Fakes against real images by each of `HIGHER_IS_BETTER`."""
    density, coverage = density_and_coverage(fake.features, real.features)
    return {
        "fd_classifier": frechet(fake.features, real.features), "label_agreement": agreement(fake),
        "density": density, "coverage": coverage,
    }  # fmt: skip


def compare(fake: Judged, held_out: Judged, train: Judged) -> dict[str, Any]:
    """Each metric of the fakes, with the same of real images as its ceiling, overall and per class.

    {metric: {"fake": value, "real": ceiling}, …, "per_class": {class: {metric: …}}}. The fakes are held against the
    held-out images, and for the ceilings of fd_classifier, density and coverage so are training images, as many. The
    ceilings of label_agreement and intra_class_diversity are the held-out images' own.
    """
    names = held_out.labels.spec.classes
    per_class = {}
    for i, name in enumerate(names):
        one = [judged.of_class(i) for judged in (fake, held_out, train)]
        per_class[name] = _set_metrics(*one) | {"intra_class_diversity": _pair(_spread(one[0]), _spread(one[1]))}
    diversity = {
        kind: [
            one["intra_class_diversity"][kind]
            for one in per_class.values()
            if one["intra_class_diversity"][kind] is not None
        ]
        for kind in ("fake", "real")
    }
    mean = _pair(*(fmean(values) if values else None for values in diversity.values()))
    return _set_metrics(fake, held_out, train) | {"intra_class_diversity": mean, "per_class": per_class}


def agreement(judged: Judged) -> float:
    """Share of images that the judge takes for the class that they claim."""
    return float(judged.labels.accuracy(judged.logits).mean())


def _set_metrics(fake: Judged, held_out: Judged, train: Judged) -> dict[str, Pair]:
    metrics = {"label_agreement": _pair(agreement(fake), agreement(held_out))}
    if min(len(judged.labels) for judged in (fake, held_out, train)) < 2:
        return metrics | {name: _pair(None, None) for name in ("fd_classifier", "density", "coverage")}
    distances = [frechet(judged.features, held_out.features) for judged in (fake, train)]
    covers = [density_and_coverage(judged.features, held_out.features) for judged in (fake, train)]
    density, coverage = zip(*covers, strict=True)
    return metrics | {"fd_classifier": _pair(*distances), "density": _pair(*density), "coverage": _pair(*coverage)}


def _spread(judged: Judged) -> float | None:
    return mean_pairwise(judged.features) if len(judged.labels) > 1 else None


def _pair(fake: float | None, real: float | None) -> Pair:
    return {"fake": fake, "real": real}
