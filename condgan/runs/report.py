"""The report card: a run directory as one page of HTML that is complete in itself."""

import base64
import io
import json
import math
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any, NamedTuple

from jinja2 import Environment, StrictUndefined, Template
from PIL import Image

from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs.directory import require_run
from condgan.utils.errors import UserError
from condgan.utils.figures import png, spread
from condgan.utils.files import write

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
"""What stands behind the metrics, where it is called otherwise than in metrics.json."""

POINTS, POINTS_OF_SINGULAR_VALUES = 500, 100
"""At most so many of a curve; weights have very many curves."""
WORST = 20
"""Rows of a table before the rest is folded."""
CONFUSED = 40
"""Classes of a confusion matrix."""
SHEETS = 8
"""Pictures of samples over time."""
PIXELS, PIXELS_OF_MANY = 1_500_000, 150_000
"""What larger pictures are reduced to, alone and among others."""
WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM = 360, 190, 46, 18, 8, 22
"""A chart and its margins."""


class EmbeddedPicture(NamedTuple):
    """A PNG file in base64, and its size in pixels."""

    data: str
    width: int
    height: int
    caption: str


class Line(NamedTuple):
    """A curve, in a chart's coordinates."""

    name: str
    points: list[tuple[float, float]]


class Chart(NamedTuple):
    """Curves over images; ticks are (place, text), and `marked` is the place of the judged checkpoint."""

    title: str
    note: str
    lines: list[Line]
    across: list[tuple[float, str]]
    up: list[tuple[float, str]]
    marked: float | None


class Told(NamedTuple):
    """A metric in words: the fakes', its standard deviation if it is a mean, and the same of real images."""

    metric: MetricText
    value: str
    spread: str | None
    real: str | None
    across: str | None
    interval: str | None


class JudgementText(NamedTuple):
    """What was measured with one extractor, and how."""

    told: list[Told]
    measured: list[tuple[str, str]]
    warnings: list[str]


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


def write_report(directory: str | Path, out: str | Path | None = None) -> Path:
    """Write a run's report card, report.html in its directory by default, and return its path.

    The page needs no other file and no network. What the run does not have yet is left out; the page says which
    command adds it. Raises UserError if `directory` is no run directory.
    """
    directory = Path(directory)
    require_run(directory)
    path = Path(out) if out else directory / "report.html"
    write(path, _page(directory).encode(errors="backslashreplace"))
    return path


def _page(directory: Path) -> str:
    recipe = load(directory / "recipe.yaml")
    environment, metrics, utility = (
        _json(directory / f"{name}.json") for name in ("environment", "metrics", "utility")
    )
    log = _log(directory / "log.jsonl")
    about = metrics.get("about", {})
    marked = int(about["checkpoint"]) if "checkpoint" in about else None
    others = sorted(directory.glob("metrics-*.json"))  # with other extractors
    return _template().render(
        name=recipe.name,
        run=directory.resolve().name,
        description=recipe.description,
        facts=_facts(recipe, environment, log),
        translates=recipe.translates,
        sheet=_picture(directory / "sheet.png", "generated images"),
        judgements=[_judgement(_json(path)) for path in [directory / "metrics.json", *others] if path.is_file()],
        curves=_curves(log, recipe.schedule.best_by, marked),
        marked=marked,
        over_time=_over_time(directory / "samples"),
        tables=_tables(metrics),
        neighbors=_picture(directory / "neighbors.png", "generated images and their nearest training images"),
        confusion=_confusion(metrics.get("per_class", {})),
        utility=utility,
        harmed_first=sorted(utility.get("per_class", {}).items(), key=lambda one: one[1]["difference"]),
        yaml=(directory / "recipe.yaml").read_text(encoding="utf-8"),
        environment=environment,
        commands={verb: shlex.join(["condgan", verb, str(directory)]) for verb in ("evaluate", "utility")},
        WORST=WORST,
        size=(WIDTH, HEIGHT, LEFT, RIGHT, TOP, BOTTOM),
    )


@cache
def _template() -> Template:
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {"percent": _percent, "points": _percentage_points}
    return jinja.from_string(files("condgan.runs").joinpath("report.html").read_text(encoding="utf-8"))


def _json(path: Path) -> dict[str, Any]:
    try:
        return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except ValueError as error:
        raise UserError(f"'{path}' is damaged ({error}): make it anew") from None


def _log(path: Path) -> list[dict[str, Number]]:
    """The whole lines of a log; the last one of a run that was killed may be none."""
    records = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.is_file() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            continue
    return records


def _facts(recipe: Recipe, environment: dict[str, Any], log: list[dict[str, Number]]) -> str:
    """What was trained on what, how long and on which hardware, as a sentence."""
    gan = "A conditional GAN" if recipe.conditional else "An unconditional GAN"
    model = "An image translator" if recipe.translates else gan
    source = f" on {' and '.join(recipe.data.sources)}" if recipe.data.sources else ""
    said = f"{model} ({recipe.objective.name}) of {recipe.data.size} px images, trained{source}"
    if environment:
        data, labels = environment["data"], "attributes" if recipe.translates else "classes"
        said += f" ({data['train']:,} images, {len(data['classes'])} {labels})"
    if log:
        said += f": {log[-1]['images']:,} images seen in {_duration(log[-1]['seconds'])}"
    if environment:
        said += f" on {environment['gpu'] or environment['cpu'] or environment['platform']}"
    return f"{said}."


def _duration(seconds: Number) -> str:
    """In its two largest units."""
    left = max(1, round(seconds))
    for larger, size, smaller, unit in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if left >= size:
            return f"{left // size} {larger} {left % size // unit} {smaller}"
    return f"{left} s"


def _picture(path: Path, caption: str, pixels: int = PIXELS) -> EmbeddedPicture | None:
    """A picture if it exists, reduced to so many pixels where this makes the file smaller."""
    if not path.is_file():
        return None
    content = path.read_bytes()
    try:
        picture = Image.open(io.BytesIO(content))
        picture.load()
    except OSError:
        raise UserError(f"'{path}' is no whole picture: make it anew, or remove it") from None
    size = picture.size
    if (scale := math.sqrt(pixels / math.prod(size))) < 1:
        fewer = picture.convert("RGB").resize([max(1, int(side * scale)) for side in size], Image.Resampling.LANCZOS)
        content, size = min((content, size), (png(fewer), fewer.size), key=lambda one: len(one[0]))
    return EmbeddedPicture(base64.b64encode(content).decode(), *size, caption)


def _over_time(samples: Path) -> list[EmbeddedPicture]:
    """Sheets of samples, evenly spread over the training, and the real images'."""
    numbers = sorted(int(path.stem) for path in samples.glob("*.png") if path.stem.isdecimal())
    shown = [numbers[position] for position in spread(len(numbers), SHEETS)]
    pictures = [_picture(samples / f"{images}.png", f"{images:,} images", PIXELS_OF_MANY) for images in shown]
    real = _picture(samples / "real.png", "real images", PIXELS_OF_MANY)
    return [picture for picture in (*pictures, real) if picture]


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
    """What stands behind the metrics, in words."""
    if value is None:
        return "none"
    if key == "checkpoint":
        return f"{int(value):,} images"
    if isinstance(value, float):
        return _number(value, share="accuracy" in key)
    return f"{value:,}" if isinstance(value, int) else f"{value}"[:16] + "…" if "sha256" in key else f"{value}"


def _worst_first(rows: Mapping[str, dict[str, Any]]) -> list[tuple[str, dict[str, Any]]]:
    """Those least often right, and among equals the farthest from real images."""

    def quality(row: dict[str, Any]) -> tuple[Number, Number]:
        right = row.get("label_agreement", row.get("attribute_accuracy"))
        far = [value for name, value in row.items() if name.startswith(("fd_", "target_mae")) and value is not None]
        return math.inf if right is None else right, -far[0] if far else 0.0

    return sorted(rows.items(), key=lambda item: quality(item[1]))


def _tables(metrics: Mapping[str, Any]) -> list[Table]:
    kinds = {"per_class": ("Classes", "class"), "per_field": ("Data sets", "labels"),
             "per_attribute": ("Attributes", "asked for")}  # fmt: skip
    tables = []
    for key, (title, what) in kinds.items():
        rows = _worst_first(metrics.get(key, {}))
        names = list(dict.fromkeys(name for row in metrics.get(key, {}).values() for name in _names(row)))
        if names:
            told = [(name, _told(row, names)) for name, row in rows]
            tables.append(Table(title, what, [_metric(name) for name in names], told))
    return tables


def _confusion(per_class: Mapping[str, dict[str, Any]]) -> Confusion | None:
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


def _curves(log: Sequence[Mapping[str, Number]], best_by: str, marked: int | None) -> dict[str, list[Chart]]:
    """Charts by kind: scores, losses, singular values, speed.

    Terms of both players that are called alike share a chart, such as D/class/real and G/class/fake.
    """
    lines: dict[str, list[tuple[Number, Number]]] = {}
    for record in log:
        for name, value in record.items():
            if name not in ("images", "seconds") and math.isfinite(value):
                lines.setdefault(name, []).append((record["images"], value))
    groups: dict[str, dict[str, list[str]]] = {"scores": {}, "losses": {}, "speed": {}, "singular": {}}
    for name in lines:
        kind, *parts = name.split("/")
        if name == "images_per_second":
            groups["speed"]["images per second"] = [name]
        elif kind == "singular":
            groups["singular"].setdefault("/".join(parts[:-1]), []).append(name)
        elif parts:
            groups["losses"].setdefault(parts[0] if kind in ("D", "G") else kind, []).append(name)
        else:
            groups["scores"][_metric(name).title] = [name]
    end = max((record["images"] for record in log), default=1)
    charts: dict[str, list[Chart]] = {}
    for kind, group in groups.items():
        at_most = POINTS_OF_SINGULAR_VALUES if kind == "singular" else POINTS
        for title, names in group.items():
            note = "decides the best checkpoint" if names == [best_by] else ""
            chart = _chart(title, note, {name: lines[name] for name in names}, end, marked, at_most)
            charts.setdefault(kind, []).append(chart)
    return charts


def _chart(
    title: str,
    note: str,
    lines: Mapping[str, Sequence[tuple[Number, Number]]],
    end: Number,
    marked: int | None,
    at_most: int,
) -> Chart:
    """Curves from 0 to `end` images; the scale is logarithmic where they are positive and span much."""
    values = [value for line in lines.values() for _, value in line]
    low, high = min(values), max(values)
    largest, least = max(abs(low), abs(high)), sys.float_info.min
    flat = high - low <= max(1e-12 * largest, least)  # but for rounding
    logarithmic = not flat and low > 0 and high / low > 30
    if flat:
        room = 0.1 * largest if 0.1 * largest > least else 1
        low, high = low - room, high + room
    up = _decades(low, high) if logarithmic else _ticks(low, high)

    def across(images: Number) -> float:
        return round(LEFT + (WIDTH - LEFT - RIGHT) * images / end, 1)

    def height(value: Number) -> float:
        bottom, top, place = map(math.log, (low, high, value)) if logarithmic else (low, high, value)
        return round(HEIGHT - BOTTOM - (HEIGHT - BOTTOM - TOP) * (place - bottom) / (top - bottom), 1)

    return Chart(
        title,
        " · ".join(filter(None, [note, "log scale" if logarithmic else ""])),
        [
            Line(name, [(across(line[i][0]), height(line[i][1])) for i in spread(len(line), at_most)])
            for name, line in lines.items()
        ],
        [(across(tick), _short(tick)) for tick in _ticks(0, end)],
        [(height(tick), _short(tick)) for tick in up],
        None if marked is None else across(marked),
    )


def _ticks(low: Number, high: Number) -> list[float]:
    """Two to six round numbers from low to high."""
    step = 10.0 ** math.floor(math.log10(high - low))
    step *= next(share for share in (0.2, 0.5, 1, 2) if (high - low) / (step * share) <= 6)
    return [step * number for number in range(math.ceil(low / step), math.floor(high / step) + 1)]


def _decades(low: Number, high: Number) -> list[float]:
    """Powers of ten from low to high, fewer where these are many, with numbers between where these are few."""
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high))
    between = (1, 2, 5) if high / low < 500 else (1,)
    powers = range(first, last + 1, max(1, (last - first) // 5))
    return [tick for power in powers for share in between if low <= (tick := share * 10.0**power) <= high]


def _short(value: Number) -> str:
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= size:
            return f"{value / size:.3g}{letter}"
    return f"{value:.3g}".replace("-", "−")
