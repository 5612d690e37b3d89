"""What people give in Python works, or is refused in one line."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path


def test_every_argument_works_or_is_refused_in_one_line(digits_run: Callable[..., Path]) -> None:
    """In a process of its own, where the tests' checks of types do not refuse first."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.arguments", str(digits_run().absolute())],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
