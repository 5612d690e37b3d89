"""Give condgan damaged, hostile and mistaken input, and count how it takes it.

`python -m benchmarks.campaign --minutes M [--seed S] [--only images,archives,…] [--out FILE]`, or with `--cases N` so
many of each kind. A case is made of the seed, its kind and number alone: `--case images/123 --keep DIR` makes one
again, and leaves its files there. The kinds are in `benchmarks/campaign_kinds.py`; kills in `benchmarks/kills.py`.

Each command runs in a process of its own, forked from this one, where condgan is imported already, with limits on time
and memory. It may do what it is asked, or refuse it in one line that begins with `condgan: ` (exit code 2). Anything
else is a fault: a traceback, a signal, more than ten seconds, more than 1.5 GB, a library's warning beside the line,
codes that a terminal obeys, a file of before that is changed by what is refused, or content of a file that was not
given.
"""

import argparse
import hashlib
import importlib
import json
import os
import pkgutil
import resource
import shutil
import signal
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import condgan
from benchmarks.campaign_kinds import KINDS, SECRET, Command, Kind
from benchmarks.record import keep

SECONDS = 10.0
"""After which a command counts as hanging."""
PREPARATION = 300.0
"""The same of what cases start from."""
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
    memory: int
    """The most bytes that it, or a process that it started, held."""
    out: bytes
    err: bytes
    hanging: bool = False


def forked(command: Command, folder: Path, limit: float = SECONDS) -> Outcome:
    """Run a command in a folder, in a fork of this process and a group of its own, for so many seconds at most."""
    files = [Path(tempfile.gettempdir()) / f"campaign-{os.getpid()}-{name}" for name in ("out", "err")]
    start = time.monotonic()
    process = os.fork()
    if process == 0:
        _be(command, folder, files)
    usage, status, hanging = None, 0, False
    while usage is None:
        done, status, found = os.wait4(process, os.WNOHANG)
        usage = found if done else None
        if usage is None and time.monotonic() - start > limit:
            hanging = True
            os.killpg(process, signal.SIGKILL)
            _, status, usage = os.wait4(process, 0)
        time.sleep(0.002)
    seconds = time.monotonic() - start
    with suppress(ProcessLookupError):
        os.killpg(process, signal.SIGKILL)  # workers that it left
    out, err = (file.read_bytes() for file in files)
    return Outcome(os.waitstatus_to_exitcode(status), seconds, usage.ru_maxrss * 1024, out, err, hanging)


def _be(command: Command, folder: Path, files: Sequence[Path]) -> None:
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


def contents(folder: Path) -> dict[str, str]:
    """Digests of the regular files in a folder."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


@dataclass
class Tally:
    """What became of the cases of a kind."""

    cases: int = 0
    tried: int = 0
    """Inputs: a case may hold several pictures."""
    commands: int = 0
    accepted: int = 0
    refused: int = 0
    faults: Counter[str] = field(default_factory=Counter)
    memory: int = 0
    slowest: float = 0.0

    def summary(self) -> dict[str, Any]:
        plain = asdict(self) | {"faults": dict(self.faults)}
        return plain | {"memory": f"{self.memory / 1e6:.0f} MB", "slowest": f"{self.slowest:.1f} s"}


@dataclass
class Campaign:
    """A campaign with a seed; its cases have folders in `work`."""

    seed: int
    work: Path
    tallies: dict[str, Tally] = field(default_factory=dict)
    found: list[dict[str, object]] = field(default_factory=list)
    """A line for each fault."""

    def __post_init__(self) -> None:
        os.environ["CONDGAN_CACHE"] = str(self.work / "cache")
        for module in pkgutil.walk_packages(condgan.__path__, "condgan."):
            if not module.name.endswith("__main__"):
                importlib.import_module(module.name)

    def case(self, name: str, number: int, keep: Path | None = None) -> list[dict[str, object]]:
        """Make and run a case; the faults that it shows."""
        kind, tally = KINDS[name], self.tallies.setdefault(name, Tally())
        folder = keep or Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.work))
        folder.mkdir(parents=True, exist_ok=True)
        shown = []
        try:
            rng = np.random.default_rng([self.seed, list(KINDS).index(name), number])
            made = kind.make(rng, folder, self._shared(name, kind))
            tally.cases += 1
            tally.tried += made.tried
            for command in made.commands:
                outcome, wrong = self._run(command, folder)
                if "hang" in wrong:  # the machine may have been busy
                    outcome, wrong = self._run(command, folder)
                tally.commands += 1
                tally.accepted += outcome.code == 0
                tally.refused += outcome.code == 2
                tally.faults.update(wrong)
                tally.memory, tally.slowest = max(tally.memory, outcome.memory), max(tally.slowest, outcome.seconds)
                if wrong:
                    shown.append(
                        {
                            "case": f"{name}/{number}",
                            "faults": wrong,
                            "what": made.what,
                            "command": " ".join(command.arguments)[:200],
                            "code": outcome.code,
                            "seconds": round(outcome.seconds, 1),
                            "memory_mb": outcome.memory // 1_000_000,
                            "end": outcome.err.decode(errors="backslashreplace").strip()[-300:],
                        }
                    )
        finally:
            if keep is None:
                shutil.rmtree(folder, ignore_errors=True)
        self.found += shown
        return shown

    def _run(self, command: Command, folder: Path) -> tuple[Outcome, list[str]]:
        before = contents(folder)
        outcome = forked(command, folder)
        after = contents(folder)
        changed = [name for name, digest in before.items() if after.get(name) != digest]
        return outcome, faults(command, outcome, changed)

    def _shared(self, name: str, kind: Kind) -> Path:
        """What cases of a kind start from, made once."""
        path = self.work / f"shared-{name}"
        if not path.exists():
            path.mkdir(parents=True)
            for command in kind.prepare:
                outcome = forked(command, path, PREPARATION)
                if outcome.code:
                    raise RuntimeError(f"{command.arguments}: {outcome.err.decode(errors='replace')}")
        return path


def turns(names: Sequence[str], minutes: float | None, cases: int | None) -> Iterator[tuple[str, int]]:
    """Kinds that get as much time each, and the number of the case; or so many cases of each."""
    if cases is not None:
        yield from ((name, number) for number in range(cases) for name in names)
        return
    start, spent, number = time.monotonic(), dict.fromkeys(names, 0.0), dict.fromkeys(names, 0)
    while time.monotonic() - start < 60 * (minutes or 1):
        name = min(names, key=lambda one: spent[one])
        before = time.monotonic()
        yield name, number[name]
        spent[name] += time.monotonic() - before
        number[name] += 1


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=None)
    parser.add_argument("--cases", type=int, default=None, help="of each kind, instead of minutes")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", default=",".join(KINDS), help=f"of {', '.join(KINDS)}")
    parser.add_argument("--case", help="one case again, such as images/123")
    parser.add_argument("--keep", type=Path, help="with --case: where its files are left")
    parser.add_argument("--out", type=Path, help="write a record")
    arguments = parser.parse_args()
    work = Path(tempfile.mkdtemp(prefix="campaign-"))
    loads = [round(os.getloadavg()[0], 2)]
    try:
        campaign = Campaign(arguments.seed, work)
        if arguments.case:
            name, _, number = arguments.case.partition("/")
            for one in campaign.case(name, int(number), arguments.keep):
                print(json.dumps(one, ensure_ascii=False, indent=1))
            return
        names = arguments.only.split(",")
        for name, number in turns(names, arguments.minutes, arguments.cases):
            for one in campaign.case(name, number):
                print(json.dumps(one, ensure_ascii=False), flush=True)
    finally:
        shutil.rmtree(work, ignore_errors=True)
    for name, tally in campaign.tallies.items():
        print(name, json.dumps(tally.summary()))
    if arguments.out:
        loads.append(round(os.getloadavg()[0], 2))
        tallies = {name: tally.summary() for name, tally in campaign.tallies.items()}
        about = {"seed": arguments.seed, "minutes": arguments.minutes, "cases": arguments.cases, "load": loads}
        keep(arguments.out, "benchmarks.campaign", **about, kinds=tallies, faults=campaign.found[:200])


if __name__ == "__main__":
    main()
