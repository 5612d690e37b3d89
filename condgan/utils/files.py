"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

import csv
import errno
import hashlib
import io
import itertools
import os
import re
import shutil
import stat
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

from condgan.utils.choices import SOURCES
from condgan.utils.errors import UserError, shown
from condgan.utils.limits import read_at_most, require_at_most

TEMPORARY = ".tmp-"
PARTS_OF_RUNS = ("samples", "checkpoints", "tensorboard", "sheet.png", "neighbors.png", "directions.png", "tree.png")
"""What training and evaluating write into a run directory, beside texts."""
LONGEST_NAME = 100
"""Bytes of a name, which a number and an ending may follow."""


def cache_directory() -> Path:
    """Where what can be made again is kept: $CONDGAN_CACHE, else condgan/ in the user's cache folder."""
    base = os.environ.get("CONDGAN_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "condgan"
    return Path(base).expanduser()


def is_within(path: str | Path, folder: str | Path) -> bool:
    """Whether a path is that of a folder or file, or of something in the folder, whatever links lead there."""
    return Path(path).expanduser().resolve().is_relative_to(Path(folder).expanduser().resolve())


def require_outside(out: Path, source: str | Path, what: str) -> None:
    """Raises UserError where `out`, which `what` calls so, is to be written into data of a path."""
    if str(source) not in SOURCES and is_within(out, source):
        raise UserError(f"{what} given, in the data '{source}', which nothing is written into: give a place elsewhere")


def require_outside_runs(out: Path, what: str) -> None:
    """Raises UserError where `out`, which `what` calls so, is a run directory, or what a run has written there."""
    whole = out.resolve()
    for run in (whole, *whole.parents):
        if (run / "recipe.yaml").is_file() and (whole == run or whole.relative_to(run).parts[0] in PARTS_OF_RUNS):
            raise UserError(f"{what} given, which belongs to run '{run}': give a place of its own")


def require_file(out: Path, ending: str, what: str) -> None:
    """Raises UserError unless `out`, which `what` calls so, is to be a file of its kind, and none that a run wrote.

    By its ending, so that nothing of another kind is replaced by it.
    """
    if out.suffix.lower() != ending or out.is_dir():
        wrong = "which is a folder" if out.is_dir() else "which has another ending"
        raise UserError(f"{what} given, {wrong}: expected a file that ends with {ending}")
    require_outside_runs(out, what)


def path_of(given: object, what: str = "path") -> Path:
    """A path that somebody gave, with ~ for their home. Raises UserError for what is none."""
    text = os.fspath(given) if isinstance(given, str | os.PathLike) else b""
    if not isinstance(text, str) or not text or "\0" in text:
        raise UserError(f"{what} {shown(repr(given))} given: expected a path such as 'runs/digits-acgan'")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of a user that is unknown
        return Path(text)


def absolute(source: str | Path) -> str:
    """A known name, or a whole path."""
    return str(source) if str(source) in SOURCES else str(path_of(source, "data").resolve())


def is_name(text: str) -> bool:
    """Whether a file or folder can be called so, wherever it is, and be seen there."""
    plain = text.isprintable() and text == text.strip() and not re.search(r"[\\/]", text)
    return plain and text not in ("", ".", "..") and len(text.encode()) <= LONGEST_NAME


def found(path: Path) -> bool:
    """Whether there is a file or folder. Raises OSError where that cannot be told, which is not the same as none."""
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def entries(directory: Path) -> list[Path]:
    """What a folder holds, sorted; nothing where there is none. Raises OSError for one that cannot be listed."""
    try:
        with os.scandir(directory) as listed:
            return sorted(directory / one.name for one in listed)
    except FileNotFoundError:
        return []


def open_plain(path: str | Path, buffering: int = -1) -> BinaryIO:
    """A file to read. Raises OSError for a pipe, a device and the like, which may never end."""
    file = open(path, "rb", buffering, opener=_at_once)  # noqa: SIM115
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise OSError(errno.EINVAL, "Not a plain file", str(path))
    return file


@contextmanager
def plain_file(path: Path, limit: int) -> Iterator[BinaryIO]:
    """The same. Raises TooLarge for more bytes than the limit; the system's errors name the file."""
    with named(path), open_plain(path) as file:
        require_at_most(os.fstat(file.fileno()).st_size, limit)
        yield file


def _at_once(path: str, flags: int) -> int:
    return os.open(path, flags | os.O_NONBLOCK)  # a pipe would wait for its writer


def read_bytes(path: Path, limit: int) -> bytes:
    """The content of a plain file. Raises OSError, and TooLarge for more bytes than the limit."""
    with plain_file(path, limit) as file:
        return read_at_most(file, limit)


def sha256_of(path: Path, limit: int) -> str:
    """The SHA-256 of a plain file, read in pieces. Raises OSError, and TooLarge for more bytes than the limit."""
    found = hashlib.sha256()
    with plain_file(path, limit) as file:
        while piece := file.read(1 << 20):
            found.update(piece)
    return found.hexdigest()


@contextmanager
def named(path: Path, temporary: Path | None = None) -> Iterator[None]:
    """Have the system's errors name a file, which those of reading and writing an open one do not.

    `temporary`: what it, or a folder, is called while it is written, which tells nobody anything.
    """
    try:
        yield
    except OSError as error:
        if error.errno is None:  # a library's, which has words of its own
            raise
        if error.filename is None:
            error.filename = str(path)
        elif temporary is not None:
            error.filename = os.fsdecode(error.filename).replace(str(temporary), str(path), 1)
        raise


def csv_bytes(rows: Iterable[Sequence[object]]) -> bytes:
    """A CSV file with these rows."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue().encode()


def append(path: Path, data: bytes) -> None:
    """Add data to a file or, where they cannot be written, nothing."""
    with named(path), open(path, "ab", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        try:
            while data:
                data = data[file.write(data) :]
        except BaseException:
            file.truncate(end)
            raise


def write(path: Path, data: bytes) -> None:
    """Write a file so that after a crash at any moment `path` holds either its old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with named(path, temporary):
            with open(temporary, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def new_file(path: Path) -> Iterator[Path]:
    """A file to write that appears under `path` only when it is complete, in place of any older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
        with named(path, temporary):
            yield temporary
            sync(temporary)
            os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def new_directory(path: Path, replacing: bool = False) -> Iterator[Path]:
    """A directory to fill that appears under `path` only when it is complete; `replacing`: in place of any older one.

    Raises UserError, and leaves what is there as it is, where something has come there meanwhile.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        with named(path, temporary):
            yield temporary
            for file in temporary.iterdir():
                sync(file)
            sync(temporary)
            if replacing:
                remove_directory(path)
            _take_place(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


def _take_place(temporary: Path, path: Path) -> None:
    """Rename a directory, to where nothing is. Raises UserError where something is."""
    try:
        path.mkdir()
    except FileExistsError:
        raise UserError(f"'{path}' is there already, and is left as it is: give a new folder") from None
    try:
        os.rename(temporary, path)
    except BaseException:
        path.rmdir()
        raise


def file_names(names: Sequence[str]) -> list[str]:
    """Names of files or folders for names of any kind: on no system one for two, or one that means something else."""
    plain_names = []
    for name in names:
        plain = re.sub(r"[\\/:\x00-\x1f]", "_", name.encode(errors="backslashreplace").decode()).strip()
        plain = plain.encode()[:LONGEST_NAME].decode(errors="ignore").strip()
        plain_names.append(f"_{plain.lstrip('.')}" if _SPECIAL.search(plain) else plain)
    return different(plain_names, str.lower)


_SPECIAL = re.compile(
    r"^(\.|$|__MACOSX|thumbs\.db$|desktop\.ini$|(con|prn|aux|nul|com\d|lpt\d)(\.|$))|\.$", re.IGNORECASE
)
"""Names that are hidden, of a device, or not kept as they are by some systems."""


def different(names: Sequence[str], seen_as: Callable[[str], str] = str) -> list[str]:
    """Names with numbers after them where they would not be different, as somebody sees them."""
    made: list[str] = []
    seen: set[str] = set()
    for name in names:
        numbered = itertools.chain([name], (f"{name}-{number}" for number in itertools.count(2)))
        made.append(next(one for one in numbered if seen_as(one) not in seen))
        seen.add(seen_as(made[-1]))
    return made


def remove_directory(path: Path) -> None:
    """Remove a directory, if there is one, so that after a crash at any moment it is whole or absent."""
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-old-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        os.rename(path, temporary)
    except FileNotFoundError:
        return
    shutil.rmtree(temporary, ignore_errors=True)


def remove_temporaries(directory: Path) -> None:
    """Remove what killed processes left half-written in a directory; what living ones write is theirs."""
    for path in entries(directory):
        pid = re.match(rf"{re.escape(TEMPORARY)}(\d+)-", path.name)
        if pid and not _lives(int(pid[1])):
            shutil.rmtree(path) if path.is_dir() else path.unlink()


def _lives(pid: int) -> bool:
    """Whether another process of this number runs on this machine."""
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return pid != os.getpid()


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        with named(path):
            os.fsync(descriptor)
    finally:
        os.close(descriptor)
