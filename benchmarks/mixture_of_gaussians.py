"""Three overlapping normal distributions, learned by every method.

The experiment of Gong et al. 2019, §4.1, whose truth is known: AC-GAN squeezes the class in the middle and pushes the
last one out; TAC-GAN and a projection discriminator do not. Classes N(0, 1), N(d, 2²), N(2d, 3²), or in two dimensions
isotropic ones at (0, 0), (d, 0), (2d, 0). Networks of three hidden layers of ten; Adam 2e-3 (0.5, 0.999); 128 real
points of each class a step; a generator step after every tenth discriminator step; 20,000 discriminator steps, 40,000
in two dimensions. Differs from the published code: as many fakes as real points (384) in a step, not 256.

`python -m benchmarks.mixture_of_gaussians --method tacgan --distance 3 --seed 0 --json` is one run;
`… --record OUT` runs every method on five seeds and writes OUT/record.json and OUT/picture.png.
"""

import argparse
import json
import os
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from typing import Any

import torch
from scipy.stats import wasserstein_distance
from torch import Tensor

from benchmarks.record import command
from condgan.evaluation.metrics.distances import quadratic_mmd
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.losses import OBJECTIVES, Objective
from condgan.networks import BACKBONES, GENERATORS, HEADS, Discriminator
from condgan.training.ema import EMA
from condgan.training.loop import train
from condgan.training.state import State
from condgan.types import Batch, ImageShape
from condgan.utils.provenance import describe_machine
from condgan.utils.seeds import derive_seed

CLASSES = LabelSpec.of_classes(["0", "1", "2"])
STDS = (1.0, 2.0, 3.0)
PER_CLASS, STEPS, GENERATOR_EVERY = 128, {1: 20_000, 2: 40_000}, 10
JUDGED = 10_000
PLAIN: dict[str, Any] = {"init": None, "spectral_norm": None}
METHODS: dict[str, tuple[str, dict[str, Any], Callable[..., Objective]]] = {
    "acgan": ("classifier", {}, partial(OBJECTIVES["acgan"], class_on_fake=False)),
    "tacgan": ("twin", {}, OBJECTIVES["tacgan"]),
    "projection": ("projection", {}, OBJECTIVES["gan"]),
    "adcgan": ("adc", {}, OBJECTIVES["adcgan"]),
    "contragan": ("contrastive", {"embedded": 16}, OBJECTIVES["contragan"]),
    "reacgan": ("contrastive", {"embedded": 16}, OBJECTIVES["reacgan"]),
    "mhgan": ("classes-and-fake", {}, lambda adversarial: OBJECTIVES["mhgan"]()),
    "san": ("slicing", {}, OBJECTIVES["san"]),
}
"""Heads, their options, and objectives; MHGAN's game is its own."""
NAMES = {
    "truth": "truth", "acgan": "AC-GAN", "tacgan": "TAC-GAN", "projection": "projection", "adcgan": "ADC-GAN",
    "contragan": "ContraGAN", "reacgan": "ReACGAN", "mhgan": "MHGAN", "san": "SAN",
}  # fmt: skip


def draw(count: int, dimensions: int, distance: float, generator: torch.Generator) -> Tensor:
    """`count` points of each class, class by class: 3 × count × dimensions."""
    points = torch.randn(3, count, dimensions, generator=generator) * torch.tensor(STDS)[:, None, None]
    points[:, :, 0] += distance * torch.arange(3)[:, None]
    return points


def batches(dimensions: int, distance: float, seed: int) -> Iterator[Batch]:
    """Endlessly, in a fixed order, 1,000 batches of every class alike."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "points"))
    points = draw(1000 * PER_CLASS, dimensions, distance, generator).unflatten(1, (1000, PER_CLASS))
    labels = Labels.from_index(CLASSES, torch.arange(3).repeat_interleave(PER_CLASS))
    while True:
        for number in range(1000):
            yield Batch(points[:, number].reshape(-1, dimensions, 1, 1), labels)


def learn(method: str, dimensions: int, distance: float, seed: int, adversarial: str) -> Tensor:
    """Train, and draw from the generator: 3 × JUDGED × dimensions."""
    head, head_options, make_objective = METHODS[method]
    shape = ImageShape(dimensions, 1, 1)
    torch.manual_seed(derive_seed(seed, "weights"))
    backbone = BACKBONES["mlp"](shape)
    generator = GENERATORS["mlp"](shape, CLASSES)
    discriminator = Discriminator(backbone, HEADS[head](backbone.features, CLASSES, **PLAIN, **head_options))
    optimizers = [torch.optim.Adam(n.parameters(), 2e-3, (0.5, 0.999), fused=True) for n in (generator, discriminator)]
    state = State(generator, discriminator, {"ema": EMA(generator, 0.0)}, *optimizers, seed=seed)
    game = replace(make_objective(adversarial=adversarial), watched={})
    for _ in train(
        state, game, batches(dimensions, distance, seed),
        LabelTable.each(CLASSES), until=STEPS[dimensions] * 3 * PER_CLASS, d_steps=GENERATOR_EVERY, joint=True,
    ):  # fmt: skip
        pass
    torch.manual_seed(derive_seed(seed, "latents"))
    labels = Labels.from_index(CLASSES, torch.arange(3).repeat_interleave(JUDGED))
    with torch.inference_mode():
        return generator(torch.randn(3 * JUDGED, generator.latent_dim), labels).reshape(3, JUDGED, dimensions)


def judge(fake: Tensor, dimensions: int, distance: float) -> dict[str, Any]:
    """Of each class: W₁, mean and standard deviation along the first axis, and MMD² over all; MMD² of the mixture."""
    real = draw(JUDGED, dimensions, distance, torch.Generator().manual_seed(0))
    classes = [
        {
            "w1": wasserstein_distance(f[:, 0].numpy(), r[:, 0].numpy()),
            "mmd2": quadratic_mmd(f, r),
            "mean": f[:, 0].mean().item(),
            "std": f[:, 0].std().item(),
        }
        for f, r in zip(fake, real, strict=True)
    ]
    return {"classes": classes, "marginal_mmd2": quadratic_mmd(fake.flatten(0, 1), real.flatten(0, 1))}


def run(method: str, dimensions: int, distance: float, seed: int, adversarial: str) -> tuple[dict[str, Any], Tensor]:
    """One run and its points."""
    torch.set_num_threads(1)
    start = time.monotonic()
    fake = learn(method, dimensions, distance, seed, adversarial)
    about = {
        "method": method, "distance": distance, "seed": seed, "dimensions": dimensions, "adversarial": adversarial,
        "seconds": round(time.monotonic() - start, 1),
    }  # fmt: skip
    return about | judge(fake, dimensions, distance), fake


def record(out: Path, dimensions: int, distance: float, seeds: int, adversarial: str) -> None:
    """Every method on `seeds` seeds."""
    tasks = [(method, dimensions, distance, seed, adversarial) for method in METHODS for seed in range(seeds)]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        done = list(pool.map(run, *zip(*tasks, strict=True)))
    results = [result for result, _ in done]
    summary = {
        method: [
            {
                key: {"median": median(values), "min": min(values), "max": max(values)}
                for key in ("w1", "mmd2", "mean", "std")
                for values in [[r["classes"][i][key] for r in results if r["method"] == method]]
            }
            for i in range(3)
        ]
        for method in METHODS
    }
    out.mkdir(parents=True, exist_ok=True)
    about = {"command": command("benchmarks.mixture_of_gaussians"), "threads": 1, "adversarial": adversarial}
    content = describe_machine() | about | {"summary": summary}
    (out / "record.json").write_text(json.dumps(content | {"runs": results}, indent=1) + "\n")
    fakes = {method: next(f for r, f in done if r["method"] == method) for method in METHODS}
    picture(out / "picture.png", fakes, dimensions, distance)
    for method, classes in summary.items():
        print(method, "median W1 of classes 0, 1, 2:", *(f"{one['w1']['median']:.2f}" for one in classes))


def picture(path: Path, fakes: dict[str, Tensor], dimensions: int, distance: float) -> None:
    """What each method makes of the classes at seed 0, beside the truth."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    real = draw(JUDGED, dimensions, distance, torch.Generator().manual_seed(0))
    figure, axes = pyplot.subplots(3, 3, figsize=(12, 9), sharex=True, sharey=True, layout="constrained")
    for axis, (name, points) in zip(axes.flat, {"truth": real, **fakes}.items(), strict=True):
        for number, color in enumerate(("tab:blue", "tab:orange", "tab:green")):
            if dimensions == 1:
                bins = torch.linspace(-6, 2 * distance + 12, 90).tolist()
                axis.hist(points[number, :, 0], bins, density=True, alpha=0.55, color=color, label=f"class {number}")
            else:
                axis.scatter(*points[number, :1500].T, s=2, alpha=0.4, color=color, label=f"class {number}")
        axis.set_title(NAMES[name])
    axes[0, 0].legend()
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--method", choices=METHODS, default="tacgan")
    parser.add_argument("--distance", type=float, default=None, help="3 by default, 3.5 in two dimensions")
    parser.add_argument("--dimensions", type=int, choices=(1, 2), default=1)
    parser.add_argument("--adversarial", choices=("non-saturating", "hinge"), default="non-saturating")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=5, help="with --record: how many")
    parser.add_argument("--json", action="store_true", help="print one line of JSON")
    parser.add_argument("--record", type=Path, metavar="OUT", help="run every method on several seeds")
    given = parser.parse_args()
    distance = given.distance if given.distance is not None else {1: 3.0, 2: 3.5}[given.dimensions]
    if given.record:
        record(given.record, given.dimensions, distance, given.seeds, given.adversarial)
        return
    result, _ = run(given.method, given.dimensions, distance, given.seed, given.adversarial)
    if given.json:
        print(json.dumps(result))
        return
    for number, one in enumerate(result["classes"]):
        print(f"class {number}: " + ", ".join(f"{name} {value:.3f}" for name, value in one.items()))


if __name__ == "__main__":
    main()
