"""What is checked before runs are served as a page, without Gradio."""

import errno
import socket
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from condgan.runs.directory import require_run
from condgan.utils.arguments import whole
from condgan.utils.errors import UserError

PORT = 7860


def serve_runs(runs: Sequence[Path], which: str = "best", port: int = PORT) -> None:
    """Serve a page of some runs on this machine until Ctrl-C. Raises UserError where it cannot start."""
    whole("--port", port, 1, 65_535)
    for run in runs:
        require_run(run)
    if find_spec("gradio") is None:
        raise UserError("condgan app needs Gradio, which is not installed: pip install 'condgan[app]'")
    require_free(port)
    from condgan.app.web.page import serve

    serve(runs, which, port)


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
