"""What a case of the campaign is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

Rng = np.random.Generator

SECRET = b"SECRET-OF-ANOTHER-FILE"
"""Stands in files that no command is given."""


@dataclass(frozen=True)
class Command:
    """What condgan is given, and what it may do."""

    arguments: Sequence[str]
    file_size: int | None = None
    """Bytes beyond which no file can grow: as if the disk were full."""
    must: bool = False
    """Whether it must succeed."""
    codes: Sequence[int] = ()
    """Exit codes beside 0 and 2 that it may give."""
    may_change: bool = False
    """Whether it may change files that are there and fail."""


@dataclass(frozen=True)
class Case:
    """Commands about some inputs."""

    commands: Sequence[Command]
    what: str
    """What was done to the inputs."""
    tried: int = 1


@dataclass(frozen=True)
class Kind:
    """How cases are made: of random numbers, in a folder, from what `prepare` made elsewhere."""

    make: Callable[[Rng, Path, Path], Case]
    prepare: Sequence[Command] = ()
