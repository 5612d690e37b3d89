"""Sets of images that are compared: subsets of data sets, a model's fakes and translations, real images."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from condgan.data.dataset import Dataset, Split, data_sets
from condgan.data.open import list_source, read
from condgan.data.readers.hdf5 import is_hdf5, names_classes
from condgan.data.readers.npz import IMAGES, is_npz, npz_keys
from condgan.data.survey import Survey, quick_look
from condgan.evaluation.catalog import STATED, select_metrics
from condgan.evaluation.moments import read_normal
from condgan.evaluation.statistics import Images
from condgan.labels import RESOLUTION, LabelSpec, LabelTable
from condgan.sampling.model import Fakes, Model
from condgan.sampling.options import Sampling
from condgan.sampling.translator import Translations, Translator
from condgan.utils import distributed
from condgan.utils.errors import UserError
from condgan.utils.seeds import derive_seed

SHOWN_AT_ONCE = 256
SUBSETS = ("train", "held-out", "all")
PUBLISHED = 50_000
"""Images that published FIDs are of."""
SIZES_COMPARED = 5_000
"""Pictures whose sizes are compared."""


@dataclass(frozen=True)
class ImageSubset:
    """Images of some splits, in an order."""

    source: str
    splits: tuple[Split, ...]
    order: Int[Tensor, " n"]
    labeled: bool = True
    """Whether their labels are in the vocabulary of the real images that they are compared with."""

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
        classes = [one.labels.by_class() for one in self.splits]
        known = [one.index() for one in classes if one is not None]
        return torch.cat(known)[self.order] if known else None

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

    def evenly_spaced(self, count: int) -> "ImageSubset":
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
        splits = [replace(one, labels=one.labels.renumbered(spec, number)) for one in self.splits]
        return replace(self, splits=tuple(splits))


def stored(data: Dataset, source: str, which: str) -> ImageSubset:
    """A split of a data set, or "all": both, in the order of their names."""
    if which != "all":
        return ImageSubset.of(source, data.train if which == "train" else data.held_out)
    splits = data.train, data.held_out
    names = [name for one in splits for name in one.names]
    order = np.argsort(np.array(names), kind="stable") if names else np.arange(sum(map(len, splits)))
    return ImageSubset(source, splits, torch.from_numpy(order))


def evenly_spaced(split: Split, count: int) -> Split:
    """Images evenly spread over a split, so many at most."""
    return split.at(spaced_numbers(split, count))


def spaced_numbers(split: Split, count: int) -> Int[Tensor, " m"]:
    """Their numbers."""
    return torch.arange(len(split))[:: math.ceil(len(split) / count)]


def matching_images(labels: LabelTable, split: Split) -> Int[Tensor, " m"]:
    """Choose images of a split, by number, with the class counts of some labels, as far as there are enough.

    They are always the same. Where labels are attributes or a number, any images, as many of each data set.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    if labels.spec.exclusive:
        wanted, have = labels.index(), split.labels.index()[order]
        wanted = wanted[wanted >= 0]
    else:
        wanted, have = (one.known.int().argmax(1) for one in (labels, split.labels.at(order)))
    chosen = [order[have == number][:count] for number, count in enumerate(wanted.bincount().tolist())]
    return torch.cat(chosen)


def permuted(labels: LabelTable, seed: int) -> LabelTable:
    """The labels of other images of the same data set, as in training."""
    drawing = torch.Generator().manual_seed(derive_seed(seed, "targets"))
    order = torch.arange(len(labels))
    for index in data_sets(labels):
        order[index] = index[torch.randperm(len(index), generator=drawing)]
    return labels.at(order)


class Real(NamedTuple):
    """The real images of a comparison: a data set, or statistics of one."""

    source: str
    split: str
    data: Dataset | None = None
    training: ImageSubset | None = None
    """The images that fakes may be copies of."""
    statistics: Path | None = None

    @property
    def images(self) -> ImageSubset | None:
        return None if self.data is None else stored(self.data, self.source, self.split)

    def others(self, fakes: Images) -> ImageSubset | None:
        """Other real images: as many as there are fakes and of the same classes, as far as there are enough."""
        if self.data is None or self.split == "all":
            return None
        others = self.data.train if self.split == "held-out" else self.data.held_out
        whole = ImageSubset.of(self.source, others)
        if fakes.labels is None:
            return whole.evenly_spaced(min(len(fakes), len(whole)))
        return ImageSubset(self.source, (others,), matching_images(fakes.labels, others))


def fakes_of(model: Model, real: Real, n: int | None, sampling: Sampling) -> Fakes:
    """Draw as many fakes as there are real images, or `n`, with their labels; of other classes all classes in turn.

    What real images do not know is drawn from those that know it. Batches that are normalized for themselves hold
    classes at random.
    """
    images, count = real.images, n
    if count is None and real.statistics is not None:
        count = read_normal(real.statistics)[1].get("real") or PUBLISHED
    elif count is None:
        assert images is not None
        count = len(images)
    number = torch.arange(count)
    labels = None if images is None else images.labels
    if labels is not None and real.data is not None:
        labels = labels.drawn(sampling.seed, real.data.train.labels)
    if not model.spec.exclusive:
        labels, asked = _asked_as(model.spec, labels, number)
    elif labels is None or not labels.spec.exclusive or not set(labels.spec.classes) <= set(model.classes):
        labels, asked = None, LabelTable.from_index(model.spec, number % model.spec.width)
    else:
        labels = labels.at(number * len(labels) // count)
        own = torch.tensor([model.classes.index(name) for name in labels.spec.classes])
        asked = labels.renumbered(model.spec, own)
    if sampling.batch is not None:
        order = torch.from_numpy(np.random.default_rng(sampling.seed).permutation(count))
        labels, asked = None if labels is None else labels.at(order), asked.at(order)
    return Fakes(model, asked, sampling.seed, sampling.batch, labels)


def _asked_as(
    spec: LabelSpec, labels: LabelTable | None, number: Int[Tensor, " n"]
) -> tuple[LabelTable | None, LabelTable]:
    """Attributes or numbers of real images as a model knows them; of others those of its training images in turn."""
    if labels is None or [one.values for one in labels.spec.fields] != [one.values for one in spec.fields]:
        examples = torch.tensor(spec.examples, dtype=torch.int32)
        return None, LabelTable(spec, examples[number % len(examples)])
    labels = labels.at(number * len(labels) // len(number))
    codes = labels.codes
    if (theirs := labels.spec.range) is not None and (own := spec.range) is not None:
        shares = [own.share(theirs.number(code / RESOLUTION)) for code in codes[:, 0].tolist()]
        codes = (torch.tensor(shares).clamp(0, 1) * RESOLUTION).round().int()[:, None]
    return labels, LabelTable(spec, codes)


def translations_of(model: Translator, split: Split, seed: int, n: int | None = None) -> Translations:
    """Translate the images of a split, or `n` of them, to labels of others of their data set."""
    count = len(split) if n is None else require_enough(n, len(split), "the run's held-out images")
    numbers = torch.arange(count) * len(split) // count
    chosen = split.at(numbers)
    return Translations(model, chosen, permuted(chosen.labels, seed), numbers)


def require_enough(asked: int, there: int, what: str) -> int:
    """A number of images that there are. Raises UserError for more."""
    if asked > there:
        raise UserError(f"--n {asked} given, but there are {there} {what}: expected at most so many")
    return asked


def read_fakes_and_real(
    subject: str,
    data: str | Path | Dataset,
    split: str,
    size: int | str | None,
    gray: bool,
    skip_bad_images: bool,
    stated: bool,
) -> tuple[ImageSubset, Real, list[str]]:
    """Read images and the real ones of a comparison, all of one size, and say what is odd about them.

    `stated`: whether the real ones are statistics. `gray`: whether images of which none has colors are read as such.
    Labels are shared where the real images have all classes of the others. Raises UserError where sizes differ and none
    is given.
    """
    looks = {subject: quick_look(list_source(subject), SIZES_COMPARED)}
    if not isinstance(data, Dataset) and not stated:
        looks[str(data)] = quick_look(list_source(str(data)), SIZES_COMPARED)
    size = size or one_size(looks)
    channels = 1 if gray and all(look.gray for look in looks.values()) else 3
    with distributed.main_first():
        images = stored(read(subject, size, channels, skip_bad_images=skip_bad_images), subject, "all")
    colored = {name for name, one in looks.items() if not one.gray}
    said = [f"'{name}': {note}" for name, look in looks.items() for note in look.listing.notes]
    if len(colored) == 1 < len(looks):
        said.append(f"'{colored.pop()}' has colors, the other images are gray")
    if isinstance(data, Dataset):
        return images.labeled_as(data.spec), Real("data", split, data), said
    if stated:
        return images, Real(str(data), "stated", statistics=Path(data)), said
    with distributed.main_first():
        others = read(str(data), size, channels, skip_bad_images=skip_bad_images)
    training = stored(others, str(data), "train") if split == "held-out" else None
    fakes = images.labeled_as(others.spec)
    if fakes.labels is None and len(images.classes) > 1:
        said.append(
            f"classes of '{subject}' ({', '.join(images.classes[:3])}, …) are not those of '{data}' "
            f"({', '.join(others.spec.classes[:3])}, …): what needs labels is left out"
        )
    for source, classes in ((subject, others.spec.classes), (str(data), images.classes)):
        said += [] if fakes.labels is None else numbers_said(source, classes)
    return fakes, Real(str(data), split, others, training), said


def one_size(looks: dict[str, Survey]) -> str:
    """Find the size that all pictures have. Raises UserError where they differ."""
    sizes = {name: sorted({(one.width, one.height) for one in look.readable}) for name, look in looks.items()}
    for name, found in sizes.items():
        if not found:
            unread = "; ".join(looks[name].unreadable[:3])
            raise UserError(f"none of the images of '{name}' can be read: {unread}; mend them, or give others")
        if len(found) != 1:
            (w, h), (x, y) = found[0], found[-1]
            raise UserError(
                f"images of '{name}' have different sizes, from {w}×{h} to {x}×{y}: give the one to bring all to, such "
                "as --size 64"
            )
    first, *others = sizes.items()
    for name, found in others:
        if found != first[1]:
            (w, h), (x, y) = first[1][0], found[0]
            raise UserError(
                f"images of '{first[0]}' are {w}×{h} and those of '{name}' {x}×{y}: give the size to bring both to, "
                f"such as --size {w}x{h}"
            )
    width, height = first[1][0]
    return f"{width}x{height}"


def size_text(images: ImageSubset | Tensor) -> str:
    """Their width × height, in words."""
    return "×".join(map(str, images.shape[:-3:-1]))


def numbers_said(source: str, classes: Sequence[str]) -> list[str]:
    """Say how class numbers of images without names of classes are read, where others could mean something else."""
    path, by_text = Path(source).expanduser(), sorted(classes)
    if not all(name.isdecimal() for name in classes):
        return []
    differs = next((number for number, name in enumerate(by_text) if name != str(number)), None)
    nameless = (is_npz(path) and "classes" not in npz_keys(path)) or (is_hdf5(path) and not names_classes(path))
    if differs is None or not nameless:
        return []
    return [
        f"'{source}' has class numbers without names, which are read as the names: {differs} is class '{differs}'. "
        f"Where classes are counted in the order of text, as torchvision does, it is class '{by_text[differs]}': then "
        "add their names to the file, as classes"
    ]


def is_statistics(
    path: str | Path | Dataset | None, extractor: str = "classifier", metrics: Sequence[str] | None = None
) -> bool:
    """Whether a file is read as statistics: it has no images, or none are needed for the metrics asked for."""
    if not isinstance(path, str | Path) or not is_npz(file := Path(path).expanduser()):
        return False
    keys = npz_keys(file)
    if "mu" not in keys or not IMAGES.keys() & set(keys):
        return "mu" in keys
    return extractor != "classifier" and metrics is not None and select_metrics(extractor, metrics, {}).needs <= STATED
