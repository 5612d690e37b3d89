"""Images in LMDBs, such as LSUN's."""

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import lmdb
import numpy as np
import torch
from jaxtyping import Int

from condgan.data.listing import Chain, Listing, RawPicture, digest_of, listed
from condgan.labels import LabelSpec, LabelTable
from condgan.utils.errors import UserError

if TYPE_CHECKING:
    pass


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

    def read(self, number: int) -> RawPicture:
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
