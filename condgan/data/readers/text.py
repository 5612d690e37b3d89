"""Bytes of files as text, in the encodings that programs write."""

import codecs
import re

_MARKS = {codecs.BOM_UTF32_LE: "utf-32", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
WINDOWS = "cp1252"
_BINARY = re.compile(rb"[\x00-\x08\x0e-\x1a\x1c-\x1f]")


def as_text(content: bytes) -> tuple[str, str]:
    r"""A file's text, whose lines end in \n, and its encoding: UTF-8, UTF-16 with its mark, else Windows-1252.

    Raises UnicodeError, or ValueError for bytes that no text has.
    """
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8-sig")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError:
        if encoding != "utf-8-sig" or _BINARY.search(content):
            raise
        encoding = WINDOWS
        text = content.decode(encoding)
    if "\0" in text:
        raise ValueError("it has NUL bytes")
    return text.replace("\r\n", "\n").replace("\r", "\n"), encoding
