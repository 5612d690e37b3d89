"""Images in HDF5 files, as BigGAN-PyTorch writes them.

A file is read by what is stored in it: nothing of another file is ever opened, and a chunk that unpacks to more than it
should is refused before HDF5 unpacks it.
"""

import math
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, BinaryIO

import h5py
import numpy as np
import torch
from h5py import h5d, h5l, h5z  # pyright: ignore[reportAttributeAccessIssue] - compiled
from jaxtyping import Int, UInt8
from torch import Tensor

from condgan.data.listing import Listing, RawPicture, digest_of, listed
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError, said_of, shown
from condgan.utils.files import new_file, open_plain
from condgan.utils.limits import PICTURES, PIECE, RATIO, TABLE, TEXT, TooLarge, require_at_most

BLOCK = 500
"""Images that are written at once."""

SPAN = 1 << 26
"""Most bytes of neighboring images that are read at once."""

PACKING = {h5z.FILTER_DEFLATE, h5z.FILTER_LZF}
FILTERS = {*PACKING, h5z.FILTER_SHUFFLE, h5z.FILTER_FLETCHER32}
"""What chunks may have gone through, of which one filter packs."""

UNPACKED = 4 * PIECE
"""Bytes that a chunk is let unpack to: HDF5 needs up to twice what it holds."""


def is_hdf5(path: Path) -> bool:
    """Whether a path is, or is named like, an HDF5 file."""
    return path.is_file() and (path.suffix.lower() in (".hdf5", ".h5") or bool(h5py.is_hdf5(path)))


def list_hdf5(path: Path, share: float | None) -> Listing:
    """The images of a file with `imgs`, uint8 of N×C×H×W, and `labels`: N numbers of classes, or N×K of 0 and 1.

    `classes`, or `attributes`, may name what the labels stand for; `groups` holds a number for each attribute, the same
    for those that exclude each other, or −1; and `train` tells how many images, the first, are to train on. Raises
    UserError for any other file.
    """
    do = "it is not a whole HDF5 file with imgs and labels; make it anew"
    with said_of(f"'{path}'", do, *HDF5_ERRORS), h5py.File(path) as file:
        images = _required(file, "imgs", path)
        _judge_images(images, path)
        labels = _labels(file, len(images), path)
        train = _train(file, path, len(images))
        table, notes = (_classes if labels.ndim == 1 else _attributes)(file, labels.astype(np.int64), path, train)
        size = math.prod(images.shape[1:])
        rows = images.chunks[0] if images.chunks and images.chunks[0] * size <= SPAN else 256
        pictures = HDF5Pictures(path.absolute(), len(images), max(1, min(rows, SPAN // size)))
    held_out = np.where(np.arange(len(pictures)) < train, 0, 2)
    names = [f"{number:07}.png" for number in range(len(pictures))]
    return listed(str(path), pictures, names, table, held_out, share, notes=notes)


HDF5_ERRORS = (struct.error, OSError, RuntimeError, TypeError, ValueError, KeyError, MemoryError, OverflowError)
"""What h5py raises."""


def _judge_images(images: h5py.Dataset, path: Path) -> None:
    """Raises UserError for images that are none, and TooLarge for those that take too much memory."""
    if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or 0 in images.shape[2:]:
        raise UserError(
            f"'{path}': imgs of shape {_shape(images)} given, expected number × 1, 3 or 4 channels × height × width"
        )
    if images.dtype != np.uint8:
        raise UserError(f"'{path}': imgs of {images.dtype} given, expected uint8, 0 … 255")
    if not len(images):
        raise UserError(f"'{path}' holds no images: expected at least 2")
    if len(images) > PICTURES:
        raise TooLarge(f"{len(images):,} imgs are more than {PICTURES:,}")
    require_at_most(math.prod(images.shape[1:]), PIECE, "each of imgs")
    if images.nbytes > RATIO * images.id.get_storage_size():
        raise UserError(
            f"'{path}': imgs are {images.nbytes:,} bytes, of which {images.id.get_storage_size():,} were written: "
            "write them all"
        )


def _labels(file: h5py.File, count: int, path: Path) -> np.ndarray:
    """The number of each image's class, or rows of 0 and 1."""
    labels = _required(file, "labels", path)
    if labels.dtype.kind not in "iub":
        raise UserError(f"'{path}': labels of {labels.dtype} given, expected integers")
    if labels.ndim not in (1, 2):
        raise UserError(
            f"'{path}': labels of shape {_shape(labels)} given, expected a number per image, or a row of 0 and 1"
        )
    if len(labels) != count:
        raise UserError(f"'{path}': {count:,} imgs and {len(labels):,} labels given, expected as many")
    return _values(labels, "labels", TABLE)


def _required(file: h5py.File, name: str, path: Path) -> h5py.Dataset:
    found = _dataset(file, name, path)
    if found is None:
        there = ", ".join(shown(one) for one in list(file)[:20]) or "none"
        raise UserError(f"'{path}' has no dataset '{name}', but {there}: expected imgs and labels")
    return found


def _dataset(file: h5py.File, name: str, path: Path) -> h5py.Dataset | None:
    """A dataset whose values are in this very file, if there is one of that name.

    Raises UserError for values elsewhere, which are not opened, and for those that are packed in a way whose size
    cannot be told before.
    """
    link = name.encode()
    if not file.id.links.exists(link):
        return None
    if file.id.links.get_info(link).type != h5l.TYPE_HARD:
        raise UserError(f"'{path}': {name} is a link, maybe to another file, which is not followed; store it itself")
    found = file[name]
    if not isinstance(found, h5py.Dataset):
        return None
    stored = found.id.get_create_plist()
    if stored.get_layout() == h5d.VIRTUAL or stored.get_external_count():
        raise UserError(f"'{path}': {name} are in another file, which is not looked into; make it one")
    filters = _filters(found)
    if sum(one in PACKING for one in filters) > 1 or any(one not in FILTERS for one in filters):
        raise UserError(f"'{path}': {name} are stored by HDF5 filters {filters}: write them with gzip, or plainly")
    if filters:
        require_at_most(math.prod(found.chunks or ()) * found.dtype.itemsize, PIECE, f"a chunk of {name}")
    return found


def _filters(data: h5py.Dataset) -> list[int]:
    """What its chunks went through, in that order."""
    stored = data.id.get_create_plist()
    return [stored.get_filter(number)[0] for number in range(stored.get_nfilters())]


def _large_chunks(data: h5py.Dataset) -> dict[tuple[int, ...], int]:
    """The corners of chunks that may unpack to more than is let, and which filters each was stored without."""
    if not set(_filters(data)) & PACKING:
        return {}
    large: dict[tuple[int, ...], int] = {}

    def look(chunk: Any) -> None:
        if chunk.size * RATIO > UNPACKED:
            large[tuple(chunk.chunk_offset)] = chunk.filter_mask

    data.id.chunk_iter(look)
    return large


def _require_honest(data: h5py.Dataset, corner: tuple[int, ...], mask: int) -> None:
    """Raises TooLarge for a chunk that unpacks to more than is let."""
    packing = PACKING & {one for number, one in enumerate(_filters(data)) if not mask >> number & 1}
    if not packing:
        return
    _, packed = data.id.read_direct_chunk(corner)
    if h5z.FILTER_DEFLATE in packing:
        unpacker, total = zlib.decompressobj(), 0
        while packed and total <= UNPACKED:
            total += len(unpacker.decompress(packed, 1 << 20))
            packed = unpacker.unconsumed_tail
    else:  # LZF: each byte is one byte, or of two that make up to 8, or three that make up to what the second says
        each = np.frombuffer(packed, np.uint8)
        total = 4 * len(each) + int((each[1:][each[:-1] >= 0xE0].astype(np.int64) + 9).sum())
    if total > UNPACKED:
        raise TooLarge(f"a chunk unpacks to more than {UNPACKED:,} bytes")


def _values(data: h5py.Dataset, name: str, limit: int) -> np.ndarray:
    """All values of a dataset. Raises TooLarge for more bytes than the limit."""
    require_at_most(data.nbytes, limit, name)
    for corner, mask in _large_chunks(data).items():
        _require_honest(data, corner, mask)
    if data.dtype.kind == "O":
        _require_texts(data, name, limit)
    return np.asarray(data[()])


def _require_texts(data: h5py.Dataset, name: str, limit: int) -> None:
    """Raises TooLarge for texts of any length that are more than the limit, ValueError for a heap of them that is none.

    HDF5 walks a damaged heap for ever: each of its items begins with a number, 0 for free space, and a size.
    """
    start = data.id.get_offset()
    if start is None:
        raise ValueError(f"{name} of texts of any length in chunks: write them in one piece")
    with open_plain(Path(data.file.filename)) as file:
        texts = np.frombuffer(os.pread(file.fileno(), 16 * math.prod(data.shape), start), "<u4, <u8, <u4")
        require_at_most(int(texts["f0"].sum(dtype=np.int64)), limit, name)
        steps = 0
        for heap in np.unique(texts["f1"]).tolist():
            base, at = heap + data.file.userblock_size, 16
            size = _unpacked_at(file, "<4s4xQ", base)[1] if heap else 0
            while at + 16 <= size:
                number, item = _unpacked_at(file, "<H6xQ", base + at)
                step = 16 + (item + 7) // 8 * 8 if number else item
                steps += 1
                if step < 16 or steps > limit:
                    raise ValueError(f"the heap of {name} is damaged")
                at += step


def _unpacked_at(file: BinaryIO, form: str, start: int) -> tuple[Any, ...]:
    return struct.unpack(form, os.pread(file.fileno(), 16, min(start, 1 << 62)))


def names_classes(path: Path) -> bool:
    """Whether a file names its classes."""
    with said_of(f"'{path}'", "make it anew", *HDF5_ERRORS), h5py.File(path) as file:
        return file.id.links.exists(b"classes") or "classes" in file.attrs


@dataclass(frozen=True)
class HDF5Pictures:
    """The images of an HDF5 file, of which each process keeps a span in memory, as they are read in order."""

    path: Path
    count: int
    span: int
    _held: dict[int, tuple[h5py.Dataset, dict, int, UInt8[np.ndarray, "n h w c"]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> RawPicture:
        start, process = number // self.span * self.span, os.getpid()  # a forked one opens the file itself
        images, large, first, held = self._held.get(process, (None, {}, -1, None))
        if images is None:
            images = _required(h5py.File(self.path), "imgs", self.path)
            large = _large_chunks(images)
        if held is None or first != start:
            for corner, mask in large.items():
                assert images.chunks is not None
                if corner[0] < start + self.span and start < corner[0] + images.chunks[0]:
                    _require_honest(images, corner, mask)
            held = images[start : start + self.span].transpose(0, 2, 3, 1)
            self._held[process] = images, large, start, held
        image = held[number - start]
        return image[..., 0] if image.shape[-1] == 1 else image

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))

    def __reduce__(self) -> tuple[Any, ...]:
        return HDF5Pictures, (self.path, self.count, self.span)


def write_hdf5(path: Path, splits: Sequence[tuple[UInt8[Tensor, "_ c h w"], LabelTable]]) -> None:
    """Write images, to train on and then held out, and their labels, as `list_hdf5` reads them.

    `imgs` is one piece: single images in any order are read 20 times as fast as from BigGAN-PyTorch's chunks of 500.
    Raises UserError for labels of several fields, numbers, and labels that are not known.
    """
    spec = splits[0][1].spec
    spec.require_no_number("an HDF5 file")
    if any(labels.partial for _, labels in splits):
        raise UserError(f"labels of which some are not known given for '{path}': leave --format hdf5 out")
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


def _classes(
    file: h5py.File, numbers: Int[np.ndarray, " n"], path: Path, train: int
) -> tuple[LabelTable, tuple[str, ...]]:
    """Labels of the classes that images are of, and what is to be said of the others."""
    if numbers.min() < 0:
        raise UserError(f"'{path}': label {numbers.min()} given, expected numbers of 0 and more")
    return _of_numbers(numbers, _names(file, "classes", path), path, train)


def _of_numbers(
    numbers: Int[np.ndarray, " n"], given: list[str] | None, path: Path, train: int
) -> tuple[LabelTable, tuple[str, ...]]:
    """The same of classes whose names are given, or not."""
    highest = int(numbers.max())
    if given is not None and highest >= len(given):
        raise UserError(f"'{path}': label {highest} given with {len(given)} classes, expected 0 … {len(given) - 1}")
    there, index = np.unique(numbers, return_inverse=True)
    names = [str(number) if given is None else given[number] for number in there.tolist()]
    untrained = np.setdiff1d(np.arange(len(there)), index[:train])
    if len(untrained):
        raise UserError(f"'{path}': empty class '{shown(names[untrained[0]])}', without any image to train on")
    count = highest + 1 if given is None else len(given)
    notes = (f"{count - len(there):,} classes without images are left out",) if count > len(there) else ()
    return LabelTable.from_index(LabelSpec.of_classes(names), torch.from_numpy(index.astype(np.int64))), notes


def _attributes(
    file: h5py.File, holds: Int[np.ndarray, "n k"], path: Path, train: int
) -> tuple[LabelTable, tuple[str, ...]]:
    given = _names(file, "attributes", path)
    names = [str(number) for number in range(holds.shape[1])] if given is None else given
    if not names or len(names) != holds.shape[1]:
        raise UserError(f"'{path}': {holds.shape[1]} labels per image and {len(names)} attributes given")
    if not np.isin(holds, (0, 1)).all():
        wrong = holds[~np.isin(holds, (0, 1))][0]
        raise UserError(f"'{path}': label {wrong} given in rows of {len(names)} labels, expected 0 and 1")
    given_groups = _extra(file, "groups", path)
    group = np.full(len(names), -1) if given_groups is None else np.ravel(given_groups)
    if len(group) != len(names) or group.dtype.kind not in "iu":
        raise UserError(
            f"'{path}': {len(group)} groups and {len(names)} attributes given, expected a group of each or −1"
        )
    groups = tuple(tuple(np.array(names)[group == number].tolist()) for number in np.unique(group) if number >= 0)
    if not groups and len(names) > 1 and (holds.sum(1) == 1).all():  # one-hot
        return _of_numbers(holds.argmax(1), names, path, train)
    one = Field("attributes", tuple(names), exclusive=False, groups=groups)
    return LabelTable.from_values(LabelSpec((one,)), torch.from_numpy(holds.astype(bool))), ()


def _names(file: h5py.File, what: str, path: Path) -> list[str] | None:
    """Names that are a dataset, or an attribute of the file; None where there are none."""
    given = _extra(file, what, path)
    if given is None:
        return None
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in np.ravel(given).tolist()]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"'{path}': {what} of other than text given, expected names")
    return names


def _train(file: h5py.File, path: Path, count: int) -> int:
    given = _extra(file, "train", path)
    if given is None:
        return count
    if given.ndim or given.dtype.kind not in "iu" or not 1 <= given <= count:
        raise UserError(
            f"'{path}': train of {shown(given)} given, expected how many of the {count:,} images, the first"
        )
    return int(given)


def _extra(file: h5py.File, name: str, path: Path) -> np.ndarray | None:
    """A dataset of text or numbers, or else such an attribute of the file, if there is one."""
    found: Any = _dataset(file, name, path)
    if found is None and name in file.attrs:
        found = file.attrs.get_id(name)
    if found is None or found.shape is None:
        return None
    if found.dtype.kind not in "iubSU" and h5py.check_string_dtype(found.dtype) is None:
        raise UserError(f"'{path}': {name} of {found.dtype} given, expected text or numbers")
    if isinstance(found, h5py.Dataset):
        return _values(found, name, TEXT)
    require_at_most(math.prod(found.shape) * found.dtype.itemsize, TEXT, name)
    return np.asarray(file.attrs[name])


def _shape(data: Any) -> str:
    return " × ".join(f"{length:,}" for length in data.shape or ()) or "no axes"
