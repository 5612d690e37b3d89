"""A run directory as one page of HTML that is complete in itself."""

import shlex
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined, Template

from condgan.recipes.schema import Recipe
from condgan.runs.directory import recipe_of, require_run
from condgan.runs.log_file import Record, records
from condgan.runs.report.charts import HEIGHT, WIDTH, draw_charts, draw_search
from condgan.runs.report.metrics import judgement, percent, percentage_points
from condgan.runs.report.pictures import embedded_picture, pictures_over_time
from condgan.runs.report.tables import WORST, confusion_of, tables_of
from condgan.runs.schemas import Metrics, Utility, environment_of, read_as, tree_of
from condgan.utils.console import duration
from condgan.utils.files import entries, write


def write_report(directory: str | Path, out: str | Path | None = None) -> Path:
    """Write a run's report card, report.html in its directory by default, and return its path.

    The page needs no other file and no network. What the run does not have yet is left out; the page says which
    command adds it. Raises UserError if `directory` is no run directory.
    """
    directory = Path(directory)
    require_run(directory)
    path = Path(out) if out else directory / "report.html"
    write(path, report_page(directory).encode(errors="backslashreplace"))
    return path


def report_page(directory: Path) -> str:
    """The report card as HTML."""
    recipe = recipe_of(directory)
    commands = {verb: shlex.join(["condgan", verb, str(directory)]) for verb in ("evaluate", "utility")} | {
        verb: shlex.join(["condgan", verb, str(directory), "--out", verb]) for verb in ("directions", "tree")
    }
    environment = tree_of(environment_of(directory))
    of_use = read_as(directory / "utility.json", Utility, f"make it anew with {commands['utility']}")
    utility = tree_of(of_use)
    of_extractors = _metrics(directory, f"make it anew with {commands['evaluate']}")
    metrics = of_extractors.get("metrics.json", {})
    log = [record for _, record in records(directory / "log.jsonl")]
    judged = metrics.get("about", {}).get("checkpoint")
    marked = None if judged is None else int(judged)
    return _template().render(
        name=recipe.name,
        run=directory.resolve().name,
        description=recipe.description,
        facts=_facts(recipe, environment, log),
        verdict=" ".join(metrics.get("verdict", [])),
        translates=recipe.translates,
        sheet=embedded_picture(directory / "sheet.png", "generated images"),
        judgements=[judgement(of_one) for of_one in of_extractors.values()],
        curves=draw_charts(log, recipe.schedule.best_by, marked),
        marked=marked,
        over_time=pictures_over_time(directory / "samples"),
        tables=tables_of(metrics),
        neighbors=embedded_picture(directory / "neighbors.png", "generated images and their nearest training images"),
        directions=embedded_picture(directory / "directions.png", "an image moved along directions of its latent"),
        tree=embedded_picture(directory / "tree.png", "classes joined by their likeness"),
        confusion=confusion_of(metrics.get("per_class", {})),
        utility=utility,
        compared=[] if of_use is None else [of_use.baseline, of_use.mixed],
        ratios=None if of_use is None else draw_search(of_use),
        harmed_first=sorted(utility.get("per_class", {}).items(), key=lambda one: one[1]["difference"]),
        yaml=(directory / "recipe.yaml").read_text(encoding="utf-8"),
        environment=environment,
        commands=commands,
        WORST=WORST,
        size=(WIDTH, HEIGHT),
    )


@cache
def _template() -> Template:
    jinja = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    jinja.filters |= {"percent": percent, "points": percentage_points}
    return jinja.from_string(files("condgan.runs.report").joinpath("page.html").read_text(encoding="utf-8"))


def _metrics(directory: Path, do: str) -> dict[str, dict[str, Any]]:
    """The metrics by their files' names: metrics.json first, then those of other extractors."""
    others = [path.name for path in entries(directory) if path.match("metrics-*.json")]
    read = {name: read_as(directory / name, Metrics, do) for name in ("metrics.json", *others)}
    return {name: tree_of(metrics) for name, metrics in read.items() if metrics is not None}


def _facts(recipe: Recipe, environment: dict[str, Any], log: list[Record]) -> str:
    """Say in a sentence what was trained on which data, how long and on which hardware."""
    gan = "A conditional GAN" if recipe.conditional else "An unconditional GAN"
    model = "An image translator" if recipe.translates else gan
    source = f" on {' and '.join(recipe.data.sources)}" if recipe.data.sources else ""
    said = f"{model} ({recipe.objective.name}) of {recipe.data.size} px images, trained{source}"
    if environment:
        data, labels = environment["data"], "attributes" if recipe.translates else "classes"
        said += f" ({data['train']:,} images, {len(data['classes'])} {labels})"
    if log:
        said += f": {log[-1]['images']:,} images seen in {duration(log[-1]['seconds'])}"
    if environment:
        said += f" on {environment['gpu'] or environment['cpu'] or environment['platform']}"
    return f"{said}."
