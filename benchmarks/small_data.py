"""Pieces for small data, each alone and together: equal steps, several seeds, judged on held-out images.

`python -m benchmarks.small_data FOLDER [--only SET,…] [--variants NAME,…] [--seeds 3] [--minutes M] [--out FILE]`

FOLDER holds cifar10-jpeg.zip, trash-photos.zip and sprites-attributes.zip; sets without a file there are left out. The
record grows by a run at a time, the first seed of all variants first; the same command goes on where it was stopped,
after `--minutes` too. Runs take turns between variants, so that a slow hour hits all of them. `--table FILE` prints a
record's tables.
"""

import argparse
import hashlib
import json
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path, PurePosixPath
from typing import Any, NamedTuple

from benchmarks.record import command
from condgan.recipes.load import load
from condgan.runs.train import train_run
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

METRICS = ("label_agreement", "fd_classifier", "intra_fd_classifier", "coverage", "recall", "texture", "grain")
"""Of which those are kept that a run has."""
HELD_OUT = 1_000
"""Images at most that a set is judged on."""


class Set(NamedTuple):
    """A small data set: what it is made of, and how a run uses it."""

    file: str | None
    """None: embedded data."""
    unpack: Callable[[zipfile.ZipFile], Iterator[tuple[str, str, str]]]
    """Members of the file that are used: member, split, class."""
    share: float
    """Of the training images."""
    options: list[str]
    images: int
    """How many a run sees."""


def _by_folders(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, str]]:
    """Class folders; where there is no test split, one image in five is held out."""
    for name in archive.namelist():
        parts = PurePosixPath(name).parts
        if name.endswith("/") or len(parts) < 2:
            continue
        if parts[0] in ("train", "test"):
            yield name, parts[0], parts[1]
        else:
            yield name, "test" if _number(name) % 5 == 0 else "train", parts[0]


def _by_hair(archive: zipfile.ZipFile) -> Iterator[tuple[str, str, str]]:
    """The sprites' hairs as classes."""
    _, head, *lines = archive.read("list_attr.txt").decode().splitlines()
    names = head.split()
    for line in lines:
        file, *values = line.split()
        for name, value in zip(names, values, strict=True):
            if value == "1" and name.endswith("_Hair"):
                yield f"img/{file}", "test" if _number(file) % 5 == 0 else "train", name


def _number(name: str) -> int:
    """A number of a name, the same everywhere: it draws subsets."""
    return int.from_bytes(hashlib.sha256(name.encode()).digest()[:4])


SETS = {
    "cifar10, 10 %": Set("cifar10-jpeg.zip", _by_folders, 0.1, ["data.size=32", "data.channels=3"], 100_000),
    "cifar10, 20 %": Set("cifar10-jpeg.zip", _by_folders, 0.2, ["data.size=32", "data.channels=3"], 100_000),
    "trash": Set("trash-photos.zip", _by_folders, 1.0, ["data.size=32", "data.channels=3"], 100_000),
    "hairs": Set("sprites-attributes.zip", _by_hair, 1.0, ["data.size=32", "data.channels=3"], 60_000),
    "digits, 10 %": Set(
        None, _by_folders, 1.0, ["data.source=digits", "data.held_out=0.9", "data.size=16", "data.channels=1"], 60_000
    ),
}

RECIPE = "any-projection"
LECAM = "objective.penalties.lecam={start: 0, end: 0.3, images: 1, begin: 10000}"
"""Once its averages mean something."""
VARIANTS: dict[str, list[str]] = {
    "none": [],
    "DiffAugment": ["augment.name=diffaugment"],
    "ADA": ["augment={name: ada, images: 50000}"],
    "LeCam": [LECAM],
    "CR": ["objective.penalties.consistency=10"],
    "bCR": ["objective.penalties.consistency=10", "objective.penalties.consistency_fake=10"],
    "R1, approximate": ["objective.penalties.approximate_r1=0.1"],
    "relativistic, R1 and R2": [
        "objective={name: gan, adversarial: relativistic, penalties: {approximate_r1: 0.1, approximate_r2: 0.1}}",
        "schedule.fake_labels=batch",
    ],
    "transition": ["objective.transition={start: 0, end: 1, begin: 10000, images: 20000}"],
    "gSR": ["objective.penalties.spectral_groups=0.5"],
    "DiffAugment, LeCam": ["augment.name=diffaugment", LECAM],
    "DiffAugment, CR": ["augment.name=diffaugment", "objective.penalties.consistency=10"],
}
"""What each adds to the recipe."""


def prepared(one: Set, source: Path, folder: Path) -> list[str]:
    """The options of a set, whose images lie under a folder then, in folders of splits and classes."""
    if one.file is None:
        return one.options
    if not folder.exists():
        with zipfile.ZipFile(source / one.file) as archive:
            kept: dict[tuple[str, str], list[str]] = defaultdict(list)
            for member, split, label in one.unpack(archive):
                kept[split, label].append(member)
            tests = sum(split == "test" for split, _ in kept)
            for (split, label), members in kept.items():
                count = round(len(members) * one.share) if split == "train" else HELD_OUT // tests
                for member in sorted(members, key=_number)[:count]:
                    target = folder / split / label / PurePosixPath(member).name
                    target.parent.mkdir(parents=True, exist_ok=True)
                    target.write_bytes(archive.read(member))
    return [*one.options, f"data.source={json.dumps(str(folder))}"]


def run(options: list[str], images: int, seed: int) -> dict[str, Any]:
    """Train once; the metrics, and the processor's seconds."""
    begun = time.process_time()
    every = [f"schedule.images={images}", f"schedule.save={images // 5}", f"schedule.sample={images}", f"seed={seed}"]
    with tempfile.TemporaryDirectory() as folder:
        metrics = train_run(load(RECIPE, [*options, *every]), Path(folder) / "run")
    found = {name: round(metrics[name], 4) for name in METRICS if metrics.get(name) is not None}
    ceilings = {name: round(value, 4) for name, value in metrics["real"].items() if name in found}
    return {"metrics": found, "real": ceilings, "cpu_seconds": round(time.process_time() - begun, 1)}


def tables(runs: list[dict[str, Any]]) -> str:
    """A table per set: mean and spread of each metric over seeds, of the fakes, and what real images have."""
    lines = []
    for name in dict.fromkeys(one["set"] for one in runs):
        mine = [one for one in runs if one["set"] == name]
        metrics = [metric for metric in METRICS if any(metric in one["metrics"] for one in mine)]
        lines += ["", f"| {name} | seeds | {' | '.join(metrics)} |", f"|---|---:|{'---:|' * len(metrics)}"]
        lines.append(f"| real images | | {' | '.join(_mean([one['real'].get(m) for one in mine]) for m in metrics)} |")
        for variant in dict.fromkeys(one["variant"] for one in mine):
            rows = [one["metrics"] for one in mine if one["variant"] == variant]
            cells = (_mean([row.get(metric) for row in rows]) for metric in metrics)
            lines.append(f"| {variant} | {len(rows)} | {' | '.join(cells)} |")
    return "\n".join(lines).strip()


def _mean(values: list[float | None]) -> str:
    there = [value for value in values if value is not None]
    if not there:
        return "–"
    spread = f" ± {statistics.stdev(there):.3f}" if len(there) > 1 else ""
    return f"{statistics.fmean(there):.3f}{spread}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, nargs="?")
    parser.add_argument("--only", help=f"of {'; '.join(SETS)}, with ; between")
    parser.add_argument("--variants", help=f"of {'; '.join(VARIANTS)}, with ; between")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--minutes", type=float, default=float("inf"), help="after which no run begins")
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/small-data/record.json"))
    parser.add_argument("--work", type=Path, default=Path(tempfile.gettempdir()) / "small-data", help="for the sets")
    parser.add_argument("--table", type=Path, help="print a record's tables")
    options = parser.parse_args()
    if options.table:
        print(tables(json.loads(options.table.read_text())["runs"]))
        return
    if options.folder is None:
        parser.error("no folder of data given")
    names = [one.strip() for one in options.only.split(";")] if options.only else list(SETS)
    sets = {
        name: SETS[name] for name in names if SETS[name].file is None or (options.folder / SETS[name].file).exists()
    }
    variants = [one.strip() for one in options.variants.split(";")] if options.variants else list(VARIANTS)
    record = json.loads(options.out.read_text()) if options.out.exists() else {"runs": []}
    done = {(one["set"], one["variant"], one["seed"]) for one in record["runs"]}
    begun = time.monotonic()
    for seed in range(options.seeds):
        for name, one in sets.items():
            overrides = prepared(one, options.folder, options.work / name.replace(", ", "-").replace(" %", ""))
            for variant in variants:
                if (name, variant, seed) in done:
                    continue
                if time.monotonic() - begun > 60 * options.minutes:
                    return
                about = {"set": name, "variant": variant, "seed": seed, "images": one.images}
                found = run([*overrides, *VARIANTS[variant]], one.images, seed)
                machine = describe_machine()
                row = about | found | {"commit": machine["commit"], "cpu": machine["cpu"], "load": os.getloadavg()[0]}
                record = machine | {"command": command("benchmarks.small_data")} | {"runs": [*record["runs"], row]}
                write(options.out, json.dumps(record, indent=1, ensure_ascii=False).encode() + b"\n")
                print(json.dumps(about | found["metrics"], ensure_ascii=False), file=sys.stderr, flush=True)


if __name__ == "__main__":
    main()
