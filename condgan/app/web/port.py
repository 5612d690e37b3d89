"""The port that a page is served at."""

import errno
import socket

from condgan.utils.errors import UserError


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
