"""The run that learns from a data set: the one that is there, or a new one by a recipe that is chosen for it."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from condgan import timing
from condgan.data.survey import Survey
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs.directory import is_run, recipe_of
from condgan.runs.train import choose_directory
from condgan.suggest import choose_recipe, description, look_at_data, run_name, two_digits
from condgan.utils.errors import UserError


class ChosenRun(NamedTuple):
    """A recipe, where it is trained, what was seen of the data, and why it is this one."""

    recipe: Recipe
    directory: Path
    look: Survey
    lines: list[str]
    speed: float | None
    """Images of training in a second, where they were timed."""


def choose_run(
    sources: Sequence[str],
    overrides: Sequence[str],
    minutes: float | None = None,
    translate: bool = False,
    out: Path | None = None,
    fresh: bool = False,
) -> ChosenRun:
    """Choose a recipe for a data set and a time; where its run is there and not `fresh`, go on by the run's own recipe.

    How fast a machine is comes out differently each time, so the same command would choose another recipe. A run that
    was chosen for other minutes gets more images if these are longer. Raises UserError for minutes that are none, and
    for more of a run whose learning rates fall to zero.
    """
    if minutes is not None and not 0 < minutes < float("inf"):
        raise UserError(f"--minutes {minutes:g} given: expected a time above 0, such as 10")
    look = look_at_data(sources, overrides, translate)
    own = [f"name={json.dumps(run_name(Path(sources[0]).stem))}", f"data.source={json.dumps(sources[0])}"]
    named = [one for one in overrides if one.startswith("name=")]
    directory = choose_directory(load("any-projection", [*own, *named]), out, fresh)
    if fresh or not is_run(directory):
        recipe, lines, speed = choose_recipe(look, sources[0], overrides, minutes, translate)
        return ChosenRun(recipe, directory, look, lines, speed)
    recipe_of(directory)  # said in one line where it cannot be read
    recipe = load(directory / "recipe.yaml", [own[1], *overrides])
    about = f"chose          the recipe of run '{directory}', since it is there; --fresh chooses anew"
    if minutes is None or recipe.description == description(sources[0], minutes):
        return ChosenRun(recipe, directory, look, [about], None)
    speed = timing.images_per_second(recipe, look.listing.labels.spec)
    images = max(recipe.schedule.images, two_digits(timing.images_within(minutes, speed)))
    if recipe.schedule.decay and images > recipe.schedule.images:
        raise UserError(
            f"--minutes {minutes:g} given, and the learning rates of run '{directory}' fall to zero at "
            f"{recipe.schedule.images:,} images: begin one of another length with --fresh"
        )
    longer = [f"schedule.images={images}", f"description={json.dumps(description(sources[0], minutes))}"]
    recipe = load(directory / "recipe.yaml", [own[1], *longer, *overrides])
    more = f"chose          {images:,} images of training in all, since {minutes:g} minutes are enough for them"
    return ChosenRun(recipe, directory, look, [about, more], speed)
