"""Attribute files in CelebA's layout: a count, a line of names, then a line per image: its name and ±1 for each."""

import re
import zipfile
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

import numpy as np
from jaxtyping import Bool

from condgan.data.tree import Tree
from condgan.errors import UserError, repeated, unknown
from condgan.labels import Field

_TABLE = re.compile(r"^list_attr.*\.txt$")
_PARTITION = re.compile(r"^list_eval_partition.*\.txt$")
_VALUES = {"1": True, "-1": False, "0": False}


@dataclass(frozen=True, slots=True)
class Table:
    """Which attributes hold in which images."""

    file: str
    names: tuple[str, ...]
    images: tuple[str, ...]
    lines: tuple[int, ...]
    """Where in the file each image stands."""
    holds: Bool[np.ndarray, "n k"]


def find(tree: Tree, pattern: re.Pattern[str] = _TABLE) -> PurePosixPath | None:
    """The attribute file of a folder or zip, the outermost one, if it has any. Raises UserError for two."""
    found = sorted((file for file in tree.files if pattern.match(file.name)), key=lambda file: len(file.parts))
    if len(found) > 1 and len(found[0].parts) == len(found[1].parts):
        raise UserError(f"two such files found, '{found[0]}' and '{found[1]}': leave one of them")
    return found[0] if found else None


def read_table(tree: Tree, file: PurePosixPath) -> Table:
    """The attribute file. Raises UserError, with the line's number, for a line that does not fit."""
    lines = _lines(tree, file)
    if len(lines) < 2 or not lines[0].strip().isdecimal():
        raise UserError(
            f"attribute file '{file}', line 1: '{lines[0][:40] if lines else ''}' given, expected the number of "
            "images, then a line of attributes' names, then a line per image"
        )
    names = tuple(lines[1].split())
    if not names:
        raise UserError(f"attribute file '{file}', line 2: nothing given, expected the attributes' names")
    if twice := repeated(names):
        raise UserError(f"attribute file '{file}', line 2: '{twice}' given twice, expected different names")
    images: dict[str, int] = {}
    holds = []
    for number, line in enumerate(lines[2:], start=3):
        if not line.strip():
            continue
        image, *values = line.split()
        where = f"attribute file '{file}', line {number}"
        if len(values) != len(names):
            raise UserError(
                f"{where}: {len(values)} values given for '{image}', expected {len(names)}, one per attribute of line 2"
            )
        if (wrong := next((value for value in values if value not in _VALUES), None)) is not None:
            raise UserError(f"{where}: '{wrong}' given for '{image}', expected 1, or -1 or 0")
        if image in images:
            raise UserError(f"{where}: '{image}' stands on line {images[image]} already, expected each image once")
        images[image] = number
        holds.append([_VALUES[value] for value in values])
    if len(images) != int(lines[0]):
        raise UserError(
            f"attribute file '{file}', line 1: {int(lines[0]):,} images announced, {len(images):,} follow; mend the "
            "number, or complete the file"
        )
    if not images:
        raise UserError(f"attribute file '{file}' lists no image")
    return Table(str(file), names, tuple(images), tuple(images.values()), np.array(holds))


def locate(tree: Tree, table: Table) -> list[PurePosixPath]:
    """The file of each image: beside the attribute file, else wherever in the tree it is.

    Raises UserError, with its line's number, for one that is missing or in several places.
    """
    by_name: dict[str, list[PurePosixPath]] = defaultdict(list)
    for file in tree.files:
        for depth in range(len(file.parts)):
            by_name["/".join(file.parts[depth:])].append(file)
    where = [f"attribute file '{table.file}', line {line}" for line in table.lines]
    missing = [number for number, image in enumerate(table.images) if image not in by_name]
    if missing:
        more = f" and {len(missing) - 1:,} more are" if len(missing) > 1 else " is"
        raise UserError(
            f"{where[missing[0]]}: image '{table.images[missing[0]]}'{more} missing; give them back, or remove their "
            "lines"
        )
    files = []
    for image, line in zip(table.images, where, strict=True):
        found, beside = by_name[image], PurePosixPath(table.file).parent / image
        if len(found) > 1 and beside not in found:
            raise UserError(f"{line}: both '{found[0]}' and '{found[1]}' are an image '{image}'; leave one of them")
        files.append(beside if beside in found else found[0])
    return files


def partition(tree: Tree, table: Table) -> np.ndarray | None:
    """The official split where there is a file of it: 0 train, 1 validation, 2 test, of each image."""
    file = find(tree, _PARTITION)
    if file is None:
        return None
    of_image = {}
    for number, line in enumerate(_lines(tree, file), start=1):
        words = line.split()
        if not words:
            continue
        if len(words) != 2 or words[1] not in ("0", "1", "2") or words[0] in of_image:
            raise UserError(
                f"partition file '{file}', line {number}: '{line[:60]}' given, expected NAME and 0, 1 or 2, each once"
            )
        of_image[words[0]] = int(words[1])
    if missing := next((image for image in table.images if image not in of_image), None):
        raise UserError(f"partition file '{file}' lacks image '{missing}' of '{table.file}'; complete or remove it")
    return np.array([of_image[image] for image in table.images])


def choose(
    table: Table, names: Sequence[str] | None, exclusive: Sequence[Sequence[str]] | None
) -> tuple[Field, Bool[np.ndarray, "n v"], Field | None, Bool[np.ndarray, "n w"]]:
    """The field of some attributes (None: all) and its values, and the same of those that say nothing of them.

    `exclusive`: groups of which an image has one at most. None: neighbors of which every image has exactly one.
    Raises UserError for unknown names.
    """
    for name in [*(names or ()), *(name for group in exclusive or () for name in group)]:
        if name not in table.names:
            raise unknown(f"attribute of '{table.file}'", name, table.names)
    groups = _neighbors(table) if exclusive is None else exclusive
    chosen = table.names if names is None else tuple(names)
    implied = {name for group in groups if set(group) & set(chosen) for name in group}
    rest = tuple(name for name in table.names if name not in {*chosen, *implied})

    def field_of(some: tuple[str, ...], name: str) -> tuple[Field, np.ndarray]:
        inside = [tuple(one for one in group if one in some) for group in groups]
        field = Field(name, some, exclusive=False, groups=tuple(group for group in inside if len(group) > 1))
        return field, table.holds[:, [table.names.index(one) for one in some]]

    field, holds = field_of(chosen, "attributes")
    other, others = field_of(rest, "other attributes")
    return field, holds, other if rest else None, others


def _neighbors(table: Table) -> list[tuple[str, ...]]:
    """The shortest runs of attributes of which every image has exactly one."""
    groups, start = [], 0
    while start < len(table.names):
        whole = np.flatnonzero((table.holds[:, start:].cumsum(1) == 1).all(0))
        if len(whole) and whole[0] > 0:
            groups.append(table.names[start : start + whole[0] + 1])
            start += int(whole[0])
        start += 1
    return groups


def _lines(tree: Tree, file: PurePosixPath) -> list[str]:
    try:
        with tree.files[file]() as stream:
            return stream.read().decode("utf-8-sig").splitlines()
    except UnicodeDecodeError:
        raise UserError(f"'{file}' is no text: expected a file such as CelebA's list_attr_celeba.txt") from None
    except (zlib.error, zipfile.BadZipFile, RuntimeError) as error:  # the last: an encrypted zip
        raise UserError(f"'{file}' cannot be unpacked ({error}): zip the folder anew, without a password") from None
