"""Lines for people, on stderr."""

import sys
import warnings

from tqdm import tqdm

from condgan.utils import distributed
from condgan.utils.errors import Note


def say(text: str) -> None:
    """Write a line that all processes share once, above any bar."""
    if distributed.is_main():
        tqdm.write(text, file=sys.stderr)


def note(text: str) -> None:
    """Tell a Note as warnings are told, which callers can filter; the command line says it as a line."""
    if distributed.is_main():
        warnings.warn(text, Note, stacklevel=2)
