"""Two overlapping groups of digits, learned by AC-GAN and TAC-GAN.

The experiment of Gong et al. 2019, §4.2: group A is 5,000 ones and 5,000 zeros, group B 5,000 twos and 5,000 zeros, and
the label is the group. A zero's group cannot be told, so AC-GAN's classifier term punishes zeros, and more so with its
weight; TAC-GAN keeps the true shares, .5, .25 and .25. A digit classifier counts what 10,000 fakes show.
Differs from the published settings (32 px, BigGAN's networks, hinge, batch 200, four discriminator steps, rates 2e-4,
weights 0.5 to 3, up to 100,000 iterations): the networks, rates and loss of `digits-tacgan` at 16 px for both methods.

`python -m benchmarks.overlapping_mnist --data mnist.zip --record OUT` runs both methods at weights 0.1, 1 and 3 on
three seeds and writes OUT/record.json, OUT/curves.png and a sheet per method and weight. Without --data torchvision
downloads MNIST to --root. `--method tacgan --weight 3 --seed 0` is one run.
"""

import argparse
import json
import os
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch import Tensor

from benchmarks.record import command
from condgan.build import build_state
from condgan.data.dataset import Split
from condgan.data.open import read
from condgan.evaluation.classifier import SmallClassifier, trained_classifier
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.sampling.latents import draw_latents, latent_dim
from condgan.sampling.model import generate
from condgan.training_steps import build_steps
from condgan.utils.figures import png, sheet
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

GROUPS = LabelSpec.of_classes(["A: 1 or 0", "B: 2 or 0"])
DIGITS = LabelSpec.of_classes(["0", "1", "2"])
PER_DIGIT, COUNTED = 5_000, 10_000
METHODS = ("acgan", "tacgan")
RECIPE = "digits-tacgan"
"""Whose networks both methods have, so that they differ in the objective alone."""


def recipe_of(method: str, weight: float, seed: int, images: int, size: int) -> Recipe:
    """The networks and rates of `RECIPE` with one of the objectives."""
    objective = {"acgan": ["objective.name=acgan", "objective.class_on_fake=false"], "tacgan": []}[method]
    shared = [f"data.size={size}", f"schedule.images={images}", f"objective.weight={weight}", f"seed={seed}"]
    return load(RECIPE, [*shared, *objective])


def mnist(data: str | None, root: str, size: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Training images and digits, test images and digits, of the digits 0, 1 and 2."""
    if data is None:
        with tempfile.TemporaryDirectory() as folder:
            export(root, Path(folder))
            return mnist(folder, root, size)
    both = read(data, size, 1)
    if both.spec.classes[:3] != DIGITS.classes:
        raise SystemExit(f"--data {data} given: expected classes named 0, 1, 2 and so on, found {both.spec.classes}")
    parts = []
    for split in (both.train, both.held_out):
        index = split.labels.index()
        parts += [split.images[index < 3], index[index < 3]]
    return parts[0], parts[1], parts[2], parts[3]


def export(root: str, folder: Path) -> None:
    """torchvision's MNIST, downloaded to `root` if it is not there, as images in class folders."""
    from torchvision.datasets import MNIST

    for split, train in (("train", True), ("test", False)):
        source = MNIST(root, train=train, download=True)
        for number in range(len(source)):
            image, digit = source[number]
            path = folder / split / str(digit) / f"{number}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            image.save(path)


def overlapping(images: Tensor, digits: Tensor) -> Split:
    """The two groups; each takes its zeros from all of them, so that many are in both."""
    generator = torch.Generator().manual_seed(0)
    chosen, groups = [], []
    for group, digit in enumerate((1, 2)):
        for number in (digit, 0):
            where = torch.nonzero(digits == number).flatten()
            chosen.append(where[torch.randperm(len(where), generator=generator)[:PER_DIGIT]])
            groups.append(torch.full((len(chosen[-1]),), group))
    return Split(images[torch.cat(chosen)], LabelTable.from_index(GROUPS, torch.cat(groups)))


def count(classifier: SmallClassifier, generator: Any, seed: int) -> dict[str, Any]:
    """Shares of 0, 1 and 2 among fakes of both groups alike, and of group A without twos and of B without ones."""
    groups = torch.arange(2).repeat_interleave(COUNTED // 2)
    latents = draw_latents(seed, 0, COUNTED, latent_dim(generator))
    fakes = generate(generator, latents, Labels.from_index(GROUPS, groups))
    seen = classifier.predict(fakes, Labels.from_index(DIGITS, groups)).logits.argmax(1)
    shares = torch.bincount(seen, minlength=3) / COUNTED
    return {
        "shares": shares.tolist(),
        "purity": [(seen[groups == 0] != 2).float().mean().item(), (seen[groups == 1] != 1).float().mean().item()],
    }


def run(
    data: Split, classifier: SmallClassifier, method: str, weight: float, seed: int, images: int, every: int
) -> tuple[dict[str, Any], bytes]:
    """One run: what its fakes show along the way, and a sheet of the last ones."""
    torch.set_num_threads(1)
    recipe = recipe_of(method, weight, seed, images, data.images.shape[2])
    state = build_state(recipe, GROUPS)
    start, points = time.monotonic(), []
    for _ in build_steps(recipe, state, data):
        done = state.images >= images
        if done or state.images // every > (state.images - recipe.schedule.batch) // every:
            points.append({"images": state.images, **count(classifier, state.ema.module, seed)})
    about = {"method": method, "weight": weight, "seed": seed, "seconds": round(time.monotonic() - start, 1)}
    groups = Labels.from_index(GROUPS, torch.arange(2).repeat_interleave(12).repeat(10))
    latents = draw_latents(seed, 1, len(groups), latent_dim(state.generator))
    names = [name for name in GROUPS.classes for _ in range(12)]
    return about | {"curve": points}, png(sheet(generate(state.ema.module, latents, groups), names))


def record(out: Path, data: Split, classifier: SmallClassifier, accuracy: float, given: argparse.Namespace) -> None:
    """Both methods at all weights on every seed, a process of one thread per core."""
    tasks = [(method, weight, seed) for seed in range(given.seeds) for weight in given.weights for method in METHODS]
    with ProcessPoolExecutor(os.cpu_count(), get_context("spawn")) as pool:
        futures = [pool.submit(run, data, classifier, *task, given.images, given.every) for task in tasks]
        done = [future.result() for future in futures]
    results = [result for result, _ in done]
    summary = {}
    for method in METHODS:
        for weight in given.weights:
            last = [r["curve"][-1] for r in results if (r["method"], r["weight"]) == (method, weight)]
            shares = [[point["shares"][digit] for point in last] for digit in range(3)]
            summary[f"{method}, weight {weight:g}"] = {
                "shares": [{"mean": fmean(s), "min": min(s), "max": max(s)} for s in shares],
                "least_purity": min(p for point in last for p in point["purity"]),
            }
    about = describe_machine() | {
        "command": command("benchmarks.overlapping_mnist"),
        "threads": 1, "recipe": RECIPE, "size": given.size, "images": given.images, "judge_accuracy": accuracy,
        "truth": [0.5, 0.25, 0.25],
    }  # fmt: skip
    write(out / "record.json", json.dumps(about | {"summary": summary, "runs": results}, indent=1).encode() + b"\n")
    for result, picture in done:
        if result["seed"] == 0:
            write(out / f"{result['method']}-weight-{result['weight']:g}.png", picture)
    curves(out / "curves.png", results)
    for name, one in summary.items():
        print(name, "shares of 0, 1, 2:", *(f"{s['mean']:.3f} ({s['min']:.3f}–{s['max']:.3f})" for s in one["shares"]))


def curves(path: Path, results: list[dict[str, Any]]) -> None:
    """The share of zeros along the training, a line per run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(7, 4), layout="constrained")
    axis = figure.subplots()
    colors = dict(zip(METHODS, ("tab:red", "tab:blue"), strict=True))
    weights = sorted({r["weight"] for r in results})
    styles = {weight: [":", "--", "-"][i % 3] for i, weight in enumerate(weights)}
    for r in results:
        label = f"{r['method']}, weight {r['weight']:g}" if r["seed"] == 0 else None
        x, y = [p["images"] for p in r["curve"]], [p["shares"][0] for p in r["curve"]]
        axis.plot(x, y, color=colors[r["method"]], linestyle=styles[r["weight"]], label=label)
    axis.axhline(0.5, color="black", linewidth=0.8)
    axis.set(xlabel="images", ylabel="share of zeros", ylim=(0, 0.7))
    axis.legend(fontsize="small")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", help="MNIST as class folders or a zip of them; torchvision's by default")
    parser.add_argument("--root", default="data", help="where torchvision keeps its MNIST")
    parser.add_argument("--size", type=int, default=16, help="pixels")
    parser.add_argument("--images", type=int, default=150_000, help="real images seen in a run")
    parser.add_argument("--every", type=int, default=15_000, help="images between two counts")
    parser.add_argument("--method", choices=METHODS, default="tacgan")
    parser.add_argument("--weight", type=float, default=1.0)
    parser.add_argument("--weights", type=float, nargs="+", default=[0.1, 1.0, 3.0], help="with --record")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--seeds", type=int, default=3, help="with --record: how many")
    parser.add_argument("--record", type=Path, metavar="OUT", help="run both methods at all weights and seeds")
    given = parser.parse_args()
    images, digits, test_images, test_digits = mnist(given.data, given.root, given.size)
    data = overlapping(images, digits)
    labels = LabelTable.from_index(DIGITS, digits)
    classifier = trained_classifier(images, labels, f"{images.sum()} {digits.sum()}")
    seen = classifier.predict(test_images, Labels.from_index(DIGITS, test_digits))
    accuracy = seen.labels.accuracy(seen.logits).mean().item()
    if given.record:
        record(given.record, data, classifier, accuracy, given)
        return
    result, _ = run(data, classifier, given.method, given.weight, given.seed, given.images, given.every)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
