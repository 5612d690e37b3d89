"""The page of a model on the Hub: what it is, how it is used, what it learned from, how good it is."""

import math
import re
from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jinja2 import Environment, StrictUndefined, Template

from condgan.build import image_shape
from condgan.recipes.schema import Recipe
from condgan.runs.directory import recipe_of
from condgan.runs.models import load_either
from condgan.runs.report.metrics import judgement, metric_text, number_names
from condgan.runs.results import results_in
from condgan.runs.schemas import DataRecord
from condgan.utils.choices import SOURCES
from condgan.utils.errors import enumerated, shown
from condgan.utils.files import found

if TYPE_CHECKING:
    from huggingface_hub import EvalResult

TASKS = {False: "unconditional-image-generation", True: "image-to-image"}
"""What the Hub calls models that make images of labels, and those that make them of images."""
CHANNELS = {1: "gray", 3: "color", 4: "color with transparency"}
_MARKS = re.compile(r"(?![,;'%()-])(?!(?<=\d)\.\d|[.:](?:\s|$|\)))[!-/:-@\[-`{-~]")
"""ASCII's punctuation, but for what means nothing within a line, numbers' points and the ends of sentences."""


class Markdown(str):
    """A text that may stand in a page as it is."""


def literal(value: object) -> str:
    """A text from elsewhere, within a line, as Markdown and HTML show it letter by letter; `Markdown` stays.

    A numeric character reference stands for its character and never for structure (CommonMark 0.31, 2.5).
    """
    if isinstance(value, Markdown):
        return value
    return _MARKS.sub(lambda mark: f"&#{ord(mark[0])};", shown(value, 2_000))


def model_card(folder: Path, run_recipe: Recipe, data: DataRecord | None, repository: str, license: str) -> str:
    """The card of an exported folder, which names no path of this machine, as README.md on the Hub.

    `run_recipe`, `data`: of the run that it was exported from, for what its data are called and how many they were.
    """
    from huggingface_hub import ModelCardData

    recipe, model = recipe_of(folder), load_either(folder)
    name = " + ".join(data_names(run_recipe))
    metrics = results_in(folder) or {}
    about = ModelCardData(
        license=license,
        library_name="condgan",
        pipeline_tag=TASKS[recipe.translates],
        tags=["gan", "condgan", recipe.objective.name],
        model_name=repository.partition("/")[2],
        eval_results=evaluation(recipe, name, metrics) or None,
    )
    shape = image_shape(recipe)
    labels = {
        shown(field.name): enumerated(field.values)
        if field.range is None
        else f"from {field.range.low:g} to {field.range.high:g}"
        for field in model.spec.fields
    }
    text = _template().render(
        name=recipe.name,
        repository=Markdown(repository),
        recipe=recipe,
        translates=recipe.translates,
        pixels=f"{shape.width} × {shape.height}",
        colors=CHANNELS.get(shape.channels, f"{shape.channels} channels"),
        labels=labels if recipe.conditional else {},
        images=model.images,
        sheet=found(folder / "sheet.png"),
        data_name=name,
        data=data,
        judged=judgement(metrics) if metrics else None,
        verdict=metrics.get("verdict", []),
        license=license,
    )
    return f"---\n{about.to_yaml()}\n---\n\n{text}"


def data_names(recipe: Recipe) -> list[str]:
    """What the data of a recipe are called: known names, and the last ones of paths."""
    return [one if one in SOURCES else Path(one).name or "images" for one in recipe.data.sources]


def evaluation(recipe: Recipe, name: str, metrics: Mapping[str, Any]) -> "list[EvalResult]":
    """The numbers as the Hub's leaderboards read them, each with the extractor, n and split that it was measured by."""
    from huggingface_hub import EvalResult

    about, task = metrics.get("about", {}), TASKS[recipe.translates]
    data = shown(name) or "images"
    how = {
        "extractor": about.get("extractor"),
        "extractor_sha256": about.get("extractor_sha256"),
        "n": about.get("fakes"),
        "n_real": about.get("real"),
        "split": about.get("split"),
        "checkpoint": about.get("checkpoint"),
    }
    return [
        EvalResult(
            task_type=task,
            dataset_type=_slug(data),
            dataset_name=data,
            dataset_split=about.get("split"),
            metric_type=metric,
            metric_name=metric_text(metric).title,
            metric_value=value,
            metric_args={**how, "real_images": metrics.get("real", {}).get(metric)},
        )
        for metric in number_names(metrics)
        if math.isfinite(value := metrics[metric])
    ]


def _slug(text: str) -> str:
    """A text as an identifier."""
    return "-".join("".join(one if one.isalnum() else " " for one in text.lower()).split()) or "images"


@cache
def _template() -> Template:
    jinja = Environment(undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True, finalize=literal)
    return jinja.from_string(files("condgan.app.export").joinpath("card.md").read_text(encoding="utf-8"))
