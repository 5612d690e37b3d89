"""The last lines of a training: what to do with what came of it."""

import dataclasses
import shlex
from pathlib import Path
from typing import TYPE_CHECKING

import click

from condgan.runs.directory import resume_command

if TYPE_CHECKING:
    from condgan.recipes.schema import Recipe


def print_next_steps(recipe: "Recipe", directory: Path) -> None:
    """Name the picture to look at, and the commands that use a run, go on with it and report on it, by their use."""
    advice, command = _how_to_go_on(recipe, directory)
    steps = {
        "look at": directory / "sheet.png",
        f"{_verb(recipe)} it": making(recipe, directory),
        advice: command,
        "see all of it": f"condgan report {shlex.quote(str(directory))}",
    }
    click.echo("\n" + "\n".join(f"{name:15}{what}" for name, what in steps.items()))


def making(recipe: "Recipe", name: str | Path) -> str:
    """The command that makes images by a run, or a model on the Hub, that is called so."""
    images = " IMAGE --every-domain" if recipe.translates else ""
    return f"condgan {_verb(recipe)} {shlex.quote(str(name))}{images} --out DIR"


def _verb(recipe: "Recipe") -> str:
    return "translate" if recipe.translates else "sample"


def _how_to_go_on(recipe: "Recipe", directory: Path) -> tuple[str, str]:
    """What there is left to do for a run, and the command for it."""
    from condgan.runs.checkpoint import checkpoints
    from condgan.runs.stopping import Decision, decide, progress_of

    schedule, resume = recipe.schedule, resume_command(directory)
    retries, history = progress_of(directory)
    seen = max((int(path.name) for path in checkpoints(directory / "checkpoints")), default=0)
    if seen < schedule.images:  # it ended by itself
        patient = dataclasses.replace(schedule, patience=None)
        if decide(history, retries, patient)[0] == Decision.STOP:
            return "start over", f"{resume} --fresh g_opt.lr=… d_opt.lr=…, with smaller ones"
        return "go on anyway", f"{resume} schedule.patience=null"
    longer = f"{resume} schedule.images={2 * seen}"
    if schedule.decay:  # the rates have reached zero
        longer += f" schedule.decay={2 * schedule.decay} --fresh"
    return "train longer", longer
