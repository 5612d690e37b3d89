"""The files of a folder, of a zip, or of tar shards."""

import io
import os
import re
import tarfile
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, runtime_checkable

from PIL import Image

from condgan.data.listing import LARGEST, RawPicture, digest_of
from condgan.data.readers.text import as_text
from condgan.utils.errors import UserError, said_of, shown
from condgan.utils.limits import TooLarge, require_at_most


@runtime_checkable
class Store(Protocol):
    """Where the bytes of files are; worker processes read it, forked or from a pickle."""

    def read(self, name: str) -> bytes: ...

    def digest(self, name: str) -> bytes:
        """Bytes that change when the content does."""
        ...


@dataclass(frozen=True)
class Tree:
    """The visible files of a folder, zip or tar by their paths, sorted, with / between; and all folders."""

    source: str
    files: Sequence[str]
    folders: frozenset[str]
    store: Store
    tar: bool = False

    def inside(self, root: str) -> list[str]:
        """The folders right in `root`."""
        return sorted(folder for folder in self.folders if folder and parent(folder) == root)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises whatever it likes where that cannot be read."""
        return self.store.read(name)

    def text(self, name: str, limit: int) -> str:
        r"""A file of so many bytes at most as text, whose lines end in \n. Raises UserError where it is none."""
        return self.encoded(name, limit)[0]

    def encoded(self, name: str, limit: int) -> tuple[str, str]:
        """The same, and its encoding."""
        try:
            content = self.read(name)
        except OSError:
            raise
        except Exception as error:  # damaged or encrypted zips raise many things
            raise UserError(f"'{name}' cannot be unpacked ({error}): zip the folder anew, without a password") from None
        what = f"'{name}' of '{self.source}'"
        with said_of(what, "leave it out, or say less in it", TooLarge):
            require_at_most(len(content), limit)
        try:
            return as_text(content)
        except ValueError as error:
            raise UserError(f"{what} is no text ({shown(error)}): save it as UTF-8, or leave it out") from None


@dataclass(frozen=True)
class Files:
    """Some files of a tree, as pictures."""

    tree: Tree
    names: Sequence[str]

    def __len__(self) -> int:
        return len(self.names)

    def read(self, number: int) -> RawPicture:
        return self.tree.read(self.names[number])

    def digest(self, number: int) -> bytes:
        return self.tree.store.digest(self.names[number])


def parent(name: str) -> str:
    """The folder of a file or folder; '' for the outermost."""
    return name.rpartition("/")[0]


def open_tree(path: Path, expected: str) -> Tree:
    """The files of a folder, links followed, of a zip, of a tar, or of all tars of a folder that holds nothing else.

    Raises UserError, with what was expected, for anything else.
    """
    if not path.exists():
        raise UserError(f"'{path}' does not exist: {expected}")
    if path.is_dir():
        names, folders = _walk(path)
        visible = sorted(name for name in names if not _HIDDEN.search(name))
        shards = [name for name in visible if name.endswith(".tar")]
        if shards and not any(is_image(name) for name in visible):
            return _open_tars(path, [path / name for name in shards])
        return _tree(path, visible, folders, _Folder(path))
    if path.suffix == ".tar":
        return _open_tars(path, [path])
    if re.search(r"\.(tar\.\w+|tgz)$", path.name):
        raise UserError(f"'{path}' is a compressed tar, which has no random access: unpack it, or make a plain .tar")
    if zipfile.is_zipfile(path):
        store = _Zip(path)
        names = list(store.members)
        _refuse_outside(path, "zip", names)
        files = sorted(name for name in names if not name.endswith("/"))
        return _tree(path, files, [name.rstrip("/") for name in names if name.endswith("/")], store)
    raise UserError(f"'{path}' is neither a folder nor a complete zip file: {expected}")


def _tree(path: Path, files: Sequence[str], folders: Sequence[str], store: Store, tar: bool = False) -> Tree:
    visible = [name for name in files if not _HIDDEN.search(name)]
    above = {name for name in folders if not _HIDDEN.search(name)} | {parent(name) for name in visible}
    for folder in list(above):
        while folder := parent(folder):
            above.add(folder)
    return Tree(str(path), visible, frozenset(above | {""}), store, tar)


def is_image(name: str) -> bool:
    """Whether a file is named like an image."""
    return os.path.splitext(name)[1].lower() in Image.registered_extensions()


@dataclass(frozen=True)
class _Folder:
    path: Path

    def read(self, name: str) -> bytes:
        with open(self.path / name, "rb") as file:
            refuse_large(os.fstat(file.fileno()).st_size)
            return file.read()

    def digest(self, name: str) -> bytes:
        try:
            return digest_of(self.read(name))
        except (OSError, ValueError) as error:
            return str(error).encode()


class _Zip:
    """A zip whose file is read at positions of this process's own, so that forked ones do not disturb each other."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.archive = zipfile.ZipFile(_Positioned(path))
        except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter: a zip version unknown to Python
            raise UserError(f"zip '{path}' is damaged ({error}): zip the folder anew") from None
        self.members = {member.filename.replace("\\", "/"): member for member in self.archive.infolist()}

    def read(self, name: str) -> bytes:
        member = self.members[name]
        refuse_large(member.file_size)
        return self.archive.read(member)

    def digest(self, name: str) -> bytes:
        member = self.members[name]
        return f"{member.CRC:08x} {member.file_size}".encode()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Zip, (self.path,)


class _Positioned(io.BufferedIOBase):
    """A file read by position, which processes do not share."""

    def __init__(self, path: Path) -> None:
        self._file = open(path, "rb", buffering=0)  # noqa: SIM115
        self._at = 0

    def seekable(self) -> bool:
        return True

    def readable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        start = {0: 0, 1: self._at, 2: os.fstat(self._file.fileno()).st_size}[whence]
        self._at = max(0, start + offset)
        return self._at

    def read(self, size: int | None = -1) -> bytes:
        if size is None or size < 0:
            size = os.fstat(self._file.fileno()).st_size - self._at
        found = os.pread(self._file.fileno(), size, self._at)
        self._at += len(found)
        return found


@dataclass(frozen=True)
class _Tars:
    shards: tuple[Path, ...]
    where: dict[str, tuple[int, int, int]]
    """Of each file: its shard, and where there its bytes begin and how many they are."""

    def read(self, name: str) -> bytes:
        shard, start, size = self.where[name]
        refuse_large(size)
        with open(self.shards[shard], "rb") as file:
            file.seek(start)
            return file.read(size)

    def digest(self, name: str) -> bytes:
        return digest_of(self.read(name))


def _open_tars(path: Path, shards: Sequence[Path]) -> Tree:
    where: dict[str, tuple[int, int, int]] = {}
    folders = []
    for number, shard in enumerate(sorted(shards)):
        prefix = f"{shard.relative_to(path).with_suffix('').as_posix()}/" if len(shards) > 1 else ""
        size = shard.stat().st_size
        try:
            with tarfile.open(shard, "r:") as archive:
                while (member := archive.next()) is not None:
                    archive.members.clear()  # which it would keep  # pyright: ignore[reportAttributeAccessIssue]
                    _refuse_outside(shard, "tar", [member.name])
                    name = prefix + member.name.removeprefix("./")
                    if member.isdir():
                        folders.append(name)
                    elif member.isreg():
                        if member.offset_data + member.size > size:
                            raise tarfile.ReadError("it ends early")
                        where[name] = number, member.offset_data, member.size
                if not _ends(shard, archive.offset):
                    raise tarfile.ReadError(f"nothing that belongs there after {archive.offset:,} bytes")
        except tarfile.TarError as error:
            raise UserError(f"tar '{shard}' is damaged ({error}): make it anew") from None
    return _tree(path, sorted(where), folders, _Tars(tuple(sorted(shards)), where), tar=True)


def _ends(shard: Path, offset: int) -> bool:
    """Whether a tar says there that it ends: its reader stops at any block that it does not understand."""
    with open(shard, "rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def refuse_large(size: int) -> None:
    if size > LARGEST:
        raise ValueError(f"{size:,} bytes, more than {LARGEST:,}")


def _refuse_outside(path: Path, kind: str, names: Sequence[str]) -> None:
    for name in names:
        if _OUTSIDE.search(name):
            raise UserError(
                f"{kind} '{path}' refused: its member '{name}' points outside the archive; {kind} the folder anew"
            )


def _walk(path: Path) -> tuple[list[str], list[str]]:
    """All files and folders below, links followed but not in circles; a link to nothing counts as a file."""
    names: list[str] = []
    folders: list[str] = []

    def fail(error: OSError) -> None:
        raise error

    for folder, inner, files in os.walk(path, followlinks=True, onerror=fail):
        here = Path(folder)
        above = {os.path.realpath(parent) for parent in here.parents if parent.is_relative_to(path)}
        if os.path.realpath(here) in above:
            inner.clear()
            continue
        inside = "" if here == path else f"{here.relative_to(path).as_posix()}/"
        folders += [inside + name for name in inner]
        names += [inside + name for name in files]
    return names, folders


_HIDDEN = re.compile(r"(^|/)(\.(?!/)|__MACOSX|Thumbs\.db$|desktop\.ini$)", re.IGNORECASE)
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
