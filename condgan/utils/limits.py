"""How much one file may take of memory, whatever it says of itself: the one budget of all readers.

What is read is counted while it is read; what a header says is only ever a reason to refuse.
"""

from typing import BinaryIO

ENCODED = 256 << 20
"""Bytes of one encoded picture."""
DECODED = 512 << 20
"""Bytes of one decoded picture, and of a piece that is read of an array."""
TABLE = 256 << 20
"""Bytes of a file that lists labels of many images: a CSV, JSON lines, a dataset.json, an attribute file."""
TEXT = 1 << 20
"""Bytes of a text about one image, and of a recipe."""


WEIGHTS = 64 << 30
"""Bytes of a file of weights, or of an optimizer's moments, before it is known what they are for."""


class TooLarge(ValueError):
    """A file, or a part of it, that takes more than its limit."""


def require_at_most(size: int, limit: int, what: str = "it") -> None:
    """Raises TooLarge for more bytes than the limit."""
    if size > limit:
        raise TooLarge(f"{what} has {size:,} bytes, more than {limit:,}")


def read_at_most(file: BinaryIO, limit: int, what: str = "it") -> bytes:
    """All of a stream. Raises TooLarge, having read no more than the limit, where there is more."""
    content = file.read(limit + 1)
    if len(content) > limit:
        raise TooLarge(f"{what} has more than {limit:,} bytes")
    return content
