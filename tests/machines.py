"""The suite as other machines would run it, and a table of how it went.

`python -m tests.machines [--only NAME]… [PYTEST ARGUMENTS…]`, on Linux. What no variable of the environment changes,
such as what torch says of the CPU, is mounted over its file, which only the processes of that run see.
"""

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple
from xml.etree import ElementTree

import torch

ROOT = Path(__file__).parents[1]
COMPILERS = ("g++", "c++", "clang++")


class Machine(NamedTuple):
    """What differs from this one: variables, files seen in the places of others, a command that starts all others."""

    environment: Mapping[str, str] = MappingProxyType({})
    instead: Mapping[Path, Path] = MappingProxyType({})
    prefix: tuple[str, ...] = ()


def machines(folder: Path) -> Iterator[tuple[str, Machine]]:
    """Those that this CPU can imitate; the last sets what `conftest` pins. `folder` is for what is mounted."""
    yield "this one", Machine()
    module = Path(torch.cpu.__file__)
    for name, there in (("with bfloat16", True), ("without bfloat16", False)):
        told = folder / f"{name}.py"
        lines = f"_found = get_capabilities\n\n\ndef get_capabilities():\n    flags = {flags(there)}\n"
        told.write_text(f"{module.read_text()}\n\n{lines}    return MappingProxyType({{**_found(), **flags}})\n")
        yield name, Machine(instead={module: told})
    widest = torch.backends.cpu.get_cpu_capability().lower()
    for kind in ("default", "avx2", "avx512"):
        if kind <= widest or kind == "default":
            yield f"ATen {kind}", Machine({"ATEN_CPU_CAPABILITY": kind})
    for kind, flag in (("SSE41", "sse4_1"), ("AVX2", "avx2"), ("AVX512_CORE", "avx512_f")):
        if torch.cpu.get_capabilities().get(flag):
            yield f"oneDNN {kind}", Machine({"ONEDNN_MAX_CPU_ISA": kind})
    yield "one core", Machine(prefix=("taskset", "--cpu-list", "0"))
    yield "two threads", Machine({"CONDGAN_TEST_THREADS": "2"})
    found = {Path(path).resolve() for name in COMPILERS if (path := shutil.which(name))}
    yield "no compiler", Machine({"CXX": "g++"}, {path: Path(os.devnull) for path in found})
    abroad = {"TZ": "Pacific/Chatham", "LC_ALL": "C", "COLUMNS": "40", "FORCE_COLOR": "1", "RANK": "1"}
    yield "another desk", Machine(abroad)


def flags(there: bool) -> dict[str, bool]:
    """What torch says of a CPU that multiplies bfloat16, or does not."""
    return {"avx512_bf16": there, "amx_bf16": False}


def command(machine: Machine, arguments: list[str]) -> list[str]:
    """The command that runs pytest there."""
    pytest = [*machine.prefix, sys.executable, "-m", "pytest", *arguments]
    if not machine.instead:
        return pytest
    mounts = [f'mount --bind "${number}" "${number + 1}"' for number in range(1, 2 * len(machine.instead), 2)]
    pairs = [str(path) for real, other in machine.instead.items() for path in (other, real)]
    script = " && ".join([*mounts, f"shift {len(pairs)}", 'exec "$@"'])
    return ["unshare", "-m" if os.geteuid() == 0 else "-rm", "sh", "-ec", script, "sh", *pairs, *pytest]


def row(machine: Machine, arguments: list[str], folder: Path) -> tuple[list[str], list[str]]:
    """Passed, failed, skipped, seconds; and which failed."""
    report = folder / "report.xml"
    report.unlink(missing_ok=True)
    began = time.monotonic()
    ended = subprocess.run(
        command(machine, [*arguments, f"--junitxml={report}", "-p", "no:cacheprovider"]),
        cwd=ROOT, env={**os.environ, **machine.environment}, capture_output=True, text=True,
    )  # fmt: skip
    seconds = f"{time.monotonic() - began:.0f}"
    if not report.is_file():
        return ["none", "?", "?", seconds], (ended.stderr or ended.stdout).strip().splitlines()[-1:]
    cases = list(ElementTree.parse(report).iter("testcase"))
    failed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    counts = [str(count) for count in (len(cases) - len(failed) - skipped, len(failed), skipped)]
    return [*counts, seconds], [f"{case.get('classname')}::{case.get('name')}" for case in failed]


def main() -> int:
    """The command; 1 if anything failed anywhere."""
    parser = argparse.ArgumentParser(prog="python -m tests.machines", description="Run the tests as other machines do.")
    parser.add_argument("--only", action="append", metavar="NAME", help="of the machines; may be given again")
    chosen, arguments = parser.parse_known_args()
    wrong = False
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        known = dict(machines(folder))
        if unknown := set(chosen.only or ()) - known.keys():
            parser.error(f"no machine {sorted(unknown)}: expected some of {', '.join(known)}")
        print(f"{'machine':20}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}", flush=True)
        for name in chosen.only or known:
            (passed, failed, skipped, seconds), failures = row(known[name], arguments, folder)
            print(f"{name:20}{passed:>8}{failed:>8}{skipped:>9}{seconds:>9}", flush=True)
            for failure in failures:
                print(f"    {failure}", flush=True)
            wrong |= failed != "0"
    return int(wrong)


if __name__ == "__main__":
    sys.exit(main())
