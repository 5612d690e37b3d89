"""Images in LMDBs, such as LSUN's.

They are read without the library, which maps a file into memory and believes what its pages say: a damaged or truncated
one would end the process. A database is a tree of pages. Each begins with a head of 16 bytes; a leaf's items are keys
with their values, or with the number of the page where a long value begins; a branch's are numbers of pages.
"""

import os
import struct
from array import array
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple

import numpy as np
import torch
from jaxtyping import Int

from condgan.data.listing import Chain, Listing, RawPicture, digest_of, listed
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError, said_of
from condgan.utils.files import open_plain
from condgan.utils.limits import ENCODED, PICTURES, require_at_most

MAGIC, VERSION = 0xBEEFC0DE, 1
PAGE_HEAD = 16
BRANCH, LEAF = 1, 2
"""Flags of pages."""
FAR, OTHER = 1, 2 | 4
"""Flags of items: a long value; a database within, or several values of a key."""
NOTHING = (1 << 64) - 1


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
    def of(cls, items: Iterable["_Item"]) -> tuple["_Keys", Int[np.ndarray, "n 2"]]:
        """The keys of items, and where their values are. Raises ValueError for too many."""
        whole, numbers = bytearray(), array("q")
        for item in items:
            whole += item.key
            numbers.extend((len(whole), item.start, item.size))
            if len(numbers) > 3 * PICTURES:
                raise ValueError(f"more than {PICTURES:,} images")
        table = np.array(numbers, np.int64).reshape(-1, 3)
        return cls(bytes(whole), table[:, 0]), table[:, 1:]

    def __len__(self) -> int:
        return len(self.ends)

    def __getitem__(self, number: int) -> bytes:  # pyright: ignore[reportIncompatibleMethodOverride]
        return self.whole[self.ends[number - 1] if number else 0 : self.ends[number]]


@dataclass(frozen=True)
class LMDBPictures:
    """The values of a database, by where they are in its file."""

    path: Path
    keys: Sequence[bytes]
    places: Int[np.ndarray, "n 2"]
    """Where each begins, and how many bytes it has."""

    @classmethod
    def of(cls, path: Path) -> "LMDBPictures":
        """All of them. Raises UserError where there are none, and for a damaged database."""
        file = path.resolve() / "data.mdb"
        do = "it is not a whole LMDB; unpack or download it anew"
        with said_of(f"'{path}'", do, EOFError, struct.error, ValueError), open_plain(file) as opened:
            keys, places = _Keys.of(_items(opened))
        if not len(keys):
            raise UserError(f"'{path}' holds no images: expected an LMDB with encoded ones")
        return cls(file, keys, places)

    def __len__(self) -> int:
        return len(self.keys)

    def read(self, number: int) -> RawPicture:
        start, size = self.places[number].tolist()
        require_at_most(size, ENCODED)
        with open_plain(self.path) as file:
            return _read(file, start, size)

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))


class _Root(NamedTuple):
    """What a database says of itself after a change."""

    change: int
    page_size: int
    root: int
    last: int
    """The number of its last page."""


class _Item(NamedTuple):
    key: bytes
    start: int
    size: int


def _items(file: BinaryIO) -> Iterator[_Item]:
    """The keys of a database in their order, and where in its file their values are.

    Raises ValueError, EOFError or struct.error for a damaged one.
    """
    first = _root(file, 0)
    newest = max(first, _root(file, first.page_size))
    end = os.fstat(file.fileno()).st_size
    if (newest.last + 1) * newest.page_size > end:
        raise EOFError(f"{(newest.last + 1) * newest.page_size:,} bytes expected, {end:,} are there")
    waiting, left = [newest.root] if newest.root != NOTHING else [], newest.last + 1
    while waiting:
        number = waiting.pop()
        left -= 1
        if left < 0:
            raise ValueError("its pages are in a circle")
        start = number * newest.page_size
        page = _read(file, start, newest.page_size)
        flags, lower = struct.unpack_from("<HH", page, 10)
        places = struct.unpack_from(f"<{(lower - PAGE_HEAD) // 2}H", page, PAGE_HEAD)
        if flags & 0xF == BRANCH:
            waiting += [_child(page, place) for place in reversed(places)]
        elif flags & 0x2F == LEAF:
            for place in places:
                yield _item(page, start, place, newest.page_size)
        else:
            raise ValueError(f"page {number:,} is of no known kind")


def _root(file: BinaryIO, start: int) -> _Root:
    page = _read(file, start, PAGE_HEAD + 136)
    magic, version = struct.unpack_from("<II", page, PAGE_HEAD)
    if (magic, version) != (MAGIC, VERSION):
        raise ValueError("it does not begin as one")
    page_size = struct.unpack_from("<I", page, PAGE_HEAD + 24)[0]
    if page_size not in (1 << power for power in range(8, 17)):
        raise ValueError(f"pages of {page_size:,} bytes")
    root, last, change = struct.unpack_from("<QQQ", page, PAGE_HEAD + 112)
    return _Root(change, page_size, root, last)


def _child(page: bytes, place: int) -> int:
    """The page that an item of a branch leads to."""
    low, high, highest = struct.unpack_from("<HHH", page, place)
    return low | high << 16 | highest << 32


def _item(page: bytes, start: int, place: int, page_size: int) -> _Item:
    """An item of a leaf that begins at `start` in the file."""
    low, high, flags, length = struct.unpack_from("<HHHH", page, place)
    key, behind = page[place + 8 : place + 8 + length], place + 8 + length
    if flags & OTHER:
        raise ValueError("it holds databases, or keys of several values: expected one of images")
    size = low | high << 16
    if flags & FAR:
        return _Item(key, struct.unpack_from("<Q", page, behind)[0] * page_size + PAGE_HEAD, size)
    if behind + size > len(page):
        raise ValueError("a value goes beyond its page")
    return _Item(key, start + behind, size)


def _read(file: BinaryIO, start: int, size: int) -> bytes:
    """Some bytes. Raises EOFError where the file has fewer."""
    found = os.pread(file.fileno(), size, start) if start < 1 << 62 else b""
    if len(found) < size:
        raise EOFError(f"it ends before byte {start + size:,}")
    return found


def _text(key: bytes) -> str:
    text = key.decode("ascii", "replace")
    return text if text.isascii() and text.isprintable() else key.hex()
