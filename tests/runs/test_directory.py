"""Who has a run directory, what cannot be read or written there, and what is lost by it: nothing."""

import errno
import json
import os
import resource
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from filelock import FileLock, Timeout
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from condgan.recipes.load import dump, load
from condgan.runs import checkpoint, train
from condgan.runs.log import Log
from tests.conftest import TINY
from tests.helpers import condgan, refused, weights


def begin_meanwhile(monkeypatch: pytest.MonkeyPatch, directory: Path, recipe: str | None = None) -> FileLock:
    """Have another process begin in a directory while this one reads its data; its lock, if it is still at it."""
    real, lock = train.read_data, FileLock(directory / "lock", is_singleton=False)

    def slow(*arguments: object) -> object:
        if not directory.exists():
            directory.mkdir()
            if recipe is None:
                lock.acquire()
            else:
                (directory / "recipe.yaml").write_text(recipe)
        return real(*arguments)

    monkeypatch.setattr(train, "read_data", slow)
    return lock


def test_of_two_trainings_begun_together_the_second_is_refused(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = begin_meanwhile(monkeypatch, Path("run"))
    refused(condgan(capsys, "train", *TINY, "--out", "run"), "run 'run' is in use by another process")
    assert [path.name for path in Path("run").iterdir()] == ["lock"]
    lock.release()


def test_a_run_that_began_meanwhile_keeps_its_settings(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    other = dump(load("digits-acgan", [*TINY, "seed=2"]))
    begin_meanwhile(monkeypatch, Path("run"), other)
    refused(condgan(capsys, "train", *TINY, "--out", "run"), "has other settings, seed 2 there and 0 here")
    assert Path("run/recipe.yaml").read_text() == other


def test_two_fresh_starts_at_once_take_two_numbers(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = begin_meanwhile(monkeypatch, Path("run"))
    done = condgan(capsys, "train", *TINY, "schedule.images=16", "--out", "run", "--fresh")
    assert done.code == 0, done.err
    assert Path("run-2/metrics.json").exists()
    assert "condgan sample" in done.out
    assert "run-2 " in done.out
    lock.release()


@pytest.mark.parametrize("call", ["scandir", "stat"])
def test_checkpoints_that_cannot_be_listed_do_not_restart_the_run(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, call: str
) -> None:
    run = digits_run("run", images=64)
    before = {path: path.read_bytes() for path in run.rglob("*") if path.is_file()}
    real, place = getattr(os, call), str(run / ("checkpoints" if call == "scandir" else "recipe.yaml"))

    def denied(path: object = ".", *arguments: object, **how: object) -> object:
        if not isinstance(path, int) and str(path).endswith(place):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), path)
        return real(path, *arguments, **how)

    with monkeypatch.context() as patch:
        patch.setattr(os, call, denied)
        refused(condgan(capsys, "train", *TINY, "--out", run), "Permission denied", place)
    rewritten = {"recipe.yaml", "environment.json"}
    assert all(path.read_bytes() == content for path, content in before.items() if path.name not in rewritten)


@pytest.mark.parametrize(
    ("content", "part"),
    [
        (None, "has no environment.json"),
        ("{", "environment.json' cannot be read"),
        ('{"data": 3}', "command: Field required"),
        ("null", "environment.json' cannot be read"),
    ],
)
def test_a_run_that_does_not_know_its_data_says_so(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], content: str | None, part: str
) -> None:
    run = digits_run("run", images=64)
    (run / "environment.json").unlink()
    if content is not None:
        (run / "environment.json").write_text(content)
    for command in (["evaluate", run], ["train", *TINY, "--out", run]):
        refused(condgan(capsys, *command), part, "put it back, or start over with --fresh")
    assert condgan(capsys, "sample", run, "--per-class", 1, "--out", "x").code == 0


@pytest.mark.parametrize("content", ["", "[", "name: digits-acgan\n"])
def test_a_run_whose_recipe_is_damaged_says_what_to_do(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], content: str
) -> None:
    run = digits_run("run", images=64)
    (run / "recipe.yaml").write_text(content)
    for command in (["evaluate", run], ["report", run], ["sample", run, "--out", "x"], ["train", *TINY, "--out", run]):
        refused(condgan(capsys, *command), "the recipe of run 'run' cannot be read (", "): put it back, or start over")


def test_a_start_that_was_killed_before_its_first_checkpoint_writes_its_environment(
    capsys: pytest.CaptureFixture[str],
) -> None:
    Path("run").mkdir()
    Path("run/recipe.yaml").write_text(dump(load("digits-acgan", [*TINY, "schedule.images=16"])))
    assert condgan(capsys, "train", *TINY, "schedule.images=16", "--out", "run").code == 0
    assert json.loads(Path("run/environment.json").read_text())["data"]["train"] == 1438


@contextmanager
def small_files(size: int) -> Iterator[None]:
    """Let no file grow larger meanwhile, as on a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(
    ("size", "where"), [(6_000, "samples/128.png"), (30_000, "checkpoints/128"), (1_000, "recipe.yaml")]
)
def test_files_that_cannot_grow_end_the_run_in_a_line_and_lose_nothing(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], size: int, where: str
) -> None:
    run = digits_run("run", images=64)
    with small_files(size):
        stopped = condgan(capsys, "train", *TINY, "schedule.images=128", "--out", run)
    assert stopped.code == 2
    assert "Traceback" not in stopped.err
    last = stopped.err.strip().splitlines()[-1]
    assert last.startswith("condgan: larger than files may be here: 'run/")
    assert where in last
    assert "MiB free in '" in last
    assert not list(run.rglob(".tmp-*"))
    assert all(checkpoint.damage(path) is None for path in checkpoint.checkpoints(run / "checkpoints"))
    assert all(json.loads(line) for line in (run / "log.jsonl").read_text().splitlines())
    assert condgan(capsys, "train", *TINY, "schedule.images=128", "--out", run).code == 0
    assert condgan(capsys, "train", *TINY, "schedule.images=128", "--out", "whole").code == 0
    assert weights(run) == weights(Path("whole"))


def test_curves_that_cannot_be_written_are_told_where_they_were_to_be() -> None:
    log = Log(Path(), 0, 100)
    with small_files(2_000), pytest.raises(OSError, match="'tensorboard/events"):
        log.picture("samples", 50, Image.effect_noise((64, 64), 100).convert("RGB"))
    log.scalars(50, {"loss": 1.0})
    log.close()
    (events,) = Path("tensorboard").iterdir()
    board = EventAccumulator(str(events)).Reload()
    assert [event.step for event in board.Scalars("loss")] == [50]


def test_numbers_are_printed_where_they_cannot_be_kept(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = digits_run("run", images=64)
    before = (run / "metrics.json").read_bytes()

    def read_only(path: Path, _: bytes) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    monkeypatch.setattr("condgan.runs.evaluate.write", read_only)
    done = condgan(capsys, "evaluate", run)
    assert done.code == 0
    assert "label_agreement" in done.out
    (line,) = done.err.strip().splitlines()
    assert line == "warning: results are not kept in 'run': Read-only file system, 'run/metrics.json'"
    assert (run / "metrics.json").read_bytes() == before


def test_results_that_belong_together_are_written_by_one_process_at_a_time(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run, written = digits_run("run", images=64), []

    def alone(path: Path, _: bytes) -> None:
        written.append(path.name)
        with pytest.raises(Timeout):
            FileLock(run / "results.lock", is_singleton=False).acquire(timeout=0)

    monkeypatch.setattr("condgan.runs.evaluate.write", alone)
    assert condgan(capsys, "evaluate", run).code == 0
    assert written == ["metrics.json", "sheet.png", "neighbors.png", "directions.png", "tree.png"]


def test_a_log_of_other_lines_is_mended_when_the_run_goes_on(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    run = digits_run("run", images=64)
    (line,) = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    odd = b'null\n[1]\n{"images": 32}\n{"images": "32", "seconds": 1}\n\xff\xfe\n{"images": 32, "seconds": null}\n'
    (run / "log.jsonl").write_bytes(odd + line + b'{"images": 64, "seconds": 1')
    assert condgan(capsys, "train", *TINY, "schedule.images=80", "--out", run).code == 0
    lines = (run / "log.jsonl").read_bytes().splitlines(keepends=True)
    assert lines[0] == line
    assert [json.loads(one)["images"] for one in lines] == [64, 80]


def test_events_are_those_that_tensorboard_reads(digits_run: Callable[..., Path]) -> None:
    shutil.copytree(digits_run("run", images=64) / "tensorboard", "board")
    board = EventAccumulator("board").Reload()
    assert {"images_per_second", "D/adv", "fd_classifier"} <= set(board.Tags()["scalars"])
    assert set(board.Tags()["images"]) == {"real", "samples"}
    assert [event.step for event in board.Scalars("D/adv")] == [64]


@pytest.mark.parametrize(
    "command",
    [
        ["report", "run", "--out", "run/recipe.yaml"],
        ["report", "run", "--out", "run/samples/page.html"],
        ["data", "digits", "--out", "run/log.jsonl"],
        ["data", "digits", "--out", "run/samples/real.png"],
        ["data", "digits", "--out", "run/sheet.png"],
        ["statistics", "digits", "run/recipe.yaml", "--extractor", "alexnet"],
        ["statistics", "digits", "run/checkpoints/64/statistics.npz", "--extractor", "alexnet"],
        ["sample", "run", "--out", "run/nothing/../checkpoints/x.npz"],
    ],
)
def test_a_file_to_write_is_of_its_kind_and_none_that_a_run_wrote(
    capsys: pytest.CaptureFixture[str], command: list[str]
) -> None:
    for folder in ("samples", "checkpoints/64", "nothing"):
        Path("run", folder).mkdir(parents=True)
    files = ("recipe.yaml", "log.jsonl", "samples/real.png", "sheet.png")
    for name in files:
        Path("run", name).write_text(name)
    refused(condgan(capsys, *command), "run/", "given, which")
    assert all(Path("run", name).read_text() == name for name in files)
    assert not any(path.suffix in (".html", ".npz") for path in Path("run").rglob("*"))


@pytest.mark.parametrize("command", [["report", "run", "--out"], ["data", "digits", "--out"], ["statistics", "digits"]])
def test_a_folder_is_no_file_to_write(capsys: pytest.CaptureFixture[str], command: list[str]) -> None:
    for ending in ("html", "png", "npz"):
        Path(f"x.{ending}").mkdir()
        refused(condgan(capsys, *command, f"x.{ending}"), "given, which")
