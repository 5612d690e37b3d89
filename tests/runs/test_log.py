"""What is said while a run trains."""

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from condgan.runs.log import Log, Pace


class Clock:
    """A clock that is set."""

    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def test_the_rate_is_that_of_the_last_ten_seconds() -> None:
    clock = Clock()
    pace, images = Pace(clock), 0
    for second in range(61):
        pace.see(images)
        clock.now += 1
        images += 50 if second < 40 else 200
    assert pace.rate == pytest.approx(200)
    assert pace.left(7_000) == pytest.approx(7_000 / ((40 * 50 + 20 * 200) / 60))


def test_nothing_is_promised_before_ten_seconds() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert pace.rate == 0
    for images in range(0, 100, 10):
        pace.see(images)
        assert pace.left(1_000) is None
        clock.now += 1
    pace.see(100)
    assert pace.left(1_000) == pytest.approx(100)


def test_iterations_of_an_instant_are_not_looked_at_one_by_one() -> None:
    clock = Clock()
    pace = Pace(clock)
    assert [pace.see(images) for images in range(3)] == [True, False, False]
    clock.now += 0.5
    assert pace.see(3)
    assert pace.rate == pytest.approx(6)


@given(st.lists(st.floats(0.01, 30), min_size=1, max_size=60), st.integers(1, 10_000))
@settings(max_examples=20)
def test_a_steady_rate_is_told_as_it_is(steps: list[float], rate: int) -> None:
    clock = Clock()
    pace = Pace(clock)
    pace.see(0)
    for step in steps:
        clock.now += step
        pace.see(round(rate * (clock.now - 100)))
    assert len(pace.seen) < 25
    if clock.now > 102:
        assert pace.rate == pytest.approx(rate, abs=3 / 0.5)


def test_nothing_is_promised_of_a_run_that_is_over(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    log = Log(tmp_path, 0, 1_990)
    log.pace.clock = clock
    for images in (0, 2_000):
        log.advance(images)
        clock.now += 20
    assert "to come" not in capsys.readouterr().err


def test_a_line_tells_images_rate_time_and_the_last_score(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    clock = Clock()
    log = Log(tmp_path, 0, 10_000)
    log.pace.clock = clock
    for images in range(0, 1_101, 100):
        log.advance(images)
        clock.now += 1
    assert capsys.readouterr().err == "the 9,000 images to come will take about 1 min 30 s\n"
    log.scalars(1_100, {"D/adv": 0.5, "fd_classifier": 12.0})
    assert log.line(1_100) == "1,100 of 10,000 images, 100/s, 1 min 29 s left, fd_classifier 12"
    log.scalars(1_200, {"fd_classifier": 9.0})
    assert log.line(1_200).endswith("fd_classifier 9 (better, 12 before)")
    log.scalars(10_000, {"D/adv": 0.5, "fd_classifier": 10.0})
    (last,) = capsys.readouterr().err.splitlines()
    assert last == "10,000 of 10,000 images, 100/s, fd_classifier 10 (worse, 9 before)"
    assert [json.loads(line).get("D/adv") for line in (tmp_path / "log.jsonl").read_text().splitlines()] == [
        0.5, None, 0.5,
    ]  # fmt: skip
    log.close()
    resumed = Log(tmp_path, 1_200, 10_000)
    assert resumed.line(1_200) == "1,200 of 10,000 images, fd_classifier 9 (better, 12 before)"
    resumed.close()


def test_higher_coverage_is_better(tmp_path: Path) -> None:
    log = Log(tmp_path, 0, 10, "coverage")
    log.scalars(5, {"coverage": 0.5, "fd_classifier": 9.0})
    log.scalars(6, {"coverage": 0.75})
    assert log.line(6).endswith("coverage 0.75 (better, 0.5 before)")
    log.close()


@pytest.mark.parametrize("score", ["fd_classifier", "coverage"])
def test_beside_a_bar_all_is_told_on_80_columns(tmp_path: Path, score: str) -> None:
    clock = Clock()
    log = Log(tmp_path, 0, 2_000_000, score)
    log.pace.clock = clock
    for images in range(0, 1_000_000, 50_000):
        log.advance(images)
        clock.now += 100
    log.scalars(950_000, {score: 123.4})
    log.scalars(960_000, {score: 16.72})
    line = log.short_line(960_000)
    assert line.startswith("960,000 images, 500/s, 34 min")
    assert line.endswith(("6.7 (better)", "6.7 (worse)"))
    assert len(f"100%|{line}") < 80
    log.close()
