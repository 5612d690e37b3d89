"""A run directory with what making images needs alone: other people's condgan reads it as a run."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from condgan.app.export.subject import ExportSubject
from condgan.recipes.load import as_tree, dump, from_tree
from condgan.recipes.schema import Recipe
from condgan.runs import checkpoint
from condgan.runs.schemas import Metrics, read_as, tree_of
from condgan.sampling.model import Model, progress_sheet
from condgan.utils.choices import SOURCES
from condgan.utils.figures import png


def folder_files(subject: ExportSubject) -> dict[str, bytes]:
    """The recipe, the averaged generator and what else is needed of the checkpoint, metrics and a sheet.

    No paths of this machine; of a translator no sheet, which would show images of the data.
    """
    model, paths = subject.model, local_paths(subject.recipe)
    recipe = without_places(subject.recipe)
    own = checkpoint.sampled_contents(subject.checkpoint, model.generator, recipe, subject.needed)
    files = {"recipe.yaml": dump(recipe).encode()}
    files |= {f"checkpoints/{subject.checkpoint.name}/{name}": data for name, data in own.items()}
    if isinstance(model, Model):
        files["sheet.png"] = png(progress_sheet(model.generator, model.spec, recipe.seed))
    metrics = tree_of(read_as(subject.run / "metrics.json", Metrics, "evaluate the run again, or remove it"))
    if metrics.get("about", {}).get("checkpoint") == subject.checkpoint.name and subject.options.standing is None:
        files["metrics.json"] = json.dumps(named_alone(metrics, paths), indent=1).encode()
    return files


def local_paths(recipe: Recipe) -> list[str]:
    """The paths of this machine that a recipe names."""
    named = [*recipe.data.sources, recipe.data.root, recipe.transfer.run]
    return [one for one in named if one is not None and one not in SOURCES]


def without_places(recipe: Recipe) -> Recipe:
    """A recipe that names no path: data are those known by name, or none."""
    tree = as_tree(recipe)
    known = set(recipe.data.sources) <= set(SOURCES)
    data = tree["data"] | {"root": None, **({} if known else {"source": None})}
    description = named_alone(recipe.description, local_paths(recipe))
    return from_tree(tree | {"data": data, "transfer": {"run": None, "frozen": 0}, "description": description})


def named_alone(tree: Any, paths: Sequence[str]) -> Any:
    """Texts within mappings and lists, in which paths are their last names alone."""
    if isinstance(tree, Mapping):
        return {named_alone(key, paths): named_alone(value, paths) for key, value in tree.items()}
    if isinstance(tree, list | tuple):
        return [named_alone(one, paths) for one in tree]
    for path in sorted(paths, key=len, reverse=True) if isinstance(tree, str) else ():
        tree = tree.replace(path, Path(path).name or path)
    return tree
