"""Metrics as tables of text."""

from collections.abc import Sequence
from typing import Any

MOST_TELLING = (
    "attribute_accuracy", "kept_accuracy", "content_accuracy", "target_mae", "{fd}", "label_agreement",
    "label_error", "precision", "coverage", "intra_class_diversity", "recall", "{is}_mean", "{kd}_mean",
)  # fmt: skip
"""The numbers that a short table is made of, as the catalog calls them, those of translators first."""
SHORT = 5
"""Its rows."""


def metric_table(metrics: dict[str, Any], full: bool = False) -> str:
    """The verdict and the most telling metrics as text; in full all of them, and the same per class or attribute.

    Per class nothing is told of few images.
    """
    from condgan.evaluation.catalog import is_column, of_translators
    from condgan.evaluation.verdict import FEW_OF_CLASS, is_telling

    about = metrics["about"]
    values = {name: value for name, value in metrics.items() if not isinstance(value, dict | list)}
    kinds = [kind for kind in ("real", "across", "intervals") if kind in metrics]
    heads = {"real": "real images", "across": "other data sets", "intervals": "95 % of other fakes"}
    made = "translations" if any(map(of_translators, values)) else "fakes"
    shown = values if full else _short(values)
    rows = [
        ["", made, *(heads[kind] for kind in kinds)],
        *(
            [name, _number(value), *(_number(metrics[kind].get(name)) for kind in kinds)]
            for name, value in shown.items()
        ),
    ]
    lines = [*_sentences(metrics.get("verdict", [])), *_aligned(rows)]
    for part in ("per_field", "per_class", "per_attribute") if full else ():
        groups = metrics.get(part, {})
        telling = {name: row for name, row in groups.items() if is_telling(row)}
        names = [name for name in values if is_column(name) and any(name in row for row in telling.values())]
        if telling:
            cells = [[name, *(_cell(row, metric) for metric in names)] for name, row in telling.items()]
            lines += ["", *_aligned([["", *names], *cells])]
        if len(telling) < len(groups):
            few = len(groups) - len(telling)
            lines.append(f"{few:,} class{'es' * (few > 1)} of fewer than {FEW_OF_CLASS} images left out")
    of = f" of checkpoint {about['checkpoint']}" if "checkpoint" in about else f" of {about['source']}"
    real = "statistics" if about["real"] is None else f"{about['real']:,} {about['split']} images"
    lines += ["", f"{about['fakes']:,} {made}{of} against {real}; extractor {about['extractor']}"]
    if (sure := about.get("extractor_accuracy")) is not None:
        what = about.get("labels", "classes")
        lines.append(
            f"{'numbers' if what == 'number' else what} are read by a classifier that is right on {sure:.1%} "
            "of these real images"
        )
    if len(shown) < len(values):
        lines.append(f"--full shows all {len(values)} numbers" + ", and those of each class" * ("per_class" in metrics))
    return "\n".join([*lines, *(f"warning: {one}" for one in about.get("warnings", []))])


def _short(values: dict[str, Any]) -> dict[str, Any]:
    """The most telling numbers, in their own order."""
    from condgan.evaluation.catalog import find_number

    found = {name: find_number(name) for name in values}
    names = {one[1].name: name for name, one in found.items() if one is not None}
    chosen = [names[one] for one in MOST_TELLING if one in names][:SHORT]
    return {name: value for name, value in values.items() if name in chosen} or values


def _sentences(said: Sequence[str]) -> list[str]:
    return [*said, ""] if said else []


def _aligned(rows: list[list[str]]) -> list[str]:
    """Rows of cells in columns: the first at the left, the others at the right."""
    margin = min(24, max(len(row[0]) for row in rows))
    widths = [2 + max(map(len, column)) for column in list(zip(*rows, strict=True))[1:]]
    return [
        f"{row[0]:{margin}.{margin}}" + "".join(f"{cell:>{width}}" for cell, width in zip(row[1:], widths, strict=True))
        for row in rows
    ]


def _cell(row: dict[str, Any], name: str) -> str:
    """A metric of a class: of fakes and, in parentheses, of real images."""
    real = row.get("real", {})
    return _number(row.get(name)) + (f" ({_number(real[name])})" if name in real else "")


def _number(value: float | Sequence[float] | None) -> str:
    if isinstance(value, Sequence):
        return " … ".join(map(_number, value))
    return "–" if value is None else f"{value:.3f}" if abs(value) < 100 else f"{value:.1f}"
