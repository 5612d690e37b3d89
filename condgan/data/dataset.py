"""A data set in memory: images, labels and what is known of true translations."""

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Int64, UInt8
from torch import Tensor

from condgan.data.listing import UNLABELED
from condgan.labels import Field, Labels, LabelSpec, LabelTable
from condgan.types import ImageShape
from condgan.utils.errors import UserError
from condgan.utils.files import cache_directory, write


@dataclass(frozen=True, slots=True)
class Split:
    """Images of 0 … 255 and their labels."""

    images: UInt8[Tensor, "n c h w"]
    labels: LabelTable
    names: Sequence[str] = ()
    """Of their files, where they have any."""
    content: LabelTable | None = None
    """Other labels, which a translation leaves as they are: the digit, the attributes not chosen."""
    where: Int64[Tensor, "n 2"] | None = None
    """The shard of each image and where it begins there, if images are read of shards while they are seen."""

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Split":
        content = None if self.content is None else self.content.to(device)
        return replace(self, images=self.images.to(device), labels=self.labels.to(device), content=content)

    def at(self, index: Int[Tensor, " m"]) -> "Split":
        """Some of them."""
        names = tuple(self.names[int(i)] for i in index.tolist()) if self.names else ()
        content = None if self.content is None else self.content.at(index)
        where = None if self.where is None else self.where[index]
        return Split(self.images[index], self.labels.at(index), names, content, where)


Exact = Callable[[Int[Tensor, " m"], Labels], tuple[UInt8[Tensor, "m c h w"], Bool[Tensor, " m"]]]
"""The true translations of held-out images, by their numbers, to labels; and which of them are known."""


@dataclass(frozen=True)
class Dataset:
    """A data set in memory; the held-out images are for evaluation and never trained on."""

    train: Split
    held_out: Split
    skipped: tuple[str, ...] = ()
    """Unreadable files that were left out."""
    exact: Mapping[str, Exact] = field(default_factory=dict)
    """By the field whose labels are translated."""
    digest: str | None = None
    """Changes when images do; None where all of them would have to be read for it."""
    notes: tuple[str, ...] = ()
    """Remarks for the user on how they were read."""
    index: str | None = None
    """What tells images apart that are decoded only when they are seen: a hash of their names and sizes."""

    @property
    def spec(self) -> LabelSpec:
        return self.train.labels.spec

    @property
    def shape(self) -> ImageShape:
        return ImageShape(*self.train.images.shape[1:])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the images, labels and class names of both splits; of undecoded images that of their index."""
        fields = [asdict(field) for field in _without_vicinities(self.spec).fields]
        told = [{key: value for key, value in one.items() if key != "range" or value} for one in fields]
        vocabulary = json.dumps(told).encode()
        labels = hashlib.sha256(vocabulary)
        for split in (self.train, self.held_out):
            for table in _tables(split):
                labels.update(table.codes.numpy().data)
        known = None
        shapes = [tuple(split.images.shape) for split in (self.train, self.held_out)]
        if self.index is not None:
            return hashlib.sha256(f"{self.index} {shapes} {labels.hexdigest()}".encode()).hexdigest()
        if self.digest is not None:
            key = hashlib.sha256(f"{self.digest} {shapes} {labels.hexdigest()}".encode()).hexdigest()
            known = cache_directory() / "hashes" / key[:32]
            if known.is_file():
                return known.read_text()
        digest = hashlib.sha256(vocabulary)
        for split in (self.train, self.held_out):
            digest.update(json.dumps(split.images.shape).encode())
            for block in split.images.split(HASHED):
                digest.update(block.contiguous().numpy().data)
            for table in _tables(split):
                for start in range(0, len(table), HASHED):
                    digest.update(table[start : start + HASHED].values.float().numpy().data)
        if known is not None:
            with suppress(OSError):
                write(known, digest.hexdigest().encode())
        return digest.hexdigest()


def _tables(split: Split) -> list[LabelTable]:
    return [split.labels] if split.content is None else [split.labels, split.content]


HASHED = 4_096
"""Images whose pixels or labels are hashed at once."""


def data_sets(labels: LabelTable) -> list[Int[Tensor, " m"]]:
    """The numbers of each data set's images: those that know its field."""
    return [torch.nonzero(known).flatten() for known in labels.known.unbind(1)]


def with_vicinity(data: Dataset, width: float | None, hard: bool) -> Dataset:
    """The same, in which numbers this near, as a share of their range, count as the same while training; see `Range`.

    None: half of what the middle image of all needs so that 50 of its nearest, by the number, are within it, or the
    middle of the gaps between different numbers, where that is more.
    """
    field = data.spec.fields[0]
    if (range := field.range) is None:
        return data
    if width is None and not bool(data.train.labels.known.any()):
        raise UserError(f"number '{field.name}' is known of no training image: expected it of some")
    if width is None:
        width = _usual_vicinity(data.train.labels[:].values[data.train.labels.known[:, 0], 0].numpy())
    return _described_as(data, LabelSpec((replace(field, range=replace(range, vicinity=width, hard=hard)),)))


def _described_as(data: Dataset, spec: LabelSpec) -> Dataset:
    """The same labels in a vocabulary of the same values."""
    splits = [replace(one, labels=LabelTable(spec, one.labels.codes)) for one in (data.train, data.held_out)]
    return replace(data, train=splits[0], held_out=splits[1])


def _usual_vicinity(shares: Float[np.ndarray, " n"]) -> float:
    ordered = np.sort(shares)
    near = min(VICINITY, len(ordered)) - 1
    spans = ordered[near:] - ordered[: len(ordered) - near]
    gaps = np.diff(np.unique(ordered))
    return float(min(FARTHEST, max(np.median(spans) / 2, np.median(gaps) if len(gaps) else 0)))


def labeled(data: Dataset) -> Dataset:
    """The same without images of which nothing is known."""
    if not (data.train.labels.partial or data.held_out.labels.partial):
        return data
    known = [torch.nonzero(one.labels.known.any(1)).flatten() for one in (data.train, data.held_out)]
    index = data.index
    if index is not None:
        kept = [hashlib.sha256(one.numpy().tobytes()).hexdigest() for one in known]
        index = f"{index} of which {kept}"
    return replace(data, train=data.train.at(known[0]), held_out=data.held_out.at(known[1]), digest=None, index=index)


def with_examples(data: Dataset, most: int = 256) -> Dataset:
    """The same; where labels are attributes or a number, the vocabulary holds those of some training images."""
    if data.spec.exclusive:
        return data
    table = data.train.labels.drawn(0)
    most = max(1, min(most, len(table), EXAMPLES // table.codes.shape[1]))
    chosen = torch.arange(most) * len(table) // most
    return _described_as(data, replace(data.spec, examples=tuple(map(tuple, table.codes[chosen].tolist()))))


EXAMPLES = 50_000
"""Numbers that labels of examples are at most."""


def _without_vicinities(spec: LabelSpec) -> LabelSpec:
    """A vocabulary without what changes no label."""
    return LabelSpec(
        tuple(
            field if field.range is None else replace(field, range=replace(field.range, vicinity=0.0, hard=False))
            for field in spec.fields
        )
    )


FARTHEST = 0.1
"""The largest vicinity by default, so that few images do not drown what is asked for."""
VICINITY = 50
"""Images that half of the vicinities of numbers hold by default, or more."""


def unlabeled(data: Dataset) -> Dataset:
    """The same images, of one class, unless they are of classes."""
    if data.spec.fields[0].exclusive:
        return data
    splits = [
        replace(split, labels=LabelTable.from_index(LabelSpec.of_classes([UNLABELED]), torch.zeros(len(split)).long()))
        for split in (data.train, data.held_out)
    ]
    return replace(data, train=splits[0], held_out=splits[1], exact={})


def join(parts: Mapping[str, Dataset]) -> Dataset:
    """Several data sets, by their names, as one, in which each image knows its own field.

    Where two fields have the same name, all are named after their data sets.
    """
    if partial := next((source for source, one in parts.items() if one.train.labels.partial), None):
        raise UserError(
            f"data '{partial}' has images without labels, beside other data sets: expected labels of all; label them, "
            "or give it alone"
        )
    fields = tuple(one.spec.fields[0] for one in parts.values())
    if len({own.name for own in fields}) < len(fields):
        fields = tuple(replace(own, name=source) for source, own in zip(parts, fields, strict=True))
    of_content = tuple(
        replace(one.train.content.spec.fields[0], name=source)
        for source, one in parts.items()
        if one.train.content is not None
    )
    splits, starts, exact = {}, np.cumsum([0, *(len(one.held_out) for one in parts.values())]), {}
    for which in ("train", "held_out"):
        halves: list[Split] = [getattr(one, which) for one in parts.values()]
        splits[which] = Split(
            torch.cat([half.images for half in halves]),
            _spread(LabelSpec(fields), [half.labels for half in halves]),
            tuple(f"{source}/{name}" for source, half in zip(parts, halves, strict=True) for name in half.names),
            _spread(LabelSpec(of_content), [len(half) if half.content is None else half.content for half in halves])
            if of_content
            else None,
        )
    for number, (own, one) in enumerate(zip(fields, parts.values(), strict=True)):
        for of_one in one.exact.values():
            exact[own.name] = _exact_of_part(of_one, one.spec, number, int(starts[number]), fields)
    return Dataset(
        **splits,
        skipped=tuple(name for one in parts.values() for name in one.skipped),
        exact=exact,
        notes=tuple(f"{source}: {note}" for source, one in parts.items() for note in one.notes),
    )


def _spread(spec: LabelSpec, parts: Sequence[LabelTable | int]) -> LabelTable:
    """Labels of one field each, or images without any by their number, in a vocabulary of all the fields."""
    codes, start = [], 0
    widths = [part.codes.shape[1] for part in parts if not isinstance(part, int)]
    for part in parts:
        own = torch.full((part if isinstance(part, int) else len(part), sum(widths)), -1, dtype=torch.int32)
        if not isinstance(part, int):
            own[:, start : start + part.codes.shape[1]] = part.codes
            start += part.codes.shape[1]
        codes.append(own)
    return LabelTable(spec, torch.cat(codes))


def _exact_of_part(exact: Exact, spec: LabelSpec, number: int, start: int, fields: tuple[Field, ...]) -> Exact:
    where = LabelSpec(fields).where(number)

    def of_joined(index: Tensor, labels: Labels) -> tuple[Tensor, Tensor]:
        return exact(index - start, Labels(spec, labels.values[:, where], labels.known[:, [number]]))

    return of_joined
