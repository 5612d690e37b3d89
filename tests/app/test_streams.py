"""What reaches the terminal: our words, with nothing in them that it would obey."""

import io
import logging
import os
import signal
import subprocess
import sys
import time
import warnings
from pathlib import Path

import pytest

from condgan.app.cli.streams import Escaped, own_words
from tests.helpers import condgan, refused


def shown(text: str) -> str:
    stream = io.StringIO()
    Escaped(stream).write(text)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain\ttext\n", "plain\ttext\n"),
        ("Ünïcode 日本", "Ünïcode 日本"),
        ("10\u00a0000 全\u3000角 thin\u2009one", "10\u00a0000 全\u3000角 thin\u2009one"),
        ("line\u2028and\u2029paragraph", "line\\u2028and\\u2029paragraph"),
        ("a\x1b[31mred\x07", "a\\x1b[31mred\\x07"),
        ("over\rwritten", "over\\rwritten"),
        ("back\u202ewards", "back\\u202ewards"),
        ("\x9b2J", "\\x9b2J"),
        ("no text \udcff", "no text \\udcff"),
        ("up\x1b[A", "up\\x1b[A"),
    ],
)
def test_what_a_terminal_would_obey_is_escaped(text: str, expected: str) -> None:
    assert shown(text) == expected


def test_it_is_of_the_kind_that_it_writes_to() -> None:
    stream = io.TextIOWrapper(io.BytesIO(), encoding="ascii", errors="backslashreplace")
    wrapped = Escaped(stream)
    wrapped.writelines(["a\x1b", "é"])
    print("b\x07", file=wrapped, flush=True)
    assert (wrapped.encoding, wrapped.errors, wrapped.isatty()) == ("ascii", "backslashreplace", False)
    assert stream.buffer.getvalue() == b"a\\x1b\\xe9b\\x07\n"


@pytest.mark.parametrize("text", ["\r 50%|█▌ |", "\r    \r", "\n", "\x1b[A", "\n\n\x1b[A\x1b[A", "\r"])
def test_progress_bars_are_drawn_as_ever(text: str) -> None:
    assert shown(text) == text


@pytest.mark.parametrize("name", ["a\x1b[31mb", "a\rb", "a\x9bb"])
def test_names_of_files_are_escaped_in_messages(capsys: pytest.CaptureFixture[str], name: str) -> None:
    done = condgan(capsys, "evaluate", name, "--data", "digits")
    refused(done, "does not exist")
    assert all(one.isprintable() for one in done.err.rstrip("\n"))


def test_warnings_of_libraries_are_left_out_and_nothing_else_changes(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sys.stdout, sys.stderr, dict(os.environ)
    with own_words():
        monkeypatch.setattr(logging, "lastResort", logging.StreamHandler(sys.stderr))
        warnings.warn("of a library", stacklevel=1)
        logging.getLogger("library").warning("of a library")
        print("ours")
        assert os.environ["PYTHONWARNINGS"] == "ignore"
    assert capsys.readouterr() == ("ours\n", "")
    assert (sys.stdout, sys.stderr, dict(os.environ)) == before


def test_warnings_that_are_asked_for_are_shown() -> None:
    script = "import warnings\nfrom condgan.app.cli.streams import own_words\nwith own_words(): warnings.warn('mine')"
    done = subprocess.run([sys.executable, "-W", "always", "-c", script], capture_output=True, text=True, check=True)
    assert "mine" in done.stderr


def test_an_end_of_file_is_no_interruption(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def ends(*_: object) -> None:
        raise EOFError("of a file")

    monkeypatch.setattr("condgan.recipes.text", ends)
    monkeypatch.setattr(sys, "argv", ["condgan", "recipes", "digits-acgan"])
    from condgan.app.cli.main import main

    with pytest.raises(EOFError, match="of a file"):
        main()


def test_an_interruption_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.recipes.text", lambda *_: os.kill(os.getpid(), signal.SIGINT))
    before = signal.getsignal(signal.SIGINT)
    done = condgan(capsys, "recipes", "digits-acgan")
    assert (done.code, done.err.split()) == (130, ["condgan:", "interrupted"])
    assert signal.getsignal(signal.SIGINT) is before


@pytest.mark.parametrize("module", ["click", "condgan.runs.train"])
def test_ctrl_c_while_modules_are_imported_ends_in_a_line(module: str) -> None:
    script = f"""
import os, signal, sys

class Presses:
    def find_spec(self, name, path, target=None):
        if name == {module!r}:
            try:
                os.kill(os.getpid(), signal.SIGINT)
                sum(range(1000))
            except BaseException:
                pass

sys.meta_path.insert(0, Presses())
sys.argv = ["condgan", "train", "--dry-run"]
from condgan.__main__ import start
start()
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "condgan: interrupted\n")


def test_a_signal_at_any_moment_of_the_start_leaves_no_traceback() -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        process = subprocess.Popen(
            [sys.executable, "-m", "condgan", "train", "--dry-run"],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=Path.cwd(),
        )  # fmt: skip
        time.sleep(0.4)
        process.send_signal(number)
        _, err = process.communicate(timeout=60)
        assert process.returncode in (-number, 128 + number)
        assert err in ("", "condgan: interrupted\n")
