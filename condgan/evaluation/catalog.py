"""Every number that is told of a set of fakes: what it is called, what it is made of, and what its ceiling is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal

from torch import Tensor

from condgan.evaluation.metrics.distances import (
    frechet,
    frechet_interval,
    frechet_of,
    kernel_distance,
    manifolds,
    mean_pairwise,
)
from condgan.evaluation.metrics.diversity import class_means
from condgan.evaluation.metrics.neighbors import copies
from condgan.evaluation.statistics import SCORE_SPLITS, FeatureStatistics, Need
from condgan.utils.errors import UserError, unknown

Values = Sequence[float | None]
ENOUGH_FOR_INTERVALS = 100
"""Fakes below which an interval says nothing."""


@dataclass(frozen=True)
class Metric:
    """One or several numbers that are made together, of fakes held against real images."""

    names: tuple[str, ...]
    needs: frozenset[Need]
    measure: Callable[[FeatureStatistics, FeatureStatistics], Values]
    ceiling: Literal["other", "own", None] = "other"
    """Whose number is the ceiling: that of other real images, the real images' own, or nobody's."""
    alone: bool = False
    """Whether the fakes alone make it."""
    per_class: bool = True
    least: int = 2
    """Images of either set below which there is none."""

    def of(self, fake: FeatureStatistics, real: FeatureStatistics) -> Values:
        """The numbers, or None each where there are too few images."""
        sets = [fake] if self.alone else [fake, real]
        few = any(one.count is not None and one.count < self.least for one in sets)
        return [None] * len(self.names) if few else self.measure(fake, real)


def _frechet(fake: FeatureStatistics, real: FeatureStatistics) -> Values:
    if fake.features is not None and real.features is not None:
        small = min(len(fake.features), len(real.features)) <= fake.features.shape[1]
        if small or fake.normal is None or real.normal is None:
            return [frechet(fake.features, real.features)]
    assert fake.normal is not None
    assert real.normal is not None
    return [frechet_of(fake.normal, real.normal)]


def _score(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    assert fake.scores is not None
    return fake.scores.score()


def _kernel_distance(fake: FeatureStatistics, real: FeatureStatistics) -> Values:
    return kernel_distance(_features(fake), _features(real))


def _manifolds(fake: FeatureStatistics, real: FeatureStatistics) -> Values:
    return manifolds(_features(fake), _features(real))


def _spread(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    assert fake.labels is not None
    of_classes = [_features(fake)[fake.labels.index() == number] for number in range(fake.labels.spec.width)]
    values = [mean_pairwise(features) for features in of_classes if len(features) > 1]
    return [fmean(values) if values else None]


def _perceptual(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    return _mean_of_pairs(fake, None if fake.pairs is None else fake.pairs.perceptual)


def _ms_ssim(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    return _mean_of_pairs(fake, None if fake.pairs is None else fake.pairs.ms_ssim)


def _mean_of_pairs(fake: FeatureStatistics, values: Tensor | None) -> Values:
    if values is None or fake.pairs is None or fake.labels is None:
        return [None]
    return [class_means(values, fake.pairs.index, fake.labels.spec.width)[0]]


def _copies(fake: FeatureStatistics, real: FeatureStatistics) -> Values:
    assert fake.nearest is not None
    assert real.nearest is not None
    return [copies(fake.nearest, real.nearest)]


def _features(evidence: FeatureStatistics) -> Tensor:
    assert evidence.features is not None
    return evidence.features


METRICS = {
    "agreement": Metric(
        ("label_agreement",), frozenset({"judged"}), lambda fake, _: [fake.agreement], "own", alone=True, least=1
    ),
    "fd": Metric(("{fd}",), frozenset({"moments"}), _frechet),
    "is": Metric(
        ("{is}_mean", "{is}_std"), frozenset({"scores"}), _score, alone=True, per_class=False, least=SCORE_SPLITS
    ),
    "kd": Metric(("{kd}_mean", "{kd}_std"), frozenset({"features"}), _kernel_distance, per_class=False),
    "manifolds": Metric(("precision", "recall", "density", "coverage"), frozenset({"features"}), _manifolds),
    "spread": Metric(("intra_class_diversity",), frozenset({"features"}), _spread, "own", alone=True),
    "perceptual": Metric(("perceptual_diversity",), frozenset({"perceptual"}), _perceptual, "own", alone=True),
    "ms_ssim": Metric(("ms_ssim",), frozenset({"ms_ssim"}), _ms_ssim, "own", alone=True),
    "copies": Metric(("copies",), frozenset({"features"}), _copies, None, alone=True, per_class=False),
}


def vocabulary(extractor: str) -> dict[str, str]:
    """What stands in names: FID, IS and KID are numbers of the Inception features alone."""
    if extractor == "inception":
        return {"fd": "fid", "is": "is", "kd": "kid"}
    return {"fd": f"fd_{extractor}", "is": f"score_{extractor}", "kd": f"kd_{extractor}"}


@dataclass(frozen=True)
class Asked:
    """The metrics that were asked for, with the names that they have with an extractor."""

    names: dict[str, tuple[str, ...]]
    """By the key in METRICS: the names of its numbers, '' of those not asked for."""
    per_class: bool = False
    """Whether they are asked for of each class, too."""

    @property
    def needs(self) -> frozenset[Need]:
        own: frozenset[Need] = frozenset({"features"} if self.per_class else ())
        return own.union(*(METRICS[key].needs for key in self.names))

    def require(self, fakes: int, real: int | None) -> None:
        """Raises UserError for fewer images than a metric needs."""
        for key, names in self.names.items():
            metric = METRICS[key]
            given = {"fakes": fakes} if metric.alone or real is None else {"fakes": fakes, "real images": real}
            for what, count in given.items():
                if count < metric.least:
                    name = next(name for name in names if name)
                    raise UserError(
                        f"metric '{name}' asked for of {count} {what}: expected {metric.least} or more; give more, or "
                        "leave it out"
                    )

    def row(
        self, fake: FeatureStatistics, real: FeatureStatistics, other: FeatureStatistics | None, of_class: bool = False
    ) -> dict[str, Any]:
        """The numbers of fakes held against real images and, under "real", their ceilings where there are any.

        `other`: real images like the real ones; without them only what the real images have alone is a ceiling.
        """
        row: dict[str, Any] = {}
        ceilings: dict[str, float | None] = {}
        for key, names in self.names.items():
            metric = METRICS[key]
            if of_class and not metric.per_class:
                continue
            row |= _named(names, metric.of(fake, real))
            held = {"other": other, "own": real, None: None}[metric.ceiling]
            if held is not None and not held.stated:
                ceilings |= _named(names, metric.of(held, real))
        return row | ({"real": ceilings} if ceilings else {})

    def over_classes(self, rows: Sequence[dict[str, Any]], whole: dict[str, Any]) -> dict[str, Any]:
        """The Fréchet distance of a class, on average (intra-FID, Miyato & Koyama 2018), and its ceiling."""
        if "fd" not in self.names:
            return {}
        (name,) = self.names["fd"]
        means = {}
        for kind, of_kind in (("fake", rows), ("real", [row.get("real", {}) for row in rows])):
            values = [row[name] for row in of_kind if row.get(name) is not None]
            means[kind] = fmean(values) if values else None
        real = {} if means["real"] is None else {"real": whole.get("real", {}) | {f"intra_{name}": means["real"]}}
        return {f"intra_{name}": means["fake"]} | real

    def interval(
        self, fake: FeatureStatistics, real: FeatureStatistics, value: dict[str, Any]
    ) -> dict[str, list[float]]:
        """95 % intervals of the numbers of a row that have one: not of fewer fakes than features."""
        if "fd" not in self.names or fake.moments is None or real.normal is None or fake.count is None:
            return {}
        if fake.count < max(ENOUGH_FOR_INTERVALS, len(real.normal.mean) + 1):
            return {}
        (name,) = self.names["fd"]
        low, high = frechet_interval(fake.moments, real.normal)
        return {name: [max(0.0, value[name] + low), value[name] + high]}


def ask(extractor: str, wanted: Sequence[str] | None, absent: Mapping[str, str]) -> Asked:
    """The metrics of some names, or all of METRICS but those with a reason why they are `absent`.

    Raises UserError for a name that there is not, or not with this extractor, and for one that is absent.
    """
    words = vocabulary(extractor)
    names = {key: tuple(name.format(**words) for name in metric.names) for key, metric in METRICS.items()}
    of_name = {words[key]: key for key in words} | {name: key for key, ours in names.items() for name in ours}
    if wanted is None:
        unread = {*absent, "kd"} if extractor == "classifier" else {*absent}  # its kernel distances have no scale
        return Asked({key: names[key] for key in METRICS if key not in unread})
    found: dict[str, set[str]] = {}
    for name in wanted:
        if name not in of_name and name in (inception := vocabulary("inception")).values():
            mine = words[next(key for key, called in inception.items() if called == name)]
            raise UserError(
                f"metric '{name}' asked for with extractor '{extractor}', but {name.upper()} is a number of the "
                f"Inception features alone: ask for {mine}, or give --extractor inception"
            )
        if name not in of_name:
            raise unknown("metric", name, of_name)
        key = of_name[name]
        if key in absent:
            raise UserError(f"metric '{name}' asked for, but {absent[key]}")
        found.setdefault(key, set()).update(names[key] if name == words.get(key) else [name])
    return Asked({key: tuple(one if one in asked else "" for one in names[key]) for key, asked in found.items()})


def _named(names: Sequence[str], values: Values) -> dict[str, float | None]:
    return {name: value for name, value in zip(names, values, strict=True) if name}
