"""Which columns of a table are labels of its images."""

import re
from collections import Counter
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
    values = {name: _values(cells) for name, cells in columns.items() if not _OTHERS.fullmatch(key(name))}
    binary = [name for name, counts in values.items() if _mostly_truth(counts)]
    truth = set(binary)
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
    """Whether a column is of 0 and 1, but for what must be a mistake."""
    others = sum(count for value, count in counts.items() if value not in TRUTH)
    return bool(counts) and others * 10 <= counts.total()


def _repeats(counts: Counter[str]) -> bool:
    """Whether a column holds several values, each of several images on average."""
    return 2 <= len(counts) <= counts.total() / 2 and not counts.keys() & {"", "none"}


def _columns(names: Sequence[str]) -> str:
    if len(names) == 1:
        return f"the column '{shown(names[0], 60)}'"
    some = ", ".join(f"'{shown(name, 60)}'" for name in names[:5])
    return f"the {len(names):,} columns {some}{' …' * (len(names) > 5)}"


def _attributes(columns: Columns, origins: Sequence[str]) -> list[Label]:
    truth: dict[str, list[int]] = {}
    for name, cells in columns.items():
        of_cell = {cell: TRUTH.get(_word(cell)) for cell in set(cells)}
        wrong = next((row for row, cell in enumerate(cells) if of_cell[cell] is None), None)
        if wrong is not None:
            raise UserError(
                f"{origins[wrong]}: '{shown(cells[wrong], 60)}' given in column '{shown(name, 60)}', expected a column "
                "such as label, or 0 or 1 for each attribute"
            )
        truth[name] = [of_cell[cell] or 0 for cell in cells]
    return [dict(zip(truth, row, strict=True)) for row in zip(*truth.values(), strict=True)]


def _labels(name: str, cells: Sequence[Any], origins: Sequence[str]) -> list[Label]:
    if all(isinstance(cell, list) and len(cell) == 1 for cell in cells):
        cells = [cell[0] for cell in cells]
    if all(isinstance(cell, str) and _WHOLE.fullmatch(cell.strip()) for cell in cells):
        cells = [re.sub(r"\.0*$", "", cell.strip()) for cell in cells]
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
        raise UserError(f"{origin}: no label given in column '{shown(name, 60)}'; label all images, or none")
    if text.lower().lstrip("+-") in _NO_NUMBER:
        raise UserError(f"{origin}: '{text}' given in column '{shown(name, 60)}', expected a class; label all images")
    return text
