"""Train a recipe, or show what would be trained."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import click

from condgan import recipes
from condgan.app.cli.closing import print_next_steps
from condgan.app.cli.options import NumberOption, RootOption, SkipOption, quoted_names
from condgan.app.cli.tables import metric_table
from condgan.app.cli.usage import Argument, Option
from condgan.utils.errors import UserError
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
    number: NumberOption = None,
    source_run: Annotated[
        Path | None,
        Option("Begin with this run's weights (RUN, or RUN/checkpoints/N), without RECIPE also its recipe.", "--from"),
    ] = None,
    minutes: Annotated[
        float | None,
        Option("Without a recipe: choose one that trains this long here; by default 20 on a CPU, 180 on a GPU."),
    ] = None,
    translate: Annotated[
        bool, Option("Without a recipe: choose one that turns images of one class into another.")
    ] = False,
    out: Annotated[Path | None, Option("Run directory; runs/RECIPE by default.")] = None,
    fresh: Annotated[bool, Option("Start over in a new directory.")] = False,
    init_classifier: Annotated[
        bool,
        Option(
            f"Let the auxiliary classifier learn alone first, on {INIT_CLASSIFIER:,} real images.",
        ),
    ] = False,
    skip_bad_images: SkipOption = False,
    dry_run: Annotated[bool, Option("Show what would be trained, how long and in what memory; write nothing.")] = False,
    full: Annotated[bool, Option("With --dry-run: print the whole recipe.")] = False,
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
    if number is not None:
        given.append(f"data.number={json.dumps(number)}")
    if root is not None:
        given.append(f"data.root={json.dumps(str(root.expanduser().resolve()))}")
    from condgan.recipes.load import dump
    from condgan.runs.chosen import plan_run
    from condgan.runs.train import InUse, choose_directory, train_run
    from condgan.utils import distributed

    if full and not dry_run:
        raise UserError("--full given without --dry-run: it prints the recipe of what would be trained; give both")
    recipe, directory, said, speed = plan_run(sources, given, name, source_run, minutes, translate, out, fresh)
    for line in said:
        click.echo(line)
    if dry_run:
        if full:
            click.echo(dump(recipe))
        _print_preview(recipe, directory, skip_bad_images, speed)
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


def _print_preview(recipe: "Recipe", directory: Path, skip_bad_images: bool, speed: float | None) -> None:
    """Show what would be trained."""
    from condgan.runs.preview import preview_run
    from condgan.utils import distributed

    preview = preview_run(recipe, skip_bad_images, speed)
    about = f"not looked at; counted for {preview.spec.summary}"
    if preview.data is not None:
        train, held_out = len(preview.data.train), len(preview.data.held_out)
        about = f"{train:,} training and {held_out:,} held-out images of {preview.spec.summary}"
    whose = f" in each of {distributed.size()} processes" if distributed.size() > 1 else ""
    click.echo(f"data           {about}")
    for note in () if preview.data is None else preview.data.notes:
        click.echo(f"note           {note}")
    click.echo(f"generator      {preview.generator:,} parameters\ndiscriminator  {preview.discriminator:,} parameters")
    for line in preview.taken:
        click.echo(f"begins with    {line}")
    click.echo(f"memory         {_memory(preview, whose)}\ntime           {_time(preview, recipe)}")
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


def _time(preview: "Preview", recipe: "Recipe") -> str:
    """How long training takes, in words."""
    from condgan.timing import in_words, minutes_for, per_second

    images = f"{recipe.schedule.images:,} images of training"
    if preview.speed is None:
        return f"not measured: networks as large as these are not tried; {images}"
    takes = in_words(minutes_for(recipe.schedule.images, preview.speed))
    return f"{takes}: {images}, {per_second(preview.speed)} in a second"


def _size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
