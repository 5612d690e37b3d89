"""Studies of variants of a recipe on small sets of images: equal training, several seeds, judged on held-out images.

A study's record grows by a run at a time, the first seed of all variants first; the same command goes on where it was
stopped, after `--minutes` too. Runs take turns between variants, so that a slow hour hits all of them.
"""

import argparse
import hashlib
import itertools
import json
import os
import shutil
import statistics
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

import torch

from benchmarks.record import command
from condgan import timing
from condgan.data.listing import Listing
from condgan.data.open import list_source
from condgan.estimate import estimate_memory
from condgan.labels import LabelSpec
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs.train import train_run
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

METRICS = (
    "label_agreement",
    "fd_classifier",
    "intra_fd_classifier",
    "coverage",
    "recall",
    "intra_class_diversity",
    "texture",
    "grain",
    "checkerboard",
)
"""Of which those are kept that a run has."""
HELD_OUT = 1_000
"""Images at most that a set is judged on."""


class Set(NamedTuple):
    """A set of images: what it is made of, and how a run uses it."""

    file: str | None
    """None: embedded data."""
    unpack: Callable[[zipfile.ZipFile], Iterator[tuple[str, str, str]]]
    """Members of the file that are used: member, split, class."""
    share: float
    """Of the training images of each class."""
    options: list[str]
    images: int
    """How many a run sees."""
    most: int = 1_000_000
    """Training images of a class."""


class Variant(NamedTuple):
    """What is trained: a recipe and what is changed of it, for all sets."""

    recipe: str
    options: list[str]


def by_folders(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, str]]:
    """Class folders; where there is no test split, one image in five is held out."""
    for name in archive.namelist():
        parts = PurePosixPath(name).parts
        if name.endswith("/") or len(parts) < 2:
            continue
        if parts[0] in ("train", "test"):
            yield name, parts[0], parts[1]
        else:
            yield name, "test" if number(name) % 5 == 0 else "train", parts[0]


def by_hair(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, str]]:
    """The sprites' hairs as classes."""
    _, head, *lines = archive.read("list_attr.txt").decode().splitlines()
    names = head.split()
    for line in lines:
        file, *values = line.split()
        for name, value in zip(names, values, strict=True):
            if value == "1" and name.endswith("_Hair"):
                yield f"img/{file}", "test" if number(file) % 5 == 0 else "train", name


def number(name: str) -> int:
    """A number of a name, the same everywhere: it draws subsets."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


def prepared(one: Set, source: Path, folder: Path) -> list[str]:
    """The options of a set, whose images lie under a folder then, in folders of splits and classes."""
    if one.file is None:
        return one.options
    if not folder.exists():
        begun = folder.with_name(f"{folder.name}.tmp")
        shutil.rmtree(begun, ignore_errors=True)
        with zipfile.ZipFile(source / one.file) as archive:
            kept: dict[tuple[str, str], list[str]] = defaultdict(list)
            for member, split, label in one.unpack(archive):
                kept[split, label].append(member)
            tests = sum(split == "test" for split, _ in kept)
            for (split, label), members in kept.items():
                of_training = min(one.most, round(len(members) * one.share))
                count = of_training if split == "train" else HELD_OUT // tests
                for member in sorted(members, key=number)[:count]:
                    target = begun / split / label / PurePosixPath(member).name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
        begun.rename(folder)
    return [*one.options, f"data.source={json.dumps(str(folder))}"]


def relative_speeds(variants: Mapping[str, Variant], base: Variant, overrides: list[str]) -> dict[str, float]:
    """Images of training for a second of a processor, divided by a base's: medians of three turns, one thread."""
    found: dict[str, list[float]] = defaultdict(list)
    torch.set_num_threads(1)
    for _ in range(3 if variants else 0):
        of_base = _speed(base, overrides)
        for name, variant in variants.items():
            found[name].append(_speed(variant, overrides) / of_base)
    return {name: round(statistics.median(values), 3) for name, values in found.items()}


def _speed(variant: Variant, overrides: list[str]) -> float:
    recipe = load(variant.recipe, [*overrides, *variant.options])
    return timing.images_per_second(recipe, _listing(recipe).labels.spec, time.process_time)


def _listing(recipe: Recipe) -> Listing:
    return list_source(recipe.data.sources[0], recipe.data.root, recipe.data.held_out, recipe.data.paired)


def run(variant: Variant, overrides: list[str], images: int, seed: int, kept: Path | None) -> dict[str, Any]:
    """Train once; the metrics, and the processor's seconds. The run is kept as a folder, which must not be there."""
    recipe = load(variant.recipe, [*overrides, *variant.options])
    labels = _listing(recipe).labels.spec
    speed = timing.images_per_second(recipe, labels, time.process_time)
    begun, batch = time.process_time(), recipe.schedule.batch
    images = batch * round(images / batch)
    every = [f"schedule.images={images}", f"schedule.save={images // 5}", f"schedule.sample={images}", f"seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        metrics = train_run(load(variant.recipe, [*overrides, *variant.options, *every]), Path(folder) / "run")
        if kept:
            kept.parent.mkdir(parents=True, exist_ok=True)
            shutil.move(Path(folder) / "run", kept)
    found = {name: round(metrics[name], 4) for name in METRICS if metrics.get(name) is not None}
    ceilings = {name: round(value, 4) for name, value in metrics["real"].items() if name in found}
    return {
        "images": images,
        "metrics": found,
        "real": ceilings,
        "cpu_seconds": round(time.process_time() - begun, 1),
        "images_per_cpu_second": round(speed),
        "mib": memory(recipe, labels),
    }


def memory(recipe: Recipe, labels: LabelSpec) -> int:
    """MiB that training needs beside the data and the program, as `condgan.estimate` counts them."""
    return round(sum(estimate_memory(recipe, labels)) / 2**20)


def tables(runs: list[dict[str, Any]]) -> str:
    """A table per set: mean and spread of each metric over seeds, of the fakes, and what real images have."""
    lines = []
    for name in dict.fromkeys(one["set"] for one in runs):
        mine = [one for one in runs if one["set"] == name]
        metrics = [metric for metric in METRICS if any(metric in one["metrics"] for one in mine)]
        lines += ["", f"| {name} | seeds | images | images/s | MiB | {' | '.join(metrics)} |"]
        lines.append(f"|---|---:|---:|---:|---:|{'---:|' * len(metrics)}")
        lines.append(
            f"| real images | | | | | {' | '.join(_mean([one['real'].get(m) for one in mine]) for m in metrics)} |"
        )
        for variant in dict.fromkeys(one["variant"] for one in mine):
            rows = [one for one in mine if one["variant"] == variant]
            cells = (_mean([row["metrics"].get(metric) for row in rows]) for metric in metrics)
            speeds = [row["images_per_cpu_second"] for row in rows if "images_per_cpu_second" in row]
            speed = f"{statistics.median(speeds):,.0f}" if speeds else ""
            mib = rows[0].get("mib", "")
            lines.append(f"| {variant} | {len(rows)} | {rows[0]['images']:,} | {speed} | {mib} | {' | '.join(cells)} |")
    return "\n".join(lines).strip()


def _mean(values: list[float | None]) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    spread = f" ± {statistics.stdev(there):.3f}" if len(set(there)) > 1 else ""
    return f"{statistics.fmean(there):.3f}{spread}"


def study(
    name: str, about: str | None, sets: Mapping[str, Set], variants: Mapping[str, Variant], equal_time: bool
) -> None:
    """A benchmark's main function.

    `equal_time`: the first variant sees a set's images, the others as many as they train on in the time of a processor
    that it takes, by speeds that are measured before. Else all see the same number.
    """
    parser = argparse.ArgumentParser(description=about, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?", help="of data")
    parser.add_argument("--only", help=f"of {'; '.join(sets)}, with ; between")
    parser.add_argument("--variants", help=f"of {'; '.join(variants)}, with ; between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int, help="that a run sees, instead of the set's number")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no run begins")
    parser.add_argument("--out", type=Path, default=Path(f"benchmarks/records/{name.replace('_', '-')}/record.json"))
    parser.add_argument(
        "--work", type=Path, default=Path(tempfile.gettempdir()) / f"studies-{name}", help="for the sets"
    )
    parser.add_argument("--runs", type=Path, help="where runs are kept")
    parser.add_argument("--table", type=Path, help="print a record's tables")
    options = parser.parse_args()
    if options.table:
        print(tables(json.loads(options.table.read_text())["runs"]))
        return
    if options.folder is None:
        parser.error("no folder of data given")
    chosen = _named(options.only) or list(sets)
    there = [one for one in chosen if (file := sets[one].file) is None or (options.folder / file).exists()]
    compared = {one: variants[one] for one in _named(options.variants) or variants}
    base = next(iter(variants.values()))
    record = json.loads(options.out.read_text()) if options.out.exists() else {"speeds": {}, "runs": []}
    done = {(row["set"], row["variant"], row["seed"]) for row in record["runs"]}
    begun = time.monotonic()
    for seed, where in itertools.product(range(options.seeds), there):
        one = sets[where]
        overrides = prepared(one, options.folder, options.work / where.replace(", ", "-").replace(" %", ""))
        speeds = record["speeds"].setdefault(where, {})
        if equal_time:
            unknown = {name: it for name, it in compared.items() if it is not base and name not in speeds}
            speeds |= relative_speeds(unknown, base, overrides)
        for variant in compared:
            if (where, variant, seed) in done:
                continue
            if time.monotonic() - begun > 60 * options.minutes:
                return
            images = round((options.images or one.images) * speeds.get(variant, 1))
            kept = options.runs and options.runs / f"{where}-{variant}-{seed}".replace(" ", "-").replace(",", "")
            found = run(compared[variant], overrides, images, seed, kept)
            machine = describe_machine()
            row = {"set": where, "variant": variant, "seed": seed} | found
            row |= {"commit": machine["commit"], "cpu": machine["cpu"], "load": os.getloadavg()[0]}
            record |= machine | {"command": command(f"benchmarks.{name}"), "runs": [*record["runs"], row]}
            write(options.out, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
            print(json.dumps({"variant": variant} | found["metrics"], ensure_ascii=False), file=sys.stderr, flush=True)


def _named(given: str | None) -> list[str]:
    return [one.strip() for one in given.split(";")] if given else []
