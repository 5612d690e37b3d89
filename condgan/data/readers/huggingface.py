"""Data sets that Hugging Face's `save_to_disk` wrote."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from condgan.data.listing import Chain, Listing, RawPicture, digest_of, listed
from condgan.data.readers.labels import SPLIT_WORDS, Label, table_of
from condgan.data.readers.lines import LABEL_COLUMNS
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError
from condgan.utils.files import open_plain
from condgan.utils.limits import ENCODED, read_at_most

if TYPE_CHECKING:
    import datasets


def is_saved(path: Path) -> bool:
    """Whether a folder is a data set, or several splits of one, as Hugging Face's `save_to_disk` writes it."""
    return (path / "dataset_dict.json").is_file() or all(
        (path / name).is_file() for name in ("dataset_info.json", "state.json")
    )


def list_saved(path: Path, share: float | None) -> Listing:
    """The images and labels of what Hugging Face's `save_to_disk` wrote.

    The images are its only column of them. Labels: the column of class labels or of lists of them, else one that is
    named like one and holds numbers or text, or lists of text; else there are none. Raises UserError for a data set
    that leaves a choice.
    """
    try:
        import datasets
    except ImportError:
        raise UserError(
            f"data '{path}' is a saved Hugging Face data set, which needs the package datasets: pip install "
            "'condgan[huggingface]'"
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
    if len(images) != 1:
        raise UserError(
            f"data '{path}' has {len(images)} columns of images among {', '.join(features)}: expected one; cast it to "
            "datasets.Image(), or remove the others"
        )
    parts = tuple(
        SavedPictures(one.select_columns(images).cast_column(images[0], datasets.Image(decode=False)), images[0], path)
        for one in splits.values()
    )
    return listed(
        str(path),
        Chain(parts),
        [f"{name}-{row:06}.png" for name, one in splits.items() for row in range(len(one))],
        _saved_labels(splits, features, path),
        np.concatenate([np.full(len(one), SPLIT_WORDS[name]) for name, one in splits.items()]),
        share,
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


def _saved_labels(splits: "Mapping[str, datasets.Dataset]", features: Mapping[str, Any], path: Path) -> LabelTable:
    column = _label_column(features, path)
    origins = [
        f"data '{path}', row {row:,} of split '{name}'" for name, one in splits.items() for row in range(len(one))
    ]
    if column is None:
        return table_of([None] * len(origins), str(path), origins)
    cells = [cell for one in splits.values() for cell in one.select_columns([column])[:][column]]
    kind = features[column]
    names = _class_names(kind)
    if names is None:
        labels: list[Label] = [tuple(cell) if isinstance(cell, list) else _name(cell) for cell in cells]
        return table_of(labels, str(path), origins)
    for cell, origin in zip(cells, origins, strict=True):
        if cell is None or -1 in (cell if isinstance(cell, list) else [cell]):  # as in test splits without labels
            raise UserError(f"{origin}: no label given in column '{column}'; label all images, or leave the split out")
    highest = max(max(cell, default=0) if isinstance(cell, list) else cell for cell in cells)
    if highest >= len(names):
        raise UserError(f"data '{path}': label {highest} given in column '{column}' of {len(names)} classes")
    if kind is _inner(kind):
        return LabelTable.from_index(LabelSpec.of_classes(names), torch.tensor(cells))
    holds = torch.zeros(len(cells), len(names), dtype=torch.bool)
    for row, cell in enumerate(cells):
        holds[row, cell] = True
    return LabelTable.from_values(LabelSpec((Field("attributes", tuple(names), exclusive=False),)), holds)


def _label_column(features: Mapping[str, Any], path: Path) -> str | None:
    """The column of labels, if there is one."""
    labels = [name for name, kind in features.items() if _class_names(kind) is not None]
    named = [name for name in labels or features if name.lower() in LABEL_COLUMNS]
    found = named if named or not labels else labels
    if len(found) > 1:
        raise UserError(
            f"data '{path}' has the columns of labels {', '.join(found)}: expected one; remove the others with "
            "dataset.remove_columns"
        )
    if found and not labels:
        kind = features[found[0]]
        type_of = str(getattr(_inner(kind), "dtype", "other"))
        if not (type_of.startswith(("string", "large_string")) or (kind is _inner(kind) and "int" in type_of)):
            raise UserError(
                f"data '{path}': column '{found[0]}' of {kind} given, expected class labels, integers, text, or lists "
                "of text"
            )
    return found[0] if found else None


def _inner(kind: Any) -> Any:
    """The kind inside a column of lists; of another column, its own."""
    return getattr(kind, "feature", kind)


def _class_names(kind: Any) -> list[str] | None:
    """Of a column of class labels, or of lists of them; None for any other."""
    return getattr(_inner(kind), "names", None)


def _name(cell: Any) -> str | None:
    return None if cell is None else str(cell)
