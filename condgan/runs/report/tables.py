"""Tables of metrics, the worst rows first, and the confusion matrix."""

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from condgan.runs.report.metrics import MetricText, Told, Value, metric_text, number_names, tell_numbers

WORST = 20
"""Rows of a table before the rest is folded."""
CONFUSED = 40
"""Classes of a confusion matrix."""


class Table(NamedTuple):
    """Rows by name; `columns` are the metrics that any of them has."""

    title: str
    what: str
    columns: list[MetricText]
    rows: list[tuple[str, list[Told]]]


class Cell(NamedTuple):
    """How many images of a row's class were read as a column's, and which share of the row."""

    images: int
    share: float
    right: bool


class Confusion(NamedTuple):
    """Asked against judged class; the last column is of all other classes where there are too many."""

    columns: list[str]
    rows: list[tuple[str, int, list[Cell]]]
    commonest: list[tuple[str, str, int, float]]
    classes: int


def tables_of(metrics: Mapping[str, Any]) -> list[Table]:
    kinds = {"per_class": ("Classes", "class"), "per_field": ("Data sets", "labels"),
             "per_attribute": ("Attributes", "asked for")}  # fmt: skip
    tables = []
    for key, (title, what) in kinds.items():
        rows = _worst_first(metrics.get(key, {}))
        names = list(dict.fromkeys(name for row in metrics.get(key, {}).values() for name in number_names(row)))
        if names:
            told = [(name, tell_numbers(row, names)) for name, row in rows]
            tables.append(Table(title, what, [metric_text(name) for name in names], told))
    return tables


def confusion_of(per_class: Mapping[str, dict[str, Any]]) -> Confusion | None:
    """As which classes the classifier reads the images of each; of too many classes, of the worst ones."""
    judged = {name: row["judged"] for name, row in per_class.items() if row.get("judged")}
    if not judged:
        return None
    few = len(per_class) <= CONFUSED
    columns = [*per_class] if few else [name for name, _ in _worst_first(per_class) if name in judged][:CONFUSED]
    rows, wrong = [], []
    for name, counts in judged.items():
        total = sum(counts.values())
        wrong += [(name, other, count, count / total) for other, count in counts.items() if other != name]
    for name in columns:
        counts = judged.get(name, {})
        total = sum(counts.values())
        shown = [(other == name, counts.get(other, 0)) for other in columns]
        if not few:
            shown.append((False, total - sum(count for _, count in shown)))
        cells = [Cell(count, count / total if total else 0.0, right) for right, count in shown]
        rows.append((name, total, cells))
    commonest = sorted(wrong, key=lambda one: -one[2])[:WORST]
    return Confusion(columns, rows, [] if few else commonest, len(per_class))


def _worst_first(rows: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Those least often right, and among equals the farthest from real images."""

    def quality(row: dict[str, Any]) -> tuple[Value, Value]:
        right = row.get("label_agreement", row.get("attribute_accuracy"))
        far = [value for name, value in row.items() if name.startswith(("fd_", "target_mae")) and value is not None]
        return math.inf if right is None else right, -far[0] if far else 0.0

    return sorted(rows.items(), key=lambda item: quality(item[1]))
