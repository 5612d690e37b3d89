"""The command line: thin verbs over the library, and bad input as one line."""

import errno
import json
import shlex
import sys
from pathlib import Path
from typing import Annotated, Any

import torch
import typer
from PIL import Image

from condgan import recipe as recipes
from condgan.build import count_parameters, estimate_memory
from condgan.data.sources import SOURCES
from condgan.errors import UserError
from condgan.files import write
from condgan.labels import LabelSpec
from condgan.run import (
    Diverged,
    Interrupted,
    choose_directory,
    evaluate,
    load_model,
    read_data,
    resume_command,
    train_run,
)
from condgan.sample import class_sheet, png

app = typer.Typer(
    help="Train, judge and sample conditional image GANs.", add_completion=False,
    rich_markup_mode=None, pretty_exceptions_enable=False,
)  # fmt: skip
INIT_CLASSIFIER = 50_000

RunArgument = Annotated[Path, typer.Argument(metavar="RUN", help="A run directory, such as runs/digits-acgan.")]
CheckpointOption = Annotated[str, typer.Option(help="best, latest, or a number of images.")]


@app.command("train")
def train_command(
    arguments: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[RECIPE] [KEY=VALUE]...", help="A recipe's name or YAML file, and options to override."
        ),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Folder of class folders, zip of one, or a known name.")] = None,
    out: Annotated[Path | None, typer.Option(help="Run directory; runs/RECIPE by default.")] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start over in a new directory.")] = False,
    init_classifier: Annotated[
        bool,
        typer.Option(
            "--init-classifier",
            help=f"Let the auxiliary classifier learn alone first, on {INIT_CLASSIFIER:,} real images.",
        ),
    ] = False,
    skip_bad_images: Annotated[
        bool, typer.Option("--skip-bad-images", help="Go on without unreadable images.")
    ] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Show what would be trained, and write nothing.")] = False,
) -> None:
    """Train a recipe, or go on where the same command was stopped."""
    given = list(arguments or [])
    name = given.pop(0) if given and "=" not in given[0] else recipes.DEFAULT
    if init_classifier:
        given.append(f"schedule.init_classifier={INIT_CLASSIFIER}")
    if data is not None:
        given.append(f"data.source={json.dumps(data if data in SOURCES else str(Path(data).expanduser().resolve()))}")
    recipe = recipes.load(name, given)
    directory = choose_directory(recipe, out, fresh)
    if dry_run:
        _dry_run(recipe, directory, skip_bad_images)
        return
    metrics = train_run(recipe, directory, skip_bad_images)
    typer.echo(_table(metrics))
    longer = f"{resume_command(directory)} schedule.images={2 * recipe.schedule.images}"
    typer.echo(f"\nsample it      condgan sample {directory} --out DIR\ntrain longer   {longer}")
    typer.echo(f"look at        {directory / 'sheet.png'}")


@app.command("sample")
def sample_command(
    directory: RunArgument,
    out: Annotated[Path, typer.Option(help="Folder for the images.")],
    classes: Annotated[str | None, typer.Option(help="Class names with commas between; all by default.")] = None,
    per_class: Annotated[int, typer.Option(help="Images of each class.")] = 16,
    seed: Annotated[int, typer.Option(help="The same seed gives the same images.")] = 0,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Write images of chosen classes: OUT/CLASS/INDEX.png and OUT/sheet.png."""
    model = load_model(directory, checkpoint)
    chosen = model.classes if classes is None else list(dict.fromkeys(name.strip() for name in classes.split(",")))
    images = model.sample(chosen, per_class, seed)
    for position, image in enumerate(images):
        write(out / chosen[position // per_class] / f"{position % per_class}.png", png(Image.fromarray(image)))
    write(out / "sheet.png", png(class_sheet(images, chosen)))
    typer.echo(
        f"wrote {len(chosen) * per_class} images and {out / 'sheet.png'}, from {model.images:,} images of training"
    )


@app.command("evaluate")
def evaluate_command(
    directory: RunArgument,
    checkpoint: CheckpointOption = "best",
    seed: Annotated[int, typer.Option(help="Seed of the fakes.")] = 0,
    as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON.")] = False,
) -> None:
    """Judge a run's fakes against held-out images, and write RUN/metrics.json."""
    metrics = evaluate(directory, checkpoint, seed)
    typer.echo(json.dumps(metrics) if as_json else _table(metrics))


@app.command("recipes")
def recipes_command(name: Annotated[str | None, typer.Argument(help="Print this one's YAML.")] = None) -> None:
    """List the recipes, or print one."""
    if name is not None:
        typer.echo(recipes.text(name).rstrip())
        return
    catalog = recipes.catalog()
    width = max(map(len, catalog))
    for key, description in catalog.items():
        typer.echo(f"{key:{width}}  {description}")


def main() -> None:
    """Run the command line; bad input is one line on stderr and exit code 2."""
    arguments = sys.argv[1:] or ["--help"]
    try:
        code = app(arguments, standalone_mode=False)
    except typer.TyperException as error:
        code = _fail(f"{error.format_message()}, given '{shlex.join(['condgan', *arguments])}'; see --help", 2)
    except UserError as error:
        code = _fail(str(error), 2)
    except Interrupted as error:
        code = _fail(str(error), error.exit_code)
    except Diverged as error:
        code = _fail(str(error), 1)
    except (KeyboardInterrupt, typer.Abort):
        code = _fail("interrupted", 130)
    except (MemoryError, torch.OutOfMemoryError):
        code = _fail("not enough memory: lower data.size, schedule.batch or the number of images asked for", 2)
    except OSError as error:
        code = _fail(_system_error(error), 2)
    sys.exit(code or 0)


def _fail(message: str, code: int) -> int:
    print(f"condgan: {' '.join(message.split())}", file=sys.stderr)
    return code


def _system_error(error: OSError) -> str:
    where = f" '{error.filename}'" if error.filename else ""
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return (
            f"no space left on the device{where}: free some and repeat the command, it goes on from the last checkpoint"
        )
    return f"{error.strerror or error}{where}: check the path and its permissions"


def _dry_run(recipe: recipes.Recipe, directory: Path, skip_bad_images: bool) -> None:
    if recipe.data.source is None and recipe.data.classes is not None:
        spec = LabelSpec.of_classes([str(number) for number in range(recipe.data.classes)])
        about = f"none given; counted for {recipe.data.classes:,} classes"
    else:
        data = read_data(recipe, skip_bad_images)
        spec = data.spec
        about = (
            f"{len(data.train):,} training and {len(data.held_out):,} held-out images of {len(spec.classes)} classes"
        )
    generator, discriminator = count_parameters(recipe, spec)
    memory = estimate_memory(recipe, spec)
    part = recipe.schedule.batch // recipe.schedule.accumulate
    typer.echo(recipes.dump(recipe))
    typer.echo(f"data           {about}")
    typer.echo(f"generator      {generator:,} parameters\ndiscriminator  {discriminator:,} parameters")
    typer.echo(
        f"memory         about {sum(memory) / 2**30:,.1f} GiB: {memory.kept / 2**30:,.1f} weights, gradients, "
        f"optimizers and average, {memory.activations / 2**30:,.1f} activations of {part:,} images at a time"
    )
    typer.echo(f"run directory  {directory}")


def _table(metrics: dict[str, Any]) -> str:
    about = metrics["about"]
    names = [name for name in metrics if name not in ("about", "per_class")]

    def row(name: str, values: dict[str, Any]) -> str:
        cells = [f"{_number(values[m]['fake'])} ({_number(values[m]['real'])})" for m in names]
        return f"{name:12.12}" + "".join(f"{cell:>24}" for cell in cells)

    lines = [f"{'':12}" + "".join(f"{name:>24}" for name in names), row("all", metrics)]
    lines += [row(name, values) for name, values in metrics["per_class"].items()]
    note = (
        f"fakes (real images' ceiling); {about['fakes']:,} fakes of checkpoint {about['checkpoint']} "
        f"against {about['real']:,} held-out images,"
    )
    return "\n".join(
        [
            *lines,
            note,
            f"seen by a classifier that is right on {about['extractor_accuracy']:.1%} of the held-out images",
        ]
    )


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}" if value < 100 else f"{value:.1f}"
