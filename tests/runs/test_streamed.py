"""Runs that decode pictures while they train."""

import shutil
import tarfile
from pathlib import Path
from typing import Any

import pytest

from condgan.data.dataset import Dataset
from condgan.evaluation import classifier, scoring
from condgan.evaluation.classifier import SmallClassifier
from condgan.runs import checkpoint
from tests.conftest import TINY
from tests.data.test_undecoded import write_shards
from tests.helpers import condgan, refused, weights

STREAMED = [
    "digits-acgan", *TINY, "schedule.images=128", "schedule.sample=64", "data.size=16", "data.channels=1",
    "data.stream=true", "data.flip=true", "--data", "shards",
]  # fmt: skip


@pytest.fixture(autouse=True)
def _hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "training_steps", lambda _images, _spec: 5)


@pytest.fixture
def shards(tmp_path: Path) -> Path:
    return write_shards(tmp_path / "shards", [30, 50, 11])


@pytest.mark.usefixtures("shards")
def test_resumed_is_uninterrupted_and_nothing_is_kept_in_the_cache(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "cache"))
    for out, *more in (("whole",), ("parts", "schedule.images=48"), ("parts", "schedule.images=112"), ("parts",)):
        assert condgan(capsys, "train", *STREAMED, *more, "--out", out).code == 0
    assert weights(Path("parts")) == weights(Path("whole"))
    assert not (tmp_path / "cache" / "prepared").exists()
    done = condgan(capsys, "evaluate", "whole", "--full")
    assert done.code == 0, done.err
    assert condgan(capsys, "neighbors", "whole", "--out", "neighbors").code == 0
    refused(condgan(capsys, "train", *STREAMED, "data.stream=false", "--out", "whole"), "data.stream True there")


def damage(shards: Path) -> None:
    """Make all pictures black bytes, as many as before."""
    for path in shards.iterdir():
        content = bytearray(path.read_bytes())
        with tarfile.open(path) as archive:
            for member in archive:
                if member.name.endswith(".jpg"):
                    content[member.offset_data : member.offset_data + member.size] = bytes(member.size)
        path.write_bytes(content)


def test_a_picture_that_turns_bad_saves_the_run_which_goes_on_exactly(
    capsys: pytest.CaptureFixture[str], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    longer = [*STREAMED, "schedule.images=256"]
    assert condgan(capsys, "train", *longer, "--out", "whole").code == 0
    shutil.copytree(shards, "kept")
    save = checkpoint.save_checkpoint

    def save_and_damage(*given: Any) -> Path:
        damage(shards)
        return save(*given)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_checkpoint", save_and_damage)
        stopped = condgan(capsys, "train", *longer, "--out", "run")
    assert stopped.code == 2
    assert "unreadable image '" in stopped.err.strip().splitlines()[-1]
    last = max(int(path.name) for path in Path("run/checkpoints").iterdir())
    assert 64 < last < 256
    shutil.copytree("kept", shards, dirs_exist_ok=True)
    resumed = condgan(capsys, "train", *longer, "--out", "run")
    assert f"resuming run at {last} images" in resumed.err
    assert weights(Path("run")) == weights(Path("whole"))


def test_a_picture_that_turns_bad_where_a_checkpoint_is_scored_saves_the_run(
    capsys: pytest.CaptureFixture[str], shards: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Losses are logged there already, and none came since."""
    read_by = scoring.classifier_of

    def damage_and_read(data: Dataset) -> SmallClassifier:
        damage(shards)
        return read_by(data)

    monkeypatch.setattr(scoring, "classifier_of", damage_and_read)
    options = ["schedule.log=16", "schedule.save=64", "schedule.sample=1000"]
    stopped = condgan(capsys, "train", *STREAMED, *options, "--out", "run")
    assert stopped.code == 2
    assert "unreadable image '" in stopped.err.strip().splitlines()[-1]
    assert [path.name for path in Path("run/checkpoints").iterdir()] == ["64"]


def test_others_in_place_of_bad_pictures_are_the_same_when_resumed(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    write_shards(tmp_path / "shards", [30, 50, 11], lambda number, one: one[:40] if number in (5, 22) else one)
    stopped = condgan(capsys, "train", *STREAMED, "--out", "strict")
    assert stopped.code == 2
    assert stopped.err.strip().splitlines()[-1].endswith("add --skip-bad-images")
    for out, *more in (("whole",), ("parts", "schedule.images=48"), ("parts",)):
        done = condgan(capsys, "train", *STREAMED, *more, "--skip-bad-images", "--out", out)
        assert done.code == 0, done.err
        assert "is seen in its place" in done.err
    assert weights(Path("parts")) == weights(Path("whole"))


def test_what_does_not_go_together_is_refused(capsys: pytest.CaptureFixture[str], shards: Path) -> None:
    refused(condgan(capsys, "train", *STREAMED, "data.resident=true", "--out", "a"), "data.resident=true given with")
    (shards / "001.tar").write_bytes((shards / "001.tar").read_bytes()[:20_000])
    refused(condgan(capsys, "train", *STREAMED, "--out", "a"), "001.tar' cannot be read", "make it anew")
