"""The command line, which can be stopped from its first moment on."""

import signal

from condgan.app.interrupt import interrupt


def start() -> None:
    """Run the command line."""
    signal.signal(signal.SIGINT, interrupt)
    from condgan.app.cli.main import main

    main()


if __name__ == "__main__":
    start()
