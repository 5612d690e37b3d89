"""The pictures of a source and their labels, before any is decoded."""

import bisect
import hashlib
import itertools
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Int, UInt8

from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError, shown

LARGEST = 1 << 30
"""Bytes of one encoded picture; what is said to be larger is refused before it is unpacked."""

LONGEST = 200
"""Characters of a class's name."""
_WRITABLE = re.compile(r"[^\x00-\x1f\x7f-\x9f\ud800-\udc7f\udd00-\udfff]*")

UNLABELED = "image"
"""The only class of images without labels."""

RawPicture = bytes | UInt8[np.ndarray, "h w *c"]
"""The content of an image file, or pixels of 0 … 255."""


@runtime_checkable
class Pictures(Protocol):
    """Where pictures come from, by their numbers; worker processes read it, forked or from a pickle."""

    def __len__(self) -> int: ...

    def read(self, number: int) -> RawPicture:
        """One of them. Raises whatever it likes where that cannot be read."""
        ...

    def digest(self, number: int) -> bytes:
        """Bytes that change when its content does."""
        ...


def digest_of(picture: RawPicture) -> bytes:
    """The digest of a picture that was read."""
    if isinstance(picture, bytes):
        return hashlib.blake2b(picture, digest_size=16).digest()
    head = repr(picture.shape).encode()
    return hashlib.blake2b(head + np.ascontiguousarray(picture).tobytes(), digest_size=16).digest()


@dataclass(frozen=True)
class Arrays:
    """Pictures in memory, or in a mapped file."""

    pixels: Sequence[UInt8[np.ndarray, "h w *c"]] | UInt8[np.ndarray, "n h w *c"]

    def __len__(self) -> int:
        return len(self.pixels)

    def read(self, number: int) -> RawPicture:
        return self.pixels[number]

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))


@dataclass(frozen=True)
class Listing:
    """The pictures of a source: which are to train on, which are held out, and what each of them is.

    `numbers`: of the pictures in `pictures`, in their order here; the first `train` of them are to train on.
    """

    source: str
    """Its name in messages."""
    pictures: Pictures
    numbers: Int[np.ndarray, " n"]
    names: Sequence[str]
    """Of their files, in the order of `numbers`, as are the labels."""
    labels: LabelTable
    train: int
    content: LabelTable | None = None
    """See `Split.content`."""
    pairs: Int[np.ndarray, " n"] | None = None
    """Images of the same number differ in nothing but their labels."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how it was read."""
    origins: Sequence[str] = ()
    """Where messages say that a picture is told of, such as a line of a file; by default its class."""

    def __len__(self) -> int:
        return len(self.numbers)

    def at(self, place: Int[np.ndarray, " m"], train: int) -> "Listing":
        """Some of it."""
        index = torch.from_numpy(place)
        return replace(
            self,
            numbers=self.numbers[place],
            names=[self.names[i] for i in place],
            labels=self.labels.at(index),
            train=train,
            content=None if self.content is None else self.content.at(index),
            pairs=None if self.pairs is None else self.pairs[place],
            origins=[self.origins[i] for i in place] if self.origins else (),
        )

    def call(self, place: int) -> str:
        """A picture's name in messages."""
        field = self.labels.spec.fields[0]
        if self.origins:
            return f"'{self.names[place]}' of {self.origins[place]}"
        of = f" of class '{field.values[int(self.labels.codes[place, 0])]}'"
        return f"'{self.names[place]}'{of if field.exclusive and len(field.values) > 1 else ''}"


def listed(
    source: str,
    pictures: Pictures,
    names: Sequence[str],
    labels: LabelTable,
    held_out: Int[np.ndarray, " n"] | None,
    share: float | None,
    *,
    pairs: Int[np.ndarray, " n"] | None = None,
    paired: bool = False,
    notes: tuple[str, ...] = (),
    origins: Sequence[str] = (),
) -> Listing:
    """The listing of all pictures, those to train on first.

    `held_out`: the split that the source states: 0 train, 1 validation, 2 test (of which the test images are held out,
    else the validation images), −1 neither; None where it states none. Then, and where `share` is given, that share
    (a tenth by default) of the training images is held out, at least one of each class; of `paired` images the same
    contents, and of attributes any. Raises UserError where none is to train on, and for classes without proper names.
    """
    _require_names(labels, source, origins)
    stated = np.zeros(len(names), np.int64) if held_out is None else held_out
    if neither := int((stated < 0).sum()):
        notes = (*notes, f"{neither:,} images of no split are left out, since others have one")
    if (stated == 1).any() and (stated == 2).any():
        notes = (*notes, "validation images are left out, the test images are held out")
    train = np.flatnonzero(stated == 0)
    if not len(train):
        raise UserError(f"data '{source}' has no images to train on: all are said to be of val or test; mend the split")
    chosen = np.flatnonzero(stated == (2 if (stated == 2).any() else 1))
    if held_out is None or share is not None or not len(chosen):
        own = pairs[train] if paired and pairs is not None else None
        parts = split(labels.at(torch.from_numpy(train)), 0.1 if share is None else share, own, source)
        train, chosen = (train[part] for part in parts)
    labels = _without_empty_classes(labels, np.concatenate([train, chosen]))
    whole = Listing(
        source, pictures, np.arange(len(names)), names, labels, 0, pairs=pairs, notes=notes, origins=origins
    )
    return whole.at(np.concatenate([train, chosen]), len(train))


def _require_names(labels: LabelTable, source: str, origins: Sequence[str]) -> None:
    for number, name in enumerate(labels.spec.classes):
        if len(name) <= LONGEST and _WRITABLE.fullmatch(name):
            continue
        where = labels.having(0, number)[:1].tolist()
        place = origins[where[0]] if where and origins else f"data '{source}'"
        raise UserError(
            f"{place}: label '{shown(name, 40)}' of {len(name):,} characters given, expected {LONGEST} at most, no "
            "control characters; rename it"
        )


def _without_empty_classes(labels: LabelTable, places: Int[np.ndarray, " n"]) -> LabelTable:
    """The labels without classes that only images elsewhere have, such as those of a split that is left out."""
    index, field = labels.index(), labels.spec.fields[0]
    if not field.exclusive:
        return labels
    used = labels.at(torch.from_numpy(places)).counts() > 0
    if bool(used.all()) or bool((labels.counts() == 0).any()):
        return labels
    number = used.cumsum(0) - 1
    names = [name for name, there in zip(field.values, used.tolist(), strict=True) if there]
    return LabelTable.from_index(LabelSpec.of_classes(names), torch.where(used[index], number[index], -1))


def split(
    labels: LabelTable, share: float, pairs: Int[np.ndarray, " n"] | None, source: str
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " l"]]:
    """A fixed split into what to train on and what to hold out, at least one of each class on either side.

    With `pairs`, all images of a share of their numbers. Raises UserError where there are too few.
    """
    if pairs is not None:
        different, of_image = np.unique(pairs, return_inverse=True)
        chosen = np.isin(of_image, hold_out(np.zeros(len(different), int), share)[1])
        return np.flatnonzero(~chosen), np.flatnonzero(chosen)
    exclusive = labels.spec.fields[0].exclusive
    if exclusive:
        require_images(labels, 2, f"data '{source}'")
    elif len(labels) < 2:
        raise UserError(f"data '{source}' has {len(labels)} image{'s' * (len(labels) != 1)}: at least 2 needed")
    return hold_out(labels.index().numpy() if exclusive else np.zeros(len(labels), int), share)


def hold_out(index: Int[np.ndarray, " n"], share: float) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " l"]]:
    """A fixed split into what to train on and what to hold out, at least one of each class on either side."""
    rng = np.random.default_rng(0)
    held_out = []
    for number in np.unique(index):
        where = rng.permutation(np.flatnonzero(index == number))
        held_out.append(where[: min(max(1, round(share * len(where))), len(where) - 1)])
    chosen = np.sort(np.concatenate(held_out))
    return np.setdiff1d(np.arange(len(index)), chosen), chosen


def require_images(labels: LabelTable, least: int, where: str) -> None:
    """Raises UserError for a class with fewer images."""
    for name, count in zip(labels.spec.classes, labels.counts().tolist(), strict=True):
        if count < least:
            raise UserError(
                f"class '{name}' has {count} readable image{'s' * (count != 1)} in {where}: at least {least} needed"
            )


@dataclass(frozen=True)
class Chain:
    """Pictures of several sources, in turn."""

    parts: tuple[Pictures, ...]

    @cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1] if self.parts else 0

    def read(self, number: int) -> RawPicture:
        part, inside = self._find(number)
        return part.read(inside)

    def digest(self, number: int) -> bytes:
        part, inside = self._find(number)
        return part.digest(inside)

    def _find(self, number: int) -> tuple[Pictures, int]:
        place = bisect.bisect_right(self._ends, number)
        return self.parts[place], number - (self._ends[place - 1] if place else 0)
