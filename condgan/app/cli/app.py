"""Serve runs as a page on this machine."""

import errno
import socket
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

from condgan.app.cli.options import CheckpointOption
from condgan.app.cli.usage import Argument, Option
from condgan.runs.directory import require_run
from condgan.utils.arguments import whole
from condgan.utils.errors import UserError


def app_command(
    directories: Annotated[tuple[Path, ...], Argument("RUN...", "Run directories, such as runs/digits-acgan.")],
    port: Annotated[int, Option("Port on this machine.")] = 7860,
    checkpoint: CheckpointOption = "best",
) -> None:
    """Look at runs in the browser: make images, translate pictures, see progress and report.

    The page is served to this machine alone, at 127.0.0.1, and needs no network.
    """
    whole("--port", port, 1, 65_535)
    for directory in directories:
        require_run(directory)
    if find_spec("gradio") is None:
        raise UserError("condgan app needs Gradio, which is not installed: pip install 'condgan[app]'")
    require_free(port)
    from condgan.app.web.page import serve

    serve(directories, checkpoint, port)


def require_free(port: int) -> None:
    """Raises UserError for a port of this machine that is taken, or that may not be used."""
    with socket.socket() as tried:
        tried.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do, after one that has just ended
        try:
            tried.bind(("127.0.0.1", port))
        except PermissionError:
            raise UserError(f"--port {port} given, which this user may not use: give one from 1024 on") from None
        except OSError as error:
            why = "taken" if error.errno == errno.EADDRINUSE else str(error.strerror)
            other = port + 1 if port < 65_535 else port - 1
            raise UserError(f"--port {port} given, which is {why}: give another one, such as --port {other}") from None
