"""How long commands take that need no networks, as whole processes: help, errors of usage, the list of recipes.

`python -m benchmarks.quick [--rounds N] [--against PATH] [--out FILE]`; PATH is another source tree, whose commands
take turns with this one's.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.record import keep, said

ROUNDS = 11
HERE = Path(__file__).parent.parent
FLOOR = "python -c pass"
COMMANDS = {
    FLOOR: ("-c", "pass"),
    "import condgan": ("-c", "import condgan"),
    **{
        line: ("-m", *line.split())
        for line in (
            "condgan --help",
            "condgan sample --help",
            "condgan --version",
            "condgan recipes",
            "condgan recipes digits-acgan",
            "condgan smaple",
            "condgan train --outt x",
            "condgan sample runs/a",
            "condgan sample runs/a --out x --per-class x",
            "condgan sample runs/a --out x --precision foo",
            "condgan sample runs/a --out x --classes 3 --mixture 3=1",
            "condgan sample nowhere --out x",
            "condgan train digit-acgan",
        )
    },
}
"""What is given to Python, by how it is told."""


def seconds(tree: Path, command: tuple[str, ...]) -> float:
    """Of a process that finds condgan in a source tree."""
    start = time.perf_counter()
    subprocess.run(
        [sys.executable, *command], cwd=tree, env=os.environ | {"PYTHONPATH": str(tree)}, capture_output=True
    )
    return time.perf_counter() - start


def measure(rounds: int, trees: dict[str, Path]) -> list[dict[str, Any]]:
    """Medians and ranges over rounds, in which all commands and trees take turns; one round before fills the caches."""
    taken: dict[tuple[str, str], list[float]] = {(line, tree): [] for line in COMMANDS for tree in trees}
    for number in range(rounds + 1):
        for (line, tree), of_case in taken.items():
            one = seconds(trees[tree], COMMANDS[line])
            if number:
                of_case.append(one)
    rows = []
    for line in COMMANDS:
        row: dict[str, Any] = {"command": line}
        for tree in trees:
            of_case = taken[line, tree]
            row |= {
                f"{tree}_s": round(statistics.median(of_case), 3),
                f"{tree}_min": round(min(of_case), 3),
                f"{tree}_max": round(max(of_case), 3),
            }
        if len(trees) > 1:
            ratios = [old / new for new, old in zip(*(taken[line, tree] for tree in trees), strict=True)]
            row["ratio"] = round(statistics.median(ratios), 2)
        rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--against", type=Path, metavar="PATH", help="another source tree, in turns with this one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a record")
    arguments = parser.parse_args()
    trees = {"here": HERE} | ({"there": arguments.against.resolve()} if arguments.against else {})
    before = round(os.getloadavg()[0], 2)
    rows = measure(arguments.rounds, trees)
    for row in rows:
        print(said(row, arguments.json))
    if arguments.out:
        loads = [before, round(os.getloadavg()[0], 2)]
        keep(arguments.out, "benchmarks.quick", rounds=arguments.rounds, load=loads, rows=rows)


if __name__ == "__main__":
    main()
