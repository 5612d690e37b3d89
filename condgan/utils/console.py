"""Lines for people, on stderr."""

import sys

from tqdm import tqdm

from condgan.utils import distributed


def say(text: str) -> None:
    """Write a line that all processes share once, above any bar."""
    if distributed.is_main():
        tqdm.write(text, file=sys.stderr)
