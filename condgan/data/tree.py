"""The files of a folder or a zip."""

import os
import re
import zipfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from condgan.errors import UserError


@dataclass(frozen=True, slots=True)
class Tree:
    """The visible files of a folder or zip, how to open each, and all folders."""

    files: Mapping[PurePosixPath, Callable[[], IO]]
    folders: set[PurePosixPath]

    def inside(self, root: PurePosixPath) -> list[PurePosixPath]:
        """The folders right in `root`."""
        return sorted(folder for folder in self.folders if folder.parent == root and folder != root)


def open_tree(path: Path, expected: str) -> Tree:
    """The files of a folder, links followed, or of a zip. Raises UserError, with what was expected, for neither."""
    if not path.exists():
        raise UserError(f"'{path}' does not exist: {expected}")
    if path.is_dir():
        names, folders = _walk(path)
        files = {name: partial(open, path / name, "rb") for name in sorted(names)}
    elif zipfile.is_zipfile(path):
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter: a zip version unknown to Python
            raise UserError(f"zip '{path}' is damaged ({error}): zip the folder anew") from None
        for name in archive.namelist():
            if _OUTSIDE.search(name):
                raise UserError(
                    f"zip '{path}' refused: its member '{name}' points outside the archive; zip the folder anew"
                )
        files = {name: partial(archive.open, name) for name in sorted(archive.namelist()) if not name.endswith("/")}
        folders = [name for name in archive.namelist() if name.endswith("/")]
    else:
        raise UserError(f"'{path}' is neither a folder nor a complete zip file: {expected}")
    visible = {PurePosixPath(name): opener for name, opener in files.items() if not _HIDDEN.search(name)}
    parents = {ancestor for parent in {name.parent for name in visible} for ancestor in (parent, *parent.parents)}
    return Tree(visible, parents | {PurePosixPath(name) for name in folders if not _HIDDEN.search(name)})


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
        folders += [(here / name).relative_to(path).as_posix() for name in inner]
        names += [(here / name).relative_to(path).as_posix() for name in files]
    return names, folders


_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX)")
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")
