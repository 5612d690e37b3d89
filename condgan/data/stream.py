"""The order in which images are seen: a function of (seed, position)."""

from collections.abc import Iterator

import torch
from jaxtyping import Float, Int64, UInt8
from torch import Tensor

from condgan.data.sources import Split
from condgan.interfaces import Batch
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


def to_float(images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """0 … 255 → [−1, 1]."""
    return images.float() / 127.5 - 1


def to_uint8(images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """[−1, 1] → 0 … 255, rounded."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
