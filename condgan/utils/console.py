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


def duration(seconds: float) -> str:
    """A time in its two largest units, such as 2 h 5 min."""
    left = max(1, round(seconds))
    for larger, size, smaller, unit in (("d", 86_400, "h", 3_600), ("h", 3_600, "min", 60), ("min", 60, "s", 1)):
        if left >= size:
            return f"{left // size} {larger} {left % size // unit} {smaller}"
    return f"{left} s"


def origin(images: int | None) -> str:
    """What a model came of: images of training, or None for weights that another program trained."""
    return "converted weights" if images is None else f"{images:,} images of training"


def note(text: str) -> None:
    """Tell a Note as warnings are told, which callers can filter; the command line says it as a line."""
    if distributed.is_main():
        warnings.warn(text, Note, stacklevel=2)
