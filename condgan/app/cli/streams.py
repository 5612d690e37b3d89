"""What is printed, and what is not: control characters in texts from elsewhere, warnings of libraries."""

import io
import logging
import os
import re
import sys
import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO, cast

from condgan.utils.errors import Note, escaped

CURSOR = re.compile(r"\n*(\x1b\[A)+")
"""How a progress bar goes to its line."""


class Escaped:
    """A stream of text in which what a terminal would obey is escaped, but for line feeds, tabs and progress bars."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def write(self, text: str) -> int:
        if text.isprintable() or CURSOR.fullmatch(text):
            return self.stream.write(text)
        start = "\r" if text.startswith("\r") else ""  # as bars start, and end when they are cleared
        end = "\r" if start and text[1:].endswith("\r") else ""
        inner = text.removeprefix(start).removesuffix(end)
        return self.stream.write(start + escaped(inner, kept="\n\t") + end)

    def writelines(self, lines: Iterable[str]) -> None:
        for line in lines:
            self.write(line)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def _lines_of_notes(others: Callable[..., None]) -> Callable[..., None]:
    """How warnings are shown: our notes as lines above any progress bar, and `others`."""

    def show(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
        if not issubclass(category, Note):
            others(message, category, *where, **more)
            return
        from tqdm import tqdm

        tqdm.write(str(message), file=sys.stderr)

    return show


@contextmanager
def own_words() -> Iterator[None]:
    """Print only what is ours meanwhile, in this process and in those that it starts.

    Warnings of libraries are left out, unless Python's -W or PYTHONWARNINGS asks for them.
    """
    before = sys.stdout, sys.stderr, logging.root.manager.disable, os.environ.copy()
    for stream in before[:2]:
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files may be no text
    with warnings.catch_warnings():
        if not sys.warnoptions:
            warnings.simplefilter("ignore")
            logging.disable(logging.WARNING)
            warnings.simplefilter("always", Note)
            os.environ |= {"PYTHONWARNINGS": "ignore", "TORCH_CPP_LOG_LEVEL": "ERROR"}
        warnings.showwarning = _lines_of_notes(warnings.showwarning)
        sys.stdout, sys.stderr = (cast(TextIO, Escaped(stream)) for stream in before[:2])
        try:
            yield
        finally:
            sys.stdout, sys.stderr = before[:2]
            logging.disable(before[2])
            for name in ("PYTHONWARNINGS", "TORCH_CPP_LOG_LEVEL"):
                os.environ.pop(name, None)
                os.environ |= {name: before[3][name]} if name in before[3] else {}
