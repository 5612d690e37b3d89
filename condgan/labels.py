"""Labels of images: classes, attributes, numbers, several label sets, and which of them are known.

Axes: b images, k label values over all fields, f fields.
"""

import dataclasses
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, reduce
from itertools import pairwise

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, Shaped
from torch import Tensor

from condgan.utils.errors import UserError, repeated, unknown

NEARLY = 0.05
"""Share of a number's range by which one that is read may be off, and still count as right."""
WAVES = 8
"""Cosines of a number that networks see beside whether it is known."""
LARGEST = 1e15
"""Of numbers that label images, on either side of 0."""
RESOLUTION = 1 << 24
"""Steps of a number's range that a table tells apart."""
EIGHTHS = 8
"""Parts of a number's range that are compared one by one, as classes are."""


@dataclass(frozen=True, slots=True)
class Range:
    """Between what a number's values in a data set lie, and how near a number counts as the same while training.

    `vicinity`: κ of CcGAN, a share of the range (Ding et al. 2021, §3). Labels lie around an image's own by a normal
    law of variance κ²/2, or `hard`, by the uniform one within κ: the images that a number is then learned from weigh
    exp(−(y − y′)²/κ²), its soft vicinal weights with ν = 1/κ², or all alike within κ, its hard ones. What would lie
    beyond the range is reflected at its end. Raises UserError for ends that are none.
    """

    low: float
    high: float
    vicinity: float = 0.0
    hard: bool = False

    def __post_init__(self) -> None:
        if not (self.low < self.high and max(-self.low, self.high) <= LARGEST and 0 <= self.vicinity <= 1):
            raise UserError(
                f"a number from {self.low:g} to {self.high:g} with a vicinity of {self.vicinity:g} given: expected "
                f"different ends up to {LARGEST:g}, and a share of 0 to 1"
            )

    def text(self, number: float, digits: int = 3) -> str:
        """A number with as many digits as tell apart so many powers of ten of the range."""
        places = digits - math.floor(math.log10(self.high - self.low))
        shown = f"{round(number, places):.{max(0, places)}f}"
        return shown.rstrip("0").rstrip(".") if "." in shown else shown

    def share(self, number: float) -> float:
        """Where a number lies, 0 to 1."""
        return (number - self.low) / (self.high - self.low)

    def number(self, share: float) -> float:
        """The number that lies there."""
        return self.low + share * (self.high - self.low)

    def ends(self) -> list[str]:
        """Where its eighths begin and end, with as few digits as tell them apart."""
        numbers = [self.number(i / EIGHTHS) for i in range(EIGHTHS + 1)]
        texts = ([self.text(number, digits) for number in numbers] for digits in range(1, 12))
        return next((some for some in texts if len(set(some)) == len(some)), [*map(repr, numbers)])


@dataclass(frozen=True, slots=True)
class Field:
    """One question about an image: exclusive values (softmax), independent ones (sigmoids), or a number.

    `groups`: of independent values, those of which an image has one or none, such as hair colors. `range`: of a number,
    whose only value is its name. Each data set has a field of its own; where several are trained together, an image
    knows that of its data set.
    Raises UserError for a value given twice, for groups that overlap or hold others than the values, and for a number
    of several values.
    """

    name: str
    values: tuple[str, ...]
    exclusive: bool = True
    groups: tuple[tuple[str, ...], ...] = dataclasses.field(
        default=(), repr=False
    )  # data sets' hashes are made of the repr
    range: Range | None = dataclasses.field(default=None, repr=False)

    @classmethod
    def of_number(cls, name: str, range: Range) -> "Field":
        """A number's field."""
        return cls(name, (name,), exclusive=False, range=range)

    def __post_init__(self) -> None:
        grouped = [name for group in self.groups for name in group]
        for what, names in (("label", self.values), ("member of exclusive groups", grouped)):
            if twice := repeated(names):
                raise UserError(f"{what} '{twice}' given twice: expected each name once")
        if self.range is not None and (self.exclusive or self.groups or len(self.values) != 1):
            raise UserError(f"number '{self.name}' given with {len(self.values)} values: expected one, in no group")
        known = set(self.values)
        if other := next((name for name in grouped if name not in known), None):
            raise unknown("member of exclusive groups", other, self.values)

    def units(self) -> list[list[int]]:
        """The positions of values that are answered together: all, or each group and each value in none."""
        return _units(self)

    def unknown(self, like: Tensor) -> Float[Tensor, " v"]:
        """What stands for independent values that are not known: ½, or 1 / n of the n values of a group."""
        return _unknown(self, like.dtype, like.device)

    def most_likely(self, logits: Float[Tensor, "b v"]) -> Shaped[Tensor, "b v"]:
        """The values that logits speak for: one of an exclusive field, of a group the highest if it is above 0.

        Of a number, what is read, within its range.
        """
        if self.range is not None:
            return logits.clamp(0, 1)
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
        if self.range is not None:
            return (logits - target).abs() <= NEARLY
        same = self.most_likely(logits) == (target > 0.5)
        return torch.stack([reduce(torch.logical_and, [same[:, value] for value in unit]) for unit in self.units()], 1)


@lru_cache(64)
def _units(field: Field) -> list[list[int]]:
    if field.exclusive:
        return [list(range(len(field.values)))]
    place = {value: position for position, value in enumerate(field.values)}
    grouped = [[place[value] for value in group] for group in field.groups]
    alone = set(range(len(field.values))) - {position for unit in grouped for position in unit}
    return sorted([*grouped, *([position] for position in alone)])


@lru_cache(64)
def _unknown(field: Field, kind: torch.dtype, device: torch.device) -> Float[Tensor, " v"]:
    size = {value: len(unit) for unit in field.units() for value in unit}
    shares = [1 / max(2, size[value]) for value in range(len(field.values))]
    with torch.inference_mode(False):  # training may use the same
        return torch.tensor(shares, dtype=kind, device=device)


@dataclass(frozen=True, slots=True)
class LabelSpec:
    """The label vocabulary of a data set."""

    fields: tuple[Field, ...]
    examples: tuple[tuple[int, ...], ...] = dataclasses.field(default=(), repr=False, compare=False)
    """Labels of some training images as a table holds them, where labels are attributes or a number: what a generator
    is not asked for is as in one of them."""

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
        widths = [len(field.values) if field.range is None else 1 + WAVES for field in self.fields]
        return widths[0] if len(widths) == 1 else sum(widths) + len(widths)

    @property
    def range(self) -> Range | None:
        """Of the number that images are labeled with, where they are with one alone."""
        return self.fields[0].range if len(self.fields) == 1 else None

    def require_classes(self, what: str) -> None:
        """Raises UserError where images are not of one class each."""
        if not self.exclusive:
            raise UserError(f"{what} given with labels that are {self.summary}: expected a model of classes")

    def require_no_number(self, what: str) -> None:
        """Raises UserError where a field is a number."""
        if number := next((field.name for field in self.fields if field.range is not None), None):
            raise UserError(
                f"{what} given with the number '{number}': expected classes or attributes; choose another, such as "
                "head.name=projection with objective.name=gan"
            )

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

        def told(field: Field) -> str:
            if field.range is not None:
                ends = f"{field.range.text(field.range.low)} to {field.range.text(field.range.high)}"
                return f"the number '{field.name}' from {ends}"
            kind = "class" + "es" * (self.width > 1) if field.exclusive else "attribute" + "s" * (self.width > 1)
            return f"{len(field.values):,} {kind}"

        return " and ".join(map(told, self.fields))

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
    """The labels of b images: one-hot, multi-hot or mixed values, and which fields are known.

    Of a number the value is its share of the range. Of a class that is not known all values are 0. An independent value
    is 1, 0, or what lies between where it is not known (`Field.unknown`); but 0 where its field belongs to another data
    set.
    """

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
        """The input of a network: the values and, where there are several fields, the mask of known ones.

        A number's share y is seen as cos(π j y) for j = 0 … 8, all 0 where it is not known.
        """
        parts = [
            self.values[:, where] if field.range is None else self._waves(position, where)
            for position, field, where in self.spec.slices()
        ]
        return parts[0] if len(parts) == 1 else torch.cat([*parts, self.known.to(self.values.dtype)], 1)

    def _waves(self, position: int, where: slice) -> Float[Tensor, "b w"]:
        waves = torch.arange(1 + WAVES, device=self.values.device, dtype=self.values.dtype)
        return torch.cos(math.pi * waves * self.values[:, where]) * self.known[:, [position]]

    def over_fields(
        self,
        logits: Float[Tensor, "b *s k"],
        of_field: Callable[[Field, Tensor, Tensor], Tensor],
        *,
        mean: bool = False,
    ) -> Float[Tensor, " b"]:
        """The sum over fields of what `of_field` says of (field, its logits, its values), 0 where it is unknown.

        Of independent values it says something of each, whose sum, or `mean`, over those that are known is the field's.
        """
        total = logits.new_zeros(len(logits))
        for position, field, where in self.spec.slices():
            target = self.values[:, where]
            one = of_field(field, logits[..., where], target)
            if one.ndim == 2:
                told = _told(target)
                one = torch.where(told, one, 0).sum(1)
                one = one / told.sum(1).clamp(min=1) if mean else one
            total = total + torch.where(self.known[:, position], one, 0)
        return total

    def cross_entropy(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """Softmax cross-entropy per exclusive field, else sigmoids' summed over values; 0 where unknown.

        Of a number the squared error, in percent of its range, over 2 · 5²: of a normal law whose deviation is 5 %.
        """

        def of_field(field: Field, scores: Tensor, target: Tensor) -> Tensor:
            if field.range is not None:
                return squared_error(scores, target)
            if field.exclusive:
                return F.cross_entropy(scores, target, reduction="none")
            return F.binary_cross_entropy_with_logits(scores, target, reduction="none")

        return self.over_fields(logits, of_field)

    def accuracy(self, logits: Float[Tensor, "b k"]) -> Float[Tensor, " b"]:
        """Share of an image's known fields (of their units, where not exclusive) that the logits get right.

        A number is right within a twentieth of its range.
        """
        right = logits.new_zeros(len(logits))
        for position, field, where in self.spec.slices():
            guess, target = logits[:, where], self.values[:, where]
            same = field.right(guess, target).to(guess.dtype)
            if not field.exclusive and field.range is None:
                told = self._told_units(field, target)
                same = torch.where(told, same, 0).sum(1) / told.sum(1).clamp(min=1)
            right = right + torch.where(self.known[:, position], same.flatten(), 0)
        return right / self.known.sum(1).clamp(min=1)

    def _told_units(self, field: Field, target: Float[Tensor, "b v"]) -> Bool[Tensor, "b u"]:
        """The units of which all values are known."""
        told = _told(target)
        return torch.stack([reduce(torch.logical_and, [told[:, value] for value in unit]) for unit in field.units()], 1)

    def nearby(self, noise: Float[Tensor, "b k"], uniform: Float[Tensor, "b k"]) -> "Labels":
        """Labels whose numbers are others of their vicinity: by normal noise, or by uniform one in [−1, 1].

        Beyond the range they are reflected, as the cosines are that networks see.
        """
        values = self.values.clone()
        for _, field, where in self.spec.slices():
            if (range := field.range) is not None:
                own = uniform[:, where] if range.hard else noise[:, where] * 0.5**0.5
                moved = (values[:, where] + range.vicinity * own).abs()
                values[:, where] = (1 - (1 - moved).abs()).clamp(0, 1)
        return dataclasses.replace(self, values=values)

    def completed(self, other: "Labels") -> "Labels":
        """The same with another's labels where they are not known."""
        values, known = [], self.known | other.known
        for position, field, where in self.spec.slices():
            own, theirs = self.values[:, where], other.values[:, where]
            lacking = ~self.known[:, [position]]
            if not field.exclusive and field.range is None:
                lacking = lacking | self._lacking(field, own)
            values.append(torch.where(lacking, theirs, own))
        return Labels(self.spec, torch.cat(values, 1), known)

    def _lacking(self, field: Field, own: Float[Tensor, "b v"]) -> Bool[Tensor, "b v"]:
        """The values of units of which some are not known."""
        lacking = torch.zeros_like(own, dtype=torch.bool)
        for unit in field.units():
            lacking[:, unit] = ~_told(own[:, unit]).all(1, keepdim=True)
        return lacking

    def as_known_in(self, other: "Labels") -> "Labels":
        """The same, but known only where another's are: of one data set's images, none of which is told more."""
        values = []
        for position, field, where in self.spec.slices():
            own, known = self.values[:, where], other.known[:, [position]]
            if not field.exclusive and field.range is None:
                values.append(torch.where(known & _told(other.values[:, where]), own, field.unknown(own)))
            else:
                values.append(torch.where(known, own, 0))
        return Labels(self.spec, torch.cat(values, 1), self.known & other.known)

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


def _told(values: Float[Tensor, "b v"]) -> Bool[Tensor, "b v"]:
    """Which independent values are known."""
    return (values == 0) | (values == 1)


def code_tops(field: Field) -> list[int]:
    """Of each column that a table has of a field, one more than its highest number."""
    if field.range is not None:
        return [RESOLUTION + 1]
    return [len(field.values)] if field.exclusive else [2] * len(field.values)


def squared_error(scores: Float[Tensor, "b 1"], target: Float[Tensor, "b 1"]) -> Float[Tensor, " b"]:
    """(ŷ − y)² / (2 · 0.05²) of a number's share of its range: −log of a normal density, but for a constant."""
    return ((scores - target) / NEARLY).square().flatten() / 2


@dataclass(frozen=True, slots=True)
class LabelTable:
    """The labels of a whole data set, compact: of a million images of a thousand classes, a million numbers.

    An exclusive field is a column of its value's number, a number one of its place among the 2²⁴ steps of its range,
    any other a column of 0 or 1 per value; −1 where unknown.
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
    def of_numbers(cls, name: str, numbers: Sequence[float | int | None], *, low: float, high: float) -> "LabelTable":
        """Of a vocabulary with a number of this range alone; None: it is not known."""
        range = Range(low, high)
        codes = [-1 if number is None else round(range.share(float(number)) * RESOLUTION) for number in numbers]
        return cls(LabelSpec((Field.of_number(name, range),)), torch.tensor(codes, dtype=torch.int32)[:, None])

    @classmethod
    def each(cls, spec: LabelSpec) -> "LabelTable":
        """Every class once. Raises UserError for a vocabulary that is not one exclusive field."""
        if not spec.exclusive:
            raise UserError(
                "labels that are attributes, a number, or several data sets' have no list of classes: draw them from "
                "the data"
            )
        return cls.from_index(spec, torch.arange(spec.width))

    @classmethod
    def of(cls, labels: Labels) -> "LabelTable":
        """The same labels; they must not be mixtures."""

        def codes(field: Field, values: Tensor) -> Tensor:
            if field.range is not None:
                return (values.double() * RESOLUTION).round().clamp(0, RESOLUTION).int()
            if field.exclusive:
                return values.argmax(1, keepdim=True).int()
            return torch.where(_told(values), (values > 0.5).int(), -1)

        columns = [
            torch.where(labels.known[:, [position]], codes(field, labels.values[:, where]), -1)
            for position, field, where in labels.spec.slices()
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
            known.append((own >= 0).any(1))
            if field.range is not None:
                values.append((own.double() / RESOLUTION).clamp(min=0).to(kind))
            elif field.exclusive:
                values.append((own == torch.arange(len(field.values), device=codes.device)).to(kind))
            else:
                others = known[-1][:, None] if len(self.spec.fields) > 1 else 1
                holds = (own == 1).to(kind)
                values.append(torch.where(own < 0, field.unknown(holds), holds) * others)
        return Labels(self.spec, torch.cat(values, 1), torch.stack(known, 1))

    @property
    def values(self) -> Float[Tensor, "n k"]:
        """All of them, spread out."""
        return self[:].values

    @property
    def known(self) -> Bool[Tensor, "n f"]:
        """Which fields each image knows, some values of them at least."""
        return torch.stack([(self.codes[:, where] >= 0).any(1) for _, where in self._columns()], 1)

    def renumbered(self, spec: LabelSpec, number: Int[Tensor, " k"]) -> "LabelTable":
        """Classes by their numbers in another vocabulary; what is not known stays so."""
        index = self.index()
        return LabelTable.from_index(spec, torch.where(index < 0, -1, number[index.clamp(min=0)]))

    def by_class(self) -> "LabelTable | None":
        """Classes of the same images: their own, or of a number the eighths of its range; None of attributes."""
        if self.spec.exclusive:
            return self
        if (range := self.spec.range) is None:
            return None
        spec = LabelSpec.of_classes([f"{low} to {high}" for low, high in pairwise(range.ends())])
        codes = self.codes[:, 0].long()
        return LabelTable.from_index(
            spec, torch.where(codes < 0, -1, (codes * EIGHTHS // RESOLUTION).clamp(max=EIGHTHS - 1))
        )

    @property
    def partial(self) -> bool:
        """Whether some images do not know all values of the only field."""
        return len(self.spec.fields) == 1 and bool((self.codes < 0).any())

    def drawn(self, seed: int, known: "LabelTable | None" = None) -> "LabelTable":
        """Of one data set, with all labels known: what an image does not know is drawn from those that know it.

        `known`: the images that it is drawn from, by default these. Units of values are drawn for themselves, so that
        each holds as often as among the images that know it. Raises UserError for what no image knows.
        """
        if not self.partial:
            return self
        others = self.codes if known is None else known.codes.to(self.codes.device)
        drawing = torch.Generator().manual_seed(seed)
        field, codes = self.spec.fields[0], self.codes.clone()
        units = [[0]] if field.exclusive else field.units()
        for unit in units:
            lacking = (codes[:, unit] < 0).any(1)
            there = torch.nonzero((others[:, unit] >= 0).all(1)).flatten()
            if not len(there) and lacking.any():
                raise UserError(f"label '{field.values[unit[0]]}' is known of no training image: expected it of some")
            if not lacking.any():
                continue
            rows = torch.randint(len(there), (int(lacking.sum()),), generator=drawing).to(there.device)
            column = torch.tensor(unit, device=codes.device)
            codes[lacking.nonzero(), column] = others[there[rows][:, None], column]
        return LabelTable(self.spec, codes)

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
        """In how many images each value holds; of a number, in how many it is known."""
        of_fields = [
            torch.bincount(self.codes[:, where.start][self.codes[:, where.start] >= 0], minlength=len(field.values))
            if field.exclusive
            else (self.codes[:, where] == 1 if field.range is None else self.codes[:, where] >= 0).sum(0)
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
