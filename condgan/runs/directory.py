"""A run directory, as a command line names it."""

import shlex
from pathlib import Path

from condgan.utils.errors import UserError
from condgan.utils.files import require_outside


def require_run(directory: Path, out: Path | None = None) -> None:
    """Raises UserError unless a directory is that of a run, and `out`, where there is one, outside of its data."""
    if not (directory / "recipe.yaml").is_file():
        raise UserError(
            f"'{directory}' is no run directory (it has no recipe.yaml): "
            "give one that `condgan train` wrote, such as runs/digits-acgan"
        )
    if out is not None:
        from condgan.recipes.load import load

        for source in load(directory / "recipe.yaml").data.sources:
            require_outside(out, source, f"--out {out}")


def resume_command(directory: Path) -> str:
    """The command that goes on with a run, whatever settings it began with."""
    return shlex.join(["condgan", "train", str(directory / "recipe.yaml"), "--out", str(directory)])
