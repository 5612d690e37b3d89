"""Why a command ends early, said in one line; first of all what a user did wrong."""

import difflib
import shlex
import sys
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

SOURCE = Path(__file__).parents[2]
"""Where the source tree lies, if this package runs from one."""


class UserError(ValueError):
    """Bad input: the message is one line that says what was given, what was expected and what to do."""


class NotFinite(UserError):
    """A generator makes images with numbers that are infinite or none."""


class Note(UserWarning):
    """What whoever calls should know of what they get, though it is no error."""


class Interrupted(Exception):
    """Training was told to stop by a signal; what can be saved is."""

    def __init__(self, signum: int, message: str) -> None:
        super().__init__(message)
        self.exit_code = 128 + signum


class Diverged(Exception):
    """Training met a loss or weight that is infinite or not a number."""


class FailedElsewhere(Exception):
    """Another process failed, and says why, or is gone."""


@contextmanager
def said_of(what: str, do: str, *kinds: type[Exception]) -> Iterator[None]:
    """Say in one line what goes wrong while `what` is read: what it is, why, and what to `do`.

    For the one place where files of a kind are read. `kinds`: what their reader raises for damaged ones; a UserError
    passes as it is, and so does the system's own error, but for one without a file's name.
    """
    try:
        yield
    except UserError:
        raise
    except kinds as error:
        if isinstance(error, OSError) and error.filename is not None:
            raise
        raise UserError(f"{what} cannot be read ({shown(error)}): {do}") from None


def shown(value: object, at_most: int = 200) -> str:
    """A text from elsewhere as it may stand in a line: what a terminal would obey is escaped, what is long cut."""
    unsaid = type(value).__name__ if isinstance(value, BaseException) else ""
    text = escaped(" ".join(str(value).split()) or unsaid)
    return text if len(text) <= at_most else f"{text[: at_most - 1]}…"


def escaped(text: str, kept: str = "") -> str:
    """A text with what a terminal would obey, and what is no text, as escape codes; `kept` and all blanks stay."""
    return "".join(
        one
        if one.isprintable() or one in kept or unicodedata.category(one) == "Zs"
        else one.encode("unicode_escape", "backslashreplace").decode()
        for one in text
    )


def to_install(extra: str) -> str:
    """The command that installs an extra of this package; where it runs from a source tree, the versions tested."""
    if not (SOURCE / "constraints.txt").is_file():
        return f"pip install 'condgan[{extra}]'"
    python, tree = shlex.quote(sys.executable), shlex.quote(str(SOURCE))
    return f"cd {tree} && {python} -m pip install -c constraints.txt -e '.[{extra}]'"


def repeated(names: Iterable[str]) -> str | None:
    """The first name that is given more than once, if there is any."""
    return next((name for name, count in Counter(names).items() if count > 1), None)


def unknown(kind: str, given: object, known: Iterable[object]) -> UserError:
    """The error for a name that is not among the known ones, with the closest of them as a suggestion."""
    names = [str(name) for name in known]
    by_lower = {name.lower(): name for name in names}
    close = difflib.get_close_matches(str(given).lower()[:200], by_lower, n=1)
    hint = f"did you mean '{by_lower[close[0]]}'? " if close else ""
    return UserError(f"unknown {kind} '{shown(given)}': {hint}known: {enumerated(names)}")


def enumerated(names: Sequence[str]) -> str:
    """Names as they may stand in a line: 30 of them, each cut."""
    first = ", ".join(shown(name) for name in names[:30]) + ", …" * (len(names) > 30)
    return (f"{first} ({len(names)} in all)" if len(names) > 30 else first) or "none"
