"""How often does the search and verdict of `condgan utility` say "helps" where it should, and where it should not?

The whole protocol (`condgan.evaluation.usefulness`), again and again, on digits: each time other training, validation
and test images, and a classifier that takes milliseconds: ridge regression on random features, which differ by seed.
Fakes are noise; copies of the training images; held-back real images with shuffled labels; or held-back real images as
they are, which is what a perfect generator would make. None of the first three can help: at most 2.5 % of their
verdicts may say so, by the interval. Of the last, the share that does is the power.

`python -m benchmarks.utility_simulation [--times 200] [--classifiers 5] [--record OUT]`
"""

import argparse
import contextlib
import io
import json
import os
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from scipy.stats import binomtest
from torch import Tensor

from benchmarks.record import command
from condgan.data.open import read
from condgan.evaluation.usefulness import Pool, usefulness
from condgan.labels import LabelTable
from condgan.utils.files import write
from condgan.utils.provenance import describe_machine

KINDS = ("noise", "copies", "shuffled labels", "real images")
TRAINING, HELD_OUT = 15, 20
"""Images of each class: real ones to train on, and to choose and to judge by."""
FEATURES, RIDGE = 150, 3.0


@dataclass(frozen=True)
class Ridge:
    """Least squares on random ReLU features of a tenth of other pixels' values, with images drawn anew (bagging)."""

    augmentations: Sequence[str] = ("shifts",)

    def learn(
        self,
        images: UInt8[Tensor, "n c h w"],
        classes: Int[Tensor, " n"],
        weights: Float[Tensor, " k"],
        augmentation: str | None,
        seed: int,
    ) -> Callable[[UInt8[Tensor, "m c h w"]], Int[Tensor, " m"]]:
        drawing = torch.Generator().manual_seed(seed)
        projection = torch.randn(images[0].numel(), FEATURES, generator=drawing) / 8
        chosen = torch.randint(len(images), (2 * len(images),), generator=drawing)
        given = images[chosen]
        if augmentation is not None:
            given = torch.cat([given, *(given.roll(1, axis) for axis in (2, 3))])
            chosen = chosen.repeat(3)

        def features(of: Tensor) -> Tensor:
            return F.relu(of.flatten(1).float().sub(64).div(128) @ projection)

        seen, target = features(given), F.one_hot(classes[chosen], len(weights)).float() - 1 / len(weights)
        own = weights[classes[chosen]][:, None]
        normal = seen.T @ (own * seen) + RIDGE * torch.eye(FEATURES)
        solution = torch.linalg.solve(normal, seen.T @ (own * target))
        return lambda others: (features(others) @ solution).argmax(1)


@dataclass(frozen=True)
class Told:
    """Fakes of a kind, which no selection changes: each has its own draw of them."""

    kind: str
    training: Pool
    others: Pool
    selections: tuple[str, ...] = ("none", "agreement", "centroid", "discriminator")
    truncations: tuple[float | None, ...] = (None, 0.7)
    there: None = None

    def prepare(self) -> None:
        """Nothing takes long."""

    def draw(self, selection: str, truncation: float | None, counts: dict[int, int], seed: int) -> Pool:
        key = [self.selections.index(selection), int(truncation is not None), seed]
        rng, spec = np.random.default_rng(key), self.training.labels.spec
        classes = torch.cat([torch.full((count,), number) for number, count in counts.items()])
        if self.kind == "noise":
            images = torch.from_numpy(rng.integers(0, 256, (len(classes), *self.training.images.shape[1:]), np.uint8))
            return Pool(images, LabelTable.from_index(spec, classes))
        pool = self.training if self.kind == "copies" else self.others
        index = pool.labels.index()
        rows = [torch.from_numpy(rng.choice((index == number).nonzero()[:, 0].numpy(), count))
                for number, count in counts.items()]  # fmt: skip
        if self.kind == "shuffled labels":
            classes = classes[torch.from_numpy(rng.permutation(len(classes)))]
        return Pool(pool.images[torch.cat(rows)], LabelTable.from_index(spec, classes))


def simulate(time: int, kind: str, classifiers: int) -> str:
    """A verdict."""
    torch.set_num_threads(1)
    digits = read("digits", 8, 1, held_out=0.01)
    index = digits.train.labels.index()
    rng = np.random.default_rng(time)
    parts: list[list[Tensor]] = [[], [], [], []]
    for number in range(10):
        own = torch.from_numpy(rng.permutation((index == number).nonzero()[:, 0].numpy()))
        sizes = [TRAINING, HELD_OUT, HELD_OUT, len(own) - TRAINING - 2 * HELD_OUT]
        for part, some in zip(parts, own.split(sizes), strict=True):
            part.append(some)
    pools = [digits.train.at(torch.cat(part)) for part in parts]
    real, validation, test, others = (Pool(one.images, one.labels) for one in pools)
    fakes = Told(kind, real, others)
    with contextlib.redirect_stderr(io.StringIO()):
        return usefulness(real, fakes, validation, test, Ridge(), classifiers, minutes=1_000.0)["verdict"]


def main() -> None:
    """Every kind, as often as asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--times", type=int, default=200)
    parser.add_argument("--classifiers", type=int, default=5)
    parser.add_argument("--processes", type=int, default=os.cpu_count())
    parser.add_argument("--record", type=Path, metavar="OUT")
    given = parser.parse_args()
    before, found = os.getloadavg()[0], dict[str, Any]()
    os.environ["TQDM_DISABLE"] = "1"
    with ProcessPoolExecutor(given.processes, get_context("spawn")) as pool:
        for kind in KINDS:
            jobs = range(given.times), [kind] * given.times, [given.classifiers] * given.times
            verdicts = Counter(pool.map(simulate, *jobs, chunksize=5))
            interval = binomtest(verdicts["helps"], given.times).proportion_ci(method="wilson")
            found[kind] = {"verdicts": dict(verdicts), "helps": verdicts["helps"] / given.times,
                           "interval": [float(interval.low), float(interval.high)]}  # fmt: skip
            print(f"{kind}: helps {found[kind]['helps']:.1%} ({interval.low:.1%} to {interval.high:.1%}), "
                  f"{dict(verdicts)}", flush=True)  # fmt: skip
    if given.record is not None:
        about = {"command": command("benchmarks.utility_simulation"), "threads": 1, "load_before": before,
                 "times": given.times, "classifiers": given.classifiers, "kinds": found}  # fmt: skip
        record = json.dumps(describe_machine() | about, indent=1, ensure_ascii=False)
        write(given.record / "record.json", record.encode() + b"\n")


if __name__ == "__main__":
    main()
