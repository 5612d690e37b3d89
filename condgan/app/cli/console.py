"""What the verbs do and say with recipes, data and models, once a command line is understood."""

from pathlib import Path

import click
from PIL import Image

from condgan.data.open import list_source
from condgan.data.survey import Survey, describe_survey, quick_look, warnings
from condgan.estimate import count_parameters, estimate_memory
from condgan.labels import LabelSpec
from condgan.recipes.load import dump, load
from condgan.recipes.schema import Recipe
from condgan.runs.models import load_model, read_data
from condgan.runs.train import require_possible
from condgan.sampling.model import Model
from condgan.suggest import choose_recipe
from condgan.utils import distributed
from condgan.utils.choices import KNOWN_NAMES, Precision
from condgan.utils.errors import UserError
from condgan.utils.figures import png
from condgan.utils.files import write


def channels_of(look: Survey) -> int:
    """Gray where no picture looked at has colors, saying so; else RGB."""
    if look.gray:
        click.echo(
            f"gray, since none of the {len(look.readable):,} pictures looked at has colors; --channels 3 for RGB"
        )
    return 1 if look.gray else 3


def chosen_recipe(sources: list[str], given: list[str]) -> Recipe:
    """A recipe for a data set, saying what was found and why this one."""
    if len(sources) > 1:
        raise UserError("--data given twice without a recipe: choose one that learns from several, such as any-stargan")
    stated = load("any-projection", [one for one in given if one.startswith("data.")]).data
    look = quick_look(list_source(sources[0], stated.root, stated.held_out, stated.paired))
    stated_crop = any(one.startswith("data.crop=") for one in given)
    recipe, reasons = choose_recipe(look, sources[0], given)
    for line in describe_survey(look):
        click.echo(line)
    for reason in reasons:
        click.echo(f"chose          {reason}")
    for one in warnings(look):
        if not (stated_crop and "data.crop" in one):
            click.echo(f"warning        {one}")
    return recipe


def model_for_sampling(
    directory: Path,
    checkpoint: str,
    truncation: float | None = None,
    latent_scale: float | None = None,
    standing: int | None = None,
    seed: int = 0,
    precision: Precision = "auto",
    compiled: bool = False,
) -> Model:
    """A run's model as it is to draw. Raises UserError for bad input."""
    model = load_model(directory, checkpoint, precision, compiled).with_latents(truncation, latent_scale)
    return model if standing is None else model.with_standing_statistics(standing, seed)


def write_pictures(out: Path, pictures: dict[str, Image.Image]) -> None:
    """Write pictures under their names in a folder."""
    for name, picture in pictures.items():
        write(out / name, png(picture))


def dry_run(recipe: Recipe, directory: Path, skip_bad_images: bool) -> None:
    """Show what would be trained."""
    require_possible(recipe)
    known = all(source in KNOWN_NAMES for source in recipe.data.sources)
    spec = recipe.data.published_spec() if known else None
    if spec is not None:
        about = f"not looked at; counted for {counted(spec)}"
    else:
        data = read_data(recipe, skip_bad_images)
        spec = data.spec
        about = f"{len(data.train):,} training and {len(data.held_out):,} held-out images of {counted(spec)}"
    generator, discriminator = count_parameters(recipe, spec)
    memory = estimate_memory(recipe, spec)
    part = recipe.schedule.batch // (recipe.schedule.accumulate * distributed.size())
    whose = f" in each of {distributed.size()} processes" if distributed.size() > 1 else ""
    click.echo(dump(recipe))
    click.echo(f"data           {about}")
    click.echo(f"generator      {generator:,} parameters\ndiscriminator  {discriminator:,} parameters")
    click.echo(
        f"memory         about {_size(sum(memory))}{whose}: {_size(memory.kept)} of weights, gradients, optimizers and "
        f"average, {_size(memory.activations)} of activations for {part:,} images at a time"
    )
    click.echo(f"run directory  {directory}")


def counted(spec: LabelSpec) -> str:
    """How many classes and attributes a vocabulary has."""
    kinds = {True: "class" + "es" * (spec.width > 1), False: "attribute" + "s" * (spec.width > 1)}
    return " and ".join(f"{len(field.values):,} {kinds[field.exclusive]}" for field in spec.fields)


def _size(count: int) -> str:
    """Bytes, for people."""
    return f"{count / 2**30:,.1f} GiB" if count >= 2**30 else f"{count / 2**20:,.1f} MiB"
