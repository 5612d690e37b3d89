"""Which columns of a table are labels of its images."""

import math
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from condgan.data.readers.labels import Label, json_label
from condgan.data.readers.lines import LABEL_COLUMNS, called, key
from condgan.labels import LARGEST
from condgan.utils.errors import UserError, shown, unknown

SEVERAL = ("labels", "tags", "attributes")
"""Columns whose text may be several names."""
TRUTH = {"1": 1, "1.0": 1, "true": 1, "0": 0, "0.0": 0, "-1": 0, "-1.0": 0, "false": 0}
_BOXES = re.compile(
    r"(\w*_)?(x|y|w|h|left|top|right|bottom|width|height|size|area|bytes|bbox|box|boxes|lat|lon)(_?(min|max|\d+))?"
    r"|(x|y)(min|max)"
)
"""Names of columns of places and sizes, unless they are of 0 and 1 beside others that are, such as white_top."""
_TEXTS = re.compile(
    r"\w*(text|captions?|prompt|description|title|alt|comments?|notes?|url|hash|md5|sha256|date|time|split|subset"
    r"|partition|set|fold)"
)
"""Names of columns that say something else."""
_WHOLE = re.compile(r"[+-]?\d{1,15}(\.0*)?")
_NO_NUMBER = ("nan", "inf", "infinity")
_EMPTY = {"", "none"}

Columns = Mapping[str, Sequence[Any]]
"""The cells of each column, text or what JSON holds, None where there is none."""


class Chosen(NamedTuple):
    """The labels of a table's images, and which columns they are from."""

    labels: list[Label]
    said: str


def is_empty(cell: Any) -> bool:
    """Whether a cell says nothing."""
    return cell is None or cell == [] or (isinstance(cell, str) and not cell.strip())


def number_labels(columns: Columns, name: str, origins: Sequence[str]) -> Chosen:
    """The numbers of a column; an empty cell is one that is not known.

    Raises UserError where there is no such column, and, with its origin, for a cell that is no number.
    """
    if name not in columns:
        raise unknown("column of numbers", name, list(columns))
    labels = [_number(name, cell, origin) for cell, origin in zip(columns[name], origins, strict=True)]
    if all(label is None for label in labels):
        raise UserError(f"column '{shown(name, 60)}' of numbers is empty: expected some numbers in it")
    return Chosen([*labels], f"the column of numbers '{shown(name, 60)}'")


def _number(name: str, cell: Any, origin: str) -> float | None:
    if is_empty(cell):
        return None
    try:
        number = float(cell) if isinstance(cell, str | int | float) and not isinstance(cell, bool) else math.nan
    except (ValueError, OverflowError):
        number = math.nan
    if not math.isfinite(number) or abs(number) > LARGEST:
        raise UserError(
            f"{origin}: '{shown(cell, 60)}' given in column '{shown(name, 60)}', expected a number, or an empty cell "
            "where it is not known"
        )
    return number


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
    values = {name: _values(cells) for name, cells in columns.items() if not _TEXTS.fullmatch(key(name))}
    boxes = {name for name in values if _BOXES.fullmatch(key(name))}
    binary = [name for name, counts in values.items() if _mostly_truth(counts)]
    binary = binary if set(binary) - boxes else []
    truth = set(binary) | boxes
    classes = [name for name, counts in values.items() if name not in truth and _repeats(counts)]
    texts = [name for name in classes if not all(_WHOLE.fullmatch(value) for value in values[name])]
    if len(texts) > 1 or (texts and binary):
        found = " and ".join(f"'{shown(name, 60)}'" for name in (*texts, *binary)[:2])
        raise UserError(f"{origins[0]}: the columns {found} may be labels; call the one that is 'label'")
    if binary:
        return Chosen(_attributes({name: columns[name] for name in binary}, origins), _columns(binary))
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


def _values(cells: Sequence[Any]) -> Counter[str]:
    """How often a column has each value, but for upper case; none where it has lists."""
    counts: Counter[str] = Counter()
    if not any(isinstance(cell, list | dict) for cell in cells):
        for cell, count in Counter(cells).items():
            counts[_word(cell)] += count
    return counts


def _word(cell: Any) -> str:
    return str(cell).strip().lower()


def _mostly_truth(counts: Counter[str]) -> bool:
    """Whether a column is of 0 and 1 where it is not empty, but for what must be a mistake."""
    known = counts.total() - sum(counts[value] for value in _EMPTY)
    others = sum(count for value, count in counts.items() if value not in TRUTH and value not in _EMPTY)
    return known > 0 and others * 10 <= known


def _repeats(counts: Counter[str]) -> bool:
    """Whether a column holds several values, each of several images on average."""
    return 2 <= len(counts) <= counts.total() / 2 and not counts.keys() & _EMPTY


def _columns(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"the column '{shown(names[0], 60)}'"
    some = ", ".join(f"'{shown(name, 60)}'" for name in names[:5])
    return f"the {len(names):,} columns {some}{' …' * (len(names) > 5)}"


def _attributes(columns: Columns, origins: Sequence[str]) -> list[Label]:
    truth: dict[str, list[int | None]] = {}
    for name, cells in columns.items():
        of_cell = {cell: TRUTH.get(_word(cell)) for cell in set(cells)}
        wrong = next((row for row, cell in enumerate(cells) if of_cell[cell] is None and not is_empty(cell)), None)
        if wrong is not None:
            raise UserError(
                f"{origins[wrong]}: '{shown(cells[wrong], 60)}' given in column '{shown(name, 60)}', expected a column "
                "such as label, or 0 or 1 for each attribute, empty where it is not known"
            )
        truth[name] = [of_cell[cell] for cell in cells]
    return [dict(zip(truth, row, strict=True)) for row in zip(*truth.values(), strict=True)]


def _labels(name: str, cells: Sequence[Any], origins: Sequence[str]) -> list[Label]:
    known = [cell for cell in cells if not (is_empty(cell) and cell != [])]
    if known and all(isinstance(cell, list) and len(cell) == 1 for cell in known):
        cells = [cell[0] if isinstance(cell, list) else None for cell in cells]
    elif known and all(isinstance(cell, str) and _WHOLE.fullmatch(cell.strip()) for cell in known):
        cells = [None if is_empty(cell) else re.sub(r"\.0*$", "", cell.strip()) for cell in cells]
    return [_label(name, cell, origin) for cell, origin in zip(cells, origins, strict=True)]


def _several(text: str) -> tuple[str, ...]:
    """Names between commas and the like; of a list as Python or JSON writes it, without its brackets and quotes."""
    listed = re.fullmatch(r"\[(.*)\]", text)
    names = [one.strip() for one in re.split(r"[|;,]", listed[1] if listed else text)]
    return tuple(one for one in (re.sub(r"^(['\"])(.*)\1$", r"\2", name) if listed else name for name in names) if one)


def _label(name: str, cell: Any, origin: str) -> Label:
    if not isinstance(cell, str):
        return json_label(cell, origin)
    text = cell.strip()
    if key(name) in SEVERAL:
        return _several(text)
    if not text:
        return None
    if text.lower().lstrip("+-") in _NO_NUMBER:
        raise UserError(f"{origin}: '{text}' given in column '{shown(name, 60)}', expected a class, or an empty cell")
    return text
