"""Curves of a run's log and of the search for fakes that help, as SVG that follows the page's light and dark colors."""

import io
import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

from markupsafe import Markup

from condgan.runs.log_file import Record
from condgan.runs.report.metrics import Value, metric_text
from condgan.runs.schemas import Utility
from condgan.utils.figures import spread

POINTS, POINTS_OF_SINGULAR_VALUES = 500, 100
"""At most so many of a curve; weights have very many curves."""
DOTTED = 30
"""Points of a curve up to which each has a dot."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 190, 46, 18, 16, 22
"""A chart and its margins, in pixels."""
LINE_COLORS = 6
BALANCE = "balance"
"""The ratio at which all classes are as large."""
VARIABLES = {f"#0000{i:02x}": f"var(--{name})" for i, name in enumerate(
    ("ink", "quiet", "rule", *(f"line{i}" for i in range(LINE_COLORS)))
)}  # fmt: skip
"""The page's colors by the ones that are drawn with, which are replaced by them."""
INK, QUIET, RULE_COLOR, *LINES = VARIABLES
STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "condgan",
    "path.simplify": False,
    "font.family": "sans-serif",
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 11,
    "axes.formatter.limits": (-3, 5),
    "axes.spines.left": False, "axes.spines.right": False, "axes.spines.top": False, "axes.spines.bottom": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": RULE_COLOR,
    "grid.linewidth": 1,
    "xtick.color": QUIET, "ytick.color": QUIET,
    "xtick.major.size": 0, "ytick.major.size": 0, "ytick.minor.size": 0,
}  # fmt: skip


class Chart(NamedTuple):
    """Curves over images, or over something else."""

    title: str
    note: str
    names: list[str]
    svg: Markup
    """The elements between the SVG's tags."""
    over: str = "the images seen"


def draw_charts(log: Sequence[Record], best_by: str, marked: int | None) -> dict[str, list[Chart]]:
    """Draw the charts of a log by kind: scores, losses, singular values, speed.

    Terms of both players that are called alike share a chart, such as D/class/real and G/class/fake. A dashed line is
    at `marked` images, if any.
    """
    lines: dict[str, list[tuple[Value, Value]]] = {}
    for record in log:
        for name, value in record.items():
            if name not in ("images", "seconds") and math.isfinite(value):
                lines.setdefault(name, []).append((record["images"], value))
    end = max((record["images"] for record in log), default=1)
    charts: dict[str, list[Chart]] = {}
    for kind, group in _groups(lines).items():
        at_most = POINTS_OF_SINGULAR_VALUES if kind == "singular" else POINTS
        for title, names in group.items():
            logarithmic = _spans_much([value for name in names for _, value in lines[name]])
            notes = ["decides the best checkpoint"] if names == [best_by] else []
            notes += ["log scale"] if logarithmic else []
            shown = [[lines[name][i] for i in spread(len(lines[name]), at_most)] for name in names]
            chart = Chart(title, " · ".join(notes), names, _svg(shown, end, marked, logarithmic))
            charts.setdefault(kind, []).append(chart)
    return charts


def _groups(names: Mapping[str, object]) -> dict[str, dict[str, list[str]]]:
    """The names of curves by kind and chart."""
    groups: dict[str, dict[str, list[str]]] = {"scores": {}, "losses": {}, "speed": {}, "singular": {}}
    for name in names:
        kind, *parts = name.split("/")
        if name == "images_per_second":
            groups["speed"]["images per second"] = [name]
        elif kind == "singular":
            groups["singular"].setdefault("/".join(parts[:-1]), []).append(name)
        elif parts:
            groups["losses"].setdefault(parts[0] if kind in ("D", "G") else kind, []).append(name)
        else:
            groups["scores"][metric_text(name).title] = [name]
    return groups


def _spans_much(values: Sequence[Value]) -> bool:
    """Whether values are positive and of very different sizes."""
    return min(values) > sys.float_info.min and max(values) > 30 * min(values)


def draw_search(utility: Utility) -> Chart | None:
    """Draw the accuracy on validation images against the ratio of fakes, a curve for each selection.

    Of each mixture as of the last round that it was tried in, over both truncations the better one. The dashed line is
    the accuracy without fakes; the chosen mixture's dot is larger.
    """
    before = max((value for name, value in utility.baselines.items() if name.split(" by ")[0] == utility.baseline),
                 default=None)  # fmt: skip
    if before is None or not utility.search:
        return None
    last = {(one.ratio, one.selection, one.truncation): one for one in utility.search}
    ratios = sorted({one.ratio for one in last.values()}, key=lambda ratio: math.inf if ratio == BALANCE else ratio)
    curves: dict[str, dict[int, float]] = {}
    for one in last.values():
        points = curves.setdefault("not selected" if one.selection == "none" else one.selection, {})
        place = ratios.index(one.ratio)
        points[place] = max(points.get(place, -math.inf), 100 * (before + one.difference))
    chosen = last.get((utility.chosen.ratio, utility.chosen.selection, utility.chosen.truncation))
    ring = None if chosen is None else (ratios.index(chosen.ratio), 100 * (before + chosen.difference))
    with _axes() as (axes, buffer):
        axes.axhline(100 * before, color=INK, alpha=0.6, linewidth=1, linestyle=(0, (3, 3)))
        for number, points in enumerate(curves.values()):
            axes.plot(
                *zip(*sorted(points.items()), strict=True), "o-", color=LINES[number % LINE_COLORS], lw=1.6, ms=4.4
            )
        if ring is not None:
            axes.plot(*ring, "o", color=INK, ms=9, mfc="none", lw=1.2)
        axes.set_xlim(-0.2, len(ratios) - 0.8)
        axes.set_xticks(range(len(ratios)), [BALANCE if one == BALANCE else f"{one:g}" for one in ratios])
    note = "% of validation images, against fakes for each real image"
    title = "Balanced accuracy"
    return Chart(title, note, [*curves], Markup(_inner(buffer.getvalue())), "the ratio of fakes")


def _svg(lines: Sequence[Sequence[tuple[Value, Value]]], end: Value, marked: int | None, logarithmic: bool) -> Markup:
    """Draw curves from 0 to `end` images."""
    from matplotlib.ticker import EngFormatter, LogLocator, MaxNLocator

    with _axes() as (axes, buffer):
        if marked is not None:
            axes.axvline(marked, color=INK, alpha=0.6, linewidth=1, linestyle=(0, (3, 3)))
        for number, points in enumerate(lines):
            dots = "o" if len(points) <= DOTTED else ""
            axes.plot(*zip(*points, strict=True), dots + "-", color=LINES[number % LINE_COLORS], lw=1.6, ms=4.4)
        axes.set_xlim(0, end)
        axes.xaxis.set_major_locator(MaxNLocator(5))
        axes.xaxis.set_major_formatter(EngFormatter(sep=""))
        if logarithmic:
            axes.set_yscale("log", subs=[])
            low, high = axes.get_ylim()
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if high < 500 * low else (1,)))
            axes.yaxis.set_major_formatter("{x:g}")
    return Markup(_inner(buffer.getvalue()))


@contextmanager
def _axes() -> Iterator[tuple[Any, io.StringIO]]:
    """Axes to draw on, and what holds them as an SVG file afterwards."""
    from matplotlib import rc_context
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    with rc_context(STYLE):
        figure, buffer = Figure((WIDTH / 72, HEIGHT / 72), facecolor="none"), io.StringIO()
        size = ((WIDTH - LEFT - RIGHT) / WIDTH, (HEIGHT - TOP - BOTTOM) / HEIGHT)
        yield figure.add_axes((LEFT / WIDTH, BOTTOM / HEIGHT, *size), facecolor="none"), buffer
        for line in figure.findobj(Line2D):
            line.set_clip_on(False)  # dots at the edges are whole, and clips need names
        figure.savefig(buffer, format="svg", metadata=dict.fromkeys(("Creator", "Date", "Format", "Type")))


def _inner(svg: str) -> str:
    """The elements of an SVG file in the page's colors, without names, which other charts have as well."""
    start, stop = svg.index("</defs>") + len("</defs>"), svg.rindex("</svg>")  # the first are its style for the page
    svg = re.sub(r' id="[\w.]+_\d+"|(?<=\n) +|\n(?=[LC])', "", svg[start:stop])
    return re.sub("|".join(VARIABLES), lambda color: VARIABLES[color[0]], svg)
