"""Where a run stands, also while it trains on."""

import json
from pathlib import Path

import pytest

from condgan.app.web import markup, progress
from condgan.app.web.progress import report_of, run_progress
from condgan.recipes.load import dump, load
from condgan.runs.report import write_report
from tests.app.test_export import FRUIT, untrained
from tests.conftest import write_image


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """A run that goes on to 320 images, with two sheets."""
    run = tmp_path / "run"
    run.mkdir()
    (run / "recipe.yaml").write_text(dump(load("digits-acgan", ["schedule.images=320"])))
    for images in (64, 128):
        write_image(run / "samples" / f"{images}.png")
    add(run, images=64, seconds=2.0, images_per_second=32.0)
    return run


def add(run: Path, **record: float) -> None:
    with (run / "log.jsonl").open("a") as file:
        file.write(json.dumps(record) + "\n")


def test_progress_is_that_of_the_log(run: Path) -> None:
    going = run_progress(run)
    assert (going.images, going.total, going.facts) == (64, 320, "32 images a second, about 8 s left")
    assert going.samples is not None
    assert going.samples.caption == "samples after 128 images"
    add(run, images=128, seconds=4.0, images_per_second=64.0, fd_classifier=12.345)
    with (run / "log.jsonl").open("a") as file:
        file.write('{"images": 19')  # as a killed run leaves it
    going = run_progress(run)
    assert (going.images, going.facts) == (128, "64 images a second, about 3 s left, fd_classifier 12.3")
    assert "128 of 320 images of training" in markup.progress_bar(going)
    add(run)  # ends that line
    add(run, images=320, seconds=9.0, images_per_second=64.0)
    assert run_progress(run).facts == "fd_classifier 12.3"


def test_a_run_that_has_just_begun(run: Path) -> None:
    (run / "log.jsonl").unlink()
    for sheet in (run / "samples").iterdir():
        sheet.unlink()
    begun = run_progress(run)
    assert begun == progress.Progress(0, 320, "", None, None)
    assert "No samples yet" in markup.progress_bar(begun)


@pytest.mark.parametrize(
    ("iteration", "images", "line"),
    [(1, 16, "The last checkpoint is of 16 images of training."), (0, None, "is of converted weights.")],
)
def test_a_run_without_a_log_has_its_checkpoint(iteration: int, images: int | None, line: str) -> None:
    run = untrained(Path("pulled"), "digits-acgan", FRUIT, "schedule.images=320")
    state = run / "checkpoints/16/state.json"
    state.write_text(json.dumps(json.loads(state.read_text()) | {"iteration": iteration}))
    told = run_progress(run)
    assert (told.images, told.total) == (images, None)
    page = markup.progress_bar(told)
    assert line in page
    assert "<progress" not in page
    add(run, images=1300, seconds=2.0)
    assert run_progress(run).total == 320, "once it trains on"


def test_files_that_come_and_go_meanwhile_are_no_matter(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, listed = progress._stamp(run), progress.entries
    (run / ".tmp-1-log.jsonl").touch()
    monkeypatch.setattr(progress, "entries", lambda folder: [*listed(folder), folder / "gone"])
    assert progress._stamp(run) == before != ()


def test_the_report_is_made_anew_where_the_run_changed(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = report_of(run)
    assert write_report(run, "report.html").read_text() == made
    monkeypatch.setattr(progress, "report_page", lambda _run: "another")
    assert report_of(run) == made
    add(run, images=321, seconds=1e6, images_per_second=1.0)
    assert report_of(run) == "another"
