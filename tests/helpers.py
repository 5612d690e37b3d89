"""Running the command line in this process."""

import sys
from pathlib import Path

import pytest

from condgan.cli import main


class Outcome:
    """What a command printed and how it ended."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err


def condgan(capsys: pytest.CaptureFixture[str], *arguments: object) -> Outcome:
    """Run `condgan ARGUMENTS`."""
    before, sys.argv = sys.argv, ["condgan", *map(str, arguments)]
    capsys.readouterr()
    try:
        with pytest.raises(SystemExit) as stop:
            main()
    finally:
        sys.argv = before
    return Outcome(int(stop.value.code or 0), *capsys.readouterr())


def refused(outcome: Outcome, *parts: str) -> None:
    """That a command was refused in one line on stderr that says all the parts."""
    lines = outcome.err.strip().splitlines()
    assert outcome.code == 2, outcome.err
    assert lines[-1].startswith("condgan: ")
    assert "Traceback" not in outcome.err
    assert len(lines) == 1, outcome.err
    for part in parts:
        assert part in lines[-1]


def weights(run: Path) -> dict[str, bytes]:
    """The files of a run's last checkpoint but its description, which holds scores."""
    last = max((run / "checkpoints").glob("[0-9]*"), key=lambda path: int(path.name))
    return {path.name: path.read_bytes() for path in last.iterdir() if path.name != "state.json"}
