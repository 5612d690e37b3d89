"""Images in npz files."""

import io
import math
import os
import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8

from condgan.data.listing import UNLABELED, Listing, RawPicture, digest_of, listed
from condgan.data.readers.tree import MEMBER_HEAD, ZIP_ERRORS, Zip
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError, said_of, shown
from condgan.utils.files import open_plain
from condgan.utils.limits import ARRAY, PICTURES, PIECE, TABLE, TEXT, TooLarge, require_at_most

IMAGES = {"x": "y", "arr_0": "arr_1"}
"""Names of arrays of images, and of those of their labels."""
NPZ_ERRORS = (
    *ZIP_ERRORS, OSError, ArithmeticError, AttributeError, IndexError, SyntaxError, TypeError, tokenize.TokenError,
)  # fmt: skip
"""What reading zips and heads of arrays raises."""
START = 1 << 14
"""Bytes in which an array's head is."""


def is_npz(path: Path) -> bool:
    """Whether a path is named like an npz file."""
    return path.suffix.lower() == ".npz" and path.is_file()


def npz_keys(path: Path) -> list[str]:
    """The names of an npz file's arrays. Raises UserError for a file that is none, or holds anything else."""
    with _said_of(path):
        names = list(Zip(path).members)
        if other := next((name for name in names if not name.endswith(".npy")), None):
            raise ValueError(f"'{shown(other)}' in it is no array")
    return [name.removesuffix(".npy") for name in names]


def npz_array(path: Path, key: str, limit: int = TABLE) -> np.ndarray:
    """One of them. Raises UserError where it cannot be read, or has more bytes than the limit."""
    with _said_of(path, f"array {key} of "):
        content = Zip(path).read(f"{key}.npy", limit)
        head = _head(content)
        array = np.frombuffer(content, head.kind, math.prod(head.shape), head.length)
        return array.reshape(head.shape, order=head.order)


def _said_of(path: Path, what: str = "") -> AbstractContextManager[None]:
    return said_of(f"{what}'{path}'", "expected an npz file; make it anew, as numpy.savez does", *NPZ_ERRORS)


class _Head(NamedTuple):
    """What an array says of itself before its values."""

    kind: np.dtype
    shape: tuple[int, ...]
    order: Literal["C", "F"]
    length: int


def _head(content: bytes) -> _Head:
    """Raises ValueError, and much else, for what is no array of plain values."""
    stream = io.BytesIO(content[:START])
    version = np.lib.format.read_magic(stream)
    if version not in ((1, 0), (2, 0)):
        raise ValueError(f"version {version} of numpy's format")
    heads = np.lib.format.read_array_header_1_0, np.lib.format.read_array_header_2_0
    shape, fortran, kind = heads[version[0] - 1](stream)
    if kind.hasobject or min(shape, default=0) < 0:
        raise ValueError(f"{kind} of shape {shape}: expected plain values")
    return _Head(kind, shape, "F" if fortran else "C", stream.tell())


class StoredRows:
    """The rows of an array that is stored as it is: each is read from its place in the file, none is kept.

    Raises BadZipFile where its bytes are not those that were written.
    """

    def __init__(self, path: Path, start: int, size: int, checksum: int) -> None:
        self.path = path
        with open_plain(path) as file:
            head = _head(os.pread(file.fileno(), min(START, size), start))
            self.start, self.shape = start + head.length, head.shape
            if head.kind != np.uint8 or head.order != "C" or math.prod(head.shape) != size - head.length:
                raise ValueError(f"{head.kind} of shape {head.shape} in {size:,} bytes")
            found, at = 0, start
            while block := os.pread(file.fileno(), min(1 << 22, start + size - at), at):
                found, at = zlib.crc32(block, found), at + len(block)
            if found != checksum:
                raise zipfile.BadZipFile("its checksum is wrong")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, number: int) -> UInt8[np.ndarray, "*r"]:
        size = math.prod(self.shape[1:])
        with open_plain(self.path) as file:
            row = os.pread(file.fileno(), size, self.start + number * size)
        return np.frombuffer(row, np.uint8).reshape(self.shape[1:])


def _images(path: Path, key: str) -> "StoredRows | np.ndarray":
    """Images as they are stored, or else unpacked in memory."""
    with _said_of(path, f"array {key} of "):
        archive = Zip(path)
        member = archive.members[f"{key}.npy"]
        if member.compress_type != zipfile.ZIP_STORED or member.compress_size <= TABLE:
            return npz_array(path, key, ARRAY)
        with open_plain(path) as file:
            lengths = struct.unpack("<HH", os.pread(file.fileno(), 4, member.header_offset + MEMBER_HEAD - 4))
        start = member.header_offset + MEMBER_HEAD + sum(lengths)
        return StoredRows(path, start, member.compress_size, member.CRC)


@dataclass(frozen=True)
class NpzPictures:
    """Images that are rows of an array."""

    rows: StoredRows | UInt8[np.ndarray, "n *r"]
    channels_first: bool

    def __len__(self) -> int:
        return len(self.rows)

    def read(self, number: int) -> RawPicture:
        image = self.rows[number]
        image = image.transpose(1, 2, 0) if self.channels_first else image
        return image[..., 0] if image.ndim == 3 and image.shape[2] == 1 else image

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))


def list_npz(path: Path, share: float | None) -> Listing:
    """The images of a file with `x`, uint8 of N×C×H×W or N×H×W(×C), and where it has them `y`, N numbers of classes.

    `classes` may name what the numbers stand for: so `condgan sample` writes it, and BigGAN-PyTorch without names.
    Guided diffusion's `arr_0` and `arr_1` are read too. Raises UserError for any other file.
    """
    keys = npz_keys(path)
    image = next((name for name in IMAGES if name in keys), "")
    if not image:
        raise UserError(
            f"'{path}' holds the arrays {shown(', '.join(keys)) if keys else 'none'}: expected x, images of uint8, and "
            "y, their classes"
        )
    pictures = _pictures(path, image)
    labels = _labels(path, IMAGES[image], keys, len(pictures))
    places = [f"{number:0{len(str(len(pictures)))}}" for number in range(len(pictures))]
    rest = [name for name in keys if name not in (image, IMAGES[image], "classes")]
    names = f"{', '.join(shown(name, 40) for name in rest[:5])}{', …' * (len(rest) > 5)}"
    note = f"the arrays {names} are not read: images are {image}, their class numbers {IMAGES[image]}, names classes"
    return listed(str(path), pictures, places, labels, None, share, notes=(note,) * bool(rest))


def _pictures(path: Path, key: str) -> NpzPictures:
    x = _images(path, key)
    kind = np.dtype(np.uint8) if isinstance(x, StoredRows) else x.dtype
    channels_first = len(x.shape) == 4 and x.shape[1] in (1, 3, 4) and x.shape[3] not in (1, 3, 4)
    channels = x.shape[1 if channels_first else 3] if len(x.shape) == 4 else 1
    if kind != np.uint8 or len(x.shape) not in (3, 4) or channels not in (1, 3, 4) or not math.prod(x.shape):
        raise UserError(
            f"'{path}' holds {key} of {shown(kind)}, of shape {'×'.join(map(str, x.shape))}: expected images of "
            "0 … 255 as uint8, N×C×H×W or N×H×W×C with 1, 3 or 4 channels"
        )
    with _said_of(path, f"array {key} of "):
        require_at_most(math.prod(x.shape[1:]), PIECE, "each image")
        if len(x) > PICTURES:
            raise TooLarge(f"{len(x):,} images are more than {PICTURES:,}")
    return NpzPictures(x, channels_first)


def _labels(path: Path, key: str, keys: Sequence[str], count: int) -> LabelTable:
    if key not in keys:
        return LabelTable.from_index(LabelSpec.of_classes([UNLABELED]), torch.zeros(count, dtype=torch.int64))
    y = npz_array(path, key)
    if y.shape != (count,) or y.dtype.kind not in "iu" or y.min() < 0:
        raise UserError(
            f"'{path}' holds {count} images and {key} of {shown(y.dtype)}, of shape {'×'.join(map(str, y.shape))}: "
            "expected a class number for each image"
        )
    if "classes" not in keys:
        there, y = np.unique(y, return_inverse=True)
        names = [str(number) for number in there]
    else:
        names = _names(path)
        if y.max() >= len(names):
            raise UserError(f"'{path}' holds class number {y.max()} and {len(names)} classes: expected a name for each")
    return LabelTable.from_index(LabelSpec.of_classes(names), torch.from_numpy(y.astype(np.int64)))


def _names(path: Path) -> list[str]:
    """What the class numbers of a file stand for."""
    names = npz_array(path, "classes")
    if names.ndim != 1 or names.dtype.kind not in "USiu":
        raise UserError(
            f"'{path}' holds classes of {shown(names.dtype)}, of shape {'×'.join(map(str, names.shape)) or 'no axes'}: "
            "expected a list of names"
        )
    texts = [one.decode("utf-8", "replace") if isinstance(one, bytes) else str(one) for one in names.tolist()]
    with _said_of(path, "array classes of "):
        require_at_most(sum(map(len, texts)), TEXT, "all names")
    return texts
