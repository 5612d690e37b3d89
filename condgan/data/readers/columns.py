"""Which columns of a table are labels of its images."""

import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from condgan.data.readers.labels import Label, json_label
from condgan.data.readers.lines import LABEL_COLUMNS, called, key
from condgan.utils.errors import UserError, shown

SEVERAL = ("labels", "tags", "attributes")
"""Columns whose text may be several names."""
TRUTH = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "-1": 0, "-1.0": 0, "false": 0}
_OTHERS = re.compile(
    r"(\w*_)?(x|y|w|h|left|top|right|bottom|width|height|size|area|bytes|bbox|box|boxes|lat|lon)(_?(min|max|\d+))?"
    r"|(x|y)(min|max)|\w*(text|captions?|prompt|description|title|alt|comments?|notes?|url|hash|md5|sha256|date|time|split|subset|partition|set|fold)"
)
"""Names of columns that say something else: boxes, captions."""
_WHOLE = re.compile(r"[+-]?\d{1,15}(\.0*)?")
_NO_NUMBER = ("nan", "inf", "infinity")

Columns = Mapping[str, Sequence[Any]]
"""The cells of each column, text or what JSON holds, None where there is none."""


class Chosen(NamedTuple):
    """The labels of a table's images, and which columns they are from."""

    labels: list[Label]
    said: str


def is_empty(cell: Any) -> bool:
    """Whether a cell says nothing."""
    return cell is None or cell == [] or (isinstance(cell, str) and not cell.strip())


def named_labels(columns: Columns, origins: Sequence[str]) -> Chosen | None:
    """What the column that is named like labels says; None where there is none.

    Of several, that in the order of `LABEL_COLUMNS`; but names rather than the numbers they stand for. Raises
    UserError, with its origin, for a cell that is no label.
    """
    named = called(columns, LABEL_COLUMNS)
    if not named:
        return None
    name = next((other for other in named[1:] if _names_of(columns[named[0]], columns[other])), named[0])
    return Chosen(_labels(name, columns[name], origins), f"the column '{shown(name, 60)}'")


def guessed_labels(columns: Columns, origins: Sequence[str]) -> Chosen | None:
    """What the columns say that may be labels: a column of 0 and 1 for each attribute, or the only one of classes.

    None where no column may be. Raises UserError where it is not clear which are.
    """
    values = {
        name: [str(cell).strip().lower() for cell in cells]
        for name, cells in columns.items()
        if not _OTHERS.fullmatch(key(name)) and not any(isinstance(cell, list | dict) for cell in cells)
    }
    binary = [name for name, cells in values.items() if _mostly_truth(cells)]
    classes = [name for name in values.keys() - set(binary) if _repeats(values[name])]
    texts = [name for name in classes if not all(_WHOLE.fullmatch(cell) for cell in values[name])]
    if len(texts) > 1 or (texts and binary):
        found = " and ".join(
            f"'{shown(name, 60)}'" for name in sorted([*texts, *binary[:1]], key=list(values).index)[:2]
        )
        raise UserError(f"{origins[0]}: the columns {found} may be labels; call the one that is 'label'")
    if binary:
        return Chosen(_attributes({name: values[name] for name in binary}, origins), _columns(binary))
    if len(classes) == 1 or texts:
        (name,) = texts or classes
        return Chosen(_labels(name, columns[name], origins), f"the column '{shown(name, 60)}'")
    return None


def _names_of(numbers: Sequence[Any], names: Sequence[Any]) -> bool:
    """Whether a column holds names, each of a number of its own in the other."""
    pairs = {(str(number), str(name)) for number, name in zip(numbers, names, strict=True)}
    first, second = ({pair[side] for pair in pairs} for side in (0, 1))
    whole = all(_WHOLE.fullmatch(one.strip()) for one in first)
    words = all(one.strip() and not _WHOLE.fullmatch(one.strip()) for one in second)
    return whole and words and len(first) == len(second) == len(pairs)


def _mostly_truth(cells: Sequence[str]) -> bool:
    """Whether a column is of 0 and 1, but for what must be a mistake."""
    others = sum(cell not in TRUTH for cell in cells)
    return bool(cells) and others * 10 <= len(cells)


def _repeats(cells: Sequence[str]) -> bool:
    """Whether a column holds several values, each of several images on average."""
    distinct = set(cells)
    return 2 <= len(distinct) <= len(cells) / 2 and not distinct & {"", "none"}


def _columns(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"the column '{shown(names[0], 60)}'"
    some = ", ".join(f"'{shown(name, 60)}'" for name in names[:5])
    return f"the {len(names):,} columns {some}{' …' * (len(names) > 5)}"


def _attributes(values: Mapping[str, Sequence[str]], origins: Sequence[str]) -> list[Label]:
    for name, cells in values.items():
        for cell, origin in zip(cells, origins, strict=True):
            if cell not in TRUTH:
                raise UserError(
                    f"{origin}: '{shown(cell, 60)}' given in column '{shown(name, 60)}', expected a column such as "
                    "label, or 0 or 1 for each attribute"
                )
    return [{name: TRUTH[cells[row]] for name, cells in values.items()} for row in range(len(origins))]


def _labels(name: str, cells: Sequence[Any], origins: Sequence[str]) -> list[Label]:
    if all(isinstance(cell, list) and len(cell) == 1 for cell in cells):
        cells = [cell[0] for cell in cells]
    if all(isinstance(cell, str) and _WHOLE.fullmatch(cell.strip()) for cell in cells):
        cells = [re.sub(r"\.0*$", "", cell.strip()) for cell in cells]
    return [_label(name, cell, origin) for cell, origin in zip(cells, origins, strict=True)]


def _label(name: str, cell: Any, origin: str) -> Label:
    if not isinstance(cell, str):
        return json_label(cell, origin)
    text = cell.strip()
    if key(name) in SEVERAL:
        return tuple(one.strip() for one in re.split(r"[|;,]", text) if one.strip())
    if not text:
        raise UserError(f"{origin}: no label given in column '{shown(name, 60)}'; label all images, or none")
    if text.lower().lstrip("+-") in _NO_NUMBER:
        raise UserError(f"{origin}: '{text}' given in column '{shown(name, 60)}', expected a class; label all images")
    return text
