"""Metrics in words: their names, which direction is better, and how their numbers are written."""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

from condgan.evaluation.catalog import describe

Value = int | float
BETTER = {"higher": "↑ higher is better", "lower": "↓ lower is better", "like real": "→ best near real images"}


class MetricText(NamedTuple):
    """How a number is told: its name, which direction is better, whether it is a share, and what it is."""

    title: str
    better: str = ""
    share: bool = False
    meaning: str = ""


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


def judgement(metrics: Mapping[str, Any]) -> JudgementText:
    about = metrics.get("about", {})
    measured = [
        (ABOUT.get(key) or key.replace("_", " "), _plain(key, value))
        for key, value in about.items()
        if key != "warnings"
    ]
    return JudgementText(tell_numbers(metrics, number_names(metrics)), measured, about.get("warnings", []))


def metric_text(name: str) -> MetricText:
    """Describe a metric by its full name; one that the catalog does not know is called by that."""
    known = describe(name)
    if known is None:
        return MetricText(name.replace("_", " "))
    return MetricText(known.title, BETTER[known.better], known.share, known.meaning)


def number_names(values: Mapping[str, Any]) -> list[str]:
    """The names of its numbers; a spread is told with its mean."""
    return [name for name, value in values.items() if isinstance(value, int | float) and not name.endswith("_std")]


def tell_numbers(values: Mapping[str, Any], names: Iterable[str]) -> list[Told]:
    """Metrics in words, beside the real images' where these are known."""
    told = []
    for name in names:
        metric, ends = metric_text(name), values.get("intervals", {}).get(name)
        numbers = (
            values.get(name), values.get(f"{name.removesuffix('_mean')}_std"), values.get("real", {}).get(name),
            values.get("across", {}).get(name),
        )  # fmt: skip
        value, spread_of, real, across = (None if one is None else _number(one, metric.share) for one in numbers)
        interval = ends and " to ".join(_number(end, metric.share) for end in ends)
        told.append(Told(metric, value or "–", spread_of, real, across, interval))
    return told


def _number(value: Value, share: bool) -> str:
    if share:
        return percent(value)
    if isinstance(value, int) or abs(value) >= 1_000:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def percent(share: Value, digits: int = 1) -> str:
    return f"{100 * share:.{digits}f}%"


def percentage_points(difference: Value) -> str:
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
