"""Runs that end early or go back: on a plateau, after a collapse, after a loss that is not finite."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condgan.losses import Objective, Term
from condgan.recipes.load import load
from condgan.recipes.schema import Schedule
from condgan.runs import checkpoint
from condgan.runs.stopping import Decision, best_of, course, decide
from condgan.training.state import Scored, State
from condgan.types import Step
from condgan.utils.errors import UserError
from tests.helpers import weights
from tests.scripted import collapses_always, collapses_once, flat, train_scripted

ROOT = Path(__file__).parents[2]
SCHEDULE = Schedule(images=1_000, batch=10)


def history(*scores: tuple[float, float], name: str = "coverage") -> list[Scored]:
    """Distances and shares, every 100 images."""
    return [Scored(100 * (i + 1), {"fd_classifier": distance, name: share})
            for i, (distance, share) in enumerate(scores)]  # fmt: skip


@pytest.mark.parametrize("name", ["coverage", "label_agreement"])
@pytest.mark.parametrize(
    ("scores", "retries", "decision"),
    [
        ([], 0, Decision.GO_ON),
        ([(9, 0.9)], 0, Decision.GO_ON),
        ([(9, 0.4), (3, 0.8), (9.1, 0.39)], 0, Decision.GO_BACK),
        ([(9, 0.4), (3, 0.8), (9.1, 0.39)], 1, Decision.GO_BACK),
        ([(9, 0.4), (3, 0.8), (9.1, 0.39)], 2, Decision.STOP),
        ([(9, 0.4), (3, 0.8), (8.9, 0.39)], 0, Decision.GO_ON),
        ([(9, 0.4), (3, 0.8), (9.1, 0.41)], 0, Decision.GO_ON),
        ([(9, 0.4), (3, 0.8), (9.1, 0.39), (4, 0.7)], 0, Decision.GO_ON),
        ([(90, 0.09), (300, 0.01)], 0, Decision.GO_ON),
    ],
)
def test_a_collapse_is_far_and_of_little_variety(
    scores: list[tuple[float, float]], retries: int, decision: Decision, name: str
) -> None:
    assert decide(history(*scores, name=name), retries, SCHEDULE)[0] == decision


@given(st.lists(st.floats(1, 2), min_size=1, max_size=12), st.integers(1, 12))
@settings(max_examples=30)
def test_patience_is_counted_from_the_best_score(distances: list[float], patience: int) -> None:
    scored = history(*((distance, 0.9) for distance in distances))
    waited = len(distances) - 1 - distances.index(min(distances))
    schedule = Schedule(images=10_000, batch=10, patience=100 * patience)
    assert (decide(scored, 0, schedule)[0] == Decision.STOP) == (waited >= patience)
    assert decide(scored, 0, SCHEDULE)[0] == Decision.GO_ON


def test_of_a_share_more_is_better() -> None:
    scored = history((1, 0.5), (2, 0.9), (3, 0.7))
    best = best_of(scored, "coverage")
    assert best is not None
    assert best.images == 200
    by_coverage = Schedule(images=1_000, batch=10, patience=100, best_by="coverage")
    assert decide(scored, 0, by_coverage) == (
        Decision.STOP, "stopped at 300 images: no coverage was better than the 0.9 at 200 images",
    )  # fmt: skip


@pytest.mark.parametrize(
    ("distances", "trend", "best"),
    [
        ([], None, 0),
        ([9, 8], None, 200),
        ([9, 8, 7, 6], "improving", 400),
        ([9, 8, 7, 6.7], "flat", 400),
        ([9, 8, 7, 8.7], "flat", 300),
        ([9, 8, 7, 8.8], "worse", 300),
        ([8, 4, 4, 4, 4, 4, 9, 5.1], "worse", 200),
        ([8, 4, 4, 4, 4, 4, 3, 9], "improving", 700),
    ],
)
def test_a_trend_is_that_of_the_last_quarter(distances: list[float], trend: str | None, best: int) -> None:
    found = course(history(*((distance, 0.9) for distance in distances)), 1, "fd_classifier")
    assert found == (trend, best, 1)


def test_rates_that_fall_to_an_end_want_it_to_be_known() -> None:
    with pytest.raises(UserError, match="schedule.patience 500 given with schedule.decay 100"):
        load("digits-acgan", ["schedule.patience=500", "schedule.decay=100"])


def seen(run: Path) -> list[int]:
    return [json.loads(line)["images"] for line in (run / "log.jsonl").read_text().splitlines()]


def state_of(run: Path, images: int) -> dict[str, Any]:
    return json.loads((run / f"checkpoints/{images}/state.json").read_text())


def test_a_plateau_ends_the_run_until_it_may_go_on(capsys: pytest.CaptureFixture[str]) -> None:
    run, told = Path("run"), "stopped at 192 images: no fd_classifier was better than the 5 at 64 images"
    train_scripted(run, flat, "schedule.patience=128")
    assert told in capsys.readouterr().err
    assert seen(run) == [64, 128, 192]
    train_scripted(run, flat, "schedule.patience=128")
    assert told in capsys.readouterr().err
    assert seen(run) == [64, 128, 192]
    train_scripted(run, flat)
    assert seen(run) == [64, 128, 192, 256, 320]


def test_a_collapse_goes_back_to_the_best_checkpoint(capsys: pytest.CaptureFixture[str]) -> None:
    run, rates = Path("run"), {}

    def script(state: State) -> dict[str, float]:
        rates[state.retries, state.images] = state.g_optimizer.param_groups[0]["lr"]
        return collapses_once(state)

    train_scripted(run, script, "schedule.sample=64")
    told = (
        "training collapsed: fd_classifier 50 after 7.81, coverage 0.1 after 0.8: "
        "going back to 128 images, and on at half the learning rates\n"
        "resuming run at 128 images, at 0.5 of the learning rates\n"
    )
    assert told in capsys.readouterr().err
    assert seen(run) == [64, 128, 192, 256, 320]
    last = state_of(run, 320)
    assert last["retries"] == 1
    assert [images for images, _ in last["history"]] == [64, 128, 192, 256, 320]
    assert all(scores["coverage"] == 0.8 for _, scores in last["history"])
    lr = load("digits-acgan").g_opt.options["lr"]
    assert rates == dict.fromkeys([(0, 64), (0, 128), (0, 192)], lr) | dict.fromkeys(
        [(1, 192), (1, 256), (1, 320)], lr / 2
    )


@pytest.mark.parametrize("moment", ["scored", "marked", pytest.param("removed", marks=pytest.mark.slow)])
def test_killed_in_a_retry_it_ends_like_an_uninterrupted_one(moment: str, monkeypatch: pytest.MonkeyPatch) -> None:
    whole, killed = Path("whole"), Path("killed")
    train_scripted(whole, collapses_once)

    def script(state: State) -> dict[str, float]:
        if moment == "scored" and state.images == 256:
            raise RuntimeError("killed")
        return collapses_once(state)

    def kill(*_: object) -> None:
        if (killed / "checkpoints/192").exists():
            raise RuntimeError("killed")

    with monkeypatch.context() as patched:
        if moment != "scored":
            patched.setattr(checkpoint, {"marked": "mark_retry", "removed": "remove_after"}[moment], kill)
        with pytest.raises(RuntimeError, match="killed"):
            train_scripted(killed, script)
    assert max(map(int, os.listdir(killed / "checkpoints"))) == 192
    train_scripted(killed, collapses_once)
    assert weights(killed) == weights(whole)
    assert seen(killed) == seen(whole)
    assert state_of(killed, 320)["history"] == state_of(whole, 320)["history"]
    assert set(os.listdir(killed / "checkpoints")) == set(os.listdir(whole / "checkpoints"))


def test_what_collapses_again_and_again_stops(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("run")
    train_scripted(run, collapses_always, "schedule.best_by=label_agreement")
    said = capsys.readouterr().err
    assert said.count("going back to 128 images") == 2
    assert "at 0.25 of the learning rates" in said
    assert "stopped: training collapsed once more: fd_classifier 50 after 7.81" in said
    assert seen(run) == [64, 128, 192]
    assert "128" in os.listdir(run / "checkpoints"), "the best one before"
    train_scripted(run, collapses_always, "schedule.best_by=label_agreement")
    assert "stopped: training collapsed once more" in capsys.readouterr().err


def test_a_loss_that_is_not_finite_once_is_gone_back_from(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    steps = []

    def explodes(step: Step) -> torch.Tensor:
        steps.append(step)
        return step.on_fake.score / (len(steps) != 11)

    broken = Objective({"adv": Term(explodes)}, {"adv": Term(lambda step: -step.on_fake.score)})
    monkeypatch.setattr("condgan.training_steps.build_objective", lambda _: broken)
    train_scripted(Path("run"), flat)
    told = "training diverged: D/adv at 176 images is not finite: going back to 64 images, and on at half"
    assert told in capsys.readouterr().err, "64 images: the first of those that score the same"
    assert seen(Path("run")) == [64, 128, 192, 256, 320]
    assert state_of(Path("run"), 320)["retries"] == 1


@pytest.mark.slow
def test_two_processes_go_back_together() -> None:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", "2", "-m", "tests.scripted"]
    done = subprocess.run([*torchrun, "two"], env=environment, capture_output=True, text=True, timeout=400)
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("going back to 128 images") == 1
    assert seen(Path("two")) == [64, 128, 192, 256]
    train_scripted(Path("one"), collapses_once, "schedule.images=256")
    one, two = ([json.loads(line)["D/adv"] for line in (Path(run) / "log.jsonl").read_text().splitlines()]
                for run in ("one", "two"))  # fmt: skip
    assert two == pytest.approx(one, rel=1e-3)
