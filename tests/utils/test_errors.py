"""What errors advise."""

import shlex
import sys
from pathlib import Path

import pytest

from condgan.utils import errors
from condgan.utils.errors import to_install


def test_an_extra_is_installed_into_this_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """From a source tree in the versions that tests pass with, and as the tree that it is."""
    (tmp_path / "constraints.txt").touch()
    monkeypatch.setattr(errors, "SOURCE", tmp_path)
    words = shlex.split(to_install("app"))
    assert words == [
        "cd",
        str(tmp_path),
        "&&",
        sys.executable,
        *["-m", "pip", "install", "-c", "constraints.txt", "-e", ".[app]"],
    ]


def test_an_extra_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(errors, "SOURCE", tmp_path)
    assert to_install("app") == "pip install 'condgan[app]'"
