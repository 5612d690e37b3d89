"""Train for hours, and watch the memory, the open files and the threads of the process.

`python -m benchmarks.soak --hours H --work DIR [--out FILE] [RECIPE] [KEY=VALUE]…`. It logs, samples, scores and saves
far more often than a run does, since what grows would grow there.
"""

import argparse
import json
import os
import signal
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from benchmarks.record import keep

EVERY = 30.0
"""Seconds between two looks."""
OFTEN = ("schedule.log=640", "schedule.sample=6400", "schedule.save=12800", "schedule.decay=0")
PARTS = 10


def look(process: int, log: Path) -> dict[str, Any]:
    """What a process holds, and how many images it has seen."""
    folder = Path(f"/proc/{process}")
    status = dict(line.split(":", 1) for line in (folder / "status").read_text().splitlines() if ":" in line)
    lines = log.read_bytes().splitlines() if log.is_file() else []
    return {
        "images": json.loads(lines[-1])["images"] if lines else 0,
        "memory_mib": round(int(status["VmRSS"].split()[0]) / 1024, 1),
        "files": len(os.listdir(folder / "fd")),
        "threads": int(status["Threads"]),
    }


def watch(arguments: list[str], run: Path, hours: float) -> list[dict[str, Any]]:
    """Train for so many hours; what was seen."""
    command = [
        sys.executable,
        "-m",
        "condgan",
        "train",
        *arguments,
        *OFTEN,
        f"schedule.images={10**9}",
        "--out",
        str(run),
    ]
    seen: list[dict[str, Any]] = []
    with open(run.with_suffix(".txt"), "w") as said, subprocess.Popen(command, stdout=said, stderr=said) as training:
        start = time.monotonic()
        while training.poll() is None and time.monotonic() - start < 3600 * hours:
            time.sleep(EVERY)
            seen.append({"seconds": round(time.monotonic() - start), **look(training.pid, run / "log.jsonl")})
            run.with_suffix(".json").write_text(json.dumps(seen))
        training.send_signal(signal.SIGTERM)
    return seen


def parts(seen: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Medians of tenths of the time."""
    size = max(1, len(seen) // PARTS)
    pieces = [seen[start : start + size] for start in range(0, len(seen), size)][:PARTS]
    return [{key: statistics.median(one[key] for one in piece) for key in piece[0]} for piece in pieces]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--hours", type=float, required=True)
    parser.add_argument("--work", type=Path, required=True, help="where the run goes")
    parser.add_argument("--out", type=Path, help="write a record")
    parser.add_argument("training", nargs="*", default=["digits-acgan"], help="recipe and options")
    arguments = parser.parse_args()
    arguments.work.mkdir(parents=True, exist_ok=True)
    seen = watch(arguments.training, arguments.work / "run", arguments.hours)
    for one in parts(seen):
        print(json.dumps(one))
    if arguments.out:
        saved = len(list((arguments.work / "run" / "checkpoints").iterdir()))
        keep(
            arguments.out, "benchmarks.soak", looks=len(seen), checkpoints_kept=saved, first=seen[0], parts=parts(seen)
        )


if __name__ == "__main__":
    main()
