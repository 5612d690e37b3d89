"""Read weights that the authors of a method published."""

from pathlib import Path
from typing import Annotated

import click

from condgan import recipes
from condgan.app.cli.closing import making
from condgan.app.cli.usage import Argument, Option
from condgan.runs.directory import recipe_of
from condgan.utils.errors import UserError


def convert_command(
    arguments: Annotated[
        tuple[str, ...],
        Argument(
            "FILE... [KEY=VALUE]...",
            "The generator's weights, of a translator the discriminator's after them, and options of the recipe.",
        ),
    ] = (),
    *,
    recipe: Annotated[
        str,
        Option("The recipe whose published networks these are, such as biggan-imagenet128 or celeba-stargan.", "--as"),
    ],
    out: Annotated[Path, Option("Run directory.")],
    classes: Annotated[
        Path | None, Option("Names of the classes, a line each, in the order of their numbers; by default the numbers.")
    ] = None,
) -> None:
    """Make a run of weights that BigGAN-PyTorch, Self-Attention-GAN or StarGAN wrote."""
    files = [one for one in arguments if "=" not in one or Path(one).is_file()]
    recipes.text(recipe)  # an unknown one is told at once
    if not files:
        raise UserError("no file of weights given: expected the generator's, such as G_ema.pth")
    from condgan.runs.convert import class_names, convert_weights

    names = None if classes is None else class_names(classes)
    given = [one for one in arguments if one not in files]
    directory = convert_weights(files, recipe, out, given, names)
    click.echo(f"wrote run {directory}; use it with: {making(recipe_of(directory), directory)}")
