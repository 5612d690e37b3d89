"""Labels as files write them, and tables of these."""

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from condgan.data.listing import UNLABELED, Listing, listed
from condgan.data.readers.names import PICTURES, ending, is_image, left_out
from condgan.data.readers.tree import Files, Tree
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError

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

Label = str | tuple[str, ...] | Mapping[str, int] | None
"""A class, the attributes that hold, whether each attribute holds, or nothing."""


def natural(name: str) -> tuple:
    """A key that sorts numbers as numbers."""
    return (0, int(name), name) if name.isdecimal() and len(name) < 20 else (1, 0, name)


def table_of(labels: Sequence[Label], source: str, origins: Sequence[str]) -> LabelTable:
    """A table of what single images are labeled with; classes in natural order, attributes in that of appearance.

    Raises UserError where some have none or are labeled otherwise than the rest.
    """
    kinds = {type(label) for label in labels}
    if len(kinds) > 1:
        first, other = (next(i for i, label in enumerate(labels) if type(label) is kind) for kind in kinds)
        lacking = next((i for i, label in enumerate(labels) if label is None), None)
        if lacking is not None:
            raise UserError(f"{origins[lacking]}: no label given, others have one; label all images, or none")
        raise UserError(
            f"data '{source}': a class given in {origins[first]}, several labels in {origins[other]}; expected either"
        )
    kind = kinds.pop() if kinds else type(None)
    if kind is type(None):
        return LabelTable.from_index(LabelSpec.of_classes([UNLABELED]), torch.zeros(len(labels), dtype=torch.int64))
    if kind is str:
        names = [str(label) for label in labels]
        classes = sorted(set(names), key=natural)
        number = {name: i for i, name in enumerate(classes)}
        index = torch.tensor([number[name] for name in names])
        return LabelTable.from_index(LabelSpec.of_classes(classes), index)
    names = tuple(dict.fromkeys(name for label in labels for name in label or ()))
    place = {name: i for i, name in enumerate(names)}
    holds = torch.zeros(len(labels), len(names), dtype=torch.bool)
    for row, label in enumerate(labels):
        for name in label or ():
            holds[row, place[name]] = bool(label[name]) if isinstance(label, Mapping) else True
    return LabelTable.from_values(LabelSpec((Field("attributes", names, exclusive=False),)), holds)


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
                f"{origin}: '{image}' stands {'' if same else 'with another label '}in {self.origin[image]} already, "
                "expected each image once"
            )
        self.label[image], self.split[image], self.origin[image] = label, split, origin

    def listing(self, files: Sequence[str], share: float | None) -> Listing:
        if not self.label:
            raise UserError(f"'{self.file}' of '{self.tree.source}' lists no image: expected a file and a label each")
        origins, known = list(self.origin.values()), set(files)
        others = sum(is_image(file) and file not in known for file in self.tree.files)
        note = f"{others:,} images that '{self.file}' does not list are left out"
        unread = left_out(
            one for one in self.tree.files if ending(one) in PICTURES and not is_image(one) and one not in known
        )
        splits = np.array(list(self.split.values()))
        return listed(
            self.tree.source,
            Files(self.tree, files),
            list(self.label),
            table_of(list(self.label.values()), self.tree.source, origins),
            None if (splits < 0).all() else splits,
            share,
            origins=origins,
            notes=(*((note,) if others else ()), *unread),
        )


def read_json(text: str) -> Any:
    """Parse JSON. Raises ValueError, also for what is nested too deeply."""
    try:
        return json.loads(text)
    except RecursionError:
        raise ValueError("nested too deeply") from None


def json_label(label: Any, origin: str) -> Label:
    """A class by number or name, attributes by names, or a vector of 0 and 1 for them."""
    if label is None:
        return None
    if isinstance(label, str | int) and not isinstance(label, bool):
        return str(label)
    if isinstance(label, list) and all(isinstance(one, str) for one in label):
        return tuple(label)
    if isinstance(label, list) and all(one in (0, 1) for one in label):
        return {str(number): int(one) for number, one in enumerate(label)}
    raise UserError(f"{origin}: {json.dumps(label)[:60]} given, expected a class, names, or a vector of 0 and 1")


def split_of(path: str) -> int:
    """The split that a word of a path names; −1 where none does."""
    words = re.split(r"[/._\- ]+", path.lower())
    return next((SPLIT_WORDS[word] for word in words if word in SPLIT_WORDS), -1)
