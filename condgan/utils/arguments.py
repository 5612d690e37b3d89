"""What people give for arguments in Python, as what is computed with, or refused in one line."""

import math
import operator
import os
from collections.abc import Iterable, Mapping
from typing import Any

from condgan.utils.errors import UserError, shown

_MOST = (1 << 64) - 1


def plain(given: Any) -> Any:
    """A number or list in the place of an array, a tensor, or a number in one."""
    return given.tolist() if hasattr(given, "tolist") else given


def whole(what: str, given: Any, least: int = 0, most: int = _MOST) -> int:
    """A whole number of a range. Raises UserError for anything else, also for text and truth values."""
    number = plain(given)
    if isinstance(number, bool) or not hasattr(number, "__index__"):
        raise UserError(f"{what} {shown(repr(given))} given: expected a whole number, {_range(least, most)}")
    if not least <= (number := operator.index(number)) <= most:
        expected = _range(least, most) if number < least else f"{least} to {most:,}"
        raise UserError(f"{what} {shown(number)} given: expected {expected}")
    return number


def _range(least: int, most: int) -> str:
    return f"{least} or more" if most == _MOST else f"{least} to {most:,}"


def positive(what: str, given: Any) -> float:
    """A finite number above 0. Raises UserError for anything else, also for text and truth values."""
    number = plain(given)
    if isinstance(number, bool) or not isinstance(number, int | float):
        raise UserError(f"{what} {shown(repr(given))} given: expected a number above 0")
    if not 0 < number < math.inf:
        raise UserError(f"{what} {shown(f'{number:g}')} given: expected a number above 0")
    return float(number)


def several(what: str, given: Any) -> list[Any]:
    """A list of what was given: of one text, path or number, or of several. Raises UserError for what is no list."""
    values = plain(given)
    if isinstance(values, str | os.PathLike) or not isinstance(values, Iterable):
        values = [values]
    if isinstance(values, bytes | Mapping):
        raise UserError(f"{what} {shown(repr(given))} given: expected one, or a list")
    return list(values)
