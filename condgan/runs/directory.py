"""A run directory, as a command line names it."""

import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from condgan.hub import HubName, download_model, hub_name
from condgan.utils.errors import UserError, shown
from condgan.utils.files import found, path_of, require_outside

if TYPE_CHECKING:
    from condgan.recipes.schema import Recipe

RUNS_FOLDER = Path("runs")
"""Where runs are by default."""


def is_run(directory: Path) -> bool:
    """Whether a directory is that of a run. Raises OSError where that cannot be told."""
    return found(directory / "recipe.yaml")


def on_hub(given: object) -> HubName | None:
    """What a text names on the Hub: one such as alice/digits@v1, where neither it nor its first folder is here.

    What begins with runs/, where runs are by default, is a path: a slip in it must not ask for a stranger's model.
    """
    name = hub_name(given) if isinstance(given, str) else None
    if name is None or found(path_of(given)):
        return None
    owner = Path(name.repository).parent
    return None if owner == RUNS_FOLDER or found(owner) else name


def run_directory(given: str | Path, what: str = "run") -> Path:
    """The folder of a run, or whatever is at a path: this path, or where a model of the Hub is downloaded to.

    Raises UserError for a model that is not to be had.
    """
    name = on_hub(given)
    return path_of(given, what) if name is None else downloaded(name)


def downloaded(name: HubName) -> Path:
    """The folder that a model of the Hub is downloaded to. Raises UserError for a model that is not to be had."""
    return download_model(name, _largest_weights)


def _largest_weights(run: Path) -> dict[str, int]:
    from condgan.runs.checkpoint import largest_weights

    return largest_weights(run)


def run_and_checkpoint(path: str | Path) -> tuple[Path, str]:
    """The run that a path names, and which checkpoint: `runs/x/checkpoints/2000` that one, `runs/x` the best."""
    given = path_of(path, "run")
    return (given.parent.parent, given.name) if given.parent.name == "checkpoints" else (given, "best")


def require_run(directory: Path, out: Path | None = None) -> None:
    """Raises UserError unless a directory is that of a run, and `out`, where there is one, outside of its data."""
    if not is_run(directory):
        raise UserError(
            f"'{directory}' is no run directory (it has no recipe.yaml): "
            "give one that `condgan train` wrote, such as runs/digits-acgan"
        )
    if out is not None:
        for source in recipe_of(directory).data.sources:
            require_outside(out, source, f"--out {out}")


def recipe_of(directory: Path) -> "Recipe":
    """A run's recipe. Raises UserError for one that cannot be read."""
    from condgan.recipes.load import load

    try:
        return load(directory / "recipe.yaml")
    except UserError as error:
        raise UserError(
            f"the recipe of run '{directory}' cannot be read ({error}): put it back, or start over with --fresh"
        ) from None


def resume_command(directory: Path) -> str:
    """The command that goes on with a run, whatever settings it began with."""
    return shlex.join(["condgan", "train", str(directory / "recipe.yaml"), "--out", str(directory)])


@contextmanager
def results_of(directory: Path) -> Iterator[None]:
    """Write results that belong together into a run directory, while no other process does.

    Where they cannot be written, say so: they are told all the same.
    """
    from filelock import FileLock

    from condgan.utils.console import say

    try:
        with FileLock(directory / "results.lock"):
            yield
    except OSError as error:
        say(f"warning: results are not kept in '{directory}': {shown(error.strerror)}, '{error.filename}'")
