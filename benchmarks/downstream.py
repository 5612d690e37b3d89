"""Is the small classifier of `condgan utility` near its best? Other widths and lengths, on real images alone.

`python -m benchmarks.downstream FOLDER [--only SET;…] [--seeds 2] [--work DIR] [--record OUT]`

FOLDER and the sets are those of `benchmarks.utility`. Each variant learns from the training images, augmented in the
way that the small classifier likes best, and is tested on the held-out ones; one thread.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.record import command
from benchmarks.utility import SETS, unpacked
from condgan.data.open import read
from condgan.evaluation.downstream import RESNET_WIDTH, SMALL_RESNET, Downstream, small_resnet, training_batches
from condgan.evaluation.paired import balanced
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

VARIANTS = {
    "small": (1, 1.0),
    "half as long": (1, 0.5),
    "twice as long": (1, 2.0),
    "half as wide": (0.5, 1.0),
    "twice as wide": (2, 1.0),
}
"""Width and length, in those of the small classifier."""


def measured(name: str, source: Path, folder: Path, seeds: int) -> Iterator[dict[str, Any]]:
    """The balanced accuracy of each augmentation, and of each variant with the best of them."""
    unpacked(name, source, folder)
    options = dict(one.split("=") for one in SETS[name].options)
    size, channels = int(options["data.size"]), int(options["data.channels"])
    held_out = float(options["data.held_out"]) if "data.held_out" in options else None
    place = "digits" if SETS[name].file is None else str(folder / "data" / name)
    data = read(place, size, channels, held_out=held_out)
    classes, flips = data.spec.width, options.get("data.flip") == "true"
    length = training_batches(len(data.train))
    truth = data.held_out.labels.index()

    def accuracy(width: float, longer: float, augmentation: str | None) -> dict[str, Any]:
        make = partial(small_resnet, classes, size, int(RESNET_WIDTH * width))
        learner = Downstream(make, SMALL_RESNET, int(length * longer), flips)
        start, values = time.perf_counter(), []
        for seed in range(seeds):
            labels = data.train.labels.index().long()
            tell = learner.learn(data.train.images, labels, torch.ones(classes), augmentation, seed)
            right = (tell(data.held_out.images) == truth).double()
            values.append(float(balanced(right[None], truth)))
        return {"balanced": fmean(values), "values": values, "seconds_each": (time.perf_counter() - start) / seeds}

    found = {how: accuracy(1, 1.0, how) for how in (None, *Downstream.augmentations)}
    best = max(Downstream.augmentations, key=lambda how: found[how]["balanced"])
    for how, one in found.items():
        yield {"set": name, "variant": "small", "augmentation": how} | one
    for variant, (width, longer) in VARIANTS.items():
        if variant != "small":
            yield {"set": name, "variant": variant, "augmentation": best} | accuracy(width, longer, best)


def main() -> None:
    """Every set, a line for each variant."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("source", type=Path, metavar="FOLDER")
    parser.add_argument("--only", help="sets with semicolons between")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--work", type=Path, default=Path("utility-work"))
    parser.add_argument("--record", type=Path, metavar="OUT")
    given = parser.parse_args()
    torch.set_num_threads(1)
    before, rows = os.getloadavg()[0], []
    for name in given.only.split(";") if given.only else SETS:
        for row in measured(name, given.source, given.work.resolve(), given.seeds):
            rows.append(row)
            print(f"{name:30} {row['variant']:15} {row['augmentation'] or 'none':12} {100 * row['balanced']:5.1f} %  "
                  f"{row['seconds_each']:5.1f} s", flush=True)  # fmt: skip
    if given.record is not None:
        about = {"command": command("benchmarks.downstream"), "threads": 1, "load_before": before, "rows": rows}
        record = json.dumps(describe_machine() | about, indent=1, ensure_ascii=False)
        write(given.record / "record.json", record.encode() + b"\n")


if __name__ == "__main__":
    main()
