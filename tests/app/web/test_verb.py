"""The command line of the page: what it wants is said in one line."""

import builtins
import socket
from importlib import util
from pathlib import Path

import pytest

from condgan.app.web.port import require_free
from condgan.utils.errors import UserError
from tests.helpers import condgan, refused


def test_without_gradio_it_says_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "recipe.yaml").write_text("")
    find, load = util.find_spec, builtins.__import__

    def imported(name: str, *where: object) -> object:
        assert name.split(".")[0] != "gradio"
        return load(name, *where)

    monkeypatch.setattr("condgan.app.web.start.find_spec", lambda name: None if name == "gradio" else find(name))
    monkeypatch.setattr(builtins, "__import__", imported)
    refused(condgan(capsys, "app", tmp_path), "needs Gradio", "-e '.[app]'")


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


def test_a_port_that_cannot_be_had_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(UserError, match=rf"^--port {port} given, which is taken: give another one, such as"):
            require_free(port)
    require_free(port)

    def bind(of: socket.socket, address: tuple[str, int]) -> None:
        raise PermissionError if address[1] < 1024 else OSError(98, "Address already in use")

    monkeypatch.setattr(socket.socket, "bind", bind)
    with pytest.raises(UserError, match="^--port 80 given, which this user may not use: give one from 1024 on"):
        require_free(80)
    with pytest.raises(UserError, match="such as --port 65534$"):
        require_free(65_535)
