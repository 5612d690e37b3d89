"""The command line of the page: what it wants is said in one line."""

import builtins
from importlib import util
from pathlib import Path

import pytest

from tests.helpers import condgan, refused


def test_without_gradio_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    find, load = util.find_spec, builtins.__import__

    def imported(name: str, *where: object) -> object:
        assert name.split(".")[0] != "gradio"
        return load(name, *where)

    monkeypatch.setattr("condgan.app.cli.app.find_spec", lambda name: None if name == "gradio" else find(name))
    monkeypatch.setattr(builtins, "__import__", imported)
    refused(condgan(capsys, "app", tmp_path), "needs Gradio", "pip install 'condgan[app]'")


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("app", "missing argument 'RUN...'"),
        ("app nowhere", "'nowhere' is no run directory"),
        ("app nowhere --port 0", "--port 0 given: expected 1 to 65,535"),
        ("app nowhere --port 70000", "--port 70000 given: expected 1 to 65,535"),
    ],
)
def test_bad_lines_are_refused(line: str, told: str, capsys: pytest.CaptureFixture[str]) -> None:
    refused(condgan(capsys, *line.split()), told)
