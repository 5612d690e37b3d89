"""Files that are either whole or absent: written under a temporary name, synced, renamed."""

import itertools
import os
import re
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from condgan.utils.errors import UserError, shown

TEMPORARY = ".tmp-"
LONGEST_NAME = 100
"""Bytes of a name, which a number and an ending may follow."""


def cache_directory() -> Path:
    """Where what can be made again is kept: $CONDGAN_CACHE, else condgan/ in the user's cache folder."""
    base = os.environ.get("CONDGAN_CACHE") or Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache") / "condgan"
    return Path(base).expanduser()


def path_of(given: object, what: str = "path") -> Path:
    """A path that somebody gave, with ~ for their home. Raises UserError for what is none."""
    if not isinstance(given, str | os.PathLike) or not isinstance(text := os.fspath(given), str) or "\0" in text:
        raise UserError(f"{what} {shown(repr(given))} given: expected a path such as 'runs/digits-acgan'")
    try:
        return Path(text).expanduser()
    except RuntimeError:  # of a user that is unknown
        return Path(text)


def is_name(text: str) -> bool:
    """Whether a file or folder can be called so, wherever it is, and be seen there."""
    plain = text.isprintable() and text == text.strip() and not re.search(r"[\\/]", text)
    return plain and text not in ("", ".", "..") and len(text.encode()) <= LONGEST_NAME


def write(path: Path, data: bytes) -> None:
    """Write a file so that after a crash at any moment `path` holds either its old content or all of the new."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    try:
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
        yield temporary
        sync(temporary)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    sync(path.parent)


@contextmanager
def new_directory(path: Path) -> Iterator[Path]:
    """A directory to fill that appears under `path` only when it is complete, in place of any older one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f"{TEMPORARY}{os.getpid()}-{path.name}")
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir()
    try:
        yield temporary
        for file in temporary.iterdir():
            sync(file)
        sync(temporary)
        shutil.rmtree(path, ignore_errors=True)
        os.rename(temporary, path)
    except BaseException:
        shutil.rmtree(temporary, ignore_errors=True)
        raise
    sync(path.parent)


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


def remove_temporaries(directory: Path) -> None:
    """Remove what a killed process left half-written in a directory that nobody else writes to."""
    for path in directory.glob(f"{TEMPORARY}*"):
        shutil.rmtree(path) if path.is_dir() else path.unlink()


def sync(path: Path) -> None:
    """Have the disk hold what was written to a file or directory."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
