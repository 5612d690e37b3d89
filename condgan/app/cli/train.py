"""Train a recipe, or show what would be trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from condgan import recipes
from condgan.app.cli.closing import print_next_steps
from condgan.app.cli.options import RootOption, SkipOption, quoted_names
from condgan.app.cli.tables import metric_table
from condgan.app.cli.usage import Argument, Option
from condgan.runs.directory import require_run, run_and_checkpoint
from condgan.utils.choices import EMBEDDED_NAMES
from condgan.utils.files import absolute

if TYPE_CHECKING:
    from condgan.recipes.schema import Recipe
    from condgan.runs.preview import Preview

INIT_CLASSIFIER = 50_000


def train_command(
    arguments: Annotated[
        tuple[str, ...],
        Argument("[RECIPE] [KEY=VALUE]...", "A recipe's name or YAML file, and options to override."),
    ] = (),
    data: Annotated[
        tuple[str, ...],
        Option(
            "Your images, in class folders or as `condgan data --help` tells, or a known name; again for another "
            "data set beside it. Without a recipe one is chosen for them."
        ),
    ] = (),
    root: RootOption = None,
    attributes: Annotated[
        str | None, Option('Attributes to learn, with commas between, such as Bright,"Hat, tall"; else all.')
    ] = None,
    source_run: Annotated[
        Path | None,
        Option("Begin with this run's weights (RUN, or RUN/checkpoints/N), without RECIPE also its recipe.", "--from"),
    ] = None,
    out: Annotated[Path | None, Option("Run directory; runs/RECIPE by default.")] = None,
    fresh: Annotated[bool, Option("Start over in a new directory.")] = False,
    init_classifier: Annotated[
        bool,
        Option(
            f"Let the auxiliary classifier learn alone first, on {INIT_CLASSIFIER:,} real images.",
        ),
    ] = False,
    skip_bad_images: SkipOption = False,
    dry_run: Annotated[bool, Option("Show what would be trained, and write nothing.")] = False,
) -> None:
    """Train a recipe, or go on where the same command was stopped."""
    given = list(arguments)
    name = given.pop(0) if given and "=" not in given[0] else None
    if name is not None:
        recipes.text(name)  # an unknown one is told at once
    if init_classifier:
        given.append(f"schedule.init_classifier={INIT_CLASSIFIER}")
    sources = [absolute(one) for one in data]
    if attributes is not None:
        given.append(f"data.attributes={json.dumps(quoted_names(attributes))}")
    if root is not None:
        given.append(f"data.root={json.dumps(str(root.expanduser().resolve()))}")
    from condgan.recipes.load import load
    from condgan.runs.train import InUse, choose_directory, train_run
    from condgan.utils import distributed

    if source_run is not None:
        recipe = _started_from(source_run, name, sources, given)
    elif name is None and any(one not in EMBEDDED_NAMES for one in sources):
        recipe = _suggested(sources, given)
    else:
        recipe = load(name or recipes.DEFAULT, [*given, *_source_setting(sources)])
    with distributed.all_or_fail():
        directory = choose_directory(recipe, out, fresh)
    if dry_run:
        _print_preview(recipe, directory, skip_bad_images)
        return
    try:
        metrics = train_run(recipe, directory, skip_bad_images)
    except InUse:
        if not fresh or distributed.size() > 1:
            raise
        directory = choose_directory(recipe, out, fresh)  # of two fresh starts at once the other one has the number
        metrics = train_run(recipe, directory, skip_bad_images)
    click.echo(metric_table(metrics))
    print_next_steps(recipe, directory)


def _source_setting(sources: list[str]) -> list[str]:
    """The data that --data names, as an override."""
    return [f"data.source={json.dumps(sources if len(sources) > 1 else sources[0])}"] if sources else []


def _started_from(run: Path, name: str | None, sources: list[str], given: list[str]) -> "Recipe":
    """The recipe that is named, else that of the run, named after the new data; it begins with the run's weights."""
    from condgan.recipes.load import load
    from condgan.suggest import run_name

    whence = json.dumps(str(run.resolve()))
    if name is not None:
        return load(name, [f"transfer.run={whence}", *given, *_source_setting(sources)])
    directory, _ = run_and_checkpoint(run)
    require_run(directory)
    own = [f"transfer={{run: {whence}}}"]  # not what the run itself was started from
    own += [f"name={json.dumps(run_name(Path(sources[0]).stem))}"] if sources else []
    return load(directory / "recipe.yaml", [*own, *given, *_source_setting(sources)])


def _suggested(sources: list[str], given: list[str]) -> "Recipe":
    """Choose a recipe for a data set, and say what was found and why this one."""
    from condgan.data.survey import describe_survey, warnings
    from condgan.suggest import choose_recipe, look_at_data

    look = look_at_data(sources, given)
    recipe, reasons = choose_recipe(look, sources[0], given)
    for line in describe_survey(look):
        click.echo(line)
    for reason in reasons:
        click.echo(f"chose          {reason}")
    stated_crop = any(one.startswith("data.crop=") for one in given)
    for one in warnings(look):
        if not (stated_crop and "data.crop" in one):
            click.echo(f"warning        {one}")
    return recipe


def _print_preview(recipe: "Recipe", directory: Path, skip_bad_images: bool) -> None:
    """Show what would be trained."""
    from condgan.recipes.load import dump
    from condgan.runs.preview import preview_run
    from condgan.utils import distributed

    preview = preview_run(recipe, skip_bad_images)
    about = f"not looked at; counted for {preview.spec.summary}"
    if preview.data is not None:
        train, held_out = len(preview.data.train), len(preview.data.held_out)
        about = f"{train:,} training and {held_out:,} held-out images of {preview.spec.summary}"
    whose = f" in each of {distributed.size()} processes" if distributed.size() > 1 else ""
    click.echo(dump(recipe))
    click.echo(f"data           {about}")
    for note in () if preview.data is None else preview.data.notes:
        click.echo(f"note           {note}")
    click.echo(f"generator      {preview.generator:,} parameters\ndiscriminator  {preview.discriminator:,} parameters")
    for line in preview.taken:
        click.echo(f"begins with    {line}")
    click.echo(f"memory         {_memory(preview, whose)}")
    click.echo(f"run directory  {directory}")


def _memory(preview: "Preview", whose: str) -> str:
    """What training needs, in words."""
    if preview.memory is None:
        return f"not estimated: going through networks of {preview.layers:,} layers takes minutes"
    kept, activations = map(_size, preview.memory)
    return (
        f"about {_size(sum(preview.memory))}{whose}: {kept} of weights, gradients, optimizers and average, "
        f"{activations} of activations for {preview.images_at_once:,} images at a time"
    )


def _size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
