"""What each repair of the tutorial's AC-GAN is worth: digits-acgan with one thing undone at a time.

`python -m benchmarks.acgan_faults [--images 48000] [--seeds 2] [--out benchmarks/records/…]` trains every variant with
every seed, and writes record.json: command, commit, hardware, and each variant's metrics on held-out digits.
"""

import argparse
import os
from pathlib import Path

from benchmarks import faults
from benchmarks.compare_recipes import compare
from benchmarks.record import keep

VARIANTS = {
    "digits-acgan": [],
    "two passes": ["schedule.joint=false"],
    "two passes, eps 0.8": [
        "schedule.joint=false",
        "generator={name: tutorial, conditioning: add}",
        "backbone={name: tutorial}",
    ],
    "latent × embedding": ["generator.conditioning=multiply"],
    "softmax before cross-entropy": ["objective={name: tutorial, sigmoid: false}"],
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--images", type=int, default=48_000)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/acgan-faults"))
    arguments = parser.parse_args()
    with faults.added():
        variants = {name: ("digits-acgan", overrides) for name, overrides in VARIANTS.items()}
        found = compare(variants, arguments.seeds, arguments.images)
    keep(arguments.out / "record.json", "benchmarks.acgan_faults", load=os.getloadavg()[0], **found)


if __name__ == "__main__":
    main()
