"""Whether texture, grain and checkerboard say what eyes see: real images, fakes, noise and blur, from the best on.

python -m benchmarks.texture --of DATA [RUN …] [--of …] --out record.json

Of each data set, held-out images are compared with as many training images, with fakes of the runs and with the same
training images under Gaussian noise of 8 gray levels, and blurred by a Gaussian of 1 and of 1.5 pixels.
"""

import argparse
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from torch import Tensor

import condgan
from benchmarks.record import keep, said
from condgan.data.dataset import Split
from condgan.data.open import read
from condgan.evaluation.metrics.texture import Contrasts, compare_textures

MOST = 2_000
"""Images of a set."""


def noisy(images: UInt8[Tensor, "n c h w"], sigma: float) -> UInt8[Tensor, "n c h w"]:
    """Images with Gaussian noise of so many gray levels, the same each time."""
    noise = torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + sigma * noise).round().clamp(0, 255).byte()


def blurred(images: UInt8[Tensor, "n c h w"], sigma: float) -> UInt8[Tensor, "n c h w"]:
    """Images blurred by a Gaussian of so many pixels; what lies outside is their reflection."""
    window = torch.softmax(-((torch.arange(-5.0, 6) / sigma) ** 2) / 2, 0)
    padded = F.pad(images.float(), (5, 5, 5, 5), mode="reflect")
    kernel = window.outer(window).expand(images.shape[1], 1, -1, -1)
    return F.conv2d(padded, kernel, groups=images.shape[1]).round().clamp(0, 255).byte()


def evenly(split: Split, count: int) -> UInt8[Tensor, "n c h w"]:
    """So many images, evenly spread."""
    return torch.as_tensor(split.images[torch.arange(count) * len(split) // count])


def fakes(run: str, held_out: Split, count: int) -> UInt8[Tensor, "n c h w"]:
    """Of about as many of each class as the held-out images have."""
    model, counts = condgan.load(run), held_out.labels.counts().tolist()
    shares = [round(number * count / len(held_out)) for number in counts]
    made = [
        model.sample(name, share, seed) for seed, (name, share) in enumerate(zip(model.classes, shares, strict=True))
    ]
    return torch.cat([torch.from_numpy(one).reshape(*one.shape[:3], -1).movedim(-1, 1) for one in made if len(one)])


def ranked(source: str, runs: list[str], size: int, channels: int) -> list[dict[str, Any]]:
    """The numbers of each set, the nearest to real images first."""
    data = read(source, size, channels)
    count = min(MOST, len(data.held_out), len(data.train))
    real, others = Contrasts.of(evenly(data.held_out, count)), evenly(data.train, count)
    sets = {"real images": others}
    sets |= {f"fakes of {Path(run).name}": fakes(run, data.held_out, count) for run in runs}
    sets |= {"noise of 8": noisy(others, 8), "blur of 1": blurred(others, 1), "blur of 1.5": blurred(others, 1.5)}
    rows = []
    for name, images in sets.items():
        contrasts = Contrasts.of(images)
        found = compare_textures(contrasts, real)
        numbers = {"texture": found.distance, "grain": found.grain, "checkerboard": contrasts.checkerboard}
        rows.append(
            {"data": Path(source).name, "images": name, "count": len(images)}
            | {key: round(value, 4) for key, value in numbers.items()}
        )
    return sorted(rows, key=lambda row: row["texture"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--of", nargs="+", action="append", required=True, metavar="PATH", help="data, then runs")
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--channels", type=int, default=3)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    rows = []
    for source, *runs in arguments.of:
        rows += ranked(source, runs, arguments.size, arguments.channels)
    for row in rows:
        print(said(row, as_json=False))
    if arguments.out is not None:
        keep(arguments.out, "benchmarks.texture", rows=rows)


if __name__ == "__main__":
    main()
