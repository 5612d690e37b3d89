"""Kill training at random moments, let it go on, and compare how it ends with a run that was never killed.

python -m benchmarks.kills --count 300 --seed 0 [--only CASE] [--out FILE]

Each case trains once without a kill. Then the same command is started again and again and killed, all its processes at
once, after a random time: while it starts, before the first checkpoint, between two, after the
last one while it evaluates. Where a start comes through, the run's last checkpoint, its log but for times, and its
metrics are compared bit for bit with the first one's, and another run begins. Processes are forked from one that has
imported everything, so that a kill costs about a second; those of a group find each other as torchrun's do.
"""

import argparse
import json
import math
import os
import random
import shutil
import signal
import socket
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

import condgan.runs.report
import condgan.runs.train
from benchmarks.record import keep, said
from condgan.app.cli.main import main as condgan
from condgan.runs.checkpoint import checkpoints

TINY = [
    "generator.width=4", "backbone.width=4", "schedule.batch=16", "schedule.log=32", "schedule.sample=320",
    "schedule.save=64", "compute.compile=false", "compute.precision=float32",
]  # fmt: skip
CASES: dict[str, tuple[int, list[str]]] = {
    "classes": (1, ["digits-acgan", *TINY, "generator.latent_dim=12", "schedule.images=640"]),
    "translator": (
        1,
        ["digits-stargan", *TINY, "generator.blocks=1", "schedule.images=320", "schedule.decay=128",
         "objective.identity=1.0"],
    ),
    "biggan": (1, ["digits-biggan", *TINY, "schedule.images=320"]),
    "processes": (2, ["digits-acgan", *TINY, "generator.latent_dim=12", "schedule.images=1920"]),
}  # fmt: skip
"""How many processes there are, and what they train."""
TIMES = {"seconds", "images_per_second"}
"""What a log says of the time that it took."""
FAILED = 3
"""Starts in a row that end by themselves, and badly, after which a run is lost."""


class Ended(NamedTuple):
    """What is to be the same of two runs, by name."""

    files: dict[str, bytes]

    @classmethod
    def of(cls, run: Path) -> "Ended":
        """The last checkpoint's weights and optimizers, the log without times, and the metrics."""
        last = checkpoints(run / "checkpoints")[-1]
        files = {path.name: path.read_bytes() for path in last.iterdir() if path.name != "state.json"}
        log = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
        timeless = [{name: value for name, value in line.items() if name not in TIMES} for line in log]
        return cls(files | {"log": json.dumps(timeless).encode(), "metrics": (run / "metrics.json").read_bytes()})

    def differing_bits(self, other: "Ended") -> int:
        """How many bits are not the same; of files of different lengths or missing ones all."""
        return sum(
            _bits(self.files.get(name), other.files.get(name)) for name in self.files.keys() | other.files.keys()
        )


def _bits(one: bytes | None, other: bytes | None) -> int:
    if one is None or other is None or len(one) != len(other):
        return 8 * max(len(one or b""), len(other or b""))
    return int(np.unpackbits(np.frombuffer(one, np.uint8) ^ np.frombuffer(other, np.uint8)).sum())


def start(command: list[str], processes: int, log: Path) -> list[int]:
    """Fork the processes of a command, as a group of their own; their numbers, the leader's first."""
    os.environ.setdefault("OMP_NUM_THREADS", str(torch.get_num_threads()))  # on which bits depend
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = free.getsockname()[1]
    numbers: list[int] = []
    for rank in range(processes):
        number = os.fork()
        if number == 0:
            _be(command, rank, processes, port, numbers[0] if numbers else 0, log)
        os.setpgid(number, numbers[0] if numbers else number)
        numbers.append(number)
    return numbers


def _be(command: list[str], rank: int, processes: int, port: int, leader: int, log: Path) -> None:
    """Run a command in this process, which ends with it."""
    code = 1
    try:
        os.setpgid(0, leader)
        descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        for stream in (1, 2):
            os.dup2(descriptor, stream)
        if processes > 1:
            os.environ |= {"RANK": str(rank), "LOCAL_RANK": str(rank), "WORLD_SIZE": str(processes)}
            os.environ |= {"LOCAL_WORLD_SIZE": str(processes), "MASTER_ADDR": "localhost", "MASTER_PORT": str(port)}
            os.environ |= {"TORCHELASTIC_RUN_ID": "kills", "TORCHELASTIC_RESTART_COUNT": "0"}
        sys.argv = ["condgan", *command]
        condgan()
    except SystemExit as end:
        code = end.code if isinstance(end.code, int) else 1
    finally:
        sys.stderr.flush()
        os._exit(code)


def wait(numbers: list[int], seconds: float | None) -> int | None:
    """The highest exit code of processes that end within some time, None for those that were killed after it."""
    end = None if seconds is None else time.monotonic() + seconds
    codes: dict[int, int] = {}
    while len(codes) < len(numbers):
        for number in numbers:
            if number not in codes and (done := os.waitpid(number, os.WNOHANG))[0]:
                codes[number] = os.waitstatus_to_exitcode(done[1])
        if end is not None and time.monotonic() >= end and len(codes) < len(numbers):
            os.killpg(numbers[0], signal.SIGKILL)
            for number in numbers:
                if number not in codes:
                    os.waitpid(number, 0)
            return None
        time.sleep(0.002)
    return max(codes.values(), key=abs)


def kill(case: str, count: int, minutes: float, rng: random.Random, folder: Path) -> dict[str, Any]:
    """Kill runs of a case so many times, or for so many minutes, and compare those that came through."""
    processes, recipe = CASES[case]
    began = time.monotonic()
    for out in ("warm", "whole"):  # the first fills the cache
        begun = time.monotonic()
        code = wait(start(["train", *recipe, "--out", str(folder / out)], processes, folder / "log"), None)
        assert code == 0, (folder / "log").read_text()
    took, whole = time.monotonic() - begun, Ended.of(folder / "whole")
    moments: Counter[str] = Counter()
    runs = lost = bits = failed = 0
    run = folder / "killed"
    enough = False
    while not enough or not runs or run.exists():
        enough = sum(moments.values()) >= count or time.monotonic() - began > 60 * minutes
        code = wait(
            start(["train", *recipe, "--out", str(run)], processes, folder / "log"),
            None if enough else took * rng.random() ** rng.choice((1, 2)),
        )
        if code is None:
            moments[_moment(run)] += 1
            continue
        failed = failed + 1 if code else 0
        if code and failed < FAILED:
            continue
        runs, lost = runs + 1, lost + bool(code)
        bits += 0 if code else whole.differing_bits(Ended.of(run))
        if code:
            print((folder / "log").read_text()[-2_000:], file=sys.stderr)
        shutil.rmtree(run, ignore_errors=True)  # which one that was lost may not even have begun
    return {
        "case": case, "kills": sum(moments.values()), "runs": runs, "lost_runs": lost, "differing_bits": bits,
        "moments": dict(moments), "seconds": round(time.monotonic() - began, 1),
    }  # fmt: skip


def _moment(run: Path) -> str:
    """How far a run was when it was killed."""
    numbers = [int(path.name) for path in checkpoints(run / "checkpoints")]
    last = int(checkpoints(run.with_name("whole") / "checkpoints")[-1].name)
    if not numbers:
        return "before the first checkpoint"
    return "after the last checkpoint" if numbers[-1] == last else "between checkpoints"


def main() -> None:
    """Kill, and print or record."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=30, help="kills of each case")
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="after which a case ends, however many there were"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", choices=CASES)
    parser.add_argument("--out", type=Path, metavar="FILE")
    options = parser.parse_args()
    rows, totals = [], {}
    for case in [options.only] if options.only else CASES:
        with tempfile.TemporaryDirectory() as folder:
            rows.append(
                kill(case, options.count, options.minutes, random.Random(f"{options.seed} {case}"), Path(folder))
            )
        print(said(rows[-1], False), flush=True)
        totals = {name: sum(row[name] for row in rows) for name in ("kills", "runs", "lost_runs", "differing_bits")}
        if options.out:
            keep(options.out, "benchmarks.kills", **totals, cases=rows)
    if totals["lost_runs"] or totals["differing_bits"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
