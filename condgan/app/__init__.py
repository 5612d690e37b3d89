"""The command line, which can be stopped from its first moment on."""

import os
import signal
import sys
from types import FrameType


def start() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, interrupt)
    from condgan.app.cli.main import main

    main()


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt or, while modules are imported, whose own code may not survive it, end at once."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            sys.stderr.write("condgan: interrupted\n")
            sys.stderr.flush()
            os._exit(128 + signum)
        frame = frame.f_back
    raise KeyboardInterrupt
