"""The files of a folder, of a zip, or of tar shards."""

import bz2
import copy
import hashlib
import io
import lzma
import os
import re
import stat
import struct
import tarfile
import zipfile
import zlib
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Protocol, runtime_checkable

from condgan.data.listing import RawPicture, digest_of
from condgan.data.readers.names import ending, is_image, is_leftover, left_out
from condgan.data.readers.text import as_text
from condgan.utils.errors import UserError, said_of, shown
from condgan.utils.files import open_plain
from condgan.utils.limits import DEPTH, ENCODED, PATH, TEXT, TooLarge, read_at_most, require_at_most, require_few_values


@runtime_checkable
class Store(Protocol):
    """Where the bytes of files are; worker processes read it, forked or from a pickle."""

    def read(self, name: str, limit: int) -> bytes:
        """The content of a file. Raises whatever it likes where that cannot be read, or is more than the limit."""
        ...

    def start(self, name: str) -> bytes:
        """Its first bytes, as many as `SIGNATURE`."""
        ...

    def digest(self, name: str) -> bytes:
        """Bytes that change when the content does."""
        ...

    def size(self, name: str) -> int:
        """How many bytes it has."""
        ...

    def where(self, name: str) -> tuple[int, int] | None:
        """The number of the shard that holds it, and the byte at which it begins there; None where there are none."""
        ...


SIGNATURE = 12
"""Bytes that a file's format is told by."""


@dataclass(frozen=True)
class Tree:
    """The files of a folder, zip or tar by their paths, sorted, with / between; and all folders.

    Without those that `LEFTOVERS` names.
    """

    source: str
    files: Sequence[str]
    folders: frozenset[str]
    store: Store
    tar: bool = False
    special: Sequence[str] = ()
    """Pipes, sockets and devices, which are none of the files."""

    def inside(self, root: str) -> list[str]:
        """The folders right in `root`."""
        return sorted(folder for folder in self.folders if folder and parent(folder) == root)

    def read(self, name: str) -> bytes:
        """The content of a file. Raises whatever it likes where that cannot be read."""
        return self.store.read(name, ENCODED)

    def text(self, name: str, limit: int) -> str:
        r"""A file of so many bytes at most as text, whose lines end in \n. Raises UserError where it is none."""
        return self.encoded(name, limit)[0]

    def encoded(self, name: str, limit: int) -> tuple[str, str]:
        """The same, and its encoding."""
        what = f"'{shown(name)}' of '{self.source}'"
        with said_of(what, "make it anew, and a zip without a password", OSError, *ZIP_ERRORS):
            content = self.store.read(name, limit)
        try:
            text, encoding = as_text(content)
            require_few_values(text)
            return text, encoding
        except TooLarge as error:
            raise UserError(f"{what} is too long ({error}): split the data, and give each part its own list") from None
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

    def size(self, number: int) -> int:
        """The bytes of one of them, of which none is read."""
        return self.tree.store.size(self.names[number])

    def where(self, number: int) -> tuple[int, int] | None:
        """The shard of one of them, and where it begins there; None where files lie by themselves."""
        return self.tree.store.where(self.names[number])


def parent(name: str) -> str:
    """The folder of a file or folder; '' for the outermost."""
    return name.rpartition("/")[0]


def images_in(tree: Tree, told: Collection[str] = ()) -> tuple[list[str], list[str]]:
    """The images of a tree, and what is to be said of its other files but those that are told of elsewhere.

    Without an ending the content tells.
    """
    images = [file for file in tree.files if is_image(file) or (not ending(file) and _begins_as_image(tree, file))]
    found = {*images, *told}
    notes = left_out(file for file in tree.files if file not in found)
    if tree.special:
        count = len(tree.special)
        notes.append(
            f"{count:,} file{'s' * (count > 1)} left out, such as '{shown(tree.special[0])}': pipes, sockets or devices"
        )
    return images, notes


def _begins_as_image(tree: Tree, file: str) -> bool:
    try:
        start = tree.store.start(file)
    except Exception:  # damaged or encrypted zips raise many things
        return False
    return start.startswith((b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"GIF8")) or (
        start[:4] == b"RIFF" and start[8:] == b"WEBP"
    )


def require_there(path: Path, expected: str) -> None:
    """Raises UserError unless a path is that of a file or folder that may be looked at."""
    try:
        mode = path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError, ValueError):
        raise UserError(f"'{path}' does not exist: {expected}") from None
    except OSError as error:
        raise _unreadable(path, error) from None
    if not (stat.S_ISDIR(mode) or stat.S_ISREG(mode)):
        raise UserError(f"'{path}' is a pipe, socket or device: {expected}")


def _unreadable(path: Path, error: OSError) -> UserError:
    what = "folder " * path.is_dir()
    return UserError(f"{what}'{path}' cannot be read ({error.strerror}): give yourself the right to, or move it away")


def open_tree(path: Path, expected: str) -> Tree:
    """The files of a folder, links followed, of a zip, of a tar, or of all tars of a folder that holds nothing else.

    Raises UserError, with what was expected, for anything else.
    """
    require_there(path, expected)
    if path.is_dir():
        files, folders, special = _walk(path)
        shards = [name for name in sorted(files) if name.endswith(".tar")]
        if shards and not any(is_image(name) for name in files):
            return _open_tars(path, [path / name for name in shards])
        return _tree(path, sorted(files), folders, _Folder(path), special=special)
    if path.suffix == ".tar":
        return _open_tars(path, [path])
    if re.search(r"\.(tar\.\w+|tgz)$", path.name):
        raise UserError(f"'{path}' is a compressed tar, which has no random access: unpack it, or make a plain .tar")
    if zipfile.is_zipfile(path):
        with said_of(f"zip '{path}'", "it is damaged; zip the folder anew", OSError, *ZIP_ERRORS):
            store = Zip(path)
        names = list(store.members)
        _refuse_outside(path, "zip", names)
        files = sorted(name for name in names if not name.endswith("/"))
        return _tree(path, files, [name.rstrip("/") for name in names if name.endswith("/")], store)
    raise UserError(f"'{path}' is neither a folder nor a complete zip file: {expected}")


def _tree(
    path: Path,
    files: Sequence[str],
    folders: Sequence[str],
    store: Store,
    tar: bool = False,
    special: Sequence[str] = (),
) -> Tree:
    visible = [name for name in files if not is_leftover(name)]
    inner = [name for name in folders if name.rpartition("/")[2] != "." and not is_leftover(f"{name}/")]
    above = {*inner} | {parent(name) for name in visible}
    for folder in list(above):
        while folder := parent(folder):
            above.add(folder)
    return Tree(str(path), visible, frozenset(above | {""}), store, tar, special)


@dataclass(frozen=True)
class _Folder:
    path: Path

    def open(self, name: str) -> BinaryIO:
        """A file, read as it is: there are many, and each is read once."""
        return open_plain(f"{self.path}/{name}", buffering=0)

    def read(self, name: str, limit: int) -> bytes:
        with self.open(name) as file:
            require_at_most(os.fstat(file.fileno()).st_size, limit)
            return read_at_most(file, limit)

    def start(self, name: str) -> bytes:
        with self.open(name) as file:
            return file.read(SIGNATURE)

    def digest(self, name: str) -> bytes:
        try:
            with self.open(name) as file:
                require_at_most(os.fstat(file.fileno()).st_size, ENCODED)
                digest = hashlib.blake2b(digest_size=16)
                while block := file.read(1 << 20):
                    digest.update(block)
                return digest.digest()
        except (OSError, ValueError) as error:
            return str(error).encode()

    def size(self, name: str) -> int:
        return (self.path / name).stat().st_size

    def where(self, name: str) -> tuple[int, int] | None:
        return None


ZIP_ERRORS = (
    zipfile.BadZipFile, zlib.error, lzma.LZMAError, struct.error,
    EOFError, KeyError, MemoryError, RuntimeError, ValueError,
)  # fmt: skip
"""What reading zips raises, NotImplementedError and RecursionError among them."""


MEMBER_HEAD = 30
"""Bytes of a zip's member before its name."""


class Zip:
    """A zip whose file is read at positions of this process's own, so that forked ones do not disturb each other.

    Raises one of ZIP_ERRORS for a damaged one.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.archive = zipfile.ZipFile(_Positioned(path))
        _refuse_overlaps(self.archive)
        self.members = {member.filename.replace("\\", "/"): member for member in self.archive.infolist()}

    def read(self, name: str, limit: int) -> bytes:
        member = self.members[name]
        require_at_most(member.file_size, limit)
        content = _unpacked(self._packed(member, limit), member.compress_type, limit)
        if zlib.crc32(content) != member.CRC:
            raise zipfile.BadZipFile("its checksum is wrong")
        return content

    def _packed(self, member: zipfile.ZipInfo, limit: int) -> bytes:
        """The bytes of a member as they are stored."""
        require_at_most(member.compress_size, limit)
        packed = copy.copy(member)
        packed.compress_type, packed.file_size = zipfile.ZIP_STORED, member.compress_size
        packed.CRC = None  # of what is unpacked  # pyright: ignore[reportAttributeAccessIssue]
        with self.archive.open(packed) as file:
            return file.read()

    def digest(self, name: str) -> bytes:
        member = self.members[name]
        return f"{member.CRC:08x} {member.file_size}".encode()

    def size(self, name: str) -> int:
        return self.members[name].file_size

    def where(self, name: str) -> tuple[int, int] | None:
        return None

    def start(self, name: str) -> bytes:
        with self.archive.open(self.members[name]) as file:
            return file.read(SIGNATURE)

    def __reduce__(self) -> tuple[Any, ...]:
        return Zip, (self.path,)


def _refuse_overlaps(archive: zipfile.ZipFile) -> None:
    """Raises BadZipFile where members share bytes: a small zip of that kind unpacks to any size."""
    end = 0
    for member in sorted(archive.infolist(), key=lambda member: member.header_offset):
        if member.header_offset < end:
            raise zipfile.BadZipFile(f"'{shown(member.filename)}' overlaps another member")
        end = member.header_offset + MEMBER_HEAD + member.compress_size
    if end > archive.start_dir:
        raise zipfile.BadZipFile("its last member goes beyond its end")


def _unpacked(content: bytes, method: int, limit: int) -> bytes:
    """What a member's bytes unpack to. Raises TooLarge, having unpacked no more than the limit, where it is more."""
    if method == zipfile.ZIP_DEFLATED:
        content = zlib.decompressobj(-zlib.MAX_WBITS).decompress(content, limit + 1)
    elif method == zipfile.ZIP_BZIP2:
        content = bz2.BZ2Decompressor().decompress(content, limit + 1)
    elif method == zipfile.ZIP_LZMA:
        content = _lzma(content[:9]).decompress(content[9:], limit + 1)
    elif method != zipfile.ZIP_STORED:
        raise NotImplementedError(f"compression method {method} is unknown")
    if len(content) > limit:
        raise TooLarge(f"it unpacks to more than {limit:,} bytes")
    return content


def _lzma(head: bytes) -> lzma.LZMADecompressor:
    """What unpacks LZMA as zips have it, by the nine bytes before: versions, and how it was packed."""
    _, size, packing, window = struct.unpack("<HHBI", head)
    if size != 5 or packing >= 9 * 5 * 5:
        raise zipfile.BadZipFile("its LZMA is of no known kind")
    require_at_most(window, ENCODED, "its LZMA window")
    lc, lp, pb = packing % 9, packing // 9 % 5, packing // 45
    how = {"id": lzma.FILTER_LZMA1, "dict_size": window, "lc": lc, "lp": lp, "pb": pb}
    return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=[how])


class _Positioned(io.BufferedIOBase):
    """A file read by position, which processes do not share."""

    def __init__(self, path: Path) -> None:
        self._file = open_plain(path)
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
        found = os.pread(self._file.fileno(), size, min(self._at, 1 << 62))
        self._at += len(found)
        return found


@dataclass(frozen=True)
class _Tars:
    shards: tuple[Path, ...]
    places: dict[str, tuple[int, int, int]]
    """Of each file: its shard, and where there its bytes begin and how many they are."""

    def read(self, name: str, limit: int) -> bytes:
        shard, start, size = self.places[name]
        require_at_most(size, limit)
        with open_plain(self.shards[shard]) as file:
            content = os.pread(file.fileno(), size, start)
        if len(content) < size:
            raise EOFError("its tar ends early")
        return content

    def digest(self, name: str) -> bytes:
        return digest_of(self.read(name, ENCODED))

    def start(self, name: str) -> bytes:
        shard, start, size = self.places[name]
        with open_plain(self.shards[shard]) as file:
            return os.pread(file.fileno(), min(SIGNATURE, size), start)

    def size(self, name: str) -> int:
        return self.places[name][2]

    def where(self, name: str) -> tuple[int, int] | None:
        return self.places[name][:2]


def _open_tars(path: Path, shards: Sequence[Path]) -> Tree:
    places: dict[str, tuple[int, int, int]] = {}
    folders: list[str] = []
    for number, shard in enumerate(sorted(shards)):
        prefix = f"{shard.relative_to(path).with_suffix('').as_posix()}/" if len(shards) > 1 else ""
        with (
            said_of(
                f"tar '{shard}'", "it is damaged; make it anew", tarfile.TarError, EOFError, RuntimeError, ValueError
            ),
            open_plain(shard) as file,
        ):
            _list_members(shard, file, number, prefix, places, folders)
    return _tree(path, sorted(places), folders, _Tars(tuple(sorted(shards)), places), tar=True)


def _list_members(
    shard: Path, file: BinaryIO, number: int, prefix: str, places: dict[str, tuple[int, int, int]], folders: list[str]
) -> None:
    """Add the files of a tar to `places`, and its folders. Raises what tarfile does where it is damaged."""
    size = os.fstat(file.fileno()).st_size
    with tarfile.open(fileobj=_Heads(file), mode="r:") as archive:  # pyright: ignore[reportArgumentType, reportCallIssue]
        while (member := archive.next()) is not None:
            archive.members.clear()  # which it would keep  # pyright: ignore[reportAttributeAccessIssue]
            _refuse_outside(shard, "tar", [member.name])
            name = prefix + member.name.removeprefix("./")
            if member.size < 0 or archive.offset <= member.offset:
                raise tarfile.ReadError(f"'{shown(member.name)}' has {member.size:,} bytes")
            if member.issparse():
                raise tarfile.ReadError(f"'{shown(member.name)}' has holes: expected whole files")
            if member.isdir():
                folders.append(name)
            elif member.isreg():
                if member.offset_data + member.size > size:
                    raise tarfile.ReadError("it ends early")
                places[name] = number, member.offset_data, member.size
        if not _ends(shard, archive.offset):
            raise tarfile.ReadError(f"nothing that belongs there after {archive.offset:,} bytes")


@dataclass(frozen=True)
class _Heads:
    """A tar's file, of which only heads are read: names and the like, that are short."""

    file: BinaryIO

    def read(self, size: int = -1) -> bytes:
        if not 0 <= size <= TEXT:
            raise tarfile.ReadError(f"a head has {size:,} bytes, more than {TEXT:,}")
        return self.file.read(size)

    def seek(self, offset: int) -> int:
        return self.file.seek(offset)

    def tell(self) -> int:
        return self.file.tell()


def _ends(shard: Path, offset: int) -> bool:
    """Whether a tar says there that it ends: its reader stops at any block that it does not understand."""
    with open(shard, "rb") as file:
        file.seek(offset)
        return file.read(tarfile.BLOCKSIZE) == bytes(tarfile.BLOCKSIZE)


def _refuse_outside(path: Path, kind: str, names: Sequence[str]) -> None:
    for name in names:
        if _OUTSIDE.search(name):
            raise UserError(
                f"{kind} '{path}' refused: its member '{shown(name)}' points outside; {kind} the folder anew"
            )
        if len(name) > PATH or name.count("/") > DEPTH:
            raise UserError(
                f"{kind} '{path}' refused: the path of its member '{shown(name, 60)}' is longer than {PATH:,} "
                f"characters or {DEPTH} folders; {kind} the folder anew"
            )


def _walk(path: Path) -> tuple[list[str], list[str], list[str]]:
    """All files and folders below, and what is neither; without leftovers.

    Links are followed, but not to folders that hold them; one to nothing, or to itself, counts as a file. Raises
    UserError for a folder that cannot be read.
    """
    files: list[str] = []
    folders: list[str] = []
    special: list[str] = []
    whole = Path(os.path.realpath(path))
    todo = [("", frozenset(map(str, (whole, *whole.parents))))]
    while todo:
        folder, above = todo.pop()
        try:
            for entry in sorted(os.scandir(path / folder), key=lambda entry: entry.name):
                name = f"{folder}/{entry.name}" if folder else entry.name
                link = entry.is_symlink()
                if os.path.isdir(entry.path) if link else entry.is_dir():
                    real = os.path.realpath(entry.path)
                    if real not in above and not is_leftover(f"{entry.name}/"):
                        folders.append(name)
                        todo.append((name, above | {real}))
                elif not is_leftover(entry.name):
                    file = not os.path.exists(entry.path) or os.path.isfile(entry.path) if link else entry.is_file()
                    (files if file else special).append(name)
        except OSError as error:
            raise _unreadable(path / folder, error) from None
    return files, folders, sorted(special)


_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
