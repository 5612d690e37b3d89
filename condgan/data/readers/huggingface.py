"""Data sets that Hugging Face's `save_to_disk` wrote."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from condgan.data.listing import Chain, Listing, RawPicture, digest_of, listed
from condgan.data.readers.columns import guessed_labels, is_empty, named_labels
from condgan.data.readers.labels import SPLIT_WORDS, require_few, table_of
from condgan.data.readers.lines import LABEL_COLUMNS, key
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError, to_install
from condgan.utils.files import open_plain
from condgan.utils.limits import ENCODED, read_at_most

if TYPE_CHECKING:
    import datasets

IMAGE_COLUMNS = ("image", "img")


def is_saved(path: Path) -> bool:
    """Whether a folder is a data set, or several splits of one, as Hugging Face's `save_to_disk` writes it."""
    return (path / "dataset_dict.json").is_file() or all(
        (path / name).is_file() for name in ("dataset_info.json", "state.json")
    )


def list_saved(path: Path, share: float | None) -> Listing:
    """The images and labels of what Hugging Face's `save_to_disk` wrote.

    The images are its only column of them, or the one called image. Labels: the column of class labels or of lists of
    them, else one that is named like one and holds numbers or text, or lists of text, else columns of true and false;
    else there are none. Splits to hold out without any label are left out. Raises UserError for a data set that leaves
    a choice.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"data '{path}' is a saved Hugging Face data set, which needs the package datasets: "
            f"{to_install('huggingface')}"
        ) from None
    try:
        saved = datasets.load_from_disk(str(path))
    except Exception as error:  # it raises whatever it likes
        why = " ".join(str(error).split()) or type(error).__name__
        raise UserError(
            f"data '{path}' cannot be read as a saved Hugging Face data set ({why}): save it anew"
        ) from None
    parts_of = saved if isinstance(saved, datasets.DatasetDict) else {"train": saved}
    splits = {str(name): one for name, one in parts_of.items()}
    if other := next((name for name in splits if name not in SPLIT_WORDS), None):
        raise UserError(f"data '{path}' has a split '{other}': expected train, validation and test; save only these")
    if not any(SPLIT_WORDS[name] == 0 and len(one) for name, one in splits.items()):
        raise UserError(f"data '{path}' has no images to train on: expected a split 'train'")
    features = next(one.features for name, one in splits.items() if SPLIT_WORDS[name] == 0)
    for name, one in splits.items():
        if one.features != features:
            raise UserError(f"data '{path}': split '{name}' has other columns than the first; save all with the same")
    images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
    images = [name for name in images if name.lower() in IMAGE_COLUMNS] if len(images) > 1 else images
    if len(images) != 1:
        images = [name for name, kind in features.items() if isinstance(kind, datasets.Image)]
        raise UserError(
            f"data '{path}' has {len(images)} columns of images among {', '.join(features)}: expected one; cast it to "
            "datasets.Image(), or remove the others"
        )
    labels, splits, notes = _saved_labels(splits, features, path)
    others = [name for name, kind in features.items() if isinstance(kind, datasets.Image) and name not in images]
    if others:
        notes += (f"images from the column '{images[0]}', not {', '.join(map(repr, others))}",)
    parts = tuple(
        SavedPictures(one.select_columns(images).cast_column(images[0], datasets.Image(decode=False)), images[0], path)
        for one in splits.values()
    )
    return listed(
        str(path),
        Chain(parts),
        [f"{name}-{row:06}.png" for name, one in splits.items() for row in range(len(one))],
        labels,
        np.concatenate([np.full(len(one), SPLIT_WORDS[name]) for name, one in splits.items()]),
        share,
        notes=notes,
    )


@dataclass(frozen=True)
class SavedPictures:
    """A column of images of a saved data set, not decoded."""

    images: "datasets.Dataset"
    column: str
    folder: Path

    def __len__(self) -> int:
        return len(self.images)

    def read(self, number: int) -> RawPicture:
        cell = self.images[int(number)][self.column]
        if cell is None:
            raise ValueError("no image given")
        if cell["bytes"] is not None:
            return cell["bytes"]
        path = self.folder / cell["path"]
        with open_plain(path) as file:
            return read_at_most(file, ENCODED)

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))


def _saved_labels(
    splits: "Mapping[str, datasets.Dataset]", features: Mapping[str, Any], path: Path
) -> "tuple[LabelTable, Mapping[str, datasets.Dataset], tuple[str, ...]]":
    """The labels of the splits that have some, those splits, and notes of what they are from."""
    names = _label_columns(features, path)
    notes: tuple[str, ...] = ()
    if names:
        cells = {name: [_cells(one, column) for column in names] for name, one in splits.items()}
        bare = [
            name
            for name, columns in cells.items()
            if SPLIT_WORDS[name] and all(_lacks(cell) for column in columns for cell in column)
        ]
        splits = {name: one for name, one in splits.items() if name not in bare}
        notes = tuple(f"split '{name}' has no labels: it is left out" for name in bare)
    origins = [
        f"data '{path}', row {row:,} of split '{name}'" for name, one in splits.items() for row in range(len(one))
    ]
    columns = {column: [cell for one in splits.values() for cell in _cells(one, column)] for column in names}
    kind = features[names[0]] if names else None
    if (classes := _class_names(kind)) is not None:
        notes = (f"labels from the column '{names[0]}'", *notes)
        return _of_classes(classes, columns[names[0]], names[0], origins, path), splits, notes
    chosen = named_labels(columns, origins) or guessed_labels(columns, origins)
    if chosen is None:
        return table_of([None] * len(origins), str(path), origins), splits, ("no labels: no column is one", *notes)
    return table_of(chosen.labels, str(path), origins), splits, (f"labels from {chosen.said}", *notes)


def _cells(data: "datasets.Dataset", column: str) -> list[Any]:
    return data.select_columns([column])[:][column]


def _lacks(cell: Any) -> bool:
    """Whether a cell says that there is no label, as in test splits."""
    return is_empty(cell) or cell in (-1, [-1])


def _of_classes(
    names: Sequence[str], cells: Sequence[Any], column: str, origins: Sequence[str], path: Path
) -> LabelTable:
    """The labels of a column of class numbers, or of lists of them."""
    if all(isinstance(cell, list) and len(cell) == 1 for cell in cells):
        cells = [cell[0] for cell in cells]
    lists = any(isinstance(cell, list) for cell in cells)
    cells = [None if _lacks(cell) and cell != [] else cell for cell in cells]
    for cell, origin in zip(cells, origins, strict=True):
        if isinstance(cell, list) and -1 in cell:
            raise UserError(f"{origin}: label −1 given among others in column '{column}'; leave it out")
    known = [cell for cell in cells if cell is not None]
    if not known:
        return table_of(cells, str(path), origins)
    highest = max(max(cell, default=0) if isinstance(cell, list) else cell for cell in known)
    if highest >= len(names):
        raise UserError(f"data '{path}': label {highest} given in column '{column}' of {len(names)} classes")
    if not lists:
        index = torch.tensor([-1 if cell is None else cell for cell in cells])
        return LabelTable.from_index(LabelSpec.of_classes(names), index)
    if not any(known):
        raise UserError(f"data '{path}': all lists of labels in column '{column}' are empty; label the images")
    require_few(names, f"data '{path}'")
    codes = torch.zeros(len(cells), len(names), dtype=torch.int32)
    for row, cell in enumerate(cells):
        codes[row] = -1 if cell is None else 0
        codes[row, cell or []] = 1
    return LabelTable(LabelSpec((Field("attributes", tuple(names), exclusive=False),)), codes)


def _label_columns(features: Mapping[str, Any], path: Path) -> list[str]:
    """The column of class labels, else those that are named like labels, else those of true and false."""
    classes = [name for name, kind in features.items() if _class_names(kind) is not None]
    named = [name for name in classes or features if key(name) in LABEL_COLUMNS]
    if classes:
        found = named or classes
        if len(found) > 1:
            raise UserError(
                f"data '{path}' has the columns of labels {', '.join(found)}: expected one; remove the others with "
                "dataset.remove_columns"
            )
        return found
    for name in named:
        kind = features[name]
        type_of = str(getattr(_inner(kind), "dtype", "other"))
        if not (
            type_of.startswith(("string", "large_string")) or (kind is _inner(kind) and re.search("int|float", type_of))
        ):
            raise UserError(
                f"data '{path}': column '{name}' of {kind} given, expected class labels, integers, text, or lists of "
                "text"
            )
    return named or [name for name, kind in features.items() if getattr(kind, "dtype", "") == "bool"]


def _inner(kind: Any) -> Any:
    """The kind inside a column of lists; of another column, its own."""
    return getattr(kind, "feature", kind)


def _class_names(kind: Any) -> list[str] | None:
    """Of a column of class labels, or of lists of them; None for any other."""
    return getattr(_inner(kind), "names", None)
