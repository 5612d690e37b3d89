"""Training speed of a recipe's step against the same networks trained plainly, measured in turns in one run.

Plain: contiguous tensors, float32, Adam parameter by parameter, images decoded and normalized one by one by a data
loader, every loss read at every step. `python -m benchmarks.throughput [--recipe NAME] [--json]`.
"""

import argparse
import json
import os
import statistics
import time
from collections.abc import Callable, Iterator

import torch
from PIL import Image
from torch.utils.data import DataLoader
from torchvision.transforms import functional as transforms

from condgan.build import build_state, build_steps
from condgan.data.dataset import Dataset
from condgan.data.sources import read
from condgan.interfaces import Batch
from condgan.labels import Labels
from condgan.recipe import Recipe, load

RECIPES = ("digits-acgan", "mnist-acgan")
ROUNDS = 7


def loader_batches(data: Dataset, batch: int) -> Iterator[Batch]:
    """Images as a data loader gives them: Pillow to tensor, one at a time."""
    pictures = [Image.fromarray(image.permute(1, 2, 0).squeeze(-1).numpy()) for image in data.train.images]
    pairs = list(zip(pictures, data.train.labels.index().tolist(), strict=True))

    def collate(items: list[tuple[Image.Image, int]]) -> Batch:
        images = torch.stack([transforms.normalize(transforms.to_tensor(p), [0.5], [0.5]) for p, _ in items])
        return Batch(images, Labels.from_index(data.spec, torch.tensor([index for _, index in items])))

    while True:
        yield from DataLoader(pairs, batch, shuffle=True, drop_last=True, collate_fn=collate)  # pyright: ignore


def stepper(recipe: Recipe, data: Dataset, plain: bool) -> Callable[[], None]:
    """A function that trains one iteration."""
    state = build_state(recipe, data.spec)
    if plain:
        for network in (state.generator, state.discriminator):
            network.to(memory_format=torch.contiguous_format)  # pyright: ignore[reportCallIssue]
        state.g_optimizer = torch.optim.Adam(state.generator.parameters(), recipe.g_opt.lr, foreach=False)
        state.d_optimizer = torch.optim.Adam(state.discriminator.parameters(), recipe.d_opt.lr, foreach=False)
    batches = loader_batches(data, recipe.schedule.batch) if plain else None
    steps = build_steps(recipe, state, data.train, batches)

    def step() -> None:
        losses = next(steps)
        if plain:
            [loss.item() for loss in losses.values()]

    return step


def measure(name: str) -> dict[str, object]:
    """Median seconds per iteration of both, and the median of the ratios of neighboring rounds."""
    recipe = load(name, ["data.source=digits", "schedule.images=1_000_000_000"])
    data = read("digits", recipe.data.size, recipe.data.channels)
    steps = {"plain": stepper(recipe, data, plain=True), "ours": stepper(recipe, data, plain=False)}
    iterations = 20 if data.shape.height <= 16 else 3
    seconds: dict[str, list[float]] = {"plain": [], "ours": []}
    for step in steps.values():
        step()
    for _ in range(ROUNDS):
        for kind, step in steps.items():
            start = time.perf_counter()
            for _ in range(iterations):
                step()
            seconds[kind].append((time.perf_counter() - start) / iterations)
    ratios = [a / b for a, b in zip(seconds["plain"], seconds["ours"], strict=True)]
    ours = statistics.median(seconds["ours"])
    return {
        "recipe": name,
        "threads": torch.get_num_threads(),
        "load": round(os.getloadavg()[0], 2),
        "plain_s": round(statistics.median(seconds["plain"]), 4),
        "ours_s": round(ours, 4),
        "ratio": round(statistics.median(ratios), 2),
        "ratio_min": round(min(ratios), 2),
        "ratio_max": round(max(ratios), 2),
        "images_per_s": round(recipe.schedule.batch * recipe.schedule.d_steps / ours, 1),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--recipe", choices=RECIPES)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    for name in [arguments.recipe] if arguments.recipe else RECIPES:
        row = measure(name)
        print(
            json.dumps(row) if arguments.json else "  ".join(f"{key} {value}" for key, value in row.items()), flush=True
        )


if __name__ == "__main__":
    main()
