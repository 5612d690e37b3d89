"""Do fakes help a classifier that has few images? Digits with a tenth of them to train on.

179 digits train `digits-acgan`, with each of some seeds; its fakes join the same 179 for a classifier, which is tested
on the 1,618 other digits (`condgan.metrics.usefulness`).

`python -m benchmarks.utility [--seeds 3] [--classifiers 5] [--fakes 1000] [--images 100000] [--record OUT]` prints a
table per seed; OUT/record.json holds the command, the environment, and every result.
"""

import argparse
import json
import os
import tempfile
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image

from benchmarks.record import command
from condgan.data.dataset import Split
from condgan.data.sources import read
from condgan.environment import describe
from condgan.evaluation import load_model, read_data
from condgan.files import write
from condgan.labels import LabelTable
from condgan.metrics.usefulness import Pool, as_table, usefulness
from condgan.recipe import load
from condgan.run import train_run
from condgan.sample import Model, draw_latents, generate, latent_dim

RECIPE, HELD_OUT = "digits-acgan", 0.9


def export(folder: Path) -> None:
    """All embedded digits, as they are at 16 px, in class folders: of these a share can be held out."""
    data = read("digits", 16, 1)
    for split in (data.train, data.held_out):
        for image, digit, name in zip(split.images, split.labels.index().tolist(), split.names, strict=True):
            path = folder / data.spec.classes[digit] / name
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image[0].numpy()).save(path)


def fakes_of(model: Model, labels: LabelTable, count: int, seed: int) -> Pool:
    """So many fakes with the class shares of some labels."""
    chosen = labels.at(torch.arange(count) % len(labels))
    latents = draw_latents(seed, 0, count, latent_dim(model.generator), model.law)
    return Pool(generate(model.generator, latents, chosen[:]), chosen)


def run(folder: str, seed: int, images: int, fakes: int, classifiers: int) -> dict[str, Any]:
    """Train a generator, and ask what its fakes are good for."""
    torch.set_num_threads(1)
    start = time.monotonic()
    recipe = load(RECIPE, overrides(folder, images, seed))
    with tempfile.TemporaryDirectory() as directory:
        train_run(recipe, directory)
        model = load_model(directory)
    data = read_data(recipe)
    real, test = (_pool(split) for split in (data.train, data.held_out))
    result = usefulness(real, lambda draw: fakes_of(model, real.labels, fakes, draw), test, classifiers)
    return {"seed": seed, "checkpoint": model.images, "seconds": round(time.monotonic() - start, 1)} | result


def overrides(folder: str, images: int, seed: int) -> list[str]:
    """What differs from the recipe."""
    data = [f"data.source={folder}", f"data.held_out={HELD_OUT}"]
    return [*data, f"schedule.images={images}", f"seed={seed}"]


def main() -> None:
    """Every seed, a process of one thread per core."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=3, help="generators")
    parser.add_argument("--classifiers", type=int, default=5, help="of each kind, for each generator")
    parser.add_argument("--fakes", type=int, default=1_000)
    parser.add_argument("--images", type=int, default=100_000, help="that a generator's training sees")
    parser.add_argument("--record", type=Path, metavar="OUT")
    given = parser.parse_args()
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as folder, ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        export(Path(folder))
        settings = given.images, given.fakes, given.classifiers
        futures = [pool.submit(run, folder, seed, *settings) for seed in range(given.seeds)]
        results = [future.result() for future in futures]
    for result in results:
        print(f"generator of seed {result['seed']}\n{as_table(result)}\n", flush=True)
    if given.record is not None:
        about = {
            "command": command("benchmarks.utility"), "threads": 1, "load_before": load, "recipe": RECIPE,
            "overrides": overrides("…", given.images, 0)[:-1], "summary": summary(results), "runs": results,
        }  # fmt: skip
        write(
            given.record / "record.json", json.dumps(describe() | about, indent=1, ensure_ascii=False).encode() + b"\n"
        )


def summary(results: list[dict[str, Any]]) -> dict[str, Any]:
    """Over generators: how often which verdict, and the spread of the difference and of the score."""
    summed: dict[str, Any] = {"verdicts": Counter(result["verdict"] for result in results)}
    for name in ("difference", "classification_accuracy_score"):
        values = [result[name] for result in results]
        summed[name] = {"mean": fmean(values), "min": min(values), "max": max(values)}
    return summed


def _pool(split: Split) -> Pool:
    return Pool(split.images, split.labels)


if __name__ == "__main__":
    main()
