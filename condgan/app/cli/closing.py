"""The last lines of a training: what to do with what came of it."""

from pathlib import Path
from typing import TYPE_CHECKING

import click

from condgan.runs.directory import resume_command

if TYPE_CHECKING:
    from condgan.recipes.schema import Recipe


def print_next_steps(recipe: "Recipe", directory: Path) -> None:
    """Name the picture to look at, and the commands that use a trained run and train it on, by their use."""
    from condgan.runs.stopping import course_of

    verb, more = ("translate", "IMAGE --every-domain ") if recipe.translates else ("sample", "")
    unfinished = course_of(directory, recipe).trend == "improving"
    steps = {
        "look at": directory / "sheet.png",
        f"{verb} it": f"condgan {verb} {directory} {more}--out DIR",
        "not finished" if unfinished else "train longer": _longer(recipe, directory),
        "see all of it": f"condgan report {directory}",
    }
    click.echo("\n" + "\n".join(f"{name:15}{what}" for name, what in steps.items()))


def _longer(recipe: "Recipe", directory: Path) -> str:
    """The command that trains a run on, for as many images again."""
    from condgan.runs.checkpoint import checkpoints

    seen = max((int(path.name) for path in checkpoints(directory / "checkpoints")), default=0)
    longer = f"{resume_command(directory)} schedule.images={2 * max(seen, recipe.schedule.images)}"
    if recipe.schedule.decay:  # the rates have reached zero
        return f"{longer} schedule.decay={2 * recipe.schedule.decay} --fresh"
    stopped = recipe.schedule.patience is not None and seen < recipe.schedule.images
    return f"{resume_command(directory)} schedule.patience=null" if stopped else longer
