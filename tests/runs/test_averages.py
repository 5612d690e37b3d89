"""Averages that are put together after training: what a run keeps for them, the command, and what is refused."""

import json
import shutil
from pathlib import Path

import pytest
import torch

import condgan as api
from condgan.recipes.load import load
from condgan.runs.averages import _reconstructed
from condgan.runs.checkpoint import load_checkpoint
from condgan.runs.train import train_run
from condgan.training.post_hoc import Profile
from condgan.utils.errors import UserError
from tests.conftest import TINY
from tests.helpers import condgan, refused

WITH_WIDTHS = [
    *TINY, "schedule.images=640", "schedule.save=32", "averages={narrow: {width: 0.05}, wide: {width: 0.1}}",
]  # fmt: skip


@pytest.fixture(scope="module")
def averaged(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that also keeps an average of a third width directly."""
    run = tmp_path_factory.mktemp("averaged") / "run"
    train_run(load("digits-acgan", [*WITH_WIDTHS, "averages.direct.width=0.07"]), run)
    return run


def test_what_a_run_keeps_is_enough_for_another_width(averaged: Path) -> None:
    checkpoint = averaged / "checkpoints" / "640"
    direct, last = (load_checkpoint(checkpoint, name).generator for name in ("direct", "narrow"))
    places = sorted((averaged / "snapshots").iterdir(), key=lambda one: int(one.name))
    assert [int(one.name) for one in places] == [*range(32, 641, 32)]
    profiles = {
        (place, name): Profile(int(place.name), width)
        for place in places
        for name, width in (("narrow", 0.05), ("wide", 0.1))
    }
    made = _reconstructed(last, profiles, Profile(640, 0.07))

    def apart(one: torch.nn.Module, other: torch.nn.Module) -> float:
        pairs = zip(one.parameters(), other.parameters(), strict=True)
        return sum(float((mine - theirs).square().sum()) for mine, theirs in pairs) ** 0.5

    assert apart(made, direct) < 0.1 * apart(last, direct)


def test_the_command_writes_the_best_and_the_curve(averaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "ema", averaged, "--width", "0.05..0.2", "--by", "label_agreement", "--out", "best")
    assert done.code == 0, done.err
    told = json.loads(Path("best/averages.json").read_text())
    assert [one["width"] for one in told["widths"]] == pytest.approx([0.05 * 4 ** (i / 6) for i in range(7)])
    scores = {one["width"]: one["score"] for one in told["widths"]}
    assert scores[told["best"]] == max(scores.values())
    assert (told["by"], told["images"], told["snapshots"]) == ("label_agreement", 640, 20)
    assert f"the best width is {told['best']:.3g}: label_agreement {scores[told['best']]:.3f}" in done.out
    assert Path("best/averages.png").read_bytes().startswith(b"\x89PNG")
    assert not Path("best/metrics.json").exists(), "those of the run are of its own average"
    assert api.evaluate("best")["label_agreement"] >= 0
    images, own = (api.load(run, precision="float32").sample("3", 4) for run in ("best", averaged))
    assert images.shape == own.shape
    assert (images != own).any()


def test_a_width_that_was_kept_is_what_was_kept(averaged: Path, capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "ema", averaged, "--width", "0.1", "--json", "--out", "wide")
    assert done.code == 0, done.err
    assert json.loads(done.out.splitlines()[-1])["best"] == 0.1
    made, kept = api.load("wide", precision="float32"), api.load(averaged, "latest", "float32", average="wide")
    for mine, theirs in zip(made.generator.parameters(), kept.generator.parameters(), strict=True):
        assert torch.allclose(mine, theirs, atol=1e-6)


def test_a_run_that_is_gone_on_with_keeps_the_same(averaged: Path) -> None:
    recipe = [*WITH_WIDTHS, "averages.direct.width=0.07"]
    train_run(load("digits-acgan", [*recipe, "schedule.images=320"]), Path("parts"))
    train_run(load("digits-acgan", recipe), Path("parts"))
    for file in ("96/narrow", "352/wide", "640/direct"):
        path = f"snapshots/{file}.safetensors"
        assert (Path("parts") / path).read_bytes() == (averaged / path).read_bytes()


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--width", "0.3"], "width 0.3 given: expected numbers from 0.005 to 0.28"),
        (["--width", "0.2..0.1"], "width '0.2..0.1' given: expected two numbers, the smaller one first"),
        (["--width", "a,b"], "'a,b' given: expected numbers with commas between"),
        (["--by", "recall"], "unknown score 'recall'"),
        (["--out", "."], "which is there already: give a new folder"),
    ],
)
def test_bad_input_is_refused(
    averaged: Path, capsys: pytest.CaptureFixture[str], options: list[str], part: str
) -> None:
    refused(condgan(capsys, "ema", averaged, "--out", "new", *options), part)
    assert not Path("new").exists()


def test_runs_without_snapshots_are_refused(digits_run, capsys: pytest.CaptureFixture[str]) -> None:
    run = digits_run()
    refused(condgan(capsys, "ema", run, "--out", "new"), "keeps no average of a width: train another with averages=")
    assert not (run / "snapshots").exists()
    options = [*TINY, "schedule.save=320", "averages={wide: {width: 0.1}}"]
    train_run(load("digits-acgan", options), Path("once"))
    refused(condgan(capsys, "ema", "once", "--out", "new"), "run 'once' has 1 snapshots: expected 2 or more")


def test_a_damaged_snapshot_is_one_line(averaged: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    run = Path(shutil.copytree(averaged, tmp_path / "damaged"))
    (run / "snapshots" / "64" / "wide.safetensors").write_bytes(b"no weights")
    done = condgan(capsys, "ema", run, "--out", "new")
    assert done.code == 2
    assert "64/wide.safetensors' cannot be read (it is damaged" in done.err.splitlines()[-1]
    assert not Path("new").exists()


def test_an_average_with_a_width_has_nothing_else() -> None:
    with pytest.raises(UserError, match="decay and width of decay, half_life and width of an average given"):
        load("digits-acgan", ["ema.width=0.1"])
    with pytest.raises(UserError, match="start 10 of an average given with width 0.1"):
        load("digits-acgan", ["averages.wide={width: 0.1, start: 10}"])
