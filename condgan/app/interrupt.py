"""What Ctrl-C does."""

import os
import sys
from types import FrameType


def interrupt(signum: int, frame: FrameType | None) -> None:
    """Raise KeyboardInterrupt or, while modules are imported, whose own code may not survive it, end at once."""
    while frame is not None:
        if frame.f_code.co_filename == "<frozen importlib._bootstrap>":
            sys.stderr.write("condgan: interrupted\n")
            sys.stderr.flush()
            os._exit(128 + signum)
        frame = frame.f_back
    raise KeyboardInterrupt
