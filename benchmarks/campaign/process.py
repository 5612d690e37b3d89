"""A command in a process of its own, with limits, and what is wrong with how it ended."""

import os
import resource
import signal
import sys
import tempfile
import time
import traceback
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.campaign.cases import SECRET, Command

SECONDS = 10
"""Of a processor that a process may use before it counts as hanging."""
PATIENCE = 4
"""So many times as long it may wait, since the machine may be busy."""
MEMORY = 1_500_000_000
"""Bytes that a command's largest process may hold."""
ROOM = 4 << 30
"""Bytes of addresses that a process gets on top of this one's, so that the machine lives on."""
LINE = 1_000
"""Characters of a line that refuses; more cannot be read."""


@dataclass
class Outcome:
    """How a command ended."""

    code: int
    seconds: float
    """Of processors."""
    memory: int
    """The most bytes that it, or a process that it started, held."""
    out: bytes
    err: bytes
    hanging: bool = False


def forked(command: Command, folder: Path, limit: int = SECONDS) -> Outcome:
    """Run a command in a folder, in a fork of this process and a group of its own, for so many seconds at most."""
    files = [Path(tempfile.gettempdir()) / f"campaign-{os.getpid()}-{name}" for name in ("out", "err")]
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        _be(command, folder, files, limit)
    usage, status, hanging = None, 0, False
    while usage is None:
        done, status, found = os.wait4(process, os.WNOHANG)
        usage = found if done else None
        if usage is None and time.monotonic() - start > PATIENCE * limit:
            hanging = True
            os.killpg(process, signal.SIGKILL)
            _, status, usage = os.wait4(process, 0)
        time.sleep(0.002)
    code = os.waitstatus_to_exitcode(status)
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # workers that it left
    out, err = (file.read_bytes() for file in files)
    seconds = usage.ru_utime + usage.ru_stime
    return Outcome(code, seconds, usage.ru_maxrss * 1024, out, err, hanging or code == -signal.SIGXCPU)


def _be(command: Command, folder: Path, files: Sequence[Path], seconds: int) -> None:
    """Become a command. Does not return."""
    code = 1
    try:
        os.setpgid(0, 0)
        for number, file in enumerate(files, start=1):
            descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
            os.dup2(descriptor, number)
            os.close(descriptor)
        sys.stdout, sys.stderr = (open(number, "w", encoding="utf-8", closefd=False) for number in (1, 2))  # noqa: SIM115
        sys.stdin = open(os.devnull)  # noqa: SIM115
        os.chdir(folder)
        limit = _addresses() + ROOM
        resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds + 5))
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if command.file_size is not None:
            signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
            resource.setrlimit(resource.RLIMIT_FSIZE, (command.file_size, command.file_size))
        sys.argv = ["condgan", *command.arguments]
        from condgan.app.cli.main import main

        main()
    except SystemExit as stop:
        code = stop.code if isinstance(stop.code, int) else int(stop.code is not None)
    except BaseException:
        traceback.print_exc()
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code)


def _addresses() -> int:
    """Bytes of addresses of this process."""
    return int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()


def faults(command: Command, outcome: Outcome, changed: Sequence[str]) -> list[str]:
    """What is wrong with how a command ended."""
    found = []
    err = outcome.err.decode(errors="replace")
    lines = err.strip().splitlines()
    if outcome.hanging:
        found.append("hang")
    elif outcome.code < 0:
        found.append("signal")
    elif "Traceback (most recent call last)" in err or outcome.code not in (0, 2, *command.codes):
        found.append("traceback")
    elif outcome.code == 2 and not (lines and lines[-1].startswith("condgan: ") and len(lines[-1]) <= LINE):
        found.append("no line")
    elif command.must and outcome.code:
        found.append("lost")
    if outcome.memory > MEMORY or "not enough memory" in err:
        found.append("memory")
    if any("Warning: " in line or line.startswith("  warnings.warn") for line in lines):
        found.append("library's words")
    if any((byte < 32 and byte not in b"\n\r\t") or byte == 127 for byte in outcome.out + outcome.err):
        found.append("terminal codes")
    if SECRET in outcome.out + outcome.err:
        found.append("secret")
    if outcome.code and not outcome.hanging and changed and not command.may_change:
        found.append("changed")
    return found
