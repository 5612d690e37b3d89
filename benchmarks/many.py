"""What a data set costs beside its pixels: `python -m benchmarks.many COUNT` tells of so many images as JSON.

There are no files: their names are listed as those of class folders are, their digests are random, and the packed data
set that is written and opened has a pixel per image. So nothing is decoded or hashed.
"""

import ctypes
import gc
import json
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch

from benchmarks.record import resident
from condgan.data.copies import contents_of, keep_together, said_of_copies
from condgan.data.dataset import Dataset, Split
from condgan.data.listing import Listing
from condgan.data.loader import stream, to_device
from condgan.data.open import list_tree, read
from condgan.data.order import balanced_order, epoch_flips, epoch_order
from condgan.data.packed import PARTS, ImageFile, describe_packed
from condgan.data.preprocessing import Preprocessing
from condgan.data.readers.names import is_leftover
from condgan.data.readers.tree import Tree
from condgan.types import Batch
from condgan.utils.device import device

CLASSES = 100
BATCH = 64
BATCHES = 50
"""After the first, of which the middle time is told."""
FIRST = 500
"""Images that all is done with once before, so that what is loaded then is in no number."""
Made = TypeVar("Made")


class NoFiles:
    """Where no file is."""

    def read(self, name: str, limit: int) -> bytes:
        raise FileNotFoundError(name)

    def start(self, name: str) -> bytes:
        raise FileNotFoundError(name)

    def digest(self, name: str) -> bytes:
        return name.encode()

    def size(self, name: str) -> int:
        return 0

    def where(self, name: str) -> None:
        return None


class Stages:
    """Seconds of each stage, and bytes at most that the process had meanwhile beside what it had at first."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.bytes: dict[str, int] = {}
        trim()
        self.before = resident()

    def __call__(self, name: str, make: Callable[[], Made]) -> Made:
        Path("/proc/self/clear_refs").write_text("5")  # the most from now on
        start = time.perf_counter()
        made = make()
        self.seconds[name] = time.perf_counter() - start
        self.bytes[name] = resident("VmHWM") - self.before
        return made


def trim() -> None:
    """Give memory back that is not in use."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def measure(count: int) -> dict[str, Any]:
    """Seconds and the most bytes of each stage, bytes that training keeps, and seconds of a later batch."""
    folder = Path(tempfile.mkdtemp())
    try:
        stages = Stages()
        data = packed(count, folder, stages)
        train = to_device(data.train, device(), resident=False)
        batches = stages("first batch", lambda: started(train))
        times = []
        for _ in range(BATCHES):
            start = time.perf_counter()
            next(batches)
            times.append(time.perf_counter() - start)
        index = data.train.labels.index()
        stages("order", lambda: (epoch_order(len(index), 0, 1), epoch_flips(len(index), 0, 1)))
        stages("balanced order", lambda: balanced_order(index, 1.0, 0, 1))
        trim()
        kept = resident() - stages.before
        return {"s": stages.seconds, "bytes": stages.bytes, "kept_bytes": kept, "batch_s": float(np.median(times))}
    finally:
        shutil.rmtree(folder)


def packed(count: int, folder: Path, stages: Stages) -> Dataset:
    """Images that were listed, parted, written and opened."""
    tree = stages("names", lambda: named(count))
    listing = stages("listing", lambda: list_tree(tree, None, False))
    digests = np.random.default_rng(0).integers(0, 256, (count, 16), dtype=np.uint8)
    listing = stages("copies", lambda: parted(listing, digests))
    stages("writing", lambda: written(listing, folder))
    return stages("opening", lambda: read(str(folder), 1, 1))


def named(count: int) -> Tree:
    """Class folders, by names alone."""
    names = sorted(f"class-{number % CLASSES:03}/{number:08}.jpg" for number in range(count))
    folders = frozenset(["", *(f"class-{number:03}" for number in range(CLASSES))])
    return Tree("simulated", [name for name in names if not is_leftover(name)], folders, NoFiles())


def parted(listing: Listing, digests: np.ndarray) -> Listing:
    """With copies on one side of the split, of which there are none, and told of."""
    contents = contents_of(digests)
    listing = listing.at(*keep_together(listing, contents))
    said_of_copies(listing, contents)
    return listing


def written(listing: Listing, folder: Path) -> None:
    """As a packed data set of a pixel per image."""
    sizes = listing.train, len(listing) - listing.train
    files = [ImageFile(folder / f"{part}.npy", (size, 1, 1, 1)) for part, size in zip(PARTS, sizes, strict=True)]
    for file in files:
        file.grow()
    describe_packed(folder, listing, Preprocessing(1, 1, 1), files, ())


def started(train: Split) -> Iterator[Batch]:
    """The stream of an epoch whose first batch was taken."""
    batches = stream(train, BATCH, 0, flip=True)
    next(batches)
    return batches


def main() -> None:
    torch.set_num_threads(1)
    measure(FIRST)
    print(json.dumps(measure(int(sys.argv[1]))))


if __name__ == "__main__":
    main()
