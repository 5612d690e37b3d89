"""The lines of log.jsonl."""

import math
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from condgan.utils.files import found, plain_file
from condgan.utils.limits import TEXT, WEIGHTS

Record = Mapping[str, int | float]
_RECORD = TypeAdapter(dict[str, int | float])


def records(path: Path) -> Iterator[tuple[bytes, Record]]:
    """The lines of a log that are whole, with what they say; the last one of a run that was killed may be none.

    Raises OSError for a log that is there and cannot be read.
    """
    if not found(path):
        return
    with plain_file(path, WEIGHTS) as file:
        while line := file.readline(TEXT):
            try:
                record = _RECORD.validate_json(line, strict=True)
            except ValidationError:
                continue
            images, seconds = record.get("images"), record.get("seconds", math.nan)
            if isinstance(images, int) and 0 <= images < 2**63 and 0 <= seconds < math.inf and line.endswith(b"\n"):
                yield line, record
