"""How many images per second the stream gives, as batches of floats, with nothing else to do.

`python -m benchmarks.stream [--record OUT]` makes noisy images in a temporary folder: small ones at hand, and a file of
larger ones mapped into memory, of which either all was read before or nothing is in the system's page cache.
"""

import argparse
import itertools
import json
import os
import statistics
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch

from benchmarks.record import command
from condgan.data.dataset import Split
from condgan.data.loader import stream
from condgan.labels import LabelSpec, LabelTable
from condgan.types import Batch
from condgan.utils.provenance import describe_machine

ROUNDS = 7
BATCHES = (64, 128, 256)
CLASSES = 10


class Kind(NamedTuple):
    """So many images of `size` × `size` × 3, and how they are seen; each round gives `given` of them."""

    size: int
    images: int
    given: int
    mapped: bool = False
    cached: bool = True
    options: tuple[str, ...] = ()


KINDS = {
    "resident": Kind(32, 50_000, 25_600),
    "resident, flipped and cropped": Kind(32, 50_000, 25_600, options=("flip", "pad_crop")),
    "mapped": Kind(128, 20_000, 5_120, mapped=True),
    "mapped, flipped": Kind(128, 20_000, 5_120, mapped=True, options=("flip",)),
    "mapped, not in the page cache": Kind(128, 20_000, 5_120, mapped=True, cached=False),
}
OPTIONS = {"flip": True, "pad_crop": 4}


def written(folder: Path, size: int, count: int) -> Path:
    """A file of images, on the disk."""
    path = folder / f"{size}.npy"
    if not path.exists():
        file = np.lib.format.open_memmap(path, "w+", np.uint8, (count, 3, size, size))
        rng = np.random.default_rng(0)
        for start in range(0, count, 1_000):
            block = file[start : start + 1_000]
            block[:] = rng.integers(0, 256, block.shape, np.uint8)
        file.flush()
    return path


def opened(path: Path, kind: Kind) -> Split:
    """The images as a training run has them."""
    if not kind.cached:
        with open(path, "rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    images = torch.from_numpy(np.load(path, mmap_mode="c" if kind.mapped else None))
    if kind.mapped and kind.cached:
        images.sum()  # reads every page
    spec = LabelSpec.of_classes([str(number) for number in range(CLASSES)])
    return Split(images, LabelTable.from_index(spec, torch.arange(len(images)) % CLASSES))


def rate(batches: Iterator[Batch], count: int) -> float:
    """Images per second over the next `count` batches."""
    start = time.perf_counter()
    images = sum(len(batch.images) for batch in itertools.islice(batches, count))
    return images / (time.perf_counter() - start)


def measure() -> list[dict[str, Any]]:
    """Medians over rounds, in which all kinds and batch sizes take turns."""
    cases = [(name, batch) for name in KINDS for batch in BATCHES]
    rates: dict[tuple[str, int], list[float]] = {case: [] for case in cases}
    with tempfile.TemporaryDirectory() as folder:
        paths = {name: written(Path(folder), kind.size, kind.images) for name, kind in KINDS.items()}
        splits = {name: opened(paths[name], kind) for name, kind in KINDS.items() if kind.cached}
        for seed, (name, batch) in itertools.product(range(ROUNDS), cases):
            kind = KINDS[name]
            split = splits[name] if kind.cached else opened(paths[name], kind)
            batches = stream(split, batch, seed, **{option: OPTIONS[option] for option in kind.options})
            next(batches)
            rates[name, batch].append(rate(batches, kind.given // batch))
    return [
        {
            "images": name,
            "size": KINDS[name].size,
            "batch": batch,
            "images_per_s": round(statistics.median(of_case)),
            "min": round(min(of_case)),
            "max": round(max(of_case)),
        }
        for (name, batch), of_case in rates.items()
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--record", type=Path, metavar="OUT", help="write OUT/record.json")
    given = parser.parse_args()
    load = round(os.getloadavg()[0], 2)
    rows = measure()
    for row in rows:
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    if given.record:
        given.record.mkdir(parents=True, exist_ok=True)
        about = {"command": command("benchmarks.stream"), "load": load, "rounds": ROUNDS}
        (given.record / "record.json").write_text(
            json.dumps(describe_machine() | about | {"rates": rows}, indent=1) + "\n"
        )


if __name__ == "__main__":
    main()
