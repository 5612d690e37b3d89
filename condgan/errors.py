"""What a user did wrong, said in one line."""

import difflib
from collections import Counter
from collections.abc import Iterable


class UserError(ValueError):
    """Bad input: the message is one line that says what was given, what was expected and what to do."""


def repeated(names: Iterable[str]) -> str | None:
    """The first name that is given more than once, if there is any."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def unknown(kind: str, given: object, known: Iterable[object]) -> UserError:
    """The error for a name that is not among the known ones, with the closest of them as a suggestion."""
    names = [str(name) for name in known]
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(given).lower(), by_lower, n=1)
    hint = f"did you mean '{by_lower[close[0]]}'? " if close else ""
    listed = ", ".join(names) if len(names) <= 30 else f"{', '.join(names[:30])}, … ({len(names)} in all)"
    return UserError(f"unknown {kind} '{given}': {hint}known: {listed or 'none'}")
