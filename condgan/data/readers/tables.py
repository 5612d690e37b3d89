"""Read labels and splits of a tree's images from lists of them: CSV, TSV, JSON lines, dataset.json."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from condgan.data.listing import UNLABELED, Listing, listed
from condgan.data.readers.attributes import locate, only_places, places
from condgan.data.readers.columns import TRUTH, Chosen, guessed_labels, is_empty, named_labels, number_labels
from condgan.data.readers.folders import list_class_folders
from condgan.data.readers.labels import SPLIT_WORDS, Rows, json_label, read_json, split_of, unlisted
from condgan.data.readers.lines import (
    FILE_COLUMNS,
    LABEL_COLUMNS,
    SPLIT_COLUMNS,
    Lines,
    called,
    file_column,
    key,
    read_lines,
)
from condgan.data.readers.names import is_image, left_out
from condgan.data.readers.text import WINDOWS
from condgan.data.readers.tree import Files, Tree, parent
from condgan.utils.errors import UserError, repeated, shown, unknown
from condgan.utils.limits import LIST

SPLITS = {**SPLIT_WORDS, "0": 0, "1": 1, "2": 2, "0.0": 0, "1.0": 1, "2.0": 2}

_OF_LABELS = re.compile(r"(.*[_\-])?(labels?|attributes?|attr|classes)([_\-.].*)?", re.IGNORECASE)
_MUST = re.compile(r"(metadata|labels?)\.(csv|tsv|jsonl)", re.IGNORECASE)
_LISTS = re.compile(r"(labels?|train|training|val|valid|validation|test|list_eval_partition\w*)\.txt", re.IGNORECASE)
_SHARD = re.compile(r"\d{5}")


@dataclass(frozen=True)
class ImageTable:
    """A list of images in a file: where it lists each, its split if it says so, and other columns."""

    tree: Tree
    file: str
    images: Sequence[str]
    """As it writes them."""
    origins: Sequence[str]
    splits: Sequence[int] | None
    columns: Mapping[str, Sequence[Any]]
    notes: tuple[str, ...] = ()

    @cached_property
    def of_images(self) -> dict[str, str]:
        """Where it lists each image."""
        return dict(zip(self.images, self.origins, strict=True))

    @cached_property
    def places(self) -> dict[str, list[str]]:
        """Where in the tree its images are, those that are."""
        return places(self.tree, self.file, self.of_images)

    @cached_property
    def paths(self) -> frozenset[str]:
        """The images of the tree that it lists."""
        return frozenset(found[0] for found in self.places.values() if len(found) == 1)

    def named(self) -> Chosen | None:
        """Labels of a column, or of a file, that is named like labels."""
        if (chosen := named_labels(self.columns, self.origins)) is not None:
            return chosen
        return self.guessed() if _OF_LABELS.fullmatch(self.file.rpartition("/")[2]) else None

    def guessed(self) -> Chosen | None:
        """Labels of columns that may be such."""
        return guessed_labels(self.columns, self.origins)

    @property
    def blank(self) -> bool:
        """Whether its column of labels is empty."""
        named = [self.columns[name] for name in called(self.columns, LABEL_COLUMNS)]
        return bool(named and self.images) and all(is_empty(cell) for cells in named for cell in cells)


def list_json(tree: Tree, share: float | None) -> Listing | None:
    """StyleGAN's and EDM's data sets: dataset.json with pairs of a file and its class number, or none at all."""
    found = [file for file in tree.files if file.rpartition("/")[2] == "dataset.json"]
    if not found:
        return None
    file = min(found, key=lambda file: file.count("/"))
    root = parent(file)
    try:
        given = read_json(tree.text(file, LIST))
        if isinstance(given, dict) and "labels" not in given:
            return None
        pairs = given["labels"]
        pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
        pairs = None if pairs is None else [(str(image), label) for image, label in pairs]
    except UserError:
        raise
    except (ValueError, TypeError, KeyError, IndexError) as error:
        why = shown(error) if isinstance(error, ValueError) else "it has no labels"
        raise UserError(
            f"'{file}' of '{tree.source}' is no dataset.json ({why}): expected labels, a list of pairs of a file and a "
            "class, in it"
        ) from None
    if pairs is None:
        return _without_labels(tree, file, f"{root}/" if root else "", share)
    rows = Rows(tree, file)
    for number, (image, label) in enumerate(pairs, start=1):
        origin = f"'{file}', label {number:,}"
        rows.add(_plain(image), json_label(label, origin), -1, origin)
    files = locate(tree, file, rows.origin)
    return rows.listing(files, share, [f"labels from '{file}'", *unlisted(tree, file, files)])


def _without_labels(tree: Tree, file: str, inside: str, share: float | None) -> Listing | None:
    """All images beside a dataset.json without labels; None where these are in class folders, not shards."""
    classes = set(class_folders(tree).values())
    if len(classes) > 1 and not all(_SHARD.fullmatch(name) for name in classes):
        return None
    rows = Rows(tree, file)
    for image in (one for one in tree.files if one.startswith(inside) and is_image(one)):
        rows.add(image, None, -1, f"'{file}'")
    files = list(rows.label)
    return rows.listing(files, share, [f"no labels; '{file}' has none", *unlisted(tree, file, files)])


def class_folders(tree: Tree) -> dict[str, str]:
    """The class of each image whose folder says it; of none where folders are laid out otherwise."""
    try:
        listing = list_class_folders(tree, None, False)
    except UserError:
        return {}
    classes = listing.labels.spec.classes
    if classes == (UNLABELED,):
        return {}
    numbers = listing.labels.index().tolist()
    return {name: classes[i] for name, i in zip(listing.names, numbers, strict=True) if i >= 0}


def list_tables(
    tree: Tree, tables: Sequence[ImageTable], share: float | None, number: str | None = None
) -> Listing | None:
    """The images that tables label, those in the outermost folders; None where none has labels.

    `number`: the column whose numbers are the labels, in place of classes and attributes.

    Beside class folders, only columns and files that are named like labels are such. What else may be labels counts
    where nothing is named so. Tables without labels may say the split. Raises UserError where that is not clear.
    """
    classes = class_folders(tree) if tables else {}
    chosen = _chosen(tables, classes) if number is None else _of_number(tables, number)
    if not chosen:
        return None
    depth = min(file.count("/") for file in chosen)
    chosen = {file: one for file, one in chosen.items() if file.count("/") == depth}
    labeled = [table for table in tables if table.file in chosen]
    rows, files = Rows(tree, "' and '".join(chosen)), []
    own = {table.file: only_places(table.of_images, table.places) for table in labeled}
    splits, said = _splits(tables, [path for paths in own.values() for path in paths])
    for table in labeled:
        inside = f"{parent(table.file)}/" if len(labeled) > 1 and parent(table.file) else ""
        for image, label, origin in zip(table.images, chosen[table.file].labels, table.origins, strict=True):
            rows.add(inside + image, label, splits.get(table.places[image][0], -1), origin)
        files += own[table.file]
    if twice := repeated(files):
        first, second = [origin for origin, one in zip(rows.origin.values(), files, strict=True) if one == twice][:2]
        raise UserError(f"{second}: '{twice}' stands in {first} already, expected each image once")
    if number is None:
        _require_whole_folders(rows.file, files, classes)
    instead = ", not from the class folders" * _of_class_folders(files, classes)
    notes = [*_sources(chosen, tables, frozenset(files), instead), *[said] * bool(said), *_other_notes(tree, tables)]
    return rows.listing(files, share, [*notes, *unlisted(tree, rows.file, files, of_labels(tree))], number or "number")


def _chosen(tables: Sequence[ImageTable], classes: Mapping[str, str]) -> dict[str, Chosen]:
    """The labels of tables by their files: of what is named like labels, else of what may be such."""
    filled = [table for table in tables if not table.blank]
    blank = [table for table in tables if table.blank]
    several = len(set(classes.values())) > 1
    free = [table for table in filled if not (several and _of_class_folders(table.paths, classes))]
    for some, how in ((filled, ImageTable.named), (blank, ImageTable.named), (free, ImageTable.guessed)):
        if chosen := {table.file: one for table in some if (one := how(table)) is not None}:
            return chosen
    return {}


def _of_number(tables: Sequence[ImageTable], number: str) -> dict[str, Chosen]:
    """The numbers of the tables that have such a column. Raises UserError where none of them has."""
    there = [table for table in tables if number in table.columns]
    if tables and not there:
        raise unknown("column of numbers", number, [name for table in tables for name in table.columns])
    return {table.file: number_labels(table.columns, number, table.origins) for table in there}


def _sources(
    chosen: Mapping[str, Chosen], tables: Sequence[ImageTable], files: frozenset[str], instead: str
) -> list[str]:
    """Notes of what labels are from, and of what has none."""
    of_columns: dict[str, list[str]] = {}
    for file, one in chosen.items():
        of_columns.setdefault(one.said, []).append(f"'{file}'")
    others = [table for table in tables if table.file not in chosen]
    images = {image for table in tables if table.file in chosen for image in table.images}
    return [
        *(f"labels from {said} of {' and '.join(names)}{instead}" for said, names in of_columns.items()),
        *(
            f"'{table.file}' has no labels: images that it alone lists are left out"
            for table in others
            if (split_of(table.file) >= 0 or not images.issuperset(table.images)) and not table.paths <= files
        ),
    ]


def _other_notes(tree: Tree, tables: Sequence[ImageTable]) -> list[str]:
    """Notes of how tables were read, and of such that were not."""
    bare = _bare(tree)
    return [
        *(f"'{file}' gives no labels" for file in bare),
        *(note for table in tables for note in table.notes),
        *(f"'{file}' holds placeholders: nothing is read from it" for file in _files(tree) if _is_submission(file)),
    ]


def _require_whole_folders(file: str, files: Sequence[str], classes: Mapping[str, str]) -> None:
    """Raises UserError where labels of some images of class folders would have the others thrown away."""
    if _of_class_folders(files, classes) and (left := _left_beside(files, classes)):
        raise UserError(
            f"'{file}' labels {len(files):,} images, which lie in class folders, and not {len(left):,} beside them, "
            f"such as '{left[0]}': label all, or remove the file to have the folders' labels"
        )


def _of_class_folders(files: Collection[str], classes: Mapping[str, str]) -> bool:
    """Whether files are of several class folders, or the smaller part of one beside others."""
    touched = {classes[path] for path in files if path in classes}
    if len(touched) != 1:
        return len(touched) > 1
    return len(set(classes.values())) > 1 and len(_left_beside(files, classes)) > len(files)


def _left_beside(files: Collection[str], classes: Mapping[str, str]) -> list[str]:
    """The other images of class folders beside some files."""
    known, folders = set(files), {parent(path) for path in files}
    return [path for path in classes if path not in known and parent(path) in folders]


def _splits(tables: Sequence[ImageTable], paths: Sequence[str]) -> tuple[dict[str, int], str]:
    """The split of images and what says it: columns, else names of tables, else of folders; none where all is one."""
    of_columns: dict[str, int] = {}
    for table in tables:
        for image, split in zip(table.images, table.splits or (), strict=False):
            of_columns |= dict.fromkeys(table.places.get(image, ()), split)
    if any(path in of_columns for path in paths):
        rest = -1 if 0 in of_columns.values() else 0  # beside a list of test images alone
        names = [f"'{table.file}'" for table in tables if table.splits]
        return {path: of_columns.get(path, rest) for path in paths}, f"the split is from {' and '.join(names)}"
    of_tables: dict[str, int] = {}
    for table in sorted(tables, key=lambda table: split_of(table.file) >= 0):
        of_tables |= dict.fromkeys(table.paths, max(split_of(table.file), 0))
    of_folders = {path: _split_folder(path) for path in paths}
    for stated, said in ((of_tables, "the names of tables"), (of_folders, "the folders")):
        own = {path: stated.get(path, -1) for path in paths}
        if {*own.values()} - {-1} > {0}:
            return own, f"the split is from {said}"
    return {}, ""


def _split_folder(path: str) -> int:
    """The split that a folder is named after; −1 where none is."""
    return next((SPLIT_WORDS[name] for name in parent(path).lower().split("/") if name in SPLIT_WORDS), -1)


def beside_tables(tree: Tree, tables: Sequence[ImageTable], listing: Listing, share: float | None) -> Listing:
    """Images of class folders, or without labels, split as tables say, with notes of what these give.

    Raises UserError for tables that give a split to some images of class folders only, and, without such folders, for
    those that are no text.
    """
    labeled = len(listing.labels.spec.classes) > 1
    splits, _ = _splits(tables, listing.names) if tables else ({}, "")
    lacking = [path for path, split in splits.items() if split < 0]
    if lacking and labeled:
        names = " and ".join(f"'{table.file}'" for table in tables)
        raise UserError(
            f"{names}: a split is given to {len(splits) - len(lacking):,} of {len(splits):,} images in class folders, "
            f"and none to '{lacking[0]}'; complete it, or remove the file"
        )
    notes = [*listing.notes, *_given(tables, labeled, bool(splits)), *_other_notes(tree, tables)]
    known = {table.file for table in tables}
    unread = [file for file in _files(tree) if file not in known and not _is_submission(file)]
    if labeled:
        notes += left_out(unread)
    else:
        for file in unread:
            tree.text(file, LIST)  # what is no text might be a table of labels
        notes += [f"'{file}' is not understood: no labels are read from it" for file in unread[:3]]
    if not splits:
        return replace(listing, notes=tuple(notes))
    return listed(
        tree.source,
        Files(tree, listing.names),
        listing.names,
        listing.labels,
        np.array([splits[path] for path in listing.names]),
        share,
        pairs=listing.pairs,
        paired=listing.pairs is not None,
        notes=tuple(notes),
    )


def _given(tables: Sequence[ImageTable], labeled: bool, split: bool) -> list[str]:
    """A note of what tables without labels give."""
    if not tables:
        return []
    of_split = [table.file for table in tables if split and (table.splits or split_of(table.file) >= 0)]
    gives = [f"'{file}' gives the split alone" for file in of_split]
    gives += [
        f"'{table.file}' gives none{', since no column is called label' * bool(table.columns)}"
        for table in tables
        if table.file not in of_split
    ]
    return [f"{'labels from the class folders' if labeled else 'no labels'}; {', '.join(gives[:5])}"]


def read_tables(tree: Tree) -> list[ImageTable]:
    """The tables of a tree that list its images. Raises UserError, with the line, for one that is damaged."""
    return [
        table for file in _files(tree) if not _is_submission(file) and (table := _read_table(tree, file)) is not None
    ]


def _files(tree: Tree) -> list[str]:
    """Files that may be tables."""
    return [
        file
        for file in tree.files
        if file.lower().endswith((".csv", ".tsv", ".jsonl")) or _LISTS.fullmatch(file.rpartition("/")[2])
    ]


def of_labels(tree: Tree) -> list[str]:
    """Files that are named like lists of labels, of which notes tell whether they are."""
    return [*_files(tree), *_bare(tree)]


def _bare(tree: Tree) -> list[str]:
    """Files that are named like one of labels by images' paths."""
    return [file for file in tree.files if file.rpartition("/")[2] == "dataset.json"]


def _is_submission(file: str) -> bool:
    """Whether a table is what a competition wants to be filled in."""
    return "submission" in file.rpartition("/")[2].lower()


def _is_selection(columns: Collection[str]) -> bool:
    """Whether a table tells what made images that condgan wrote into class folders."""
    return {"class", "checkpoint", "seed", "number"} <= {*columns}


def _plain(image: str) -> str:
    """A path as trees have it."""
    return image.strip().replace("\\", "/").removeprefix("./")


def _read_table(tree: Tree, file: str) -> ImageTable | None:
    """A table; None where it lists no files of the tree and is not named like one."""
    must = bool(_MUST.fullmatch(file.rpartition("/")[2]))
    try:
        text, encoding = tree.encoded(file, LIST)
    except UserError:
        if must:
            raise
        return None
    named = {one.rpartition("/")[2] for one in tree.files}
    named |= {one.rpartition(".")[0] for one in named if is_image(one)}
    lines = read_lines(file, text, named)
    column = file_column(lines, named)
    if (column is None and not must) or _is_selection(lines.columns):
        return None
    if lines.wrong:
        raise UserError(f"'{file}', {lines.wrong}")
    if column is None:
        column = next(iter(called(lines.columns, FILE_COLUMNS)), None)
    if not lines.columns:
        raise UserError(f"'{file}' of '{tree.source}' is empty: expected a file and a label each")
    if column is None:
        names = ", ".join(shown(name, 40) for name in [*lines.columns][:10])
        raise UserError(
            f"'{file}', line 1: columns {names} given, expected one of {', '.join(FILE_COLUMNS[:4])} and one such as "
            "label"
        )
    return _table(tree, file, lines, column, (f"'{file}' is not UTF-8: read as Windows-1252",) * (encoding == WINDOWS))


def _table(tree: Tree, file: str, lines: Lines, column: str, notes: tuple[str, ...]) -> ImageTable:
    origins = [f"'{file}', line {number}" for number in lines.numbers]
    images = lines.columns[column]
    if (
        lacking := next((where for cell, where in zip(images, origins, strict=True) if is_empty(cell)), None)
    ) is not None:
        raise UserError(f"{lacking}: no file given, expected one in a column such as file_name")
    split = next((name for name, cells in lines.columns.items() if _is_split(name, cells)), None)
    flags = {name: cells for name, cells in lines.columns.items() if _is_flag(name, cells)}
    return ImageTable(
        tree,
        file,
        [_plain(str(cell)) for cell in images],
        origins,
        _read_flags(flags) if split is None else _read_splits(lines.columns[split], origins),
        {name: cells for name, cells in lines.columns.items() if name not in (column, split, *flags)},
        notes,
    )


def _is_split(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column is one of splits."""
    values = {str(cell).strip().lower() for cell in cells}
    return key(name) == "split" or (
        key(name) in SPLIT_COLUMNS and (bool(values & set(SPLIT_WORDS)) or values <= set(SPLITS))
    )


def _is_flag(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column says of each image whether it is of a split, such as is_valid."""
    start, _, word = key(name).partition("is_")
    return not start and word in SPLIT_WORDS and {str(cell).strip().lower() for cell in cells} <= TRUTH.keys()


def _read_flags(flags: Mapping[str, Sequence[Any]]) -> list[int] | None:
    """The splits that such columns say; None without any. What is not to train on is held out."""
    rows = zip(*([TRUTH[str(cell).strip().lower()] for cell in cells] for cells in flags.values()), strict=True)
    numbers = [SPLIT_WORDS[key(name).removeprefix("is_")] for name in flags]
    return [max(_flagged(number, true) for number, true in zip(numbers, row, strict=True)) for row in rows] or None


def _flagged(split: int, true: int) -> int:
    return split * true if split else 2 - 2 * true


def _read_splits(cells: Sequence[Any], origins: Sequence[str]) -> list[int]:
    for cell, origin in zip(cells, origins, strict=True):
        if str(cell).strip().lower() not in SPLITS:
            raise UserError(f"{origin}: split '{shown(cell, 60)}' given, expected train, val or test")
    return [SPLITS[str(cell).strip().lower()] for cell in cells]
