"""Labels as files write them, and tables of these."""

import json
import re
import reprlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from condgan.data.listing import UNLABELED, Listing, listed
from condgan.data.readers.names import is_image, left_out
from condgan.data.readers.tree import Files, Tree
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError, shown

SPLIT_WORDS = {
    "train": 0, "training": 0, "trainval": 0,
    "val": 1, "valid": 1, "validation": 1, "dev": 1, "eval": 1, "evaluation": 1,
    "test": 2, "testing": 2, "holdout": 2, "heldout": 2,
}  # fmt: skip
"""Names of splits: 0 train, 1 validation, 2 test; the last of them that there is, is held out."""

EXPECTED = (
    "give a folder of class folders or of images, images with a CSV, metadata.jsonl, dataset.json or list_attr….txt, "
    "tar shards, or a zip of one of these"
)

ATTRIBUTES = 5_000
"""Attributes that are learned together at most."""

Label = str | tuple[str, ...] | Mapping[str, int | None] | float | None
"""A class, the attributes that hold, whether each attribute holds (None: unknown), a number, or nothing."""


def natural(name: str) -> tuple:
    """A key that sorts numbers as numbers."""
    return (0, int(name), name) if name.isdecimal() and len(name) < 20 else (1, 0, name)


def table_of(labels: Sequence[Label], source: str, origins: Sequence[str], number: str = "number") -> LabelTable:
    """A table of what single images are labeled with; classes in natural order, attributes in that of appearance.

    Lists that all hold one name, and vectors that all hold one 1, are classes. Of images without a label, among others,
    none is known. `number`: what a number is called. Raises UserError where images are labeled otherwise than the rest.
    """
    labels = _single(labels)
    kinds = {type(label) for label in labels if label is not None}
    if len(kinds) > 1:
        first, other = (next(i for i, label in enumerate(labels) if type(label) is kind) for kind in [*kinds][:2])
        raise UserError(
            f"data '{source}': a class given in {origins[first]}, several labels in {origins[other]}; expected either"
        )
    kind = kinds.pop() if kinds else type(None)
    if kind is type(None):
        return LabelTable.from_index(LabelSpec.of_classes([UNLABELED]), torch.zeros(len(labels), dtype=torch.int64))
    if kind is float:
        return _numbers(number, [label if isinstance(label, float) else None for label in labels], source)
    if kind is str:
        classes = sorted({str(label) for label in labels if label is not None}, key=natural)
        place = {name: i for i, name in enumerate(classes)}
        index = torch.tensor([-1 if label is None else place[str(label)] for label in labels])
        return LabelTable.from_index(LabelSpec.of_classes(classes), index)
    listed_names = (label for label in labels if isinstance(label, tuple | Mapping))
    names = tuple(dict.fromkeys(name for label in listed_names for name in label))
    if not names:
        raise UserError(f"data '{source}': all lists of labels are empty, first in {origins[0]}; label the images")
    require_few(names, f"data '{source}'")
    place = {name: i for i, name in enumerate(names)}
    codes = np.full((len(labels), len(names)), -1, np.int32)
    for row, label in enumerate(labels):
        if isinstance(label, Mapping) and len(label) < len(names):  # names are of all of them
            raise UserError(f"{origins[row]}: {len(label)} values given, expected {len(names)} as elsewhere")
        if isinstance(label, Mapping):
            codes[row] = [-1 if (holds := label[name]) is None else holds for name in names]
        elif isinstance(label, tuple):
            codes[row] = 0
            codes[row, [place[name] for name in label]] = 1
    return LabelTable(LabelSpec((Field("attributes", names, exclusive=False),)), torch.from_numpy(codes))


def _numbers(name: str, numbers: Sequence[float | None], source: str) -> LabelTable:
    known = [number for number in numbers if number is not None]
    if min(known) == max(known):
        raise UserError(
            f"data '{source}': all images have {name} {known[0]:g}; expected different numbers, such as ages"
        )
    return LabelTable.of_numbers(name, numbers, low=min(known), high=max(known))


def _single(labels: Sequence[Label]) -> Sequence[Label]:
    """Lists of one name each, and vectors with one 1 each, as what they hold; others as they are."""
    known = [label for label in labels if label is not None]
    if known and all(isinstance(label, tuple) and len(label) == 1 for label in known):
        return [label[0] if isinstance(label, tuple) else None for label in labels]
    if known and all(isinstance(label, Vector) and sum(label.values()) == 1 for label in known):
        return [
            next(name for name, holds in label.items() if holds) if isinstance(label, Vector) else None
            for label in labels
        ]
    return labels


def require_few(attributes: Sequence[str], what: str) -> None:
    """Raises UserError for more attributes than are learned together."""
    if len(attributes) > ATTRIBUTES:
        raise UserError(f"{what} has {len(attributes):,} attributes, expected {ATTRIBUTES:,} at most: remove some")


class Rows:
    """Rows about images in files: label, split, and where it says so."""

    def __init__(self, tree: Tree, file: str) -> None:
        self.tree, self.file = tree, file
        self.label: dict[str, Label] = {}
        self.split: dict[str, int] = {}
        self.origin: dict[str, str] = {}

    def add(self, image: str, label: Label, split: int, origin: str) -> None:
        if image in self.origin:
            same = self.label[image] == label
            raise UserError(
                f"{origin}: '{shown(image)}' stands {'' if same else 'with another label '}in {self.origin[image]} "
                "already, expected each image once"
            )
        self.label[image], self.split[image], self.origin[image] = label, split, origin

    def listing(
        self, files: Sequence[str], share: float | None, notes: Sequence[str] = (), number: str = "number"
    ) -> Listing:
        if not self.label:
            raise UserError(f"'{self.file}' of '{self.tree.source}' lists no image: expected a file and a label each")
        splits = np.array(list(self.split.values()))
        return listed(
            self.tree.source,
            Files(self.tree, files),
            list(self.label),
            table_of(list(self.label.values()), self.tree.source, list(self.origin.values()), number),
            None if (splits < 0).all() else splits,
            share,
            origins=list(self.origin.values()),
            notes=tuple(notes),
        )


def unlisted(tree: Tree, file: str, files: Sequence[str], read: Sequence[str] = ()) -> list[str]:
    """Notes of the images of a tree that a file does not list, and of its other files but those that were read."""
    known = {*files, *read, file}
    rest = [one for one in tree.files if one not in known]
    others = sum(map(is_image, rest))
    note = f"{others:,} images that '{shown(file)}' does not list are left out"
    return [*([note] if others else []), *left_out(one for one in rest if not is_image(one))]


def read_json(text: str) -> Any:
    """Parse JSON. Raises ValueError, also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


class Vector(dict[str, int]):
    """Whether each value holds, by its number."""


def json_label(label: Any, origin: str) -> Label:
    """A class by number or name, attributes by names, or a vector of 0 and 1 for them."""
    if label is None:
        return None
    if isinstance(label, float) and label.is_integer() and abs(label) < 1e15:
        return str(int(label))
    if isinstance(label, str | int) and not isinstance(label, bool):
        return json_name(label, origin)
    if isinstance(label, list) and all(isinstance(one, str) for one in label):
        return tuple(json_name(one, origin) for one in label)
    if isinstance(label, list) and all(one in (0, 1) for one in label):
        return Vector({str(number): int(one) for number, one in enumerate(label)})
    raise UserError(f"{origin}: {shown(reprlib.repr(label))} given, expected a class, names, or a vector of 0 and 1")


def json_name(label: str | int, origin: str) -> str:
    """A name or number as a class. Raises UserError for nothing but blanks."""
    try:
        name = str(label)
    except ValueError:  # more digits than Python writes
        raise UserError(f"{origin}: a number of thousands of digits given, expected a class") from None
    if not name.strip():
        raise UserError(f"{origin}: an empty name given, expected a class")
    return name


def named_splits(paths: Sequence[str]) -> list[int]:
    """The splits that words of paths name: what names none is to train on beside what is held out.

    −1 everywhere where all are of val or test.
    """
    splits = [split_of(path) for path in paths]
    if 0 not in splits:
        splits = [max(split, 0) for split in splits]
    return splits if 0 in splits else [-1] * len(splits)


def split_of(path: str) -> int:
    """The split that a word of a path names; −1 where none does."""
    words = re.split(r"[/._\- ]+", path.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), -1)
