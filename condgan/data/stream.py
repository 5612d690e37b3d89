"""The order in which images are seen: a function of (seed, position)."""

import itertools
from collections.abc import Iterator, Sequence

import torch
from jaxtyping import Bool, Int64
from torch import Tensor

from condgan.data.dataset import Split, data_sets
from condgan.interfaces import Batch, to_float
from condgan.seeds import derive_seed

TURNS = 4096
"""Batches whose data sets are drawn at once."""


def epoch_order(count: int, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    """The permutation of `count` images in one epoch."""
    return torch.randperm(count, generator=_drawing(seed, "order", epoch))


def epoch_flips(count: int, seed: int, epoch: int) -> Bool[Tensor, " n"]:
    """Which images, in the order in which they are seen, are mirrored in one epoch: every other one by chance."""
    return torch.rand(count, generator=_drawing(seed, "flip", epoch)) < 0.5


def turns(weights: Sequence[float], seed: int, block: int) -> Int64[Tensor, " n"]:
    """The data sets of one block of batches, drawn with their weights."""
    drawing = _drawing(seed, "data set", block)
    return torch.multinomial(torch.tensor(weights).double(), TURNS, replacement=True, generator=drawing)


def stream(
    split: Split,
    batch_size: int,
    seed: int,
    position: int = 0,
    weights: Sequence[float] | None = None,
    flip: bool = False,
) -> Iterator[Batch]:
    """Endless batches from the `position`-th image on: every epoch another permutation, batches across their ends.

    Of several data sets, a batch is of one, drawn with their weights (alike by default); each has epochs of its own,
    and `position` is a multiple of the batch size. `flip`: half of the images are mirrored.
    """
    sets = [index for index in data_sets(split.labels) if len(index)]
    if len(sets) == 1:
        whose, starts = itertools.repeat(0), [position]
    else:
        assert position % batch_size == 0, "data sets take turns by whole batches"
        weights = weights or [1.0] * len(sets)
        whose = _turns(weights, seed, position // batch_size)
        starts = (_turns_before(weights, seed, position // batch_size) * batch_size).tolist()
    orders = [_order(len(one), batch_size, seed, start, one.device) for one, start in zip(sets, starts, strict=True)]
    for turn in whose:
        order, flips = next(orders[turn])
        chosen = sets[turn][order]
        images = to_float(split.images[chosen])
        if flip:
            images = torch.where(flips[:, None, None, None], images.flip(3), images)
        yield Batch(images, split.labels[chosen])


def _order(
    count: int, batch_size: int, seed: int, position: int, device: torch.device
) -> Iterator[tuple[Int64[Tensor, " b"], Bool[Tensor, " b"]]]:
    """The numbers of each batch's images, and which of them are mirrored."""
    epoch = -1
    order, flips = torch.empty(0, dtype=torch.int64), torch.empty(0, dtype=torch.bool)
    while True:
        index: list[Tensor] = []
        mirrored: list[Tensor] = []
        while (missing := batch_size - sum(map(len, index))) > 0:
            if position // count != epoch:
                epoch = position // count
                order = epoch_order(count, seed, epoch).to(device)
                flips = epoch_flips(count, seed, epoch).to(device)
            index.append(order[position % count :][:missing])
            mirrored.append(flips[position % count :][:missing])
            position += len(index[-1])
        yield torch.cat(index), torch.cat(mirrored)


def _turns(weights: Sequence[float], seed: int, batch: int) -> Iterator[int]:
    """The data set of each batch from the `batch`-th on."""
    while True:
        for turn in turns(weights, seed, batch // TURNS)[batch % TURNS :].tolist():
            yield turn
            batch += 1


def _turns_before(weights: Sequence[float], seed: int, batch: int) -> Int64[Tensor, " s"]:
    """How many batches each data set had before the `batch`-th."""
    before = torch.zeros(len(weights), dtype=torch.int64)
    for block in range(-(-batch // TURNS)):
        before += turns(weights, seed, block)[: batch - block * TURNS].bincount(minlength=len(weights))
    return before


def _drawing(seed: int, purpose: str, place: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed(seed, purpose, place))
