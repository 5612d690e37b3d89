"""The one table of metrics: names, functions, ceilings, directions and words of all numbers.

A new metric is a pure function of statistics and a row of METRICS: training's scores, evaluation, truncation curves,
reports and the command line read the table.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any, Literal, NamedTuple

from torch import Tensor

from condgan.evaluation.metrics import translation
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
from condgan.evaluation.metrics.texture import compare_textures
from condgan.evaluation.statistics import SCORE_SPLITS, FeatureStatistics, Need
from condgan.utils.errors import UserError, unknown

Values = Sequence[float | None]
Better = Literal["higher", "lower", "like real"]
Kind = Literal["generator", "translator"]
"""A kind of model: noise → image, or image → image."""
BOTH_KINDS: tuple[Kind, ...] = ("generator", "translator")
CHEAP: dict[Kind, frozenset[Need]] = {
    "generator": frozenset({"predictions", "moments", "features", "classes"}),
    "translator": frozenset({"predictions", "moments", "features", "classes", "round trips"}),
}
"""The needs of numbers that may score checkpoints during training."""
STATED: frozenset[Need] = frozenset({"moments", "scores"})
"""The needs of numbers that a file of statistics meets."""
ENOUGH_FOR_INTERVALS = 100
"""Fakes below which an interval says nothing."""


@dataclass(frozen=True)
class MetricNumber:
    """A number of a metric: its name, in which {fd}, {is} and {kd} stand for the extractor's, and its words."""

    name: str
    title: str
    better: Better
    meaning: str = ""
    inception: tuple[str, str] | None = None
    """Title and meaning with the Inception features, which have names of their own."""
    share: bool = False
    """Whether it is a share, and told in percent."""
    column: bool = False
    """Whether the table per class shows it."""
    curve: bool = False
    """Whether truncation curves show it."""
    scores: tuple[Kind, ...] = ()
    """Models whose checkpoints it scores during training, since it is cheap."""


@dataclass(frozen=True)
class Metric:
    """One or several numbers that are made together, of fakes held against real images."""

    numbers: tuple[MetricNumber, ...]
    needs: frozenset[Need]
    measure: Callable[[FeatureStatistics, FeatureStatistics], Values]
    ceiling: Literal["other", "own", None] = "other"
    """Whose number is the ceiling: that of other real images, the real images' own, or nobody's."""
    alone: bool = False
    """Whether the fakes alone make it."""
    per_class: bool = True
    per_domain: bool = False
    """Whether it is of translations to one domain, and overall the mean of these."""
    kinds: tuple[Kind, ...] = BOTH_KINDS
    least: int = 2
    """Images of either set below which there is none."""
    by_default: bool = True
    """Whether the classifier's features have it without being asked."""
    interval: Callable[[FeatureStatistics, FeatureStatistics], tuple[float, float] | None] | None = None
    """How far the number's 95 % interval reaches below and above it, where it has one."""
    intra: bool = False
    """Whether its mean over classes is a number, too."""

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(number.name for number in self.numbers)

    def of(self, fake: FeatureStatistics, real: FeatureStatistics) -> Values:
        """The numbers, or None each where there are too few images."""
        sets = [fake] if self.alone else [fake, real]
        few = any(one.count is not None and one.count < self.least for one in sets)
        return [None] * len(self.numbers) if few else self.measure(fake, real)


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
    classes = fake.labels.by_class()
    assert classes is not None
    of_classes = [_features(fake)[classes.index() == number] for number in range(classes.spec.width)]
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


def _label_error(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    return [None if fake.errors is None else float(fake.errors.double().nanmean())]


def _copies(fake: FeatureStatistics, real: FeatureStatistics) -> Values:
    assert fake.nearest is not None
    assert real.nearest is not None
    return [copies(fake.nearest, real.nearest)]


def _texture(fake: FeatureStatistics, real: FeatureStatistics) -> Values:
    assert fake.contrasts is not None
    assert real.contrasts is not None
    return compare_textures(fake.contrasts, real.contrasts)


def _checkerboard(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    assert fake.contrasts is not None
    return [fake.contrasts.checkerboard]


def _frechet_interval(fake: FeatureStatistics, real: FeatureStatistics) -> tuple[float, float] | None:
    """None of fewer fakes than features."""
    if fake.moments is None or real.normal is None or fake.count is None:
        return None
    if fake.count < max(ENOUGH_FOR_INTERVALS, len(real.normal.mean) + 1):
        return None
    return frechet_interval(fake.moments, real.normal)


def _attribute_accuracy(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    one = fake.translated
    return [None if one is None else translation.share_shown(one.shown, one.field, one.value)]


def _kept_accuracy(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    one = fake.translated
    return [None if one is None or one.kept is None else translation.share_kept(one.kept, one.field, one.value)]


def _content_accuracy(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    return [None if fake.translated is None else fake.translated.content]


def _target_mae(fake: FeatureStatistics, _real: FeatureStatistics) -> Values:
    return [None if fake.translated is None else fake.translated.target]


def _features(statistics: FeatureStatistics) -> Tensor:
    assert statistics.features is not None
    return statistics.features


METRICS: dict[str, Metric] = {
    "attribute_accuracy": Metric(
        (
            MetricNumber(
                "attribute_accuracy", "Attribute accuracy", "higher", "translations that show what was asked for",
                share=True, column=True,
            ),
        ),
        frozenset({"domains"}), _attribute_accuracy, "own", alone=True, per_domain=True, kinds=("translator",), least=0,
    ),
    "kept_accuracy": Metric(
        (
            MetricNumber(
                "kept_accuracy", "Kept accuracy", "higher", "other attributes that a translation keeps", share=True,
                column=True,
            ),
        ),
        frozenset({"domains"}), _kept_accuracy, "own", alone=True, per_domain=True, kinds=("translator",), least=0,
    ),
    "content_accuracy": Metric(
        (
            MetricNumber(
                "content_accuracy", "Content accuracy", "higher", "what else is known of an image, and still seen",
                share=True, column=True,
            ),
        ),
        frozenset({"domains", "content"}), _content_accuracy, "own", alone=True, per_domain=True,
        kinds=("translator",), least=0,
    ),
    "target_mae": Metric(
        (
            MetricNumber(
                "target_mae", "Distance to the target", "lower", "mean difference, as a share of the pixels' range",
                share=True, column=True,
            ),
        ),
        frozenset({"domains", "targets"}), _target_mae, None, alone=True, per_domain=True, kinds=("translator",),
        least=0,
    ),
    "agreement": Metric(
        (
            MetricNumber(
                "label_agreement", "Label agreement", "higher", "generated images read as the class asked for",
                share=True, column=True, curve=True, scores=BOTH_KINDS,
            ),
        ),
        frozenset({"predictions"}), lambda fake, _: [fake.agreement], "own", alone=True, least=1,
    ),
    "label_error": Metric(
        (
            MetricNumber(
                "label_error", "Label error", "lower",
                "mean distance of the number read from the one asked for, in its units", column=True,
            ),
        ),
        frozenset({"predictions", "number"}), _label_error, "own", alone=True, kinds=("generator",), least=1,
    ),
    "fd": Metric(
        (
            MetricNumber(
                "{fd}", "Fréchet distance", "lower", "between the features of generated and real images",
                inception=("FID", "Fréchet distance of Inception features"), column=True, curve=True, scores=BOTH_KINDS,
            ),
        ),
        frozenset({"moments"}), _frechet, interval=_frechet_interval, intra=True,
    ),
    "is": Metric(
        (
            MetricNumber(
                "{is}_mean", "Score", "higher", "how sure the network is of an image, and how varied they are",
                inception=("Inception score", "how sure the network is of an image, and how varied they are"),
            ),
            MetricNumber("{is}_std", "Spread of the score", "like real"),
        ),
        frozenset({"scores"}), _score, alone=True, per_class=False, least=SCORE_SPLITS,
    ),
    "kd": Metric(
        (
            MetricNumber(
                "{kd}_mean", "Kernel distance", "lower", "squared discrepancy of generated and real images' features",
                inception=("KID", "kernel distance of Inception features"),
            ),
            MetricNumber("{kd}_std", "Spread of the kernel distance", "like real"),
        ),
        frozenset({"features"}), _kernel_distance, per_class=False, by_default=False,
    ),
    "manifolds": Metric(
        (
            MetricNumber(
                "precision", "Precision", "higher", "generated images that lie among real ones", share=True,
                column=True, curve=True,
            ),
            MetricNumber(
                "recall", "Recall", "higher", "real images that lie among generated ones", share=True, column=True,
                curve=True,
            ),
            MetricNumber(
                "density", "Density", "higher", "how densely generated images lie around real ones", curve=True,
                scores=("generator",),
            ),
            MetricNumber(
                "coverage", "Coverage", "higher", "real images with a generated one nearby", share=True, column=True,
                curve=True, scores=("generator",),
            ),
        ),
        frozenset({"features"}), _manifolds,
    ),
    "spread": Metric(
        (
            MetricNumber(
                "intra_class_diversity", "Diversity within a class", "like real",
                "mean distance of features between two images of a class", column=True, curve=True,
            ),
        ),
        frozenset({"features", "classes"}), _spread, "own", alone=True,
    ),
    "perceptual": Metric(
        (
            MetricNumber(
                "perceptual_diversity", "Perceptual diversity", "like real",
                "mean perceptual distance between two images of a class",
            ),
        ),
        frozenset({"perceptual"}), _perceptual, "own", alone=True,
    ),
    "ms_ssim": Metric(
        (
            MetricNumber(
                "ms_ssim", "MS-SSIM", "like real", "similarity of two images of a class; 1 if they are the same"
            ),
        ),
        frozenset({"ms_ssim"}), _ms_ssim, "own", alone=True,
    ),
    "texture": Metric(
        (
            MetricNumber("texture", "Texture", "lower", "how far contrasts are from those of real images, in octaves"),
            MetricNumber(
                "grain", "Grain", "like real",
                "how much stronger the finest detail is than in real images, in octaves; below 0 it is blurred",
            ),
        ),
        frozenset({"contrasts"}), _texture, per_class=False,
    ),
    "checkerboard": Metric(
        (
            MetricNumber(
                "checkerboard", "Checkerboard", "like real", "the finest detail that alternates from pixel to pixel",
                share=True,
            ),
        ),
        frozenset({"contrasts"}), _checkerboard, "own", alone=True, per_class=False,
    ),
    "copies": Metric(
        (
            MetricNumber(
                "copies", "Copies", "like real", "generated images suspiciously near a training image; 1% by chance",
                share=True,
            ),
        ),
        frozenset({"features", "nearest"}), _copies, None, alone=True, per_class=False,
    ),
    "reconstruction": Metric(
        (
            MetricNumber(
                "reconstruction_l1", "Reconstruction error", "lower", "to other labels and back, of the pixels' range",
                share=True, scores=("translator",),
            ),
        ),
        frozenset({"round trips"}), lambda fake, _: [fake.reconstruction], None, alone=True, per_class=False,
        kinds=("translator",), least=1,
    ),
    "identity": Metric(
        (
            MetricNumber(
                "identity_l1", "Identity error", "lower", "to an image's own labels, of the pixels' range", share=True,
                scores=("translator",),
            ),
        ),
        frozenset({"round trips"}), lambda fake, _: [fake.identity], None, alone=True, per_class=False,
        kinds=("translator",), least=1,
    ),
}  # fmt: skip


class Described(NamedTuple):
    """The words of a number under its full name."""

    title: str
    better: Better
    share: bool
    meaning: str


def vocabulary(extractor: str) -> dict[str, str]:
    """The words that stand in names: FID, IS and KID are numbers of the Inception features alone."""
    if extractor == "inception":
        return {"fd": "fid", "is": "is", "kd": "kid"}
    return {"fd": f"fd_{extractor}", "is": f"score_{extractor}", "kd": f"kd_{extractor}"}


def find_number(name: str) -> tuple[Metric, MetricNumber, str | None] | None:
    """The metric and the number of a full name, and the extractor that the name tells, if it tells any."""
    words = {
        "fd": "(fid|fd_(?P<extractor>.+))",
        "is": "(is|score_(?P<extractor>.+))",
        "kd": "(kid|kd_(?P<extractor>.+))",
    }
    for metric in METRICS.values():
        for number in metric.numbers:
            if found := re.fullmatch(number.name.format(**words), name):
                return metric, number, found.groupdict().get("extractor")
    return None


def describe(name: str) -> Described | None:
    """The words of a number by its full name, such as fid, fd_dinov2 or intra_fid; None for one that is not known."""
    found = find_number(name)
    if found is None:
        of_all = describe(name.removeprefix("intra_")) if name.startswith("intra_") else None
        return of_all and of_all._replace(
            title=f"{of_all.title} within a class", meaning="the same of each class, on average"
        )
    _, number, extractor = found
    title, meaning = number.title, number.meaning
    if extractor is not None:
        title = f"{title} ({extractor})"
    elif number.inception is not None:
        title, meaning = number.inception
    return Described(title, number.better, number.share, meaning)


def is_column(name: str) -> bool:
    """Whether the table per class or attribute shows a number."""
    found = find_number(name)
    return found is not None and found[1].column


def of_translators(name: str) -> bool:
    """Whether translators alone have a number."""
    found = find_number(name)
    return found is not None and found[0].kinds == ("translator",)


def score_names(kind: Kind) -> tuple[str, ...]:
    """The numbers that score the checkpoints of a kind of model during training, with the classifier's features."""
    words, names = vocabulary("classifier"), []
    for metric in METRICS.values():
        for number in metric.numbers:
            if kind in number.scores:
                assert metric.needs <= CHEAP[kind], f"{number.name} is not cheap enough to score checkpoints"
                names.append(number.name.format(**words))
    return tuple(names)


def curve_names(classes: int) -> tuple[str, ...]:
    """The numbers that truncation curves show of so many classes; of one there is nothing to agree with."""
    words = vocabulary("classifier")
    return tuple(
        number.name.format(**words)
        for metric in METRICS.values()
        for number in metric.numbers
        if number.curve and (classes > 1 or "predictions" not in metric.needs)
    )


def better_first(name: str) -> int:
    """1 where a lower number is better and −1 where a higher one is: to sort the best first."""
    found = find_number(name)
    assert found is not None
    assert found[1].better != "like real", f"{name} has no direction to rank checkpoints by"
    return -1 if found[1].better == "higher" else 1


@dataclass(frozen=True)
class MetricSelection:
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
        keys = [key for key in self.names if not METRICS[key].per_domain and (METRICS[key].per_class or not of_class)]
        ceilings = self._ceilings(keys, real, other)
        return self._numbers(keys, fake, real) | ({"real": ceilings} if ceilings else {})

    def domain_row(
        self, fake: FeatureStatistics, real: FeatureStatistics, across: FeatureStatistics | None
    ) -> dict[str, Any]:
        """The numbers of translations to one domain, as far as there are any, and those of real images.

        `across`: translations of other data sets' images, whose numbers are under "across".
        """
        keys = [key for key in self.names if METRICS[key].per_domain]
        row: dict[str, Any] = self._numbers(keys, fake, real)
        row["real"] = self._ceilings(keys, real, None)
        row["across"] = {} if across is None else self._numbers(keys, across, real)
        return without_none(row)

    def _numbers(
        self, keys: Sequence[str], fake: FeatureStatistics, real: FeatureStatistics
    ) -> dict[str, float | None]:
        values: dict[str, float | None] = {}
        for key in keys:
            values |= _named(self.names[key], METRICS[key].of(fake, real))
        return values

    def _ceilings(
        self, keys: Sequence[str], real: FeatureStatistics, other: FeatureStatistics | None
    ) -> dict[str, float | None]:
        values: dict[str, float | None] = {}
        for key in keys:
            held = {"other": other, "own": real, None: None}[METRICS[key].ceiling]
            if held is not None and not held.stated:
                values |= _named(self.names[key], METRICS[key].of(held, real))
        return values

    def over_classes(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        """The means over classes of metrics that have one, such as the intra-FID (Miyato & Koyama 2018), and ceilings.

        None where no class has a number.
        """
        found: dict[str, Any] = {}
        for name in self._chosen(lambda metric: metric.intra):
            for row, of_kind in ((found, rows), (found.setdefault("real", {}), [one.get("real", {}) for one in rows])):
                values = [one[name] for one in of_kind if one.get(name) is not None]
                row[f"intra_{name}"] = fmean(values) if values else None
            found["real"] = without_none(found["real"])
        return found

    def intervals(
        self, fake: FeatureStatistics, real: FeatureStatistics, values: Mapping[str, Any]
    ) -> dict[str, list[float]]:
        """95 % intervals of the numbers that have one."""
        found = {}
        for key, names in self.names.items():
            measure = METRICS[key].interval
            reach = None if measure is None else measure(fake, real)
            if reach is not None:
                found |= {name: [max(0.0, values[name] + reach[0]), values[name] + reach[1]] for name in names if name}
        return found

    def _chosen(self, wanted: Callable[[Metric], bool]) -> list[str]:
        return [name for key, names in self.names.items() if wanted(METRICS[key]) for name in names if name]


def mean_row(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The mean of each number over the rows that have it, and of those under "real" and "across"."""
    mean: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        mean[name] = mean_row(values) if isinstance(values[0], dict) else fmean(values)
    return mean


def without_none(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row without the numbers that there are not, and without parts of which nothing is left."""
    found = {name: without_none(value) if isinstance(value, dict) else value for name, value in row.items()}
    return {name: value for name, value in found.items() if value is not None and value != {}}


def _known(extractor: str, kind: Kind) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """The names of each metric's numbers, and the metric of each of these names and of its own."""
    words = vocabulary(extractor)
    names = {
        key: tuple(name.format(**words) for name in metric.names)
        for key, metric in METRICS.items()
        if kind in metric.kinds
    }
    return names, {words[key]: key for key in words} | {name: key for key, ours in names.items() for name in ours}


def require_metrics(extractor: str, wanted: Sequence[str]) -> None:
    """Raises UserError for a name that no kind of model has with this extractor, before anything is read."""
    of_name = _known(extractor, "generator")[1] | _known(extractor, "translator")[1]
    for name in wanted:
        _require_metric(extractor, name, of_name)


def _require_metric(extractor: str, name: str, of_name: Mapping[str, str]) -> None:
    """Raises UserError for a name that is not one of these."""
    if name in of_name:
        return
    inception = vocabulary("inception")
    if name in inception.values():
        mine = vocabulary(extractor)[next(key for key, called in inception.items() if called == name)]
        raise UserError(
            f"metric '{name}' asked for with extractor '{extractor}', but {name.upper()} is a number of the "
            f"Inception features alone: ask for {mine}, or give --extractor inception"
        )
    raise unknown("metric", name, of_name)


def select_metrics(
    extractor: str, wanted: Sequence[str] | None, absent: Mapping[str, str], kind: Kind = "generator"
) -> MetricSelection:
    """Select the metrics of some names, or all of a kind of model but those with a reason why they are `absent`.

    Raises UserError for a name that there is not, or not with this extractor, and for one that is absent.
    """
    words = vocabulary(extractor)
    names, of_name = _known(extractor, kind)
    if wanted is None:
        classifier = extractor == "classifier"  # whose kernel distances have no scale
        chosen = [key for key in names if key not in absent and (METRICS[key].by_default or not classifier)]
        return MetricSelection({key: names[key] for key in chosen})
    found: dict[str, set[str]] = {}
    for name in wanted:
        _require_metric(extractor, name, of_name)
        key = of_name[name]
        if key in absent:
            raise UserError(f"metric '{name}' asked for, but {absent[key]}")
        found.setdefault(key, set()).update(names[key] if name == words.get(key) else [name])
    return MetricSelection(
        {key: tuple(one if one in asked else "" for one in names[key]) for key, asked in found.items()}
    )


def _named(names: Sequence[str], values: Values) -> dict[str, float | None]:
    return {name: value for name, value in zip(names, values, strict=True) if name}
