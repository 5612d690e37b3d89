"""Metrics in words: their names, which direction is better, and how their numbers are written."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

Number = int | float
HIGHER, LOWER, LIKE_REAL = "↑ higher is better", "↓ lower is better", "→ best near real images"


class MetricText(NamedTuple):
    """How a number is told: its name, which direction is better, whether it is a share, and what it is."""

    title: str
    better: str = ""
    share: bool = False
    meaning: str = ""


METRIC_TEXTS = {
    "label_agreement": MetricText("Label agreement", HIGHER, True, "generated images read as the class asked for"),
    "fid": MetricText("FID", LOWER, False, "Fréchet distance of Inception features"),
    "kid_mean": MetricText("KID", LOWER, False, "kernel distance of Inception features"),
    "is_mean": MetricText(
        "Inception score", HIGHER, False, "how sure the network is of an image, and how varied they are"
    ),
    "precision": MetricText("Precision", HIGHER, True, "generated images that lie among real ones"),
    "recall": MetricText("Recall", HIGHER, True, "real images that lie among generated ones"),
    "density": MetricText("Density", HIGHER, False, "how densely generated images lie around real ones"),
    "coverage": MetricText("Coverage", HIGHER, True, "real images with a generated one nearby"),
    "intra_class_diversity": MetricText(
        "Diversity within a class", LIKE_REAL, False, "mean distance of features between two images of a class"
    ),
    "perceptual_diversity": MetricText(
        "Perceptual diversity", LIKE_REAL, False, "mean perceptual distance between two images of a class"
    ),
    "ms_ssim": MetricText("MS-SSIM", LIKE_REAL, False, "similarity of two images of a class; 1 if they are the same"),
    "copies": MetricText(
        "Copies", LIKE_REAL, True, "generated images suspiciously near a training image; 1% by chance"
    ),
    "attribute_accuracy": MetricText("Attribute accuracy", HIGHER, True, "translations that show what was asked for"),
    "kept_accuracy": MetricText("Kept accuracy", HIGHER, True, "other attributes that a translation keeps"),
    "content_accuracy": MetricText("Content accuracy", HIGHER, True, "what else is known of an image, and still seen"),
    "target_mae": MetricText("Distance to the target", LOWER, True, "mean difference, as a share of the pixels' range"),
    "reconstruction_l1": MetricText(
        "Reconstruction error", LOWER, True, "to other labels and back, of the pixels' range"
    ),
    "identity_l1": MetricText("Identity error", LOWER, True, "to an image's own labels, of the pixels' range"),
}
OF_EXTRACTORS = {
    "fd": MetricText("Fréchet distance", LOWER, False, "between the features of generated and real images"),
    "kd": MetricText("Kernel distance", LOWER, False, "squared discrepancy of generated and real images' features"),
    "score": MetricText("Score", HIGHER, False, "how sure the network is of an image, and how varied they are"),
}
"""Metrics that are named after what extracted the features: fd_inception."""
ABOUT = {
    "fakes": "generated images", "real": "real images", "ceilings": "real images of the ceilings",
    "extractor_sha256": "its weights' SHA-256",
    "extractor_accuracy": "the classifier's accuracy on real images", "classifier_sha256": "the classifier's SHA-256",
}  # fmt: skip
"""How the conditions of a measurement are called, where it is otherwise than in metrics.json."""


class Told(NamedTuple):
    """A metric in words: the fakes', its standard deviation if it is a mean, and the same of real images."""

    metric: MetricText
    value: str
    spread: str | None
    real: str | None
    across: str | None
    interval: str | None


class JudgementText(NamedTuple):
    """The numbers that one extractor gave, and how they were measured."""

    told: list[Told]
    measured: list[tuple[str, str]]
    warnings: list[str]


def _judgement(metrics: Mapping[str, Any]) -> JudgementText:
    about = metrics.get("about", {})
    measured = [
        (ABOUT.get(key) or key.replace("_", " "), _plain(key, value))
        for key, value in about.items()
        if key != "warnings"
    ]
    return JudgementText(_told(metrics, _names(metrics)), measured, about.get("warnings", []))


def _metric(name: str) -> MetricText:
    if name.startswith("intra_") and name not in METRIC_TEXTS:
        of_all = _metric(name.removeprefix("intra_"))
        return of_all._replace(title=f"{of_all.title} within a class", meaning="the same of each class, on average")
    kind, _, extractor = name.removesuffix("_mean").partition("_")
    if kind in OF_EXTRACTORS:
        return OF_EXTRACTORS[kind]._replace(title=f"{OF_EXTRACTORS[kind].title} ({extractor})")
    return METRIC_TEXTS.get(name, MetricText(name.replace("_", " ")))


def _names(values: Mapping[str, Any]) -> list[str]:
    """The names of its numbers; a spread is told with its mean."""
    return [name for name, value in values.items() if isinstance(value, int | float) and not name.endswith("_std")]


def _told(values: Mapping[str, Any], names: Iterable[str]) -> list[Told]:
    """Metrics in words, beside the real images' where these are known."""
    told = []
    for name in names:
        metric, ends = _metric(name), values.get("intervals", {}).get(name)
        numbers = (
            values.get(name), values.get(f"{name.removesuffix('_mean')}_std"), values.get("real", {}).get(name),
            values.get("across", {}).get(name),
        )  # fmt: skip
        value, spread_of, real, across = (None if one is None else _number(one, metric.share) for one in numbers)
        interval = ends and " to ".join(_number(end, metric.share) for end in ends)
        told.append(Told(metric, value or "–", spread_of, real, across, interval))
    return told


def _number(value: Number, share: bool) -> str:
    if share:
        return _percent(value)
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def _percent(share: Number, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"


def _percentage_points(difference: Number) -> str:
    return f"{100 * difference:+.1f}".replace("-", "−")


def _plain(key: str, value: Any) -> str:
    """Write a condition of a measurement for people."""
    if value is None:
        return "none"
    if key == "checkpoint":
        return f"{int(value):,} images"
    if isinstance(value, float):
        return _number(value, share="accuracy" in key)
    return f"{value:,}" if isinstance(value, int) else f"{value}"[:16] + "…" if "sha256" in key else f"{value}"
