"""What an image costs in training, against the batch, the image's size, the classes and the processes.

`python -m benchmarks.growth [--record OUT]` trains narrow BigGANs, one discriminator step to one of the generator, on
random images; all points of an axis take turns. Processes have a thread each and share a batch.
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

from benchmarks.record import keep, said
from benchmarks.throughput import Case, device_name, fast_stepper, seconds, some_split, widths
from condgan.estimate import iteration_flops
from condgan.utils import distributed
from condgan.utils.files import write

BASE = (*widths(8), "schedule.d_steps=1", "compute.compile=false", "data.classes=10")
AXES: dict[str, dict[int, tuple[str, ...]]] = {
    "batch": {count: (f"schedule.batch={count}",) for count in (8, 16, 32, 64, 128, 256, 512)},
    "size": {size: (f"data.size={size}", *widths(4), "schedule.batch=8") for size in (32, 64, 128, 256)},
    "classes": {count: (f"data.classes={count}", "schedule.batch=32") for count in (10, 100, 1_000, 10_000)},
    "processes": dict.fromkeys((1, 2), ("schedule.batch=64",)),
}
LABELS = {
    "batch": "images per batch, 32 px",
    "size": "pixels per side, batch 8",
    "classes": "classes, batch 32, 32 px",
    "processes": "processes, batch 64, 32 px",
}
TRAINED = 5
"""Iterations in which processes time one, after two."""


def case(axis: str, value: int) -> Case:
    return Case("biggan-cifar10", (*BASE, *AXES[axis][value]))


def stepper(axis: str, value: int) -> Callable[[], Any]:
    """A function that trains one iteration."""
    recipe = case(axis, value).load()
    return fast_stepper(recipe, some_split(recipe, 2_048))


def launched(axis: str, processes: int) -> float:
    """Seconds of an iteration in so many processes."""
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    worker = ["-m", "benchmarks.growth", "--worker", axis, str(processes)]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [sys.executable, *run, *worker], env=environment, cwd=Path(__file__).parents[1],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def work(axis: str, processes: str) -> None:
    """Be one of these processes; the leader prints what `launched` returns."""
    with distributed.joined():
        step = stepper(axis, int(processes))
        times = [seconds(step, 1) for _ in range(2 + TRAINED)][2:]
        if distributed.is_main():
            print(json.dumps(statistics.median(times)), flush=True)


def measure(axis: str, rounds: int) -> list[dict[str, Any]]:
    """A row per point: medians over rounds."""
    if axis == "processes":
        timed: dict[int, Callable[[], float]] = {value: partial(launched, axis, value) for value in AXES[axis]}
    else:
        steps = {value: stepper(axis, value) for value in AXES[axis]}
        for step in steps.values():
            seconds(step, 2)
        timed = {value: partial(seconds, step, 1) for value, step in steps.items()}
    found: dict[int, list[float]] = {value: [] for value in timed}
    for _ in range(rounds):
        for value, once in timed.items():
            found[value].append(once())
    return [_row(axis, value, times) for value, times in found.items()]


def _row(axis: str, value: int, times: list[float]) -> dict[str, Any]:
    recipe = case(axis, value).load()
    batch, flops = recipe.schedule.batch, iteration_flops(recipe, some_split(recipe, 1).labels.spec)
    row = {
        "s_per_image": statistics.median(times) / batch,
        "min": min(times) / batch,
        "max": max(times) / batch,
        "gflop_per_image": flops / batch / 1e9,
        "gflops": flops / statistics.median(times) / 1e9,
    }
    return {"axis": axis, "value": value} | {name: float(f"{number:.4g}") for name, number in row.items()}


def plot(rows: list[dict[str, Any]]) -> bytes:
    """The PNG file of a panel per axis; dashed, what all points would take at the best one's operations per second.

    Of processes, these are each one's.
    """
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3.3 * len(axes), 3.4), layout="constrained")
    for panel, axis in zip(figure.subplots(1, len(axes), squeeze=False)[0], axes, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        at, times = [row["value"] for row in own], [1e3 * row["s_per_image"] for row in own]
        ranges = [[1e3 * abs(row[end] - row["s_per_image"]) for row in own] for end in ("min", "max")]
        panel.errorbar(at, times, ranges, marker="o", markersize=4, label="measured")
        work = [row["gflop_per_image"] / (row["value"] if axis == "processes" else 1) for row in own]
        best = min(taken / one for taken, one in zip(times, work, strict=True))
        panel.plot(at, [best * one for one in work], "--", color="gray", label="by arithmetic")
        panel.set(xlabel=LABELS[axis], xscale="log")
        if axis == "size":
            panel.set_yscale("log")
            panel.yaxis.set_major_formatter("{x:g}")
            panel.yaxis.set_minor_formatter("{x:g}")
        else:
            panel.set_ylim(0, 1.1 * max(1e3 * row["max"] for row in own))
        panel.set_xticks(at, [f"{value:,}" for value in at], minor=False)
        panel.set_xticks([], minor=True)
    figure.axes[0].set_ylabel("ms per image")
    figure.axes[0].legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", nargs="+", choices=list(AXES), default=list(AXES), metavar="AXIS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", type=Path, metavar="OUT", help="write OUT/record.json and OUT/growth.png")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return work(*given.worker)
    rows, load = [], round(os.getloadavg()[0], 2)
    for axis in given.axis:
        for row in measure(axis, given.rounds):
            print(said(row, as_json=False), flush=True)
            rows.append(row)
    if given.record:
        about = {"device": device_name(), "load": load, "rounds": given.rounds, "rows": rows}
        keep(given.record / "record.json", "benchmarks.growth", **about)
        write(given.record / "growth.png", plot(rows))


if __name__ == "__main__":
    main()
