"""Put a run's model on the Hugging Face Hub, and bring one from there."""

from pathlib import Path
from typing import Annotated

import click

from condgan.app.cli.closing import making
from condgan.app.cli.options import CheckpointOption, ModelArgument
from condgan.app.cli.usage import Argument, Option
from condgan.hub import require_name
from condgan.runs.directory import recipe_of, require_run, run_directory


def push_command(
    run: ModelArgument,
    name: Annotated[str, Argument("OWNER/NAME", "A repository of yours on the Hub; it is made if it is not there.")],
    license: Annotated[
        str, Option("The model's license as the Hub calls it, such as mit or cc-by-4.0: your data may ask for one.")
    ],
    checkpoint: CheckpointOption = "best",
) -> None:
    """Upload what `condgan export` writes of a run, with a page that tells what it is and how good.

    The Hub knows you by `hf auth login` or HF_TOKEN. All is uploaded in one commit, or nothing.
    """
    require_name(name)
    directory = run_directory(run)
    require_run(directory)
    from condgan.app.export.push import push

    page, use = push(directory, name, license, checkpoint), making(recipe_of(directory), name)
    click.echo(f"pushed to {page}; others use it with: {use}")


def pull_command(
    name: Annotated[str, Argument("OWNER/NAME", "A model on the Hub; OWNER/NAME@REVISION: a branch, tag or commit.")],
    out: Annotated[Path | None, Option("A new folder for it; runs/NAME by default.")] = None,
) -> None:
    """Download a model from the Hub as a folder that is used like a run."""
    require_name(name)
    from condgan.app.export.push import pull

    directory = pull(name, out)
    click.echo(f"wrote {directory}; use it with: {making(recipe_of(directory), directory)}")
