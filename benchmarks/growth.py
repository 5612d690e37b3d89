"""What an image costs in training, in time and memory, against the batch, its size, classes, images and processes.

`python -m benchmarks.growth [--record OUT]` trains narrow BigGANs, one discriminator step to one of the generator, on
random images; each point in a process of its own, and all points of an axis take turns. On the axis of processes these
have a thread each and share a batch; what they exchange is noted, and counted beside. The axis of images is of what a
data set costs beside its pixels (`benchmarks.many`).
"""

import argparse
import io
import json
import os
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.exchange import counted, noted, summed
from benchmarks.record import keep, said
from benchmarks.throughput import (
    LONG_ENOUGH,
    Apart,
    Building,
    Case,
    device_name,
    fast_stepper,
    most_resident,
    rounded,
    seconds,
    some_split,
    widths,
)  # fmt: skip
from condgan.estimate import estimate_memory, iteration_flops
from condgan.labels import LabelSpec
from condgan.recipes.schema import Recipe
from condgan.utils import distributed
from condgan.utils.device import keep_memory, try_algorithms
from condgan.utils.files import write

BASE = (*widths(8), "schedule.d_steps=1", "compute.compile=false", "data.classes=10")
AXES: dict[str, dict[int, tuple[str, ...]]] = {
    "batch": {count: (f"schedule.batch={count}",) for count in (8, 16, 32, 64, 128, 256, 512)},
    "size": {size: (f"data.size={size}", *widths(4), "schedule.batch=8") for size in (32, 64, 128, 256)},
    "classes": {count: (f"data.classes={count}", "schedule.batch=32") for count in (10, 100, 1_000, 10_000)},
    "processes": dict.fromkeys((1, 2), ("schedule.batch=64",)),
    "images": dict.fromkeys((1_000, 10_000, 100_000, 1_000_000), ()),
}
LABELS = {
    "batch": "images per batch, 32 px",
    "size": "pixels per side, batch 8",
    "classes": "classes, batch 32, 32 px",
    "processes": "processes, batch 64, 32 px",
    "images": "images of a data set",
}
TRAINED = 5
"""Iterations in which processes time one, after two."""
IMAGES = 2_048
"""Random ones to train on."""


def case(axis: str, value: int) -> Case:
    return Case("biggan-cifar10", (*BASE, *AXES[axis][value]))


def growing(axis: str, value: int) -> Building:
    """What a process of a point trains."""
    recipe = case(axis, value).load()
    split = some_split(recipe, IMAGES)
    keep_memory()
    try_algorithms()
    return partial(fast_stepper, recipe, split)


def launched(processes: int) -> dict[str, float]:
    """Seconds of an iteration in so many processes, MiB of the leader, and exchanges of an iteration in number and MB.

    Such as `counted` ones.
    """
    run = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    return _told([*run, "-m", "benchmarks.growth", "--worker", str(processes)])


def listed(count: int) -> dict[str, Any]:
    """What `benchmarks.many` says of so many images."""
    return _told(["-m", "benchmarks.many", str(count)])


def _told(arguments: Sequence[str]) -> Any:
    """What a process with a thread says in its last line."""
    done = subprocess.run(
        [sys.executable, *arguments], env=os.environ | {"OMP_NUM_THREADS": "1"}, cwd=Path(__file__).parents[1],
        check=True, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    return json.loads(done.stdout.splitlines()[-1])


def work(processes: int) -> None:
    """Be one of these processes; the leader prints what `launched` returns."""
    with distributed.joined():
        build = growing("processes", processes)
        before = most_resident()
        step = build()
        times = [seconds(step, 1) for _ in range(2 + TRAINED)][2:]
        told = {"s": statistics.median(times), "mib": most_resident() - before}
        if processes > 1:
            told |= exchanged(build)
        if distributed.is_main():
            print(json.dumps(told), flush=True)


def exchanged(build: Callable[[], Callable[[], Any]]) -> dict[str, float]:
    """The exchanges of an iteration, and their MB, after two, in which gradients find their buckets."""
    with noted() as exchanges:
        step = build()
        for _ in range(2):
            step()
        exchanges.clear()
        step()
    return _summed("", exchanges)


def _summed(prefix: str, exchanges: Any) -> dict[str, float]:
    number, size = summed(exchanges, "gradients", "sums", "rows")
    return {f"{prefix}exchanges": number, f"{prefix}exchanged_mb": size / 1e6}


def measure(axis: str, rounds: int) -> list[dict[str, Any]]:
    """A row per point: medians over rounds."""
    values = list(AXES[axis])
    if axis == "images":
        return [_row_of_images(value, told) for value, told in in_rounds(values, listed, rounds).items()]
    if axis == "processes":
        rows = []
        for value, told in in_rounds(values, launched, rounds).items():
            more = {name: statistics.median(one[name] for one in told) for name in told[0] if name != "s"}
            recipe, labels = _described(axis, value)
            counted_ones = _summed("counted_", counted(recipe, labels, value)) if value > 1 else {}
            rows.append(_row(axis, value, [one["s"] for one in told], more | counted_ones))
        return rows
    found = trained_apart(axis, rounds)
    return [_row(axis, value, times, {"mib": mib}) for value, (times, mib) in found.items()]


def trained_apart(axis: str, rounds: int) -> dict[int, tuple[list[float], float]]:
    """Each point's seconds of an iteration in each round, and MiB that it needs at most."""
    apart: dict[int, Apart] = {}
    try:
        times: dict[int, int] = {}
        for value in AXES[axis]:
            apart[value] = Apart(partial(growing, axis, value))
            apart[value].ask(1)
            times[value] = max(1, round(LONG_ENOUGH / apart[value].ask(1)))
        found = in_rounds(list(apart), lambda value: apart[value].ask(times[value]), rounds)
        return {value: (of_value, apart[value].ask("MiB")) for value, of_value in found.items()}
    finally:
        for one in apart.values():
            one.stop()


def in_rounds(values: Sequence[int], once: Callable[[int], Any], rounds: int) -> dict[int, list[Any]]:
    """What is found of each value in each round, in which all take turns."""
    found: dict[int, list[Any]] = {value: [] for value in values}
    for _ in range(rounds):
        for value in values:
            found[value].append(once(value))
    return found


def _described(axis: str, value: int) -> tuple[Recipe, LabelSpec]:
    recipe = case(axis, value).load()
    return recipe, some_split(recipe, 1).labels.spec


def _row(axis: str, value: int, times: Sequence[float], more: dict[str, float]) -> dict[str, Any]:
    recipe, labels = _described(axis, value)
    batch, flops = recipe.schedule.batch, iteration_flops(recipe, labels)
    alone = case(axis, value).load(f"schedule.batch={batch // value}") if axis == "processes" else recipe
    row = {
        "s_per_image": statistics.median(times) / batch,
        "min": min(times) / batch,
        "max": max(times) / batch,
        "gflop_per_image": flops / batch / 1e9,
        "gflops": flops / statistics.median(times) / 1e9,
        "counted_mib": sum(estimate_memory(alone, labels)) / 2**20,
    } | more
    return {"axis": axis, "value": value} | {name: rounded(number) for name, number in row.items()}


def _row_of_images(count: int, told: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """In microseconds and bytes per image; of a later batch in milliseconds."""
    stages = [*told[0]["s"]]
    seconds = {name: statistics.median(one["s"][name] for one in told) for name in stages}
    most = {name: statistics.median(one["bytes"][name] for one in told) for name in stages}
    return {
        "axis": "images",
        "value": count,
        "us_per_image": {name: rounded(1e6 * taken / count) for name, taken in seconds.items()},
        "most_bytes_per_image": {name: rounded(size / count) for name, size in most.items()},
        "kept_bytes_per_image": rounded(statistics.median(one["kept_bytes"] for one in told) / count),
        "ms_of_a_batch": rounded(1e3 * statistics.median(one["batch_s"] for one in told)),
    }


def plot(rows: list[dict[str, Any]]) -> bytes:
    """The PNG file of two panels per axis, time above memory.

    Dashed, what all points would take at the best one's operations per second (of processes each one's), and counted
    memory.
    """
    axes = list(dict.fromkeys(row["axis"] for row in rows))
    figure = Figure(figsize=(3.3 * len(axes), 6.4), layout="constrained")
    panels = figure.subplots(2, len(axes), squeeze=False)
    for axis, time, memory in zip(axes, *panels, strict=True):
        own = [row for row in rows if row["axis"] == axis]
        if axis == "images":
            _plot_images(own, time, memory)
        else:
            _plot_training(axis, own, time, memory)
        at = [row["value"] for row in own]
        for panel in (time, memory):
            panel.set(xscale="log")
            panel.set_xticks(at, [_short(value) for value in at], minor=False)
            panel.set_xticks([], minor=True)
        memory.set_xlabel(LABELS[axis])
    first = panels[:, next((place for place, axis in enumerate(axes) if axis != "images"), 0)]
    if axes != ["images"]:
        first[0].set_ylabel("ms per image")
        first[1].set_ylabel("MiB at most")
        for panel in first:
            panel.legend(fontsize="small")
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=100)
    return buffer.getvalue()


def _short(value: int) -> str:
    return f"{value // 1_000_000} M" if value >= 1_000_000 else f"{value:,}"


def _plot_training(axis: str, rows: Sequence[dict[str, Any]], time: Axes, memory: Axes) -> None:
    at, times = [row["value"] for row in rows], [1e3 * row["s_per_image"] for row in rows]
    ranges = [[1e3 * abs(row[end] - row["s_per_image"]) for row in rows] for end in ("min", "max")]
    time.errorbar(at, times, ranges, marker="o", markersize=4, label="measured")
    work = [row["gflop_per_image"] / (row["value"] if axis == "processes" else 1) for row in rows]
    best = min(taken / one for taken, one in zip(times, work, strict=True))
    time.plot(at, [best * one for one in work], "--", color="gray", label="by arithmetic")
    memory.plot(at, [row["mib"] for row in rows], marker="o", markersize=4, label="measured")
    memory.plot(at, [row["counted_mib"] for row in rows], "--", color="gray", label="counted")
    _scale(time, [1e3 * row[end] for row in rows for end in ("min", "max")])
    _scale(memory, [row[name] for row in rows for name in ("mib", "counted_mib")])


def _plot_images(rows: Sequence[dict[str, Any]], time: Axes, memory: Axes) -> None:
    at = [row["value"] for row in rows]
    for name in rows[0]["us_per_image"]:
        time.plot(at, [row["us_per_image"][name] for row in rows], marker="o", markersize=3, label=name)
    memory.plot(at, [max(row["most_bytes_per_image"].values()) for row in rows], marker="o", markersize=4, label="most")
    memory.plot(at, [row["kept_bytes_per_image"] for row in rows], marker="o", markersize=4, label="in training")
    time.set(yscale="log", ylabel="µs per image")
    time.yaxis.set_major_formatter("{x:g}")
    low, high = time.get_ylim()
    time.set_ylim(low, high * (high / low) ** 0.35)  # room for the names
    time.legend(fontsize="x-small", ncols=2, loc="upper center", columnspacing=1, handlelength=1.2)
    memory.set(ylim=(0, None), ylabel="bytes per image")
    memory.legend(fontsize="small")


def _scale(panel: Axes, values: Iterable[float]) -> None:
    """From 0, or where values differ more than tenfold, by powers of two."""
    low, high = min(values := list(values)), max(values)
    if high > 10 * low > 0:
        panel.set_yscale("log", base=2)
        panel.yaxis.set_major_formatter("{x:,g}")
        panel.yaxis.set_minor_formatter("")
    else:
        panel.set_ylim(0, 1.1 * high)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--axis", nargs="+", choices=list(AXES), default=list(AXES), metavar="AXIS")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--record", type=Path, metavar="OUT", help="write OUT/record.json and OUT/growth.png")
    parser.add_argument("--worker", type=int, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.worker:
        return work(given.worker)
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
