"""How many threads compute beside other programs."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from condgan.recipes.load import load
from condgan.runs.schemas import last_threads
from condgan.runs.train import train_run
from condgan.utils import threads
from condgan.utils.threads import fastest, free_cores
from tests.conftest import TINY


@pytest.fixture
def one_takes(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[float], None]]:
    """A process of two threads, whose number nobody settled; sets how long one takes where two take a second."""
    monkeypatch.delenv("OMP_NUM_THREADS")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield lambda seconds: monkeypatch.setattr(threads, "_seconds", lambda count, _: {2: 1.0, 1: seconds}[count])
    torch.set_num_threads(before)


def test_fewer_threads_are_taken_where_they_are_clearly_faster() -> None:
    assert fastest({2: 1.0, 1: 1.7}) == 2
    assert fastest({2: 1.0, 1: 0.8}) == 2, "of about equals all"
    assert fastest({2: 1.0, 1: 0.5}) == 1
    assert fastest({8: 1.0, 7: 0.4, 4: 0.5, 1: 2.0}) == 7


def test_a_busy_core_is_left_alone(one_takes: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    one_takes(0.3)
    with free_cores():
        assert torch.get_num_threads() == 1
    assert torch.get_num_threads() == 2
    assert "1 of 2 threads compute, since they are the fastest beside other programs" in capsys.readouterr().err
    with free_cores(told=False):
        assert torch.get_num_threads() == 1
    assert capsys.readouterr().err == ""


def test_free_cores_are_all_used(one_takes: Callable[[float], None], capsys: pytest.CaptureFixture[str]) -> None:
    one_takes(1.7)
    with free_cores():
        assert torch.get_num_threads() == 2
    assert capsys.readouterr().err == ""


def test_what_the_user_settled_stays(one_takes: Callable[[float], None], monkeypatch: pytest.MonkeyPatch) -> None:
    one_takes(0.3)
    monkeypatch.setenv("OMP_NUM_THREADS", "2")
    with free_cores():
        assert torch.get_num_threads() == 2


@pytest.mark.usefixtures("one_takes")
def test_threads_are_measured_in_a_moment() -> None:
    seconds = threads._measured(2)
    assert seconds.keys() == {2, 1}
    assert 0 < min(seconds.values()) < 1


def run(directory: Path, images: int) -> None:
    train_run(load("digits-acgan", [*TINY, f"schedule.images={images}", "schedule.save=32"]), directory)


def test_a_run_goes_on_by_the_threads_that_trained_it_last(
    one_takes: Callable[[float], None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else its last digits would not be those of an uninterrupted one."""
    one_takes(0.3)
    run(tmp_path / "run", 32)
    assert last_threads(tmp_path / "run") == 1
    one_takes(1.7)
    run(tmp_path / "run", 64)
    assert last_threads(tmp_path / "run") == 1
    with monkeypatch.context() as patch:
        patch.setenv("OMP_NUM_THREADS", "2")
        run(tmp_path / "run", 96)
    assert last_threads(tmp_path / "run") == 2
    one_takes(0.3)
    run(tmp_path / "run", 128)
    assert last_threads(tmp_path / "run") == 2


def test_threads_of_several_processes_and_of_gpus_are_not_kept(tmp_path: Path) -> None:
    run(tmp_path / "run", 32)
    path = tmp_path / "run" / "environment.json"
    began = json.loads(path.read_text())
    assert last_threads(tmp_path / "run") == torch.get_num_threads()
    for change in ({"processes": 2}, {"gpu": "one"}):
        path.write_text(json.dumps(began | change))
        assert last_threads(tmp_path / "run") is None
