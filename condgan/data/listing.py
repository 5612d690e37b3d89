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
from jaxtyping import Bool, Int, UInt8

from condgan.labels import RESOLUTION, Field, LabelSpec, LabelTable, Range
from condgan.utils.errors import UserError, shown

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
    share: float | None = None
    """Of the pictures that was held out; None where their source says which."""

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

    def read(self, place: int) -> RawPicture:
        """The picture at a place, not decoded. Raises whatever its source likes where that cannot be read."""
        return self.pictures.read(int(self.numbers[place]))

    def call(self, place: int) -> str:
        """A picture's name in messages."""
        field = self.labels.spec.fields[0]
        if self.origins:
            return f"'{shown(self.names[place])}' of {self.origins[place]}"
        code = int(self.labels.codes[place, 0])
        named = field.exclusive and len(field.values) > 1 and code >= 0
        of = f" of class '{field.values[code]}'" if named else ""
        return f"'{shown(self.names[place])}'{of}"


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
    stated = np.zeros(len(names), np.int64) if held_out is None else np.asarray(held_out)
    if neither := int((stated < 0).sum()):
        notes = (*notes, f"{neither:,} images of no split are left out, since others have one")
    if (stated == 1).any() and (stated == 2).any():
        notes = (*notes, "validation images are left out, the test images are held out")
    unknown = strata(labels) < 0
    if told := unlabeled_told(labels):
        notes = (*notes, told)
    if lacking := int((unknown & (stated > 0)).sum()):
        notes = (*notes, f"{lacking:,} images without labels are not held out, but left out")
        stated = np.where(unknown & (stated > 0), -1, stated)
    train = np.flatnonzero(stated == 0)
    if not len(train):
        raise UserError(f"data '{source}' has no images to train on: all are said to be of val or test; mend the split")
    chosen = np.flatnonzero(stated == (2 if (stated == 2).any() else 1))
    own_split = held_out is None or share is not None or not len(chosen)
    if own_split:
        share = 0.1 if share is None else share
        own = pairs[train] if paired and pairs is not None else None
        parts = split(labels.at(torch.from_numpy(train)), share, own)
        train, chosen = (train[part] for part in parts)
    labels = _of_places(labels, np.concatenate([train, chosen]))
    whole = Listing(
        source, pictures, np.arange(len(names)), names, labels, 0, pairs=pairs, notes=notes, origins=origins,
        share=share if own_split else None,
    )  # fmt: skip
    return whole.at(np.concatenate([train, chosen]), len(train))


def unlabeled_told(labels: LabelTable) -> str | None:
    """A note of labels that are not known, where there are some."""
    if not labels.partial:
        return None
    lacking = int((labels.codes < 0).any(1).sum())
    nothing = int((~labels.known[:, 0]).sum())
    if nothing == lacking:
        return f"{nothing:,} of {len(labels):,} images have no label: they train what is real, not what it shows"
    return f"{lacking:,} of {len(labels):,} images know some labels only, {nothing:,} none"


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


def _of_places(labels: LabelTable, places: Int[np.ndarray, " n"]) -> LabelTable:
    """The labels without what only images elsewhere have, such as those of a split that is left out.

    That are classes, and the ends of a number's range.
    """
    field = labels.spec.fields[0]
    if field.range is not None:
        return _of_range(labels, places)
    if not field.exclusive:
        return labels
    used = labels.at(torch.from_numpy(places)).counts() > 0
    if bool(used.all()) or bool((labels.counts() == 0).any()):
        return labels
    number = used.cumsum(0) - 1
    names = [name for name, there in zip(field.values, used.tolist(), strict=True) if there]
    number = torch.where(used, number, -1)
    return labels.renumbered(LabelSpec.of_classes(names), number)


def _of_range(labels: LabelTable, places: Int[np.ndarray, " n"]) -> LabelTable:
    """Numbers whose range is that of some images; those beyond are not known."""
    field, codes = labels.spec.fields[0], labels.codes[:, 0].double()
    assert field.range is not None
    known = labels.codes[torch.from_numpy(places), 0]
    known = known[known >= 0]
    if not len(known) or int(known.min()) == int(known.max()):
        raise UserError(f"number '{field.name}': fewer than two different ones of images to use; give more")
    if int(known.min()) == 0 and int(known.max()) == RESOLUTION:
        return labels
    low, high = (field.range.number(int(end) / RESOLUTION) for end in (known.min(), known.max()))
    moved = (codes - int(known.min())) / int(known.max() - known.min())
    inside = (codes >= 0) & (moved >= 0) & (moved <= 1)
    spec = LabelSpec((Field.of_number(field.name, Range(low, high)),))
    return LabelTable(spec, torch.where(inside, (moved * RESOLUTION).round(), -1).int()[:, None])


def split(
    labels: LabelTable, share: float, pairs: Int[np.ndarray, " n"] | None
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " l"]]:
    """A fixed split into what to train on and what to hold out: where possible, some of each class on either side.

    With `pairs`, all images of a share of their numbers.
    """
    if pairs is not None:
        different, of_image = np.unique(pairs, return_inverse=True)
        chosen = np.isin(of_image, hold_out(np.zeros(len(different), int), share)[1])
        return np.flatnonzero(~chosen), np.flatnonzero(chosen)
    return hold_out(strata(labels), share)


def strata(labels: LabelTable) -> Int[np.ndarray, " n"]:
    """The class of each image, −1 where nothing is known of it; all others are of one."""
    if labels.spec.fields[0].exclusive:
        return labels.index().numpy()
    return np.where(labels.known[:, 0].numpy(), 0, -1)


def hold_out(
    index: Int[np.ndarray, " n"], share: float, contents: Int[np.ndarray, " n"] | None = None
) -> tuple[Int[np.ndarray, " m"], Int[np.ndarray, " l"]]:
    """A fixed split into what to train on and what to hold out: where possible, some of each class on either side.

    `contents`: numbers, of which equal ones come on the same side; but in classes of which less than half as many as
    asked for would be held out then, more than twice as many, or all. Of class −1, which is not known, none are, unless
    they are copies of what is.
    """
    rng = np.random.default_rng(0)
    by_class = np.argsort(index, kind="stable")
    by_class = by_class[(index < 0).sum() :]
    starts = np.unique(index[by_class], return_index=True)[1]
    classes = [rng.permutation(where) for where in np.split(by_class, starts[1:]) if len(where)]
    counts = [min(max(1, round(share * len(where))), len(where) - 1) for where in classes]
    chosen = np.zeros(len(index), bool)
    if contents is not None:
        chosen = _chosen_contents([contents[where] for where in classes], counts, int(contents.max()) + 1)[contents]
    for where, count in zip(classes, counts, strict=True):
        if not count / 2 <= chosen[where].sum() <= min(2 * count, len(where) - 1):
            chosen[where] = np.arange(len(where)) < count
    return np.flatnonzero(~chosen), np.flatnonzero(chosen)


def _chosen_contents(
    classes: Sequence[Int[np.ndarray, " _"]], wanted: Sequence[int], contents: int
) -> Bool[np.ndarray, " _"]:
    """Which contents to hold out, for about so many images of each class; one with few contents chooses first."""
    held = np.full(contents, -1)  # -1: undecided
    for of_class, count in sorted(zip(classes, wanted, strict=True), key=lambda one: len(np.unique(one[0]))):
        own, first, sizes = np.unique(of_class, return_index=True, return_counts=True)
        left = count - sizes[held[own] == 1].sum()
        order = np.argsort(first)
        order = order[held[own[order]] < 0]
        held[own[order]] = 0
        fitting = order[sizes[order] <= left]
        held[own[fitting]] = np.cumsum(sizes[fitting]) <= left
        if len(order) and not (held[own] == 1).any():
            held[own[order[sizes[order].argmin()]]] = 1
    return held == 1


def class_is(names: Sequence[str], at_most: int = 8) -> str:
    """Classes as the beginning of a sentence: class 'cat' is, or 2 classes ('cat', 'dog') are."""
    if len(names) == 1:
        return f"class '{shown(names[0], 60)}' is"
    listed = ", ".join(f"'{shown(name, 60)}'" for name in names[:at_most]) + ", …" * (len(names) > at_most)
    return f"{len(names):,} classes ({listed}) are"


def require_images(labels: LabelTable, least: int, where: str, do: str = "") -> None:
    """Raises UserError for classes with fewer images, all at once."""
    counts = zip(labels.spec.classes, labels.counts().tolist(), strict=True)
    few = [(name, count) for name, count in counts if count < least]
    if not few:
        return
    if len(few) == 1:
        name, count = few[0]
        what = f"class '{shown(name, 60)}' has {count} readable image{'s' * (count != 1)} in {where}"
    else:
        listed = ", ".join(f"'{shown(name, 60)}' {count}" for name, count in few[:8]) + ", …" * (len(few) > 8)
        what = f"{len(few):,} classes have too few readable images in {where} ({listed})"
    raise UserError(f"{what}: at least {least} needed{do}")


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
