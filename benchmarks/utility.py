"""Do fakes help a classifier that has few images? Digits with a tenth of the training images.

`digits-acgan` learns from these, with each of some seeds; its fakes join the same images for a classifier, which is
tested on the digits held out (`condgan.evaluation.usefulness`).

`python -m benchmarks.utility [--seeds 3] [--classifiers 5] [--fakes 1000] [--images 100000] [--record OUT]` prints a
table per seed; OUT/record.json holds the command, the environment, and every result.
"""

import argparse
import json
import os
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch

from benchmarks.record import command
from condgan.evaluation.usefulness import as_table
from condgan.recipes.load import load
from condgan.runs.train import train_run
from condgan.runs.utility import utility
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

RECIPE = "digits-acgan"
OVERRIDES = ["data.held_out=0.9"]


def run(seed: int, images: int, fakes: int, classifiers: int) -> dict[str, Any]:
    """Train a generator, and ask what its fakes are good for."""
    torch.set_num_threads(1)
    recipe = load(RECIPE, [*OVERRIDES, f"schedule.images={images}", f"seed={seed}"])
    with tempfile.TemporaryDirectory() as directory:
        metrics = train_run(recipe, directory)
        result = utility(directory, seeds=classifiers, n=fakes)
    quality = {name: metrics[name] for name in ("label_agreement", "fd_classifier", "coverage", "copies")}
    return {"generator_seed": seed, "quality": quality} | result


def main() -> None:
    """Every seed, a process of one thread per core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="generators")
    parser.add_argument("--classifiers", type=int, default=5, help="of each kind, for each generator")
    parser.add_argument("--fakes", type=int, default=1_000)
    parser.add_argument("--images", type=int, default=100_000, help="that a generator's training sees")
    parser.add_argument("--record", type=Path, metavar="OUT")
    given = parser.parse_args()
    before = os.getloadavg()[0]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        settings = given.images, given.fakes, given.classifiers
        results = list(pool.map(run, range(given.seeds), *([one] * given.seeds for one in settings)))
    for result in results:
        print(f"generator of seed {result['generator_seed']}\n{as_table(result)}\n", flush=True)
    if given.record is not None:
        about = {
            "command": command("benchmarks.utility"), "threads": 1, "load_before": before, "recipe": RECIPE,
            "overrides": [*OVERRIDES, f"schedule.images={given.images}"], "summary": summary(results), "runs": results,
        }  # fmt: skip
        record = json.dumps(describe_machine() | about, indent=1, ensure_ascii=False)
        write(given.record / "record.json", record.encode() + b"\n")


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Over generators: how often which verdict, and the spread of the difference and of the score."""
    summed: dict[str, Any] = {"verdicts": Counter(result["verdict"] for result in results)}
    for name in ("difference", "classification_accuracy_score"):
        values = [result[name] for result in results]
        summed[name] = {"mean": fmean(values), "min": min(values), "max": max(values)}
    return summed


if __name__ == "__main__":
    main()
