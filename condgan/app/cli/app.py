"""Serve runs as a page on this machine."""

from pathlib import Path
from typing import Annotated

from condgan.app.cli.options import CheckpointOption
from condgan.app.cli.usage import Argument, Option
from condgan.app.web.start import PORT, serve_runs


def app_command(
    directories: Annotated[tuple[Path, ...], Argument("RUN...", "Run directories, such as runs/digits-acgan.")],
    port: Annotated[int, Option("Port on this machine.")] = PORT,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Look at runs in the browser: make images, translate pictures, see progress and report.

    The page is served to this machine alone, at 127.0.0.1, and needs no network.
    """
    serve_runs(directories, checkpoint, port)
