"""Files that are whole or absent, and what cannot be told of them."""

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from condgan.utils import files
from condgan.utils.errors import UserError
from condgan.utils.limits import TooLarge


def denied(path: object, *_: object, **__: object) -> None:
    raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))


def test_what_cannot_be_told_is_not_taken_for_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    assert not files.found(Path("none"))
    assert not files.found(Path("none/inside"))
    assert files.entries(Path("none")) == []
    for name in ("stat", "scandir"):
        monkeypatch.setattr(os, name, denied)
    with pytest.raises(PermissionError):
        files.found(Path("hidden"))
    with pytest.raises(PermissionError):
        files.entries(Path("hidden"))


def test_only_plain_files_of_some_size_are_read() -> None:
    Path("plain").write_bytes(b"12345")
    assert files.read_bytes(Path("plain"), 5) == b"12345"
    with pytest.raises(TooLarge, match="5 bytes, more than 4"):
        files.read_bytes(Path("plain"), 4)
    os.mkfifo("pipe")
    for path in (Path("pipe"), Path("/dev/zero")):
        with pytest.raises(OSError, match="Not a plain file"):
            files.sha256_of(path, 100)


def test_what_cannot_be_added_whole_is_not_added(monkeypatch: pytest.MonkeyPatch) -> None:
    path = Path("log")
    files.append(path, b"one\n")

    class Full:
        """A file on a disk that is full after two bytes."""

        def __init__(self, file: object) -> None:
            self.file, self.writes = file, 0

        def __enter__(self) -> "Full":
            return self

        def __exit__(self, *_: object) -> None:
            self.file.close()

        def __getattr__(self, name: str) -> object:
            return getattr(self.file, name)

        def write(self, data: bytes) -> int:
            self.writes += 1
            if self.writes > 1:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data[:2])

    real = open
    monkeypatch.setattr("builtins.open", lambda *a, **k: Full(real(*a, **k)))
    with pytest.raises(OSError, match="No space left on device: 'log'"):
        files.append(path, b"two\n")
    assert path.read_bytes() == b"one\n"


def test_errors_of_an_open_file_name_it() -> None:
    def full(path: Path) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with pytest.raises(OSError, match="'new'"), files.new_file(Path("new")) as file:
        full(file)
    with pytest.raises(OSError, match="'folder'"), files.new_directory(Path("folder")) as directory:
        full(directory)
    assert not list(Path().iterdir())


@pytest.mark.parametrize("make", [Path.touch, Path.mkdir])
def test_a_new_directory_takes_the_place_of_nothing(make: Callable[[Path], None]) -> None:
    place = Path("place")
    with pytest.raises(UserError, match="'place' is there already"), files.new_directory(place):
        make(place)
    assert files.entries(Path()) == [place]
    assert place.is_file() or files.entries(place) == []


def test_a_new_directory_takes_an_older_ones_place_where_that_is_asked_for() -> None:
    for number in range(2):
        with files.new_directory(Path("place"), replacing=True) as directory:
            (directory / str(number)).touch()
    assert files.entries(Path("place")) == [Path("place/1")]
    assert files.entries(Path()) == [Path("place")]


def test_temporaries_of_living_processes_are_left_to_them() -> None:
    living, gone, own = (f".tmp-{pid}-x" for pid in (os.getppid(), 2**22 + 1, os.getpid()))
    for name in (living, gone, own, "other"):
        Path(name).touch()
    files.remove_temporaries(Path())
    assert {path.name for path in Path().iterdir()} == {living, "other"}


def test_a_directory_is_removed_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("old").mkdir()
    Path("old/file").touch()
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", lambda *_, **__: None)  # as if killed before
        files.remove_directory(Path("old"))
    assert not Path("old").exists()
    files.remove_directory(Path("old"))


def test_errors_of_writing_name_what_is_written_not_how_it_is_called_meanwhile() -> None:
    Path("folder").mkdir()
    with pytest.raises(IsADirectoryError) as of_write:
        files.write(Path("folder"), b"x")
    with pytest.raises(IsADirectoryError) as of_new, files.new_file(Path("folder")) as file:
        file.write_bytes(b"x")
    with pytest.raises(FileNotFoundError) as inside, files.new_directory(Path("new")) as new:
        (new / "a/b").write_bytes(b"x")
    assert [error.value.filename for error in (of_write, of_new, inside)] == ["folder", "folder", "new/a/b"]
    assert [path.name for path in files.entries(Path())] == ["folder"]
