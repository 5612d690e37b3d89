"""Do fakes help a classifier that has few images? Small sets, three generators of each, `condgan utility` of each.

Photographs of waste (6 classes, one of them rare), CIFAR-10 with two classes cut to 50, 100 and 200 of 500 images,
MNIST with 20 images a class, a tenth of the digits. Generators are the light ones of `any-projection`.

`python -m benchmarks.utility FOLDER [--only SET;…] [--seeds 3] [--minutes 4] [--work DIR] [--train] [--done]
[--record OUT]`

FOLDER holds trash-photos.zip, cifar10-jpeg.zip and mnist.zip; sets without a file there are left out. A process of one
thread for each core; about an hour and a quarter on two. What is done is kept in DIR, and the same command goes on from
there; `--train` ends after the generators, `--done` tells of what is done. OUT/record.json holds the command, the
environment and every result.
"""

import argparse
import json
import os
import zipfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path, PurePosixPath
from statistics import fmean
from typing import Any, NamedTuple

import torch

from benchmarks.record import command
from benchmarks.study import number
from condgan.evaluation.advice import as_table
from condgan.recipes.load import load
from condgan.runs.train import train_run
from condgan.runs.utility import utility
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

RARE = ("cat", "truck")
"""Of CIFAR-10."""
PLENTY = 500
"""Training images of its other classes."""
TESTED = 400
"""Held-out images of a class, at most."""
HELD_OUT = 0.4
"""Of photographs, which have no test split."""
COLORS = ["data.size=32", "data.channels=3", "data.flip=true"]
STEEP = "objective.penalties.approximate_r1=1"
"""For images that are seen very often, each in its place."""


class Set(NamedTuple):
    """Images, and what their generators learn from them and how long."""

    file: str | None
    """None: embedded data."""
    most: dict[str, int]
    """Training images of classes, "" stands for the others."""
    options: list[str]
    images: int
    generators: int = 3
    """At most: of large sets, a verdict takes long."""


SETS = {
    "trash": Set("trash-photos.zip", {"": 1_000_000}, COLORS, 80_000, generators=2),
    **{
        f"cifar10, two classes of {few}": Set(
            "cifar10-jpeg.zip",
            {"": PLENTY, **dict.fromkeys(RARE, few)},
            [*COLORS, "data.class_balance=0.5"],
            80_000,
            generators=1,
        )
        for few in (50, 100, 200)
    },
    "mnist, 20 a class": Set("mnist.zip", {"": 20}, ["data.size=32", "data.channels=1", STEEP], 60_000),
    "digits, 10 %": Set(
        None, {}, ["data.source=digits", "data.held_out=0.9", "data.size=16", "data.channels=1", STEEP], 60_000
    ),
}


class Job(NamedTuple):
    """A generator of a set, and where it is kept."""

    name: str
    seed: int
    folder: Path

    @property
    def run(self) -> Path:
        return self.folder / "runs" / f"{self.name}, {self.seed}"

    def train(self) -> None:
        torch.set_num_threads(1)
        if (self.run / "metrics.json").is_file():
            return
        one = SETS[self.name]
        source = [] if one.file is None else [f"data.source={json.dumps(str(self.folder / 'data' / self.name))}"]
        options = [*one.options, *source, f"schedule.images={one.images}", f"seed={self.seed}"]
        train_run(load("any-projection", [*options, "schedule.log=6400"]), self.run)

    def judge(self, minutes: float) -> dict[str, Any]:
        torch.set_num_threads(1)
        if not (self.run / "utility.json").is_file():
            utility(self.run, minutes=minutes)
        result = json.loads((self.run / "utility.json").read_text())
        result["about"]["reference"] = self.name
        metrics = json.loads((self.run / "metrics.json").read_text())
        quality = {name: metrics.get(name) for name in ("label_agreement", "fd_classifier", "coverage", "copies")}
        return {"set": self.name, "generator_seed": self.seed, "quality": quality} | result


def unpacked(name: str, source: Path, folder: Path) -> None:
    """Write a set's images to folders of splits and classes; the same ones everywhere."""
    one, target = SETS[name], folder / "data" / name
    if one.file is None or target.exists():
        return
    with zipfile.ZipFile(source / one.file) as archive:
        members: dict[tuple[str, str], list[str]] = {}
        for member in sorted(archive.namelist(), key=number):
            *split, label, _ = ("", *PurePosixPath(member).parts)
            if label and not member.endswith("/"):
                held_out = "test" if number(member) % 100 < 100 * HELD_OUT else "train"
                members.setdefault((split[1] if len(split) > 1 else held_out, label), []).append(member)
        for (part, label), found in members.items():
            most = TESTED if part == "test" else one.most.get(label, one.most[""])
            for member in found[:most]:
                path = target.with_name(f"{name}.tmp") / part / label / PurePosixPath(member).name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(archive.read(member))
    target.with_name(f"{name}.tmp").rename(target)


def main() -> None:
    """Every generator, then every verdict, a process of one thread per core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FOLDER")
    parser.add_argument("--only", help="sets with semicolons between")
    parser.add_argument("--seeds", type=int, default=3, help="generators of each set, at most")
    parser.add_argument("--minutes", type=float, default=4, help="for the search and the verdict of each generator")
    parser.add_argument("--work", type=Path, default=Path("utility-work"))
    parser.add_argument("--train", action="store_true", help="generators alone")
    parser.add_argument("--done", action="store_true", help="tell of what is done alone")
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--record", type=Path, metavar="OUT")
    given = parser.parse_args()
    before, folder = os.getloadavg()[0], given.work.resolve()
    names = given.only.split(";") if given.only else [*SETS]
    names = [name for name in names if SETS[name].file is None or (given.source / str(SETS[name].file)).is_file()]
    for name in names:
        unpacked(name, given.source, folder)
    jobs = [Job(name, seed, folder) for seed in range(given.seeds) for name in names if seed < SETS[name].generators]
    jobs = [job for job in jobs if not given.done or (job.run / "utility.json").is_file()]
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        list(pool.map(Job.train, jobs))
        if given.train:
            return
        results = list(pool.map(Job.judge, jobs, [given.minutes] * len(jobs)))
    for result in results:
        print(f"{result['set']}, generator of seed {result['generator_seed']}\n{as_table(result)}\n", flush=True)
    told = dict.fromkeys(result["set"] for result in results)
    summaries = {name: summary([one for one in results if one["set"] == name]) for name in told}
    print("\n".join(f"{name}: {one}" for name, one in summaries.items()))
    if given.record is not None:
        about = {
            "command": command("benchmarks.utility"), "threads": 1, "processes": given.processes,
            "load_before": before, "minutes": given.minutes, "summary": summaries, "runs": results,
        }  # fmt: skip
        record = json.dumps(describe_machine() | about, indent=1, ensure_ascii=False)
        write(given.record / "record.json", record.encode() + b"\n")


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Over generators: how often which verdict, and the mean and range of the differences."""
    summed: dict[str, Any] = {"verdicts": dict(Counter(result["verdict"] for result in results))}
    pairs = dict.fromkeys(name for result in results for name in result["comparisons"])
    for pair in ("fakes over baseline", *pairs):
        found = [one["comparisons"].get(pair, one if pair == "fakes over baseline" else None) for one in results]
        values = [one["difference"] for one in found if one is not None]
        summed[pair] = {"mean": fmean(values), "min": min(values), "max": max(values), "generators": len(values)}
    return summed


if __name__ == "__main__":
    main()
