"""SIGINT and SIGTERM, noted until a step is done."""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from condgan.runs import checkpoint
from condgan.runs.directory import is_run, resume_command
from condgan.utils import distributed
from condgan.utils.console import say
from condgan.utils.errors import Interrupted


class Signals:
    """SIGINT and SIGTERM: at once Interrupted, but while deferred only noted, until the same comes again."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.received: list[int] = []
        self.waiting = False

    def __enter__(self) -> "Signals":
        main = threading.current_thread() is threading.main_thread()
        numbers = (signal.SIGINT, signal.SIGTERM) if main else ()
        self.previous = {number: signal.signal(number, self._note) for number in numbers}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self.previous.items():
            signal.signal(number, handler)

    @contextmanager
    def deferred(self) -> Iterator[list[int]]:
        """The numbers received meanwhile."""
        self.waiting = True
        try:
            yield self.received
        finally:
            self.waiting = False

    def interruption(self) -> Interrupted:
        """Make the error to raise once everything is saved."""
        saved = checkpoint.checkpoints(self.directory / "checkpoints")
        what = "stopped before anything was saved; to begin again"
        if saved:
            what = f"stopped and saved in {self.directory} at {int(saved[-1].name):,} images; to go on"
        known = is_run(self.directory) and distributed.size() == 1
        how = resume_command(self.directory) if known else "the same command"
        return Interrupted(self.received[0], f"{what}: {how}")

    def _note(self, signum: int, _frame: object) -> None:
        self.received.append(signum)
        if not self.waiting or self.received.count(signum) > 1:  # torchrun passes on one that came already
            raise self.interruption()
        if len(self.received) == 1:
            say("stopping after this iteration")
