"""The lines of CSV, TSV, JSON lines and plain lists as columns, and which of these names files."""

import csv
import io
import re
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from condgan.data.readers.labels import read_json
from condgan.data.readers.tree import is_image
from condgan.utils.errors import repeated, shown

FILE_COLUMNS = (
    "file_name", "filename", "file", "image_path", "path", "image", "img", "image_id", "image_name", "filepath",
    "file_path", "name", "id",
)  # fmt: skip
LABEL_COLUMNS = (
    "label", "labels", "class", "cls", "class_name", "category", "target", "tag", "tags", "attributes", "class_id",
    "label_id", "category_id", "label_name", "category_name", "class_label", "classname",
)  # fmt: skip
SPLIT_COLUMNS = ("split", "subset", "partition", "set")
COLUMNS = 6_000
"""Columns of a table at most."""

_INDEX = re.compile(r"|unnamed(:?_?\d+)?|index")


@dataclass(frozen=True)
class Lines:
    """What the lines of a file say, up to where they cannot be read."""

    columns: Mapping[str, Sequence[Any]]
    """Cells by names: text or what JSON holds, None where there is none."""
    numbers: Sequence[int]
    """Of the lines."""
    wrong: str = ""
    """The line that cannot be read, and why."""


def called(columns: Iterable[str], wanted: Sequence[str]) -> list[str]:
    """The columns of the wanted names, in the order of these."""
    found = [(wanted.index(name), column) for column in columns if (name := key(column)) in wanted]
    return [column for _, column in sorted(found, key=lambda one: one[0])]


def key(column: str) -> str:
    """A column's name but for upper case and blanks."""
    return re.sub(r"[ \-]+", "_", column.strip().lower())


def read_lines(file: str, text: str, named: Collection[str]) -> Lines:
    """The lines of a file by its ending. `named`: the files that may be listed."""
    ending = file.lower().rpartition(".")[2]
    lines = _json_lines(text) if ending == "jsonl" else _words(file, text) if ending == "txt" else _cells(text, named)
    return Lines(
        {name: cells for name, cells in lines.columns.items() if not _counts(name, cells)}, lines.numbers, lines.wrong
    )


def file_column(lines: Lines, named: Collection[str]) -> str | None:
    """The column that lists most files: of those that are called like files, else of all."""
    hits = {
        name: sum(_base(cell) in named for cell in lines.columns[name]) for name in called(lines.columns, FILE_COLUMNS)
    }
    if not any(hits.values()):
        hits = {
            name: sum(_base(cell) in named and is_image(_base(cell)) for cell in cells)
            for name, cells in lines.columns.items()
        }
    best = max(hits, key=lambda name: hits[name], default=None)
    return best if best is not None and hits[best] else None


def _base(cell: Any) -> str:
    """The last part of a path of any system."""
    return str(cell).strip().replace("\\", "/").rpartition("/")[2] if isinstance(cell, str | int) else ""


def _counts(name: str, cells: Sequence[Any]) -> bool:
    """Whether a column without a name of its own is empty, or counts the lines, as pandas writes it."""
    if not _INDEX.fullmatch(key(name)):
        return False
    words = [str(cell).strip() for cell in cells]
    return not any(words) or any(words == [str(i) for i in range(first, first + len(words))] for first in (0, 1))


def _json_lines(text: str) -> Lines:
    """An object per line. Columns that most lines lack are left out, but for files, labels and splits."""
    rows, numbers, wrong = [], [], ""
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            row = read_json(line)
        except ValueError as error:
            wrong = f"line {number}: no JSON ({shown(error)}); expected an object per line"
            break
        if not isinstance(row, dict) or not any(
            key(name) in FILE_COLUMNS or is_image(_base(row[name])) for name in row
        ):
            wrong = f"line {number}: no file_name given, expected an object with one"
            break
        rows.append(row)
        numbers.append(number)
    known = {*FILE_COLUMNS, *LABEL_COLUMNS, *SPLIT_COLUMNS}
    counts = Counter(name for row in rows for name in row)
    names = [name for name, count in counts.items() if 2 * count > len(rows) or key(name) in known]
    if len(names) > COLUMNS:
        wrong = f"line 1: {len(names):,} names given, expected {COLUMNS:,} at most"
    return Lines({name: [row.get(name) for row in rows] for name in names[:COLUMNS]}, numbers, wrong)


def _words(file: str, text: str) -> Lines:
    """A file per line, and after a blank its label or, in a partition, its split."""
    lines = [(number, line.split(maxsplit=1)) for number, line in enumerate(text.split("\n"), start=1) if line.strip()]
    columns = {"file_name": [words[0].rstrip(",;") for _, words in lines]}
    if any(len(words) > 1 for _, words in lines):
        second = "partition" if "partition" in file else "label"
        columns[second] = [words[1] if len(words) > 1 else "" for _, words in lines]
    return Lines(columns, [number for number, _ in lines])


def _cells(text: str, named: Collection[str]) -> Lines:
    """Lines of cells, below one of names where the first does not name a file already."""
    start = re.match(r"sep=([,;|\t])\n", text)  # as Excel writes it
    head = text.lstrip("\n").partition("\n")[0]
    rows, wrong = _rows(text if start is None else "\n" + text[start.end() :], start[1] if start else _delimiter(head))
    if not rows:
        return Lines({}, [], wrong)
    first = [cell.strip() for cell in rows[0][1]]
    if any(is_image(cell) and _base(cell) in named for cell in first) or is_image(first[0]):
        names = _invented([line for _, line in rows])
    else:
        names = [name or f"unnamed_{number}" for number, name in enumerate(first)]
        rows = rows[1:]
    if len(names) > COLUMNS:
        return Lines(
            dict.fromkeys(names[:COLUMNS], ()), [], f"line 1: {len(names):,} columns, expected {COLUMNS:,} at most"
        )
    if twice := repeated(names):
        return Lines(
            dict.fromkeys(names, ()), [], f"line 1: column '{shown(twice)}' given twice, expected different names"
        )
    rows = [(number, line if any(line[len(names) :]) else line[: len(names)]) for number, line in rows]
    for place, (number, line) in enumerate(rows):
        if len(line) != len(names):
            wrong = f"line {number}: {len(line)} cells given, expected {len(names)}: {shown(', '.join(names))}"
            rows = rows[:place]
            break
    columns = {name: [line[place] for _, line in rows] for place, name in enumerate(names)}
    return Lines(columns, [number for number, _ in rows], wrong)


def _rows(text: str, delimiter: str) -> tuple[list[tuple[int, list[str]]], str]:
    """The lines of cells with their numbers, and what is wrong with the next."""
    reader = csv.reader(io.StringIO(text), delimiter=delimiter, skipinitialspace=True)
    rows = []
    try:
        for line in reader:
            if any(cell.strip() for cell in line):
                rows.append((reader.line_num, line))
    except csv.Error as error:
        return rows, f"line {reader.line_num}: no table ({error}); close its quotes, or say less in it"
    return rows, ""


def _delimiter(head: str) -> str:
    """What stands between the cells of a first line: that by which one of them is called like files, or is one."""
    given = [one for one in ("\t", ";", ",", "|") if one in head]
    for one in given:
        cells = [cell.strip().strip('"') for cell in head.split(one)]
        if any(key(cell) in FILE_COLUMNS or is_image(cell) for cell in cells):
            return one
    return next(iter(given), ",")


def _invented(rows: Sequence[Sequence[str]]) -> list[str]:
    """Names of the columns of lines below no names: the files, and the labels where one other column is left."""
    first = rows[0]
    image = next(place for place, cell in enumerate(first) if is_image(cell))
    others = [place for place in range(len(first)) if place != image]
    counting = [place for place in others if _counts("", [row[place] for row in rows if len(row) > place])]
    left = [place for place in others if place not in counting]
    named = {image: "file_name"} | ({left[0]: "label"} if len(left) == 1 else {})
    return [
        named.get(place, f"unnamed_{place}" if place in counting else f"column {place + 1}")
        for place in range(len(first))
    ]
