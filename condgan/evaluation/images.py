"""Images that exist, to be looked at in their order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from condgan.data.dataset import Dataset, Split
from condgan.labels import LabelSpec, LabelTable

SHOWN_AT_ONCE = 256
SUBSETS = ("train", "held-out", "all")


@dataclass(frozen=True)
class ImageSubset:
    """Images of some splits, in an order."""

    source: str
    splits: tuple[Split, ...]
    order: Int[Tensor, " n"]
    labeled: bool = True
    """Whether their labels are those of what they are held against."""

    @classmethod
    def of(cls, source: str, split: Split) -> "ImageSubset":
        """All of a split, as they come."""
        return cls(source, (split,), torch.arange(len(split)))

    def __len__(self) -> int:
        return len(self.order)

    chunk_size = SHOWN_AT_ONCE

    @property
    def labels(self) -> LabelTable | None:
        if not self.labeled:
            return None
        return LabelTable(self.splits[0].labels.spec, torch.cat([one.labels.codes for one in self.splits])[self.order])

    @property
    def classes(self) -> tuple[str, ...]:
        """Their own, whether or not what they are held against has them."""
        return self.splits[0].labels.spec.classes

    @property
    def strata(self) -> Int[Tensor, " n"] | None:
        codes = [one.labels.index() for one in self.splits] if self.splits[0].labels.spec.exclusive else None
        return None if codes is None else torch.cat(codes)[self.order]

    @property
    def names(self) -> Sequence[str]:
        names = [name for one in self.splits for name in one.names]
        return [names[number] for number in self.order.tolist()] if names else ()

    @property
    def shape(self) -> tuple[int, ...]:
        """Channels, height and width."""
        return tuple(self.splits[0].images.shape[1:])

    def chunks(self, part: slice = slice(None)) -> Iterator[UInt8[Tensor, "b c h w"]]:
        for numbers in torch.arange(len(self))[part].split(SHOWN_AT_ONCE):
            yield self.at(numbers)

    def at(self, numbers: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        rows = self.order[numbers]
        images = torch.empty(len(rows), *self.shape, dtype=torch.uint8)
        start = 0
        for split in self.splits:
            own = (rows >= start) & (rows < start + len(split))
            images[own] = split.images[rows[own] - start]
            start += len(split)
        return images

    def some(self, count: int) -> "ImageSubset":
        """So many of them, evenly spread."""
        return replace(self, order=self.order[torch.arange(count) * len(self) // count])

    def labeled_as(self, spec: LabelSpec) -> "ImageSubset":
        """With labels of another vocabulary, found by the classes' names; without any where it lacks some of them."""
        own = self.splits[0].labels.spec
        if own == spec:
            return self
        if not (own.exclusive and spec.exclusive) or not set(own.classes) <= set(spec.classes):
            return replace(self, labeled=False)
        number = torch.tensor([spec.classes.index(name) for name in own.classes])
        splits = [replace(one, labels=LabelTable.from_index(spec, number[one.labels.index()])) for one in self.splits]
        return replace(self, splits=tuple(splits))


def stored(data: Dataset, source: str, which: str) -> ImageSubset:
    """A split of a data set, or "all": both, in the order of their names."""
    if which != "all":
        return ImageSubset.of(source, data.train if which == "train" else data.held_out)
    splits = data.train, data.held_out
    names = [name for one in splits for name in one.names]
    order = np.argsort(np.array(names), kind="stable") if names else np.arange(sum(map(len, splits)))
    return ImageSubset(source, splits, torch.from_numpy(order))
