"""Read labels of a tree's files: class folders, lists of files and labels, shards of samples."""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from typing import Any

from condgan.data.listing import Listing
from condgan.data.readers.attributes import locate
from condgan.data.readers.labels import SPLIT_WORDS, Label, Rows, json_label, read_json, split_of
from condgan.data.readers.names import is_image
from condgan.data.readers.tree import Tree, parent
from condgan.utils.errors import UserError, repeated

FILE_COLUMNS = ("file_name", "filename", "file", "image_path", "path", "image", "img", "image_id", "name", "id")

LABEL_COLUMNS = ("label", "labels", "class", "class_name", "category", "target", "tag", "tags", "attributes")

SPLIT_COLUMNS = ("split", "subset", "partition", "set")

TRUTH = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "-1": 0, "-1.0": 0, "false": 0}


def list_json(tree: Tree, share: float | None) -> Listing | None:
    """StyleGAN's and EDM's data sets: dataset.json with pairs of a file and its class number, or none at all."""
    found = [file for file in tree.files if file.rpartition("/")[2] == "dataset.json"]
    if not found:
        return None
    file = min(found, key=lambda file: file.count("/"))
    root = parent(file)
    try:
        pairs = read_json(tree.text(file)).get("labels")
        pairs = list(pairs.items()) if isinstance(pairs, dict) else pairs
        pairs = None if pairs is None else [(str(image), label) for image, label in pairs]
    except (ValueError, TypeError, AttributeError) as error:
        raise UserError(f"'{file}' of '{tree.source}' is no dataset.json ({error}): expected labels in it") from None
    rows = Rows(tree, file)
    inside = f"{root}/" if root else ""
    if not pairs:
        for image in (one for one in tree.files if one.startswith(inside) and is_image(one)):
            rows.add(image, None, -1, f"'{file}'")
        return rows.listing(list(rows.label), share)
    for number, (image, label) in enumerate(pairs, start=1):
        origin = f"'{file}', label {number:,}"
        rows.add(_plain(image), json_label(label, origin), -1, origin)
    vectors = [label for label in rows.label.values() if isinstance(label, Mapping)]
    if len(vectors) == len(rows.label) and all(sum(vector.values()) == 1 for vector in vectors):  # one-hot classes
        rows.label = {
            image: next(name for name, holds in vector.items() if holds)
            for image, vector in zip(rows.label, vectors, strict=True)
        }
    return rows.listing(locate(tree, file, rows.origin), share)


def _plain(image: str) -> str:
    """A path as trees have it."""
    return image.strip().replace("\\", "/").removeprefix("./")


def list_tables(tree: Tree, share: float | None) -> Listing | None:
    """CSV, TSV and JSON lines of files and labels: all of the outermost ones that list files of the tree."""
    candidates = [file for file in tree.files if file.lower().endswith((".csv", ".tsv", ".jsonl"))]
    tables = {file: rows for file in candidates if (rows := _table(tree, file)) is not None}
    if not tables:
        return None
    depth = min(file.count("/") for file in tables)
    tables = {file: rows for file, rows in tables.items() if file.count("/") == depth}
    rows, files = Rows(tree, next(iter(tables))), []
    others = {
        (name, str(value).strip().lower())
        for lines in tables.values()
        for _, line in lines
        for name, value in line.items()
    }
    binary = {name for name, _ in others} - {name for name, value in others if value not in TRUTH}
    for file, lines in tables.items():
        before = set(rows.origin)
        own = split_of(file)
        for origin, line in lines:
            image = _pop(line, FILE_COLUMNS)
            split = _pop(line, SPLIT_COLUMNS)
            if image is None or not str(image).strip():
                raise UserError(f"{origin}: no file given, expected one in a column such as file_name")
            where = own if split is None else SPLIT_WORDS.get(str(split).lower())
            if where is None:
                raise UserError(f"{origin}: split '{split}' given, expected train, val or test")
            image = _plain(str(image))
            prefix = f"{parent(file)}/" if len(tables) > 1 and parent(file) else ""
            rows.add(prefix + image, _row_label(line, origin, binary), where, origin)
        mine = {image: origin for image, origin in rows.origin.items() if image not in before}
        files += locate(tree, "" if len(tables) > 1 else file, mine)
    twice = repeated(files)
    if twice is not None:
        first, second = (origin for origin, one in zip(rows.origin.values(), files, strict=True) if one == twice)
        raise UserError(f"{second}: '{twice}' stands in {first} already, expected each image once")
    return rows.listing(files, share)


def _table(tree: Tree, file: str) -> list[tuple[str, dict[str, Any]]] | None:
    """The lines of a table by where they stand; None where it lists no files of the tree and is not named like one."""
    must = re.match(r"(metadata|labels?)\.", file.rpartition("/")[2], re.IGNORECASE)
    try:
        rows = _rows(file, tree.text(file), bool(must), tree)
    except UserError:
        if must:
            raise
        return None
    if rows is None or must:
        return rows
    named = {one.rpartition("/")[2] for one in tree.files}
    stems = {one.rpartition(".")[0] for one in named}
    for _, row in rows:
        image = _plain(str(_pop(dict(row), FILE_COLUMNS))).rpartition("/")[2]
        if image in named or image in stems:
            return rows
    return None


def _rows(file: str, text: str, must: bool, tree: Tree) -> list[tuple[str, dict[str, Any]]] | None:
    """The lines of a table by where they stand; None where no column names files, unless it must."""
    if file.lower().endswith(".jsonl"):
        rows = []
        for number, line in enumerate(text.splitlines(), start=1):
            if not line.strip():
                continue
            try:
                row = read_json(line)
            except ValueError as error:
                if not must:
                    return None
                raise UserError(f"'{file}', line {number}: no JSON ({error}); expected an object per line") from None
            if not isinstance(row, dict) or not any(name in row for name in FILE_COLUMNS):
                if not must:
                    return None
                raise UserError(f"'{file}', line {number}: no file_name given, expected an object with one")
            rows.append((f"'{file}', line {number}", row))
        return rows
    head = text.partition("\n")[0]
    delimiter = next((one for one in ("\t", ";", ",", "|") if one in head), ",")
    lines = [(number, line) for number, line in _numbered(file, text, delimiter) if any(cell.strip() for cell in line)]
    if not lines:
        return [] if must else None
    names = [cell.strip() for cell in lines[0][1]]
    if not any(name.lower() in FILE_COLUMNS for name in names):
        beside = f"{parent(file)}/" if parent(file) else ""
        if not (is_image(names[0]) and (beside + names[0] in set(tree.files) or must)):
            if not must:
                return None
            raise UserError(
                f"'{file}', line 1: columns {', '.join(names)} given, expected one of {', '.join(FILE_COLUMNS[:4])} "
                "and one such as label"
            )
        lines, names = [(0, []), *lines], ["file_name", "label"][: len(names)]  # a table without a head
    if twice := repeated(names):
        raise UserError(f"'{file}', line 1: column '{twice}' given twice, expected different names")
    rows = []
    for number, line in lines[1:]:
        if len(line) != len(names):
            raise UserError(
                f"'{file}', line {number}: {len(line)} cells given, expected {len(names)}: {', '.join(names)}"
            )
        rows.append((f"'{file}', line {number}", dict(zip(names, line, strict=True))))
    return rows


def _numbered(file: str, text: str, delimiter: str) -> list[tuple[int, list[str]]]:
    reader = csv.reader(io.StringIO(text), delimiter=delimiter)
    try:
        return [(reader.line_num, line) for line in reader]
    except csv.Error as error:
        raise UserError(f"'{file}', line {reader.line_num}: no table ({error}); close its quotes") from None


def _pop(row: dict[str, Any], columns: Sequence[str]) -> Any:
    """The first of some columns that a row has, taken out of it."""
    by_lower = {name.lower(): name for name in row}
    name = next((by_lower[column] for column in columns if column in by_lower), None)
    return None if name is None else row.pop(name)


def _row_label(row: dict[str, Any], origin: str, binary: set[str]) -> Label:
    """The label in the rest of a row: one, a list of them, or a column of 0 and 1 for each attribute."""
    named = next((name for name in row if name.lower() in LABEL_COLUMNS), None)
    if named is None and len(row) == 1 and not set(row) <= binary:
        named = next(iter(row))
    if named is not None:
        label = row[named]
        if isinstance(label, str):
            label = label.strip()
            if named.lower() in ("labels", "tags", "attributes"):
                return tuple(one.strip() for one in re.split(r"[|;,]", label) if one.strip())
            if not label:
                raise UserError(f"{origin}: no label given in column '{named}'; label all images, or none")
            return label
        return json_label(label, origin)
    if not row:
        return None
    wrong = next((name for name, value in row.items() if str(value).strip().lower() not in TRUTH), None)
    if wrong is not None:
        raise UserError(
            f"{origin}: '{row[wrong]}' given in column '{wrong}', expected a column such as label, or 0 or 1 for each "
            "attribute"
        )
    return {name: TRUTH[str(value).strip().lower()] for name, value in row.items()}
