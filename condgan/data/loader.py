"""The order in which images are seen: a function of (seed, position)."""

import itertools
from collections import deque
from collections.abc import Generator, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Int64, UInt8
from torch import Tensor

from condgan.data.dataset import Split, data_sets
from condgan.data.order import (
    balanced_order,
    batch_turns,
    epoch_flips,
    epoch_offsets,
    epoch_order,
    near_order,
    turns_before,
)
from condgan.data.undecoded import Undecoded
from condgan.types import Batch, to_float
from condgan.utils.device import fits, free_memory
from condgan.utils.distributed import neighbors

AHEAD = 3
"""Batches that are gathered before they are asked for, where images are not at hand."""


def crop(images: UInt8[Tensor, "b c h w"], pad: int, offsets: Int64[Tensor, "b 2"]) -> UInt8[Tensor, "b c h w"]:
    """Images padded with `pad` zeros on each side and cut to their old size, from these rows and columns on."""
    height, width = images.shape[2:]
    crops = F.pad(images, (pad,) * 4).unfold(2, height, 1).unfold(3, width, 1)  # a view: b c rows columns h w
    return crops[torch.arange(len(images), device=images.device), :, offsets[:, 0], offsets[:, 1]]


def mapped(images: Tensor) -> bool:
    """Whether a tensor's memory is that of a file, as far as the system tells."""
    maps = Path("/proc/self/maps")
    if images.device.type != "cpu" or not maps.is_file():
        return False
    for line in maps.read_text().splitlines():
        addresses, _, _, _, inode, *_ = line.split()
        start, end = (int(address, 16) for address in addresses.split("-"))
        if start <= images.data_ptr() < end:
            return inode != "0"
    return False


def to_device(split: Split, device: torch.device, resident: bool | None = None) -> Split:
    """A split whose labels are on the device, and its images if they are to be `resident`; by default if they fit.

    Images that are not stay where they are, such as in a file that is mapped into memory, or undecoded.
    """
    if isinstance(split.images, Undecoded):
        resident = False
    if resident is None:
        copies = neighbors() if device.type == "cpu" else 1
        resident = fits(copies * split.images.nbytes, free_memory(device))
    images = split.images.to(device, copy=mapped(split.images)) if resident else split.images
    return replace(split, images=images, labels=split.labels.to(device))


def stream(
    split: Split,
    batch_size: int,
    seed: int,
    position: int = 0,
    weights: Sequence[float] | None = None,
    flip: bool = False,
    *,
    class_balance: float = 0.0,
    pad_crop: int = 0,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Endless batches from the `position`-th image on: every epoch another permutation, batches across their ends.

    Of several data sets, a batch is of one, drawn with their weights (alike by default); each has epochs of its own,
    and `position` is a multiple of the batch size. `flip`: half of the images are mirrored. `class_balance`: from 0,
    classes are seen as often as they are there, to 1, all alike; of a single exclusive field. `pad_crop`: images are
    shifted by up to so many pixels, zeros coming in. Each of `world` ranks gets its part of every batch;
    `batch_size` and `position` are those of all ranks together.
    Batches are where the labels are; images that lie elsewhere or in a file are gathered ahead, by a thread. Of a split
    that knows where its images lie, those seen one after another lie near each other.
    """
    assert batch_size % world == 0, "ranks have equal parts of a batch"
    sets = [index for index in data_sets(split.labels) if len(index)]
    if len(sets) == 1:
        whose, starts = itertools.repeat(0), [position]
    else:
        assert position % batch_size == 0, "data sets take turns by whole batches"
        weights = weights or [1.0] * len(sets)
        whose = batch_turns(weights, seed, position // batch_size)
        starts = (turns_before(weights, seed, position // batch_size) * batch_size).tolist()
    at, device = split.images.device, split.labels.device
    epochs = [
        _Epochs(
            len(one),
            seed,
            flip,
            pad_crop,
            class_balance,
            _classes(split, one) if class_balance > 0 else None,
            None if split.where is None else split.where[one.to("cpu")],
        )
        for one in sets
    ]
    batches = [one.batches(batch_size, start, at) for one, start in zip(epochs, starts, strict=True)]
    part = slice(rank * batch_size // world, (rank + 1) * batch_size // world)
    pinned = at.type == "cpu" and device.type == "cuda"
    gathered = _gathered(split.images, [one.to(at) for one in sets], batches, whose, part, pinned)
    if at != device or isinstance(split.images, Undecoded) or mapped(split.images):
        gathered = _ahead(gathered)
    with closing(gathered):
        for images, seen in gathered:
            images, seen = images.to(device, non_blocking=True), seen.to(device)
            if pad_crop:
                images = crop(images, pad_crop, seen.offsets)
            if flip:
                images = torch.where(seen.flips[:, None, None, None], images.flip(3), images)
            yield Batch(to_float(images), split.labels[seen.numbers])


class _Seen(NamedTuple):
    """Images in the order in which they are seen: their numbers, which are mirrored, and where they are cropped."""

    numbers: Int64[Tensor, " n"]
    flips: Bool[Tensor, " n"]
    offsets: Int64[Tensor, "n 2"]

    def at(self, where: slice) -> "_Seen":
        return _Seen(*(one[where] for one in self))

    def to(self, device: torch.device) -> "_Seen":
        return _Seen(*(one.to(device, non_blocking=True) for one in self))

    def pinned(self) -> "_Seen":
        return _Seen(*(one.pin_memory() for one in self))


@dataclass(frozen=True)
class _Epochs:
    """The order, flips and crops drawn for each epoch of `count` images."""

    count: int
    seed: int
    flip: bool
    pad_crop: int
    class_balance: float
    classes: Int64[Tensor, " n"] | None
    """Of the images, where they are balanced."""
    where: Int64[Tensor, "n 2"] | None
    """See `Split.where`."""

    def draw(self, epoch: int) -> _Seen:
        order = self._order(epoch)
        flips, offsets = torch.zeros(self.count, dtype=torch.bool), torch.zeros(self.count, 2, dtype=torch.int64)
        if self.flip:
            flips = epoch_flips(self.count, self.seed, epoch)
        if self.pad_crop:
            offsets = epoch_offsets(self.count, self.pad_crop, self.seed, epoch)
        return _Seen(order, flips, offsets)

    def _order(self, epoch: int) -> Int64[Tensor, " n"]:
        if self.classes is not None:  # all over the shards, else the many views of a rare image would be neighbors
            return balanced_order(self.classes, self.class_balance, self.seed, epoch)
        if self.where is not None:
            return near_order(self.where, self.seed, epoch)
        return epoch_order(self.count, self.seed, epoch)

    def batches(self, batch_size: int, position: int, device: torch.device) -> Iterator[_Seen]:
        """Yield the images, flips and crops of each batch from the `position`-th image on."""
        epoch, drawn = -1, None
        while True:
            pieces: list[_Seen] = []
            while (missing := batch_size - sum(len(piece.numbers) for piece in pieces)) > 0:
                if drawn is None or position // self.count != epoch:
                    epoch = position // self.count
                    drawn = self.draw(epoch).to(device)
                start = position % self.count
                pieces.append(drawn.at(slice(start, start + missing)))
                position += len(pieces[-1].numbers)
            yield _Seen(*map(torch.cat, zip(*pieces, strict=True)))


def _classes(split: Split, images: Int64[Tensor, " n"]) -> Int64[Tensor, " n"]:
    """The class of each image; those that are of none that is known are of one more."""
    assert split.labels.spec.exclusive, "only classes are balanced"
    index = split.labels.index()[images].cpu()
    return torch.where(index < 0, split.labels.spec.width, index)


Gathered = Generator[tuple[UInt8[Tensor, "b c h w"], _Seen], None, None]


def _gathered(
    images: UInt8[Tensor, "n c h w"],
    sets: Sequence[Int64[Tensor, " _"]],
    batches: Sequence[Iterator[_Seen]],
    whose: Iterator[int],
    part: slice,
    pinned: bool,
) -> Gathered:
    """The part of each batch as it is stored, where the images are, and what is seen of all of them."""
    for turn in whose:
        seen = next(batches[turn]).at(part)
        seen = seen._replace(numbers=sets[turn][seen.numbers])
        if isinstance(images, Undecoded):
            chosen = images.decoded(seen.numbers)
            chosen = chosen.pin_memory() if pinned else chosen
        else:
            chosen = images.new_empty((len(seen.numbers), *images.shape[1:]), pin_memory=pinned)
            torch.index_select(images, 0, seen.numbers, out=chosen)
        yield chosen, seen.pinned() if pinned else seen


def _ahead(gathered: Gathered) -> Gathered:
    """The same, some batches ahead, by a thread that ends when nobody listens."""
    pool = ThreadPoolExecutor(1, "stream")
    coming: deque[Future] = deque()
    try:
        while True:
            while len(coming) < AHEAD:
                coming.append(pool.submit(next, gathered))
            yield coming.popleft().result()
    finally:
        for one in coming:
            one.cancel()
        pool.shutdown(wait=False)  # the garbage collector may run in that very thread
