"""The run that learns from a data set: by a recipe that is named or chosen, or by its own where it is there."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from condgan import timing
from condgan.data.survey import Survey, describe_survey, warnings
from condgan.recipes import DEFAULT
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs.directory import is_run, recipe_of, require_run, run_and_checkpoint
from condgan.runs.train import choose_directory
from condgan.suggest import choose_recipe, description, look_at_data, named_after, patience, two_digits
from condgan.utils import distributed
from condgan.utils.choices import EMBEDDED_NAMES
from condgan.utils.errors import UserError


class PlannedRun(NamedTuple):
    """A recipe, where it is trained, and what there is to say of how it was chosen."""

    recipe: Recipe
    directory: Path
    said: list[str]
    speed: float | None
    """Images of training in a second, where they were timed."""


def plan_run(
    sources: Sequence[str],
    overrides: Sequence[str] = (),
    recipe: str | Path | None = None,
    source_run: Path | None = None,
    minutes: float | None = None,
    translate: bool = False,
    out: Path | None = None,
    fresh: bool = False,
) -> PlannedRun:
    """Decide what is trained on data, by names or whole paths, and where; `source_run`: whose weights it begins with.

    A recipe is chosen for data where none is named, and they are not embedded, or `minutes` or `translate` ask for it.
    Raises UserError for these beside a recipe, and whatever else does not fit.
    """
    stranger = any(one not in EMBEDDED_NAMES for one in sources)
    if recipe is None and source_run is None and sources and (minutes is not None or translate or stranger):
        with distributed.all_or_fail():
            found = choose_run(sources, overrides, minutes, translate, out, fresh)
        stated_crop = any(one.startswith("data.crop=") for one in overrides)
        warned = [one for one in warnings(found.look) if not (stated_crop and "data.crop" in one)]
        said = [*describe_survey(found.look), *found.lines, *(f"warning        {one}" for one in warned)]
        return PlannedRun(found.recipe, found.directory, said, found.speed)
    _require_no_choice(recipe, source_run, minutes, translate)
    if source_run is not None:
        begun = None if recipe is not None or fresh else _begun_from(source_run, sources, overrides, out)
        if begun is not None:
            return begun
        chosen = _started_from(source_run, recipe, sources, overrides)
    else:
        chosen = load(DEFAULT if recipe is None else recipe, [*overrides, *_source_setting(sources)])
    with distributed.all_or_fail():
        return PlannedRun(chosen, choose_directory(chosen, out, fresh), [], None)


def _its_own(directory: Path) -> str:
    """The line that says that a run goes on by its own recipe."""
    return f"chose          the recipe of run '{directory}', since it is there; --fresh chooses anew"


def _source_setting(sources: Sequence[str]) -> list[str]:
    """The data that are named, as an override."""
    return [f"data.source={json.dumps(sources if len(sources) > 1 else sources[0])}"] if sources else []


def _started_from(run: Path, name: str | Path | None, sources: Sequence[str], given: Sequence[str]) -> Recipe:
    """The recipe that is named, else that of the run, named after the new data; it begins with the run's weights."""
    whence = json.dumps(str(run.resolve()))
    if name is not None:
        return load(name, [f"transfer.run={whence}", *given, *_source_setting(sources)])
    directory, _ = run_and_checkpoint(run)
    require_run(directory)
    own = [f"transfer={{run: {whence}}}"]  # not what the run itself was started from
    own += [named_after(sources[0])] if sources else []
    return load(directory / "recipe.yaml", [*own, *given, *_source_setting(sources)])


def _begun_from(run: Path, sources: Sequence[str], overrides: Sequence[str], out: Path | None) -> PlannedRun | None:
    """A run that began with another's weights already and goes on, so that nothing is read of the other again."""
    if out is None and not sources and not any(one.startswith("name=") for one in overrides):
        return None  # it is called as the other is
    directory = choose_directory(_called_after(sources, overrides), out, fresh=False)
    if not is_run(directory) or recipe_of(directory).transfer.run != str(run.resolve()):
        return None
    recipe = load(directory / "recipe.yaml", [*overrides, *_source_setting(sources)])
    return PlannedRun(recipe, directory, [_its_own(directory)], None)


def _called_after(sources: Sequence[str], overrides: Sequence[str]) -> Recipe:
    """Some recipe that is called as a run on these data is."""
    own = [named_after(sources[0]), *_source_setting(sources)] if sources else []
    return load("any-projection", [*own, *(one for one in overrides if one.startswith("name="))])


def _require_no_choice(
    name: str | Path | None, source_run: Path | None, minutes: float | None, translate: bool
) -> None:
    """Raises UserError for what a recipe is chosen by, where none is chosen."""
    option = f"--minutes {minutes:g}" if minutes is not None else "--translate" if translate else None
    if option is not None and name is not None:
        raise UserError(
            f"{option} given with recipe '{name}': leave the recipe out, and one is chosen for --data; the length of "
            f"this one is schedule.images, and `condgan train {name} --dry-run` says how long it takes"
        )
    if option is not None and source_run is not None:
        raise UserError(f"{option} given with --from, which has a recipe: leave it out; its length is schedule.images")
    if option is not None:
        raise UserError(f"{option} given without --data: add the images that a recipe is to be chosen for")


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
    directory = choose_directory(_called_after(sources, overrides), out, fresh)
    if fresh or not is_run(directory):
        recipe, lines, speed = choose_recipe(look, sources[0], overrides, minutes, translate)
        return ChosenRun(recipe, directory, look, lines, speed)
    recipe_of(directory)  # said in one line where it cannot be read
    recipe = load(directory / "recipe.yaml", [*_source_setting(sources), *overrides])
    about = _its_own(directory)
    if minutes is None or recipe.description == description(sources[0], minutes):
        return ChosenRun(recipe, directory, look, [about], None)
    speed = timing.images_per_second(recipe, look.listing.labels.spec)
    images = two_digits(timing.images_within(minutes, speed))
    if images <= recipe.schedule.images:
        as_before = (
            f"chose          {recipe.schedule.images:,} images of training as before: {minutes:g} minutes are less"
        )
        return ChosenRun(recipe, directory, look, [about, as_before], speed)
    if recipe.schedule.decay:
        raise UserError(
            f"--minutes {minutes:g} given, and the learning rates of run '{directory}' fall to zero at "
            f"{recipe.schedule.images:,} images: begin one of another length with --fresh"
        )
    longer = [f"schedule.images={images}", f"description={json.dumps(description(sources[0], minutes))}"]
    longer += [patience(images)] if recipe.schedule.patience else []
    recipe = load(directory / "recipe.yaml", [*_source_setting(sources), *longer, *overrides])
    more = f"chose          {images:,} images of training in all, since {minutes:g} minutes are enough for them"
    return ChosenRun(recipe, directory, look, [about, more], speed)
