"""Metrics as tables of text."""

from collections.abc import Sequence
from typing import Any

FEW_HELD_OUT = 50
"""Held-out images below which a table of metrics warns of itself."""
ROWS = 40
"""Classes that a table shows unless all are asked for."""


def metric_table(metrics: dict[str, Any], everything: bool = False) -> str:
    """The metrics as text: a line each and, below, the most telling ones per class or attribute."""
    from condgan.evaluation.catalog import is_column, of_translators

    about = metrics["about"]
    values = {name: value for name, value in metrics.items() if not isinstance(value, dict)}
    kinds = [kind for kind in ("real", "across", "intervals") if kind in metrics]
    heads = {"real": "real images", "across": "other data sets", "intervals": "95 % of other fakes"}
    made = "translations" if any(map(of_translators, values)) else "fakes"
    rows = [
        ["", made, *(heads[kind] for kind in kinds)],
        *(
            [name, _number(value), *(_number(metrics[kind].get(name)) for kind in kinds)]
            for name, value in values.items()
        ),
    ]
    lines = _aligned(rows)
    for part in ("per_field", "per_class", "per_attribute"):
        groups = metrics.get(part, {})
        if not groups:
            continue
        shown = dict(list(groups.items())[: len(groups) if everything else ROWS])
        names = [name for name in values if is_column(name) and any(name in row for row in shown.values())]
        cells = [[name, *(_cell(row, metric) for metric in names)] for name, row in shown.items()]
        lines += ["", *_aligned([["", *names], *cells])]
        if len(shown) < len(groups):
            lines.append(f"… and {len(groups) - len(shown):,} more: --per-class shows all")
    of = f" of checkpoint {about['checkpoint']}" if "checkpoint" in about else f" of {about['source']}"
    real = "statistics" if about["real"] is None else f"{about['real']:,} {about['split']} images"
    lines += ["", f"{about['fakes']:,} {made}{of} against {real}; extractor {about['extractor']}"]
    if (sure := about.get("extractor_accuracy")) is not None:
        lines.append(f"classes are read by a classifier that is right on {sure:.1%} of these real images")
    if about["real"] is not None and about["real"] < FEW_HELD_OUT:
        lines.append("so few real images say little: density and coverage take all of them for one neighborhood")
    return "\n".join([*lines, *(f"warning: {one}" for one in about.get("warnings", []))])


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
