"""Sampling speed against the same weights sampled plainly, measured in turns in one run.

Plain: the network of `benchmarks.plain`, in evaluation mode and without gradients, with power iterations as published.
Weights are untrained, which costs the same.
`python -m benchmarks.sampling [--recipe NAME [--width W]] [--precision P] [--compile] [--json] [--out FILE]`.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import torch
from torch import Tensor

from benchmarks.plain import plain
from benchmarks.record import keep, said
from benchmarks.throughput import device_name
from condgan.build import build_generator
from condgan.labels import Labels, LabelSpec
from condgan.recipes.load import load
from condgan.sampling.fuse import Sampler
from condgan.types import to_uint8
from condgan.utils.choices import Precision

RECIPES: tuple[tuple[str, int | None, int], ...] = (
    ("digits-acgan", None, 1024),
    ("digits-biggan", None, 512),
    ("biggan-cifar10", 32, 64),
    ("biggan-cifar10", 64, 32),
    ("sagan-celeba64", None, 64),
    ("biggan-imagenet128", 16, 32),
)
"""By width (None: the recipe's own) and how many images a round makes."""
PLAIN_BATCH = 64
ROUNDS = 7


def measure(
    name: str, width: int | None, images: int, wanted: Precision = "float32", compiled: bool = False
) -> dict[str, Any]:
    """Median seconds of both for so many images, and the median of the ratios of the rounds."""
    recipe = load(name, [] if width is None else [f"generator.width={width}"])
    spec = LabelSpec.of_classes([str(number) for number in range(recipe.data.classes or 10)])
    generator = build_generator(recipe, spec).eval().requires_grad_(False)
    assert generator.latent_dim is not None
    as_published, sampler = plain(build_generator(recipe, spec).eval()), Sampler(generator, wanted, compiled)
    for layer in as_published.modules():
        layer.training = hasattr(layer, "weight_u")  # power iterations, but no batch's own statistics
    latents = torch.randn(images, generator.latent_dim)
    labels = Labels.from_index(spec, torch.arange(images) % spec.width)

    @torch.no_grad()
    def sample_plainly() -> Tensor:
        chunks = [slice(start, start + PLAIN_BATCH) for start in range(0, images, PLAIN_BATCH)]
        device = sampler.device
        return torch.cat([to_uint8(as_published(latents[c].to(device), labels[c].to(device))).cpu() for c in chunks])

    ways: dict[str, Callable[[], Tensor]] = {"plain": sample_plainly, "fast": lambda: sampler(latents, labels)}
    made = {way: sample() for way, sample in ways.items()}
    apart = (made["plain"].int() - made["fast"].int()).abs()
    seconds: dict[str, list[float]] = {way: [] for way in ways}
    for _ in range(ROUNDS):
        for way, sample in ways.items():
            start = time.perf_counter()
            sample()
            seconds[way].append(time.perf_counter() - start)
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["fast"], strict=True)]
    fast = statistics.median(seconds["fast"])
    return {
        "recipe": name,
        "width": recipe.generator.options.get("width") if width is None else width,
        "device": device_name(),
        "threads": torch.get_num_threads(),
        "precision": str(sampler.precision).removeprefix("torch."),
        "compiled": compiled,
        "images": images,
        "plain_s": round(statistics.median(seconds["plain"]), 4),
        "fast_s": round(fast, 4),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
        "images_per_s": round(images / fast, 1),
        "gray_levels_apart": round(float(apart.float().mean()), 5),
        "at_most": int(apart.max()),
        "load": round(os.getloadavg()[0], 2),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe")
    parser.add_argument("--width", type=int)
    parser.add_argument("--images", type=int)
    parser.add_argument("--precision", choices=get_args(Precision), default="auto")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--out", type=Path, metavar="FILE", help="write a record")
    arguments = parser.parse_args()
    rows = []
    for name, width, images in [(arguments.recipe, arguments.width, 64)] if arguments.recipe else RECIPES:
        row = measure(name, width, arguments.images or images, arguments.precision, arguments.compile)
        print(said(row, arguments.json), flush=True)
        rows.append(row)
    if arguments.out:
        keep(arguments.out, "benchmarks.sampling", rounds=ROUNDS, rows=rows)


if __name__ == "__main__":
    main()
