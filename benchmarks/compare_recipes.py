"""Recipes side by side: each trained with every seed, and judged on held-out images.

`python -m benchmarks.compare_recipes RECIPE… [--seeds 3] [--images N] [--out DIRECTORY]` writes record.json: command,
commit, hardware, and each recipe's metrics with their mean and spread over seeds.
"""

import argparse
import os
import statistics
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from benchmarks.record import keep
from condgan.recipes.load import load
from condgan.runs.train import train_run

METRICS = ("label_agreement", "fd_classifier", "precision", "recall", "coverage", "intra_class_diversity")


def compare(variants: Mapping[str, tuple[str | Path, list[str]]], seeds: int, images: int | None) -> dict[str, Any]:
    """What each variant, a recipe with overrides, reaches with each seed; the variants take turns."""
    rows: dict[str, dict[str, list[float]]] = {name: {metric: [] for metric in METRICS} for name in variants}
    real: dict[str, float] = {}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(seeds):
            for name, (recipe, overrides) in variants.items():
                length = [] if images is None else [f"schedule.images={images}", f"schedule.save={images}"]
                directory = Path(folder) / f"{name}-{seed}".replace(" ", "_")
                metrics = train_run(load(recipe, [*overrides, *length, f"seed={seed}"]), directory)
                for metric in METRICS:
                    rows[name][metric].append(round(metrics[metric], 4))
                    real[metric] = round(metrics["real"][metric], 4)
                print(name, seed, {metric: values[-1] for metric, values in rows[name].items()}, flush=True)
    return {"images": images, "seeds": seeds, "summary": summary(rows), "real": real, "all": rows}


def summary(rows: dict[str, dict[str, list[float]]]) -> dict[str, dict[str, dict[str, float]]]:
    """Mean, median and standard deviation of each metric."""
    return {
        name: {
            metric: {
                "mean": round(statistics.fmean(values), 4),
                "median": round(statistics.median(values), 4),
                "std": round(statistics.stdev(values), 4) if len(values) > 1 else 0.0,
            }
            for metric, values in row.items()
        }
        for name, row in rows.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="+")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--images", type=int)
    parser.add_argument("--out", type=Path, default=Path("benchmarks/records/recipes"))
    arguments = parser.parse_args()
    found = compare({name: (name, []) for name in arguments.recipes}, arguments.seeds, arguments.images)
    load_now = {"threads": torch.get_num_threads(), "load": os.getloadavg()[0]}
    keep(arguments.out / "record.json", "benchmarks.compare_recipes", **load_now, **found)


if __name__ == "__main__":
    main()
