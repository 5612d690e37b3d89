"""Give condgan damaged, hostile and mistaken input, and count how it takes it.

`python -m benchmarks.campaign --minutes M [--seed S] [--only images,archives,…] [--out FILE]`, or with `--cases N` so
many of each kind. A case is made of the seed, its kind and number alone: `--case images/123 --keep DIR` makes one
again, and leaves its files there. Kills are in `benchmarks/kills.py`.

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
import shutil
import struct
import sys
import tempfile
import time
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import lmdb
import numpy as np

import condgan
from benchmarks.campaign.archives import archives
from benchmarks.campaign.cases import Command, Kind
from benchmarks.campaign.hdf5 import hdf5
from benchmarks.campaign.pictures import images
from benchmarks.campaign.process import Outcome, faults, forked
from benchmarks.campaign.published import published
from benchmarks.campaign.runs import RUN, checkpoints, disk
from benchmarks.campaign.settings import options, recipe_files
from benchmarks.record import keep

KINDS: dict[str, Kind] = {
    "images": Kind(images),
    "archives": Kind(archives),
    "hdf5": Kind(hdf5),
    "yaml": Kind(recipe_files),
    "options": Kind(options, (RUN,)),
    "checkpoints": Kind(checkpoints, (RUN,)),
    "disk": Kind(disk, (RUN,)),
    "published": Kind(published),
}
"""By the names that --only takes."""
PREPARATION = 300
"""Seconds that what cases start from may take."""


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
    not_made: int = 0
    """Cases that the libraries which write files refused to write."""
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


LATER = ("sklearn.datasets", "torch._dynamo", "torch.fx.experimental.symbolic_shapes")
"""What condgan or torch import when they need it: seconds that every command would pay anew."""


@dataclass
class Campaign:
    """A campaign with a seed; its cases have folders in `work`."""

    seed: int
    work: Path
    tallies: dict[str, Tally] = field(default_factory=dict)
    found: list[dict[str, object]] = field(default_factory=list)
    """A line for each fault."""

    def __post_init__(self) -> None:
        os.environ.setdefault("CONDGAN_CACHE", str(self.work / "cache"))
        for module in pkgutil.walk_packages(condgan.__path__, "condgan."):
            if not module.name.endswith(("__main__", ".web.page")):  # which an extra is needed for
                importlib.import_module(module.name)
        for name in LATER:
            importlib.import_module(name)

    def case(self, name: str, number: int, keep: Path | None = None) -> list[dict[str, object]]:
        """Make and run a case; the faults that it shows."""
        kind, tally = KINDS[name], self.tallies.setdefault(name, Tally())
        folder = keep or Path(tempfile.mkdtemp(prefix=f"{name}-", dir=self.work))
        folder.mkdir(parents=True, exist_ok=True)
        shown = []
        try:
            rng = np.random.default_rng([self.seed, list(KINDS).index(name), number])
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # of what writes odd files
                try:
                    made = kind.make(rng, folder, self._shared(name, kind))
                except (ValueError, LookupError, struct.error, OSError, lmdb.Error):
                    tally.not_made += 1
                    return []
            tally.cases += 1
            tally.tried += made.tried
            for command in made.commands:
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


def main() -> int:
    """Run the command line; 1 where there were faults."""
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
            return int(bool(campaign.found))
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
    return int(bool(campaign.found))


if __name__ == "__main__":
    sys.exit(main())
