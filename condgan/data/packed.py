"""Packed data sets: images in files that are mapped into memory.

A folder of train.npy and held-out.npy (uint8, n × c × h × w), labels.npy (see `LabelTable`), names.json and data.json,
which says where it came from.
"""

import hashlib
import io
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Int, Int64, UInt8
from pydantic import TypeAdapter
from torch import Tensor

from condgan.data.listing import Listing, RawPicture, digest_of
from condgan.data.preprocessing import Preprocessing
from condgan.data.readers.npz import NPZ_ERRORS
from condgan.labels import Field, LabelSpec, LabelTable, Range, code_tops
from condgan.utils.errors import UserError, shown
from condgan.utils.files import open_plain
from condgan.utils.limits import TABLE, TEXT, read_at_most

PACKED_FORMAT = 2
PARTS = ("train", "held-out")
NAME = 1 << 12
"""Bytes of the name of an image."""


@dataclass(frozen=True)
class Prepared:
    """Decoded pictures: the listing of those that could be decoded, and their images, also those not decoded yet."""

    listing: Listing
    train: UInt8[Tensor, "n c h w"]
    held_out: UInt8[Tensor, "m c h w"]
    skipped: tuple[str, ...]
    digest: str | None = None
    """Of the images and labels, where it is known."""
    preprocessing: Preprocessing | None = None
    where: Int64[Tensor, "k 2"] | None = None
    """See `Split.where`; of those to train on, then of the others."""
    index: str | None = None
    """See `Dataset.index`."""


def is_packed(path: Path) -> bool:
    """Whether a folder is a packed data set."""
    return (path / "data.json").is_file() and (path / "train.npy").is_file()


def open_packed(path: Path) -> Prepared:
    """A packed data set, mapped into memory. Raises UserError where it is damaged."""
    try:
        return _opened(path)
    except UserError:
        raise
    except NPZ_ERRORS as error:
        raise UserError(f"prepared data '{path}' is damaged ({shown(error)}): prepare it anew") from None


def _opened(path: Path) -> Prepared:
    """Raises one of NPZ_ERRORS where files are damaged or do not fit each other."""
    about = _json(path / "data.json", TABLE)
    if about["format"] != PACKED_FORMAT:
        raise UserError(
            f"'{path}' was prepared in format {shown(about['format'])}, expected {PACKED_FORMAT}: prepare it anew"
        )
    spec = LabelSpec(tuple(map(_field, about["labels"])))
    preprocessing = TypeAdapter(Preprocessing).validate_python(about["preprocessing"])
    shape = (preprocessing.channels, preprocessing.height, preprocessing.width)
    counts = [about["train"], about["held_out"]]
    train, held_out = (
        _array(path / f"{part}.npy", (count, *shape), "u") for part, count in zip(PARTS, counts, strict=True)
    )
    columns = [top for one in spec.fields for top in code_tops(one)]
    codes = np.array(_array(path / "labels.npy", (sum(counts), len(columns)), "i"))
    if not (columns and len(train) and len(held_out) and codes.min() >= -1 and (codes.max(0) < columns).all()):
        raise ValueError("labels.npy holds numbers of no label")
    names = _texts(_json(path / "names.json", TEXT + NAME * sum(counts)))
    if len(names) != sum(counts):
        raise ValueError(f"names.json holds {len(names):,} names of {sum(counts):,} images")
    there = (path / "pairs.npy").exists()
    pairs = np.array(_array(path / "pairs.npy", (sum(counts),), "i")) if there else None
    listing = Listing(
        str(path),
        _Images(train, held_out),
        np.arange(len(names)),
        names,
        LabelTable(spec, torch.from_numpy(codes)),
        len(train),
        pairs=pairs,
        notes=_texts(about["notes"]),
    )
    images = torch.from_numpy(train), torch.from_numpy(held_out)
    (digest,) = _texts([about["sha256"]])
    return Prepared(listing, *images, _texts(about["left_out"]), digest, preprocessing)


def _field(one: Any) -> Field:
    (name,) = _texts([one["name"]])
    range = None if one.get("range") is None else TypeAdapter(Range).validate_python(one["range"])
    return Field(name, _texts(one["values"]), bool(one["exclusive"]), tuple(map(_texts, one["groups"])), range)


def _json(path: Path, limit: int) -> Any:
    with open_plain(path) as file:
        return json.loads(read_at_most(file, limit, path.name))


def _texts(values: Any) -> tuple[str, ...]:
    if not isinstance(values, list) or not all(isinstance(one, str) for one in values):
        raise TypeError(f"{shown(values, 60)} given, expected texts")
    return tuple(values)


def _array(path: Path, shape: tuple[int, ...], kind: str) -> np.ndarray:
    """An array that is mapped into memory. Raises ValueError for one of another shape or kind."""
    array = np.load(path, mmap_mode="c")
    if array.shape != shape or array.dtype.kind != kind or (kind == "u" and array.dtype != np.uint8):
        raise ValueError(f"{path.name} holds {shown(array.dtype)} of shape {array.shape}, expected {shape}")
    return array


@dataclass(frozen=True)
class _Images:
    """Prepared images, as pictures."""

    train: UInt8[np.ndarray, "n c h w"]
    held_out: UInt8[np.ndarray, "m c h w"]

    def __len__(self) -> int:
        return len(self.train) + len(self.held_out)

    def read(self, number: int) -> RawPicture:
        first = len(self.train)
        image = self.train[number] if number < first else self.held_out[number - first]
        return image[0] if len(image) == 1 else np.ascontiguousarray(image.transpose(1, 2, 0))

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))


def describe_packed(
    work: Path, listing: Listing, preprocessing: Preprocessing, files: Sequence["ImageFile"], skipped: Sequence[str]
) -> None:
    """Write everything but the images beside their files."""
    shape = (listing.train, len(listing), preprocessing.channels, preprocessing.height, preprocessing.width)
    digest = hashlib.sha256(repr((listing.labels.spec, shape)).encode())
    digest.update(repr(listing.labels.spec.range or "").encode())
    for file in files:
        for block in file.blocks():
            digest.update(block)
    digest.update(listing.labels.codes.numpy().data)
    np.save(work / "labels.npy", listing.labels.codes.numpy())
    if listing.pairs is not None:
        np.save(work / "pairs.npy", listing.pairs)
    (work / "names.json").write_text(json.dumps(list(listing.names)))
    about = {
        "format": PACKED_FORMAT,
        "source": listing.source,
        "preprocessing": asdict(preprocessing),
        "labels": [
            {"name": field.name, "values": field.values, "exclusive": field.exclusive, "groups": field.groups}
            | ({} if field.range is None else {"range": asdict(field.range)})
            for field in listing.labels.spec.fields
        ],
        "train": listing.train,
        "held_out": len(listing) - listing.train,
        "sha256": digest.hexdigest(),
        "left_out": list(skipped),
        "notes": list(listing.notes),
    }
    (work / "data.json").write_text(json.dumps(about, indent=1))


class ImageFile:
    """An .npy file of images that is filled row by row, from several processes."""

    def __init__(self, path: Path, shape: tuple[int, int, int, int]) -> None:
        self.path, self.shape = path, shape
        self.row = int(np.prod(shape[1:]))
        self.start = len(self._header(shape[0]))

    @property
    def size(self) -> int:
        return self.start + self.shape[0] * self.row

    def rows(self) -> int:
        """How many there are: fewer than at first where holes were closed."""
        return (self.path.stat().st_size - self.start) // self.row

    def grow(self) -> None:
        """Give a new file, or one whose holes were closed, its full length."""
        self.path.touch()
        with open(self.path, "r+b") as file:
            file.write(self._header(self.shape[0]))
            file.truncate(self.size)

    def write(self, row: int, images: UInt8[np.ndarray, "n c h w"]) -> None:
        with open(self.path, "r+b", buffering=0) as file:
            file.seek(self.start + row * self.row)
            left = memoryview(images.tobytes())
            while left:
                left = left[file.write(left) :]

    def close_holes(self, order: Int[np.ndarray, " k"]) -> None:
        """Bring the rows into an order that moves only rows beyond its length; again changes nothing."""
        if self.path.stat().st_size == self.size:
            with open(self.path, "r+b") as file:
                for row in np.flatnonzero(order != np.arange(len(order))).tolist():
                    file.seek(self.start + int(order[row]) * self.row)
                    image = file.read(self.row)
                    file.seek(self.start + row * self.row)
                    file.write(image)
                file.seek(0)
                file.write(self._header(len(order)))
                file.truncate(self.start + len(order) * self.row)

    def blocks(self) -> Iterator[bytes]:
        """All pixels."""
        with open(self.path, "rb") as file:
            file.seek(self.start)
            while block := file.read(1 << 22):
                yield block

    def _header(self, rows: int) -> bytes:
        stream = io.BytesIO()
        about = {"descr": "|u1", "fortran_order": False, "shape": (rows, *self.shape[1:])}
        np.lib.format.write_array_header_1_0(stream, about)
        return stream.getvalue()
