"""The order in which images are seen, as functions of (seed, position).

Axes: n images, b of a batch, k classes."""

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from jaxtyping import Bool, Float64, Int, Int64
from torch import Tensor

from condgan.utils.seeds import derive_seed

TURNS = 4096
"""Batches whose data sets are drawn at once."""
MIXED_AT_ONCE, READ_IN_A_ROW = 8_192, 256
"""Images of shards that are permuted among themselves; and of how many neighbors in a shard they are put together."""


def epoch_order(count: int, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    """The permutation of `count` images in one epoch."""
    return torch.randperm(count, generator=_drawing(seed, "order", epoch))


def near_order(
    where: Int64[Tensor, "n 2"], seed: int, epoch: int, window: int = MIXED_AT_ONCE, in_a_row: int = READ_IN_A_ROW
) -> Int64[Tensor, " n"]:
    """The permutation in one epoch of images that lie in shards: those seen one after another lie in few of them.

    `where`: the shard of each, and where it begins there. Shards come in a random order, as do in each of them runs of
    so many images `in_a_row`; of what comes so, every `window` of images is permuted.
    """
    drawing = _drawing(seed, "shards", epoch)

    def shuffled(count: int) -> np.ndarray:
        return torch.randperm(count, generator=drawing).numpy()

    files, begins = where.numpy().T
    read = np.lexsort((begins, files))
    _, first, shard = np.unique(files[read], return_index=True, return_inverse=True)
    phase = int(torch.randint(in_a_row, (), generator=drawing))
    run = (np.arange(len(read)) - first[shard] + phase) // in_a_row
    run = np.cumsum(np.diff(run, prepend=0) != 0) + shard  # counted through all shards
    order = np.lexsort((shuffled(run[-1] + 1)[run], shuffled(len(first))[shard]))
    order = order[np.lexsort((shuffled(len(order)), np.arange(len(order)) // window))]
    return torch.from_numpy(read[order])


def balanced_order(classes: Int64[Tensor, " n"], class_balance: float, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    """The images of one balanced epoch, as many as there are, given each one's class.

    Of each class `balanced_counts` are seen, all of its images equally often or some of them once more.
    """
    shuffled = torch.randperm(len(classes), generator=_drawing(seed, "within class", epoch))
    images = shuffled[classes[shuffled].argsort(stable=True)]
    own, have = classes[images], classes.bincount()
    place = torch.arange(len(classes)) - (have.cumsum(0) - have)[own]
    wanted = balanced_counts(have, class_balance, seed, epoch)
    times = wanted[own] // have[own] + (place < wanted[own] % have[own])
    return images.repeat_interleave(times)[epoch_order(len(classes), seed, epoch)]


def balanced_counts(have: Int[Tensor, " k"], class_balance: float, seed: int, epoch: int) -> Int64[Tensor, " k"]:
    """How many images of each class, of which there are `have`, are seen in one balanced epoch.

    Systematic sampling: evenly spaced points with a random offset, so that each count is less than one from its
    expectation, which is exact.
    """
    total = int(have.sum())
    offset = torch.rand((), dtype=torch.float64, generator=_drawing(seed, "class counts", epoch))
    ends = (total * class_probabilities(have, class_balance).cumsum(0) - offset).ceil().long().clamp(max=total)
    ends[have.cumsum(0) == total] = total  # however the sum was rounded
    return ends.diff(prepend=torch.zeros(1, dtype=torch.int64))


def class_probabilities(have: Int[Tensor, " k"], class_balance: float) -> Float64[Tensor, " k"]:
    """How often classes of n images each are seen: as n ** (1 − `class_balance`); 0 where there are none."""
    weights = torch.where(have > 0, have.double() ** (1 - class_balance), 0.0)
    return weights / weights.sum()


def epoch_flips(count: int, seed: int, epoch: int) -> Bool[Tensor, " n"]:
    """Which images, in the order in which they are seen, are mirrored in one epoch: every other one by chance."""
    return torch.rand(count, generator=_drawing(seed, "flip", epoch)) < 0.5


def epoch_offsets(count: int, pad: int, seed: int, epoch: int) -> Int64[Tensor, "n 2"]:
    """Where images padded by `pad` pixels, in the order in which they are seen, are cropped: first row and column."""
    return torch.randint(2 * pad + 1, (count, 2), generator=_drawing(seed, "crop", epoch))


def turns(weights: Sequence[float], seed: int, block: int) -> Int64[Tensor, " n"]:
    """The data sets of one block of batches, drawn with their weights."""
    drawing = _drawing(seed, "data set", block)
    return torch.multinomial(torch.tensor(weights).double(), TURNS, replacement=True, generator=drawing)


def batch_turns(weights: Sequence[float], seed: int, batch: int) -> Iterator[int]:
    """The data set of each batch from the `batch`-th on."""
    while True:
        for turn in turns(weights, seed, batch // TURNS)[batch % TURNS :].tolist():
            yield turn
            batch += 1


def turns_before(weights: Sequence[float], seed: int, batch: int) -> Int64[Tensor, " s"]:
    """How many batches each data set had before the `batch`-th."""
    before = torch.zeros(len(weights), dtype=torch.int64)
    for block in range(-(-batch // TURNS)):
        before += turns(weights, seed, block)[: batch - block * TURNS].bincount(minlength=len(weights))
    return before


def _drawing(seed: int, purpose: str, place: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, purpose, place))
