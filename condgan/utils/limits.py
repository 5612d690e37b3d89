"""How much one file may take of memory, whatever it says of itself: the one budget of all readers.

What is read is counted while it is read; what a header says is only ever a reason to refuse.
"""

import os
from typing import BinaryIO

from condgan.utils.errors import UserError

ENCODED = 256 << 20
"""Bytes of one encoded picture."""
DECODED = 520 << 20
"""Bytes that decoding one picture takes, its copies included."""
PIECE = 128 << 20
"""Bytes of a piece that is read of an array, such as a chunk of an HDF5 file."""
ARRAY = 1 << 30
"""Bytes of an array that is compressed as a whole."""
TABLE = 256 << 20
"""Bytes of an array of labels of many images, or of what is known of prepared ones."""
LIST = 96 << 20
"""Bytes of a text that lists labels of many images: a CSV, a dataset.json, an attribute file."""
PARSED = 1 << 30
"""Bytes that the lines and values of a text take as Python has them."""
PATH, DEPTH = 1 << 12, 100
"""Characters of a file's path, and folders around it."""
TEXT = 1 << 20
"""Bytes of a text about one image, of the names of all classes, and of a recipe."""
PICTURES = 1 << 23
"""Pictures of one file, whose names are numbers."""
RATIO = 1032
"""How many times its size deflate unpacks to at most."""


WEIGHTS = 64 << 30
"""Bytes of a file of weights, or of an optimizer's moments, before it is known what they are for."""


class TooLarge(ValueError):
    """A file, or a part of it, that takes more than its limit."""


def require_at_most(size: int, limit: int, what: str = "it", verb: str = "has") -> None:
    """Raises TooLarge for more bytes than the limit."""
    if size > limit:
        raise TooLarge(f"{what} {verb} {size:,} bytes, more than {limit:,}")


def require_few_values(text: str) -> None:
    """Raises TooLarge for a text whose lines and values, as measured in CSV and JSON, take too much memory."""
    values = sum(text.count(one) for one in ",;\t|[ ")
    taken = 700 * text.count("\n") + 64 * values + 240 * text.count("{")
    require_at_most(taken, PARSED, "it", f"takes for {text.count(chr(10)):,} lines and {values:,} values about")


def require_memory(size: int, what: str, do: str = "ask for fewer") -> None:
    """Raises UserError, which says what needs them and what to do, where so many bytes are more than there are here."""
    there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    if size > there:
        gib = 1 << 30
        raise UserError(f"{what} asked for, which take {size / gib:,.1f} GiB of {there / gib:,.1f}: {do}")


def read_at_most(file: BinaryIO, limit: int, what: str = "it") -> bytes:
    """All of a stream. Raises TooLarge, having read little more than the limit, where there is more."""
    content = bytearray()
    while block := file.read(min(1 << 20, limit + 1 - len(content))):
        content += block
        if len(content) > limit:
            raise TooLarge(f"{what} has more than {limit:,} bytes")
    return bytes(content)
