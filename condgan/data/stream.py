"""The order in which images are seen: a function of (seed, position)."""

from collections.abc import Iterator

import torch
from jaxtyping import Int64
from torch import Tensor

from condgan.data.sources import Split
from condgan.interfaces import Batch, to_float
from condgan.seeds import derive_seed


def epoch_order(count: int, seed: int, epoch: int) -> Int64[Tensor, " n"]:
    """The permutation of `count` images in one epoch."""
    generator = torch.Generator().manual_seed(derive_seed(seed, "order", epoch))
    return torch.randperm(count, generator=generator)


def stream(split: Split, batch_size: int, seed: int, position: int = 0) -> Iterator[Batch]:
    """Endless batches from the `position`-th image on: every epoch another permutation, batches across their ends."""
    count, device = len(split), split.images.device
    epoch, order = -1, torch.empty(0, dtype=torch.int64)
    while True:
        index = []
        while (missing := batch_size - sum(map(len, index))) > 0:
            if position // count != epoch:
                epoch = position // count
                order = epoch_order(count, seed, epoch).to(device)
            index.append(order[position % count :][:missing])
            position += len(index[-1])
        chosen = torch.cat(index)
        yield Batch(to_float(split.images[chosen]), split.labels[chosen])
