"""Labels of images: classes, attributes, several label sets, and which of them are known.

Axes: b images, k label values over all fields, f fields.
"""

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int
from torch import Tensor

from condgan.utils.errors import UserError, repeated, unknown


@dataclass(frozen=True, slots=True)
class Field:
    """One question about an image: exclusive values (softmax) or independent ones (sigmoids).

    `groups`: of independent values, those of which an image has one or none, such as hair colors. Each data set has a
    field of its own; where several are trained together, an image knows that of its data set.
    Raises UserError for a value given twice, and for groups that overlap or hold others than the values.
    """

    name: str
    values: tuple[str, ...]
    exclusive: bool = True
    groups: tuple[tuple[str, ...], ...] = dataclasses.field(
        default=(), repr=False
    )  # data sets' hashes are made of the repr

    def __post_init__(self) -> None:
        grouped = [name for group in self.groups for name in group]
        for what, names in (("label", self.values), ("member of exclusive groups", grouped)):
            if twice := repeated(names):
                raise UserError(f"{what} '{twice}' given twice: expected each name once")
        values = set(self.values)
        if other := next((name for name in grouped if name not in values), None):
            raise unknown("member of exclusive groups", other, self.values)

    def units(self) -> list[list[int]]:
        """The positions of values that are answered together: all, or each group and each value in none."""
        if self.exclusive:
            return [list(range(len(self.values)))]
        place = {value: position for position, value in enumerate(self.values)}
        grouped = [[place[value] for value in group] for group in self.groups]
        alone = set(range(len(self.values))) - {position for unit in grouped for position in unit}
        return sorted([*grouped, *([position] for position in alone)])

    def most_likely(self, logits: Float[Tensor, "b v"]) -> Bool[Tensor, "b v"]:
        """The values that logits speak for: one of an exclusive field, of a group the highest if it is above 0."""
        if self.exclusive:
            return F.one_hot(logits.argmax(1), logits.shape[1]).bool()
        chosen = logits > 0
        for unit in self.units():
            if len(unit) > 1:
                highest = torch.stack([logits[:, value] for value in unit], 1).argmax(1)
                for place, value in enumerate(unit):
                    chosen[:, value] &= highest == place
        return chosen

    def right(self, logits: Float[Tensor, "b v"], target: Float[Tensor, "b v"]) -> Bool[Tensor, "b u"]:
        """Which of its units logits get right."""
        same = self.most_likely(logits) == (target > 0.5)
        return torch.stack([reduce(torch.logical_and, [same[:, value] for value in unit]) for unit in self.units()], 1)


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """The label vocabulary of a data set."""

    fields: tuple[Field, ...]

    @classmethod
    def of_classes(cls, names: Sequence[str]) -> "LabelSpec":
        """The vocabulary of a data set in which every image is of one class."""
        return cls((Field("class", tuple(names)),))

    @property
    def width(self) -> int:
        return sum(len(field.values) for field in self.fields)

    @property
    def vector_width(self) -> int:
        """The width of `Labels.vector()`."""
        return self.width if len(self.fields) == 1 else self.width + len(self.fields)

    @property
    def classes(self) -> tuple[str, ...]:
        """The values of the first field, which name the columns of sheets and the rows of tables."""
        return self.fields[0].values

    @property
    def exclusive(self) -> bool:
        """Whether every image is of one class."""
        return len(self.fields) == 1 and self.fields[0].exclusive

    @property
    def summary(self) -> str:
        """How many classes and attributes there are, in words."""
        kinds = {True: "class" + "es" * (self.width > 1), False: "attribute" + "s" * (self.width > 1)}
        return " and ".join(f"{len(field.values):,} {kinds[field.exclusive]}" for field in self.fields)

    def where(self, field: int) -> slice:
        """Where a field's values lie among all `width` of them."""
        return next(where for position, _, where in self.slices() if position == field)

    def slices(self) -> Iterator[tuple[int, Field, slice]]:
        """Each field's position, itself, and where its values lie among all `width` of them."""
        start = 0
        for position, field in enumerate(self.fields):
            yield position, field, slice(start, start + len(field.values))
            start += len(field.values)


@dataclass(frozen=True, slots=True)
class Labels:
    """The labels of b images: one-hot, multi-hot or mixed values, and which fields are known."""

    spec: LabelSpec
    values: Float[Tensor, "b k"]
    known: Bool[Tensor, "b f"]

    @classmethod
    def from_index(cls, spec: LabelSpec, index: Int[Tensor, " b"]) -> "Labels":
        """One-hot labels of a vocabulary with a single exclusive field."""
        values = F.one_hot(index.long(), spec.width).to(torch.get_default_dtype())
        return cls(spec, values, torch.ones(len(index), 1, dtype=torch.bool, device=index.device))

    @classmethod
    def nothing(cls, spec: LabelSpec, count: int) -> "Labels":
        """Of so many images nothing is known."""
        return cls(spec, torch.zeros(count, spec.width), torch.zeros(count, len(spec.fields), dtype=torch.bool))

    def index(self, field: int = 0) -> Int[Tensor, " b"]:
        """The class number in an exclusive field."""
        return self.values[:, self.spec.where(field)].argmax(1)

    def vector(self) -> Float[Tensor, "b v"]:
        """The input of a network: the values and, where there are several fields, the mask of known ones."""
        return self.values if len(self.spec.fields) == 1 else torch.cat([self.values, self.known.float()], 1)

    def over_fields(
        self, logits: Float[Tensor, "b *s k"], of_field: Callable[[Field, Tensor, Tensor], Tensor]
    ) -> Float[Tensor, " b"]:
        """The sum over fields of what `of_field` says of (field, its logits, its values), 0 where it is unknown."""
        total = logits.new_zeros(len(logits))
        for position, field, where in self.spec.slices():
            one = of_field(field, logits[..., where], self.values[:, where])
            total = total + torch.where(self.known[:, position], one, 0)
        return total

    def cross_entropy(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """Softmax cross-entropy per exclusive field, else sigmoids' summed over values; 0 where unknown."""

        def of_field(field: Field, scores: Tensor, target: Tensor) -> Tensor:
            if field.exclusive:
                return F.cross_entropy(scores, target, reduction="none")
            return F.binary_cross_entropy_with_logits(scores, target, reduction="none").sum(1)

        return self.over_fields(logits, of_field)

    def accuracy(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """Share of an image's known fields (of their units, where not exclusive) that the logits get right."""

        def of_field(field: Field, guess: Tensor, target: Tensor) -> Tensor:
            if field.exclusive:
                return (guess.argmax(1) == target.argmax(1)).to(guess.dtype)
            return field.right(guess, target).to(guess.dtype).mean(1)

        return self.over_fields(logits, of_field) / self.known.sum(1).clamp(min=1)

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, index: slice | Tensor) -> "Labels":
        return Labels(self.spec, self.values[index], self.known[index])

    def chunk(self, count: int) -> "list[Labels]":
        """The labels in `count` equal parts."""
        parts = zip(self.values.chunk(count), self.known.chunk(count), strict=True)
        return [Labels(self.spec, values, known) for values, known in parts]

    @classmethod
    def cat(cls, parts: "Sequence[Labels]") -> "Labels":
        """The labels of several batches of one vocabulary, in turn."""
        return cls(parts[0].spec, torch.cat([p.values for p in parts]), torch.cat([p.known for p in parts]))

    def to(self, device: torch.device | str) -> "Labels":
        return Labels(self.spec, self.values.to(device), self.known.to(device))


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of a whole data set, compact: of a million images of a thousand classes, a million numbers.

    An exclusive field is a column of its value's number, any other a column of 0 or 1 per value; −1 where unknown.
    """

    spec: LabelSpec
    codes: Int[Tensor, "n c"]

    @classmethod
    def from_index(cls, spec: LabelSpec, index: Int[Tensor, " n"]) -> "LabelTable":
        """Of a vocabulary with a single exclusive field."""
        return cls(spec, index.int()[:, None])

    @classmethod
    def from_values(cls, spec: LabelSpec, holds: Bool[Tensor, "n k"]) -> "LabelTable":
        """Of a vocabulary with a single field of independent values."""
        return cls(spec, holds.int())

    @classmethod
    def each(cls, spec: LabelSpec) -> "LabelTable":
        """Every class once. Raises UserError for a vocabulary that is not one exclusive field."""
        if not spec.exclusive:
            raise UserError("labels of several fields or attributes have no list of classes: draw them from the data")
        return cls.from_index(spec, torch.arange(spec.width))

    @classmethod
    def of(cls, labels: Labels) -> "LabelTable":
        """The same labels; they must not be mixtures."""
        columns = [
            torch.where(known[:, None], values.argmax(1, keepdim=True) if field.exclusive else (values > 0.5).int(), -1)
            for field, values, known in (
                (field, labels.values[:, where], labels.known[:, position])
                for position, field, where in labels.spec.slices()
            )
        ]
        return cls(labels.spec, torch.cat(columns, 1).int())

    def __len__(self) -> int:
        return len(self.codes)

    def __getitem__(self, index: slice | Tensor) -> Labels:
        """Some of the labels, spread out."""
        codes = self.codes[index]
        kind = torch.get_default_dtype()
        values, known = [], []
        for field, where in self._columns():
            own = codes[:, where]
            every = torch.arange(len(field.values), device=codes.device)
            values.append((own == every).to(kind) if field.exclusive else (own == 1).to(kind))
            known.append(own[:, 0] >= 0)
        return Labels(self.spec, torch.cat(values, 1), torch.stack(known, 1))

    @property
    def values(self) -> Float[Tensor, "n k"]:
        """All of them, spread out."""
        return self[:].values

    @property
    def known(self) -> Bool[Tensor, "n f"]:
        """Which fields each image knows."""
        return torch.stack([self.codes[:, where.start] >= 0 for _, where in self._columns()], 1)

    @property
    def device(self) -> torch.device:
        return self.codes.device

    def index(self, field: int = 0) -> Int[Tensor, " n"]:
        """The class number in an exclusive field."""
        return self.codes[:, self._column(field)].long()

    def having(self, field: int, value: int) -> Int[Tensor, " m"]:
        """The numbers of the images in which a value holds."""
        start = self._column(field)
        exclusive = self.spec.fields[field].exclusive
        found = self.codes[:, start] == value if exclusive else self.codes[:, start + value] == 1
        return torch.nonzero(found).flatten()

    def counts(self) -> Int[Tensor, " k"]:
        """In how many images each value holds."""
        of_fields = [
            torch.bincount(self.codes[:, where.start][self.codes[:, where.start] >= 0], minlength=len(field.values))
            if field.exclusive
            else (self.codes[:, where] == 1).sum(0)
            for field, where in self._columns()
        ]
        return torch.cat(of_fields)

    def at(self, index: slice | Tensor) -> "LabelTable":
        """The labels of some images."""
        return LabelTable(self.spec, self.codes[index])

    def to(self, device: torch.device | str) -> "LabelTable":
        return LabelTable(self.spec, self.codes.to(device))

    def _columns(self) -> Iterator[tuple[Field, slice]]:
        """Each field and where its columns are."""
        start = 0
        for field in self.spec.fields:
            width = 1 if field.exclusive else len(field.values)
            yield field, slice(start, start + width)
            start += width

    def _column(self, field: int) -> int:
        return [where.start for _, where in self._columns()][field]
