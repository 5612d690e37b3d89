"""Images in binary containers: HDF5 as BigGAN-PyTorch writes it, npz, LMDB as LSUN comes, Hugging Face data sets."""

import bisect
import itertools
import os
import zipfile
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import lmdb
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from condgan.data.layouts import LABEL_COLUMNS, SPLITS, Label, table_of
from condgan.data.listing import UNLABELED, Arrays, Listing, Picture, Pictures, digest_of, listed
from condgan.data.tree import refuse_large
from condgan.errors import UserError
from condgan.files import new_file
from condgan.labels import Field, LabelSpec, LabelTable

if TYPE_CHECKING:
    import datasets

BLOCK = 500
"""Images that are written at once."""
SPAN = 1 << 26
"""Most bytes of neighboring images that are read at once."""


@dataclass(frozen=True)
class Chain:
    """Pictures of several sources, in turn."""

    parts: tuple[Pictures, ...]

    @cached_property
    def _ends(self) -> list[int]:
        return list(itertools.accumulate(len(part) for part in self.parts))

    def __len__(self) -> int:
        return self._ends[-1] if self.parts else 0

    def read(self, number: int) -> Picture:
        part, inside = self._find(number)
        return part.read(inside)

    def digest(self, number: int) -> bytes:
        part, inside = self._find(number)
        return part.digest(inside)

    def _find(self, number: int) -> tuple[Pictures, int]:
        place = bisect.bisect_right(self._ends, number)
        return self.parts[place], number - (self._ends[place - 1] if place else 0)


def is_hdf5(path: Path) -> bool:
    """Whether a path is, or is named like, an HDF5 file."""
    return path.is_file() and (path.suffix.lower() in (".hdf5", ".h5") or bool(h5py.is_hdf5(path)))


def list_hdf5(path: Path, share: float | None) -> Listing:
    """The images of a file with `imgs`, uint8 of N×C×H×W, and `labels`: N numbers of classes, or N×K of 0 and 1.

    `classes`, or `attributes`, may name what the labels stand for; `groups` holds a number for each attribute, the same
    for those that exclude each other, or −1; and `train` tells how many images, the first, are to train on. Raises
    UserError for any other file.
    """
    try:
        file = h5py.File(path)
    except OSError:
        raise UserError(f"'{path}' is not a whole HDF5 file: expected one with imgs and labels; make it anew") from None
    with file:
        for name in ("imgs", "labels"):
            if isinstance(file.get(name, getlink=True), h5py.ExternalLink) or getattr(file.get(name), "external", None):
                raise UserError(f"'{path}': {name} are in another file, which is not looked into; make it one")
            if not isinstance(file.get(name), h5py.Dataset):
                raise UserError(
                    f"'{path}' has no dataset '{name}', but {', '.join(file) or 'none'}: expected imgs and labels"
                )
        images: Any = file["imgs"]
        numbers: Any = file["labels"]
        if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or 0 in images.shape[2:]:
            raise UserError(
                f"'{path}': imgs of shape {_shape(images)} given, expected number × 1, 3 or 4 channels × height × width"
            )
        if images.dtype != np.uint8:
            raise UserError(f"'{path}': imgs of {images.dtype} given, expected uint8, 0 … 255")
        if not len(images):
            raise UserError(f"'{path}' holds no images: expected at least 2")
        if numbers.dtype.kind not in "iub":
            raise UserError(f"'{path}': labels of {numbers.dtype} given, expected integers")
        if numbers.ndim not in (1, 2):
            raise UserError(
                f"'{path}': labels of shape {_shape(numbers)} given, expected a number per image, or a row of 0 and 1"
            )
        if len(numbers) != len(images):
            raise UserError(f"'{path}': {len(images):,} imgs and {len(numbers):,} labels given, expected as many")
        train = _train(file, path, len(images))
        labels = (_classes if numbers.ndim == 1 else _attributes)(file, numbers[:].astype(np.int64), path, train)
        size = int(np.prod(images.shape[1:]))
        refuse_large(size)
        rows = images.chunks[0] if images.chunks and images.chunks[0] * size <= SPAN else 256
        pictures = HDF5Pictures(path.absolute(), len(images), max(1, min(rows, SPAN // size)))
    held_out = np.where(np.arange(len(pictures)) < train, 0, 2)
    names = [f"{number:07}.png" for number in range(len(pictures))]
    return listed(str(path), pictures, names, labels, held_out, share)


@dataclass(frozen=True)
class HDF5Pictures:
    """The images of an HDF5 file, of which each process keeps a span in memory, as they are read in order."""

    path: Path
    count: int
    span: int
    _held: dict[int, tuple[Any, int, UInt8[np.ndarray, "n h w c"]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> Picture:
        start, process = number // self.span * self.span, os.getpid()  # a forked one opens the file itself
        images, first, held = self._held.get(process, (None, -1, None))
        if images is None:
            images: Any = h5py.File(self.path)["imgs"]
        if held is None or first != start:
            held = images[start : start + self.span].transpose(0, 2, 3, 1)
            self._held[process] = images, start, held
        image = held[number - start]
        return image[..., 0] if image.shape[-1] == 1 else image

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))

    def __reduce__(self) -> tuple[Any, ...]:
        return HDF5Pictures, (self.path, self.count, self.span)


def write_hdf5(path: Path, splits: Sequence[tuple[UInt8[Tensor, "_ c h w"], LabelTable]]) -> None:
    """Write images, to train on and then held out, and their labels, as `list_hdf5` reads them.

    `imgs` is one piece: single images in any order are read 20 times as fast as from BigGAN-PyTorch's chunks of 500.
    Raises UserError for labels of several fields.
    """
    spec = splits[0][1].spec
    if len(spec.fields) != 1:
        raise UserError(
            f"labels of {len(spec.fields)} fields given for '{path}': expected one; write one data set each"
        )
    values = spec.fields[0]
    with new_file(path) as temporary, h5py.File(temporary, "w") as file:
        count = sum(len(images) for images, _ in splits)
        written = file.create_dataset("imgs", (count, *splits[0][0].shape[1:]), np.uint8)
        start = 0
        for images, _ in splits:
            for block in images.split(BLOCK):
                written[start : start + len(block)] = block.numpy()
                start += len(block)
        codes = torch.cat([labels.codes for _, labels in splits]).long().numpy()
        file["labels"] = codes[:, 0] if values.exclusive else codes
        name = "classes" if values.exclusive else "attributes"
        file.create_dataset(name, data=list(values.values), dtype=h5py.string_dtype())
        if values.groups:
            group = {name: number for number, names in enumerate(values.groups) for name in names}
            file["groups"] = np.array([group.get(name, -1) for name in values.values])
        file["train"] = len(splits[0][0])


def _classes(file: h5py.File, numbers: Int[np.ndarray, " n"], path: Path, train: int) -> LabelTable:
    if numbers.min() < 0:
        raise UserError(f"'{path}': label {numbers.min()} given, expected numbers of 0 and more")
    count, given = int(numbers.max()) + 1, _names(file, "classes", path)
    if given is not None and count > len(given):
        raise UserError(f"'{path}': label {count - 1} given with {len(given)} classes, expected 0 … {len(given) - 1}")
    if count > len(numbers):
        raise UserError(f"'{path}': label {count - 1} given with {len(numbers):,} images: number the classes from 0 on")
    names = [str(number) for number in range(count)] if given is None else given
    empty = np.flatnonzero(np.bincount(numbers[:train], minlength=len(names)) == 0)
    if len(empty):
        raise UserError(
            f"'{path}': empty class '{names[empty[0]]}', without any image to train on; leave it out, and number the "
            "classes without gaps"
        )
    return LabelTable.from_index(LabelSpec.of_classes(names), torch.from_numpy(numbers))


def _attributes(file: h5py.File, holds: Int[np.ndarray, "n k"], path: Path, train: int) -> LabelTable:
    given = _names(file, "attributes", path)
    names = [str(number) for number in range(holds.shape[1])] if given is None else given
    if not names or len(names) != holds.shape[1]:
        raise UserError(f"'{path}': {holds.shape[1]} labels per image and {len(names)} attributes given")
    if not np.isin(holds, (0, 1)).all():
        wrong = holds[~np.isin(holds, (0, 1))][0]
        raise UserError(f"'{path}': label {wrong} given in rows of {len(names)} labels, expected 0 and 1")
    given_groups = _extra(file, "groups")
    group = np.full(len(names), -1) if given_groups is None else np.ravel(given_groups)
    if len(group) != len(names) or group.dtype.kind not in "iu":
        raise UserError(
            f"'{path}': {len(group)} groups and {len(names)} attributes given, expected a group of each or −1"
        )
    groups = tuple(tuple(np.array(names)[group == number].tolist()) for number in np.unique(group) if number >= 0)
    if not groups and len(names) > 1 and (holds.sum(1) == 1).all():  # one-hot
        used = torch.from_numpy(holds.argmax(1))
        return LabelTable.from_index(LabelSpec.of_classes(names), used)
    one = Field("attributes", tuple(names), exclusive=False, groups=groups)
    return LabelTable.from_values(LabelSpec((one,)), torch.from_numpy(holds.astype(bool)))


def _names(file: h5py.File, what: str, path: Path) -> list[str] | None:
    """Names that are a dataset, or an attribute of the file; None where there are none."""
    given = _extra(file, what)
    if given is None:
        return None
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in np.ravel(given).tolist()]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"'{path}': {what} of other than text given, expected names")
    return names


def _train(file: h5py.File, path: Path, count: int) -> int:
    given = _extra(file, "train")
    if given is None:
        return count
    if np.ndim(given) or np.asarray(given).dtype.kind not in "iu" or not 1 <= given <= count:
        raise UserError(f"'{path}': train of {given} given, expected how many of the {count:,} images, the first")
    return int(given)


def _extra(file: h5py.File, name: str) -> Any:
    """A dataset, or else an attribute of the file, if there is one."""
    found: Any = file.get(name)
    return found[()] if isinstance(found, h5py.Dataset) else file.attrs.get(name)


def _shape(data: Any) -> str:
    return " × ".join(f"{length:,}" for length in data.shape or ()) or "no axes"


def is_npz(path: Path) -> bool:
    """Whether a path is named like an npz file."""
    return path.suffix.lower() == ".npz" and path.is_file()


def npz_keys(path: Path) -> list[str]:
    """The names of an npz file's arrays. Raises UserError for a file that is none."""
    try:
        with zipfile.ZipFile(path) as file:
            return [name.removesuffix(".npy") for name in file.namelist()]
    except zipfile.BadZipFile as error:
        raise UserError(f"'{path}' cannot be read as an npz file ({error}): make it anew") from None


def npz_array(path: Path, key: str) -> np.ndarray:
    """One of them. Raises UserError where it cannot be read."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return file[key]
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        raise UserError(f"array {key} of '{path}' cannot be read ({error}): make it anew") from None


def list_npz(path: Path, share: float | None) -> Listing:
    """The images of a file with `x`, uint8 of N×C×H×W or N×H×W(×C), and where it has them `y`, N numbers of classes.

    `classes` may name what the numbers stand for: so `condgan sample` writes it, and BigGAN-PyTorch without names.
    Guided diffusion's `arr_0` and `arr_1` are read too. Raises UserError for any other file.
    """
    keys = npz_keys(path)
    image, label = next((pair for pair in (("x", "y"), ("arr_0", "arr_1")) if pair[0] in keys), ("", ""))
    if not image:
        raise UserError(
            f"'{path}' holds the arrays {', '.join(keys) or 'none'}: expected x, images of uint8, and y, their classes"
        )
    x = npz_array(path, image)
    if x.ndim == 4 and x.shape[1] in (1, 3, 4) and x.shape[3] not in (1, 3, 4):
        x = x.transpose(0, 2, 3, 1)
    if x.dtype != np.uint8 or x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3, 4)) or not x.size:
        given = ", NaN among them" if x.dtype.kind == "f" and bool(np.isnan(x).any()) else ""
        raise UserError(
            f"'{path}' holds {image} of {x.dtype}{given}, of shape {'×'.join(map(str, x.shape))}: expected images of "
            "0 … 255 as uint8, N×C×H×W or N×H×W×C with 1, 3 or 4 channels"
        )
    x = x[..., 0] if x.ndim == 4 and x.shape[3] == 1 else x
    y, names = np.zeros(len(x), np.int64), [UNLABELED]
    if label in keys:
        y = npz_array(path, label)
        if y.shape != (len(x),) or y.dtype.kind not in "iu" or (len(y) and y.min() < 0):
            raise UserError(
                f"'{path}' holds {len(x)} images and {label} of {y.dtype}, of shape {'×'.join(map(str, y.shape))}: "
                "expected a class number for each image"
            )
        if "classes" in keys:
            names = [str(name) for name in npz_array(path, "classes")]
            if y.max() >= len(names):
                raise UserError(
                    f"'{path}' holds class number {y.max()} and {len(names)} classes: expected a name for each"
                )
        else:
            there, y = np.unique(y, return_inverse=True)
            names = [str(number) for number in there]
    labels = LabelTable.from_index(LabelSpec.of_classes(names), torch.from_numpy(y.astype(np.int64)))
    places = [f"{number:0{len(str(len(x)))}}" for number in range(len(x))]
    return listed(str(path), Arrays(x), places, labels, None, share)


def is_lmdb(path: Path) -> bool:
    """Whether a folder is an LMDB."""
    return (path / "data.mdb").is_file()


def list_lmdb(paths: Mapping[str, Path], share: float | None, held_out: Mapping[str, Path] | None = None) -> Listing:
    """The encoded images that are the values of databases, one of each class, of which others may be held out.

    Raises UserError for databases that are damaged or empty.
    """
    databases = [(name, path, 0) for name, path in paths.items()]
    databases += [(name, path, 1) for name, path in (held_out or {}).items()]
    classes, parts, names, index, stated = list(paths), [], [], [], []
    for name, path, split in databases:
        part = LMDBPictures.of(path)
        parts.append(part)
        names += map(_text, part.keys)
        index.append(np.full(len(part), classes.index(name)))
        stated.append(np.full(len(part), split))
    first = next(iter(paths.values()))
    return listed(
        str(first if len(paths) == 1 else first.parent),
        Chain(tuple(parts)),
        names,
        LabelTable.from_index(LabelSpec.of_classes(classes), torch.from_numpy(np.concatenate(index))),
        np.concatenate(stated),
        share,
    )


@dataclass(frozen=True)
class _Keys(Sequence[bytes]):
    """Many short strings in one, which forked processes share."""

    whole: bytes
    ends: Int[np.ndarray, " n"]

    @classmethod
    def of(cls, keys: Sequence[bytes]) -> "_Keys":
        return cls(b"".join(keys), np.cumsum([len(key) for key in keys], dtype=np.int64))

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.whole[self.ends[number - 1] if number else 0 : self.ends[number]]


@dataclass(frozen=True)
class LMDBPictures:
    """The values of a database."""

    path: Path
    keys: Sequence[bytes]

    @classmethod
    def of(cls, path: Path) -> "LMDBPictures":
        """All of them. Raises UserError where there are none."""
        path = path.resolve()
        try:
            with _database(path).begin() as transaction:
                keys = list(transaction.cursor().iternext(keys=True, values=False))
        except lmdb.Error as error:
            raise UserError(f"'{path}' is not a whole LMDB ({error}): unpack or download it anew") from None
        if not keys:
            raise UserError(f"'{path}' holds no images: expected an LMDB with encoded ones")
        return cls(path, _Keys.of(keys))

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, number: int) -> Picture:
        with _database(self.path).begin() as transaction:
            found = transaction.get(self.keys[number])
        if found is None:
            raise KeyError(f"no more in '{self.path}'")
        return bytes(found)

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))


_DATABASES: dict[Path, tuple[int, lmdb.Environment]] = {}
"""Those that are open, and the process that opened each; LMDB allows none twice in a process."""


def _database(path: Path) -> lmdb.Environment:
    """A database opened by this very process, which must not use what it got by a fork."""
    process, database = _DATABASES.get(path, (None, None))
    if database is None or process != os.getpid():
        if database is not None:
            database.close()
        database = lmdb.open(str(path), readonly=True, create=False, lock=False, readahead=False, meminit=False)
        _DATABASES[path] = os.getpid(), database
    return database


def _text(key: bytes) -> str:
    text = key.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else key.hex()


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
    if other := next((name for name in splits if name not in SPLITS), None):
        raise UserError(f"data '{path}' has a split '{other}': expected train, validation and test; save only these")
    if not any(SPLITS[name] == 0 and len(one) for name, one in splits.items()):
        raise UserError(f"data '{path}' has no images to train on: expected a split 'train'")
    features = next(one.features for name, one in splits.items() if SPLITS[name] == 0)
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
        np.concatenate([np.full(len(one), SPLITS[name]) for name, one in splits.items()]),
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

    def read(self, number: int) -> Picture:
        cell = self.images[int(number)][self.column]
        if cell is None:
            raise ValueError("no image given")
        if cell["bytes"] is not None:
            return cell["bytes"]
        path = self.folder / cell["path"]
        if not path.is_file():
            raise ValueError(f"no file '{path}'")
        refuse_large(path.stat().st_size)
        return path.read_bytes()

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
    """What a column of lists holds; of another column, itself."""
    return getattr(kind, "feature", kind)


def _class_names(kind: Any) -> list[str] | None:
    """Of a column of class labels, or of lists of them; None for any other."""
    return getattr(_inner(kind), "names", None)


def _name(cell: Any) -> str | None:
    return None if cell is None else str(cell)
