"""The command line, which can be stopped from its first moment on."""

import os
import signal

from condgan.app.interrupt import interrupt

SPINS = 5_000
"""Turns that a thread waits for others at work before it sleeps.

The 300,000 of GNU's OpenMP take a core from whoever has work to do: where another program keeps one of two cores
busy, small networks train four to ten times as fast with so many; where both are idle, as fast.
"""


def start() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, interrupt)
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", str(SPINS))  # which is read where torch is imported
    from condgan.app.cli.main import main

    main()


if __name__ == "__main__":
    start()
