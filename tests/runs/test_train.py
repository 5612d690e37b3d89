"""A run directory's life: what it holds, resuming, damage, signals, kills, divergence."""

import errno
import json
import os
import random
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from filelock import FileLock

import condgan as package
from condgan.data.dataset import Dataset
from condgan.evaluation import scoring
from condgan.evaluation.classifier import SmallClassifier
from condgan.labels import LabelSpec
from condgan.losses import Objective, Term
from condgan.recipes import load
from condgan.runs import checkpoint
from condgan.types import Step
from tests.conftest import TINY
from tests.helpers import condgan, refused, weights

CLI = [sys.executable, "-m", "condgan"]


def test_a_run_directory_holds_everything(capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "train", *TINY)
    assert done.code == 0
    run = Path("runs/digits-acgan")
    assert load.load(run / "recipe.yaml") == load.load("digits-acgan", TINY)
    environment = json.loads((run / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert environment["data"]["train"] == 1438
    lines = [json.loads(line) for line in (run / "log.jsonl").read_text().splitlines()]
    assert [line["images"] for line in lines] == [64, 128, 192, 256, 320]
    assert {"D/adv", "D/class/real", "G/adv", "accuracy/real", "accuracy/fake", "fd_classifier"} <= set(lines[-1])
    assert {path.name for path in (run / "samples").iterdir()} == {"real.png", "160.png", "320.png"}
    metrics = json.loads((run / "metrics.json").read_text())
    assert {"label_agreement", "fd_classifier", "density", "coverage", "intra_class_diversity", "per_class"} <= set(
        metrics
    )
    kept = [int(path.name) for path in (run / "checkpoints").iterdir()]
    scores = {line["images"]: line["fd_classifier"] for line in lines}
    assert set(kept) == {256, 320, min(scores, key=lambda images: scores[images])}
    assert any((run / "tensorboard").iterdir())
    assert "label_agreement" in done.out
    assert str(run / "sheet.png") in done.out


@pytest.mark.parametrize(
    ("settings", "kept"),
    [
        ([], [20, 40, 50]),
        (["schedule.keep_best=2"], [20, 30, 40, 50]),
        (["schedule.keep_last=3"], [20, 30, 40, 50]),
        (["schedule.best_by=coverage"], [10, 40, 50]),
    ],
)
def test_the_best_checkpoints_outlive_later_ones(tmp_path: Path, settings: list[str], kept: list[int]) -> None:
    schedule = load.load("digits-acgan", settings).schedule
    for images, score in ((10, 5.0), (20, 3.0), (30, 4.0), (40, None), (50, 9.0)):
        directory = tmp_path / str(images)
        directory.mkdir()
        scores = {} if score is None else {"fd_classifier": score, "coverage": 1 / images}
        description = {"format": 1, "images": images, "iteration": 1, "scores": scores, "recipe": {},
                       "labels": [{"name": "class", "values": ["a"], "exclusive": True}],
                       "sha256": dict.fromkeys(checkpoint.FILES, "")}  # fmt: skip
        (directory / "state.json").write_text(json.dumps(description))
        checkpoint.prune(tmp_path, schedule)
    assert sorted(int(path.name) for path in tmp_path.iterdir()) == kept


def test_resumed_is_uninterrupted_and_seeds_decide(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    digits_run("whole")
    ended = []
    for out, *more in (
        ("parts", "schedule.images=112"),
        ("parts", "schedule.images=208"),
        ("parts",),
        ("again",),
        ("other", "schedule.images=112", "seed=1"),
    ):
        assert condgan(capsys, "train", *TINY, *more, "--out", out).code == 0
        ended.append(weights(Path(out)))
    assert weights(Path("parts")) == weights(Path("whole")) == weights(Path("again"))
    assert ended[-1] != ended[0], "another seed after as many images"
    images = [json.loads(line)["images"] for line in (Path("parts") / "log.jsonl").read_text().splitlines()]
    assert images == sorted(set(images))
    for out in ("whole", "again"):
        assert (
            condgan(
                capsys, "sample", out, "--classes", "3,7", "--per-class", 4, "--seed", 5, "--out", f"{out}-images"
            ).code
            == 0
        )
    for path in Path("whole-images").rglob("*.png"):
        assert path.read_bytes() == (Path("again-images") / path.relative_to("whole-images")).read_bytes()


def test_the_classifier_is_trained_for_the_first_score_and_changes_nothing(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scored_of = scoring.classifier_of
    there: list[set[str]] = []

    def trained(data: Dataset) -> SmallClassifier:
        there.append({path.name for path in Path("anew/samples").glob("*.png")})
        return scored_of(data)

    monkeypatch.setenv("CONDGAN_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(scoring, "classifier_of", trained)
    sooner = [*TINY, "schedule.images=128", "schedule.sample=64"]
    for out, *more in (("anew",), ("cached",), ("parts", "schedule.images=64"), ("parts",)):
        assert condgan(capsys, "train", *sooner, *more, "--out", out).code == 0
    assert there[0] == {"real.png", "64.png"}, "the first sheet is drawn before"
    assert len(there) == 4, "once for all scores of a start"
    assert weights(Path("anew")) == weights(Path("cached")) == weights(Path("parts"))
    assert scores_of("anew") == scores_of("cached") == scores_of("parts")


def scores_of(run: str) -> list[float]:
    return [json.loads(line)["fd_classifier"] for line in (Path(run) / "log.jsonl").read_text().splitlines()]


@pytest.mark.slow
def test_spectral_norms_and_twins_resume_too(capsys: pytest.CaptureFixture[str]) -> None:
    twin = [
        "digits-biggan",
        "head.name=twin",
        "objective.name=tacgan",
        "schedule.d_steps=2",
        *TINY,
        "schedule.save=160",
    ]
    for out, *more in (("whole",), ("parts", "schedule.images=128"), ("parts",)):
        assert condgan(capsys, "train", *twin, *more, "--out", out).code == 0
    assert weights(Path("parts")) == weights(Path("whole"))
    last = json.loads((Path("whole") / "log.jsonl").read_text().splitlines()[-1])
    assert {"D/twin/fake", "G/twin/fake", "accuracy/twin", "coverage"} <= set(last)
    assert last["singular/D/head.score/1"] > 0
    assert any(name.startswith("singular/G/attention.8.query") for name in last)


def test_a_finished_run_is_not_trained_again(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    before = weights(digits_run())
    again = condgan(capsys, "train", *TINY)
    assert again.code == 0
    assert weights(Path("runs/digits-acgan")) == before
    assert condgan(capsys, "train", *TINY, "--fresh").code == 0
    assert Path("runs/digits-acgan-2/metrics.json").is_file()
    refused(
        condgan(capsys, "train", *TINY, "g_opt.lr=5e-3"),
        "other settings, g_opt.lr 0.001 there and 0.005 here",
        "--fresh",
    )


def test_a_damaged_checkpoint_is_reported_and_the_one_before_used(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    whole = weights(digits_run("hurt"))
    last = Path("hurt/checkpoints/320/ema.safetensors")
    last.write_bytes(last.read_bytes()[:-9] + b"tampering")
    refused(
        condgan(capsys, "sample", "hurt", "--checkpoint", 320, "--out", "x"),
        "320' is damaged (ema.safetensors does not match",
    )
    assert condgan(capsys, "sample", "hurt", "--checkpoint", "latest", "--out", "x").code == 0
    resumed = condgan(capsys, "train", *TINY, "--out", "hurt")
    assert resumed.code == 0
    assert "hurt/checkpoints/320' is damaged" in resumed.err
    assert "resuming hurt at 256 images" in resumed.err
    assert weights(Path("hurt")) == whole


def test_damaged_checkpoints_never_evict_whole_ones(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    digits_run("hurt")
    Path("hurt/checkpoints/320/generator.safetensors").write_bytes(b"")
    resumed = condgan(capsys, "train", *TINY, "schedule.images=272", "--out", "hurt")
    assert "resuming hurt at 256 images" in resumed.err
    assert {"256", "272"} <= {path.name for path in Path("hurt/checkpoints").iterdir()}
    assert newest(Path("hurt")) == 272
    for path in Path("hurt/checkpoints").iterdir():
        (path / "state.json").write_text("[]")
    stopped = condgan(capsys, "train", *TINY, "--out", "hurt")
    assert stopped.code == 2
    assert "all checkpoints of run 'hurt' are damaged: start over with --fresh" in stopped.err


def test_a_start_that_was_killed_is_begun_anew(capsys: pytest.CaptureFixture[str]) -> None:
    Path("early").mkdir()
    for name in ("lock", ".tmp-1-recipe.yaml"):
        (Path("early") / name).touch()
    assert condgan(capsys, "train", *TINY, "schedule.images=32", "--out", "early").code == 0


def test_the_folder_at_hand_may_be_the_run(capsys: pytest.CaptureFixture[str]) -> None:
    assert condgan(capsys, "train", *TINY, "schedule.images=32", "--out", ".").code == 0
    assert Path("recipe.yaml").is_file()


def test_moved_data_is_still_the_data(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    assert condgan(capsys, "train", "digits-acgan", *TINY, "--data", photos, "schedule.images=32").code == 0
    photos.rename("moved")
    assert condgan(capsys, "train", "digits-acgan", *TINY, "--data", "moved", "schedule.images=64").code == 0
    assert condgan(capsys, "evaluate", "runs/digits-acgan").code == 0


def test_what_a_kill_left_half_written_is_removed(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    run = digits_run(images=192)
    shutil.copytree(run / "checkpoints/192", run / f"checkpoints/.tmp-{2**22 + 1}-256")
    with open(run / "log.jsonl", "a") as log:
        log.write('{"images": 208, "seconds": 1}\n{"images": 2')
    assert condgan(capsys, "train", *TINY).code == 0
    assert not list(run.rglob(".tmp-*"))
    images = [json.loads(line)["images"] for line in (run / "log.jsonl").read_text().splitlines()]
    assert images == [64, 128, 192, 256, 320]


def test_a_run_in_use_is_refused(capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]) -> None:
    with FileLock(digits_run() / "lock"):
        refused(condgan(capsys, "train", *TINY), "in use by another process")
    assert condgan(capsys, "train", *TINY).code == 0


def test_other_data_than_the_run_began_with_is_refused(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    assert condgan(capsys, "train", "digits-acgan", *TINY, "--data", photos).code == 0
    (photos / "apple" / "3.png").unlink()
    refused(
        condgan(capsys, "train", "digits-acgan", *TINY, "--data", photos, "schedule.images=640"),
        "has changed (21 + 3 images then, 20 + 3 now)",
    )
    refused(condgan(capsys, "evaluate", "runs/digits-acgan"), "has changed")


def test_no_space_left_keeps_the_last_checkpoint(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    whole = weights(digits_run("whole"))
    real, written = Path.write_bytes, []

    def full(path: Path, data: bytes) -> int:
        written.append(path)
        if len(written) == 13:  # five files a checkpoint: the third file of the third one
            real(path, data[: len(data) // 2])
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        return real(path, data)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        stopped = condgan(capsys, "train", *TINY, "--out", "full")
    assert stopped.code == 2
    assert stopped.err.strip().splitlines()[-1].startswith("condgan: no space left on the device")
    assert sorted(path.name for path in Path("full/checkpoints").iterdir()) == ["128", "64"]
    assert all(checkpoint.damage(path) is None for path in Path("full/checkpoints").iterdir())
    assert condgan(capsys, "train", *TINY, "--out", "full").code == 0
    assert weights(Path("full")) == whole


def test_a_loss_that_is_not_finite_stops_the_run(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    condgan(capsys, "train", *TINY, "schedule.images=128", "--out", "bad")
    states = [json.loads(path.read_text()) for path in Path("bad/checkpoints").glob("*/state.json")]
    best = min(states, key=lambda state: state["scores"]["fd_classifier"])["images"]
    iterations = []

    def explodes(step: Step) -> torch.Tensor:
        iterations.append(step)
        return step.on_fake.score / (len(iterations) < 3)

    broken = Objective({"adv": Term(explodes)}, {"adv": Term(lambda step: -step.on_fake.score)})
    monkeypatch.setattr("condgan.training_steps.build_objective", lambda _: broken)
    stopped = condgan(capsys, "train", *TINY, "--out", "bad")
    assert stopped.code == 1
    last = stopped.err.strip().splitlines()[-1]
    back = f"is not finite: going back to {best} images, and on at half the learning rates"
    assert f"training diverged: D/adv at 176 images {back}" in stopped.err
    assert stopped.err.count(back) == 2
    assert f"is not finite; last good checkpoint: bad/checkpoints/{best}" in last
    assert {path.name for path in Path("bad/checkpoints").iterdir()} == {"64", str(best)}
    iterations.clear()
    stopped = condgan(capsys, "train", *TINY, "schedule.sample=16", "--out", "bad")
    assert stopped.code == 1
    last = stopped.err.strip().splitlines()[-1]
    assert re.search(
        rf"diverged: an image made at 1\d\d images is not finite; last good checkpoint: bad/.*/{best};", last
    )


def test_weights_that_are_not_finite_are_not_kept() -> None:
    from condgan.build import build_state

    state = build_state(load.load("digits-acgan", TINY), LabelSpec.of_classes(["a", "b"]))
    checkpoint.require_finite(state)
    with torch.no_grad():
        next(iter(state.discriminator.parameters())).view(-1)[0] = float("inf")
    with pytest.raises(checkpoint.NonFinite, match=r"the discriminator's backbone\.layers\.0\.weight at 0 images"):
        checkpoint.require_finite(state)


def test_the_classifier_may_learn_first(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.app.cli.train.INIT_CLASSIFIER", 6_400)
    condgan(capsys, "train", *TINY, "backbone.width=16", "schedule.images=64", "--out", "without")
    condgan(capsys, "train", *TINY, "backbone.width=16", "schedule.images=64", "--init-classifier", "--out", "with")
    accuracy = {
        out: json.loads((Path(out) / "log.jsonl").read_text().splitlines()[0])["accuracy/real"]
        for out in ("without", "with")
    }
    assert accuracy["with"] > 0.6 > 0.4 > accuracy["without"]


def test_plain_python_is_as_short(capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]) -> None:
    model = package.load(digits_run())
    images = model.sample("3", per_class=5, seed=1)
    assert images.shape == (5, 16, 16)
    assert images.dtype == np.uint8
    assert model.sample(["3", 7], per_class=2).shape == (4, 16, 16)
    assert np.allclose(np.asarray(model.pictures("3", 1, seed=1)[0], float), images[0], atol=1)
    assert np.array_equal(model.sample("3", per_class=5, seed=1), images)
    assert not np.array_equal(model.sample("3", per_class=5, seed=2), images)
    with pytest.raises(package.UserError, match="unknown class 'x'"):
        model.sample("x")


def start(*arguments: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*CLI, "train", *TINY, *arguments], stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    )


def newest(run: Path) -> int:
    return max((int(path.name) for path in checkpoint.checkpoints(run / "checkpoints")), default=0)


def wait_for_checkpoint(run: Path, process: subprocess.Popen[str]) -> None:
    before = newest(run)
    while newest(run) <= before:
        assert process.poll() is None, process.communicate()[1]
        time.sleep(0.005)


@pytest.mark.parametrize(
    ("signum", "code"), [(signal.SIGINT, 130), pytest.param(signal.SIGTERM, 143, marks=pytest.mark.slow)]
)
@pytest.mark.usefixtures("digits_classifier")
def test_a_signal_saves_and_says_how_to_go_on(capsys: pytest.CaptureFixture[str], signum: int, code: int) -> None:
    process = start("schedule.images=1_000_000", "g_opt.lr=2e-3", "--out", "stopped")
    wait_for_checkpoint(Path("stopped"), process)
    process.send_signal(signum)
    _, err = process.communicate(timeout=60)
    assert process.returncode == code
    saved = newest(Path("stopped"))
    last = err.strip().splitlines()[-1]
    told = f"condgan: stopped and saved in stopped at {saved:,} images; to go on: condgan train stopped/recipe.yaml"
    assert last.startswith(told)
    assert checkpoint.damage(Path(f"stopped/checkpoints/{saved}")) is None
    more = shlex.split(last.partition("to go on: condgan ")[2])
    resumed = condgan(capsys, *more, f"schedule.images={saved + 32}")
    assert resumed.code == 0
    assert f"resuming stopped at {saved:,} images" in resumed.err


def kills(count: int, capsys: pytest.CaptureFixture[str]) -> None:
    """Kill a run at random moments, then let it end; it must end like one that was never killed."""
    more = ["schedule.images=16_000"] if count > 1 else ["schedule.images=640"]
    assert condgan(capsys, "train", *TINY, *more, "--out", "whole").code == 0
    rng = random.Random(0)
    for number in range(count):
        process = start(*more, "--out", "killed")
        if number % 3 != 2:  # every third kill may hit the start
            wait_for_checkpoint(Path("killed"), process)
            time.sleep(rng.uniform(0, 0.3))
        else:
            time.sleep(rng.uniform(0, 6))
        process.kill()
        process.communicate()
        assert process.returncode == -signal.SIGKILL
    assert 0 < newest(Path("killed")) < 16_000
    assert condgan(capsys, "train", *TINY, *more, "--out", "killed").code == 0
    assert weights(Path("killed")) == weights(Path("whole"))


def test_a_killed_run_ends_like_an_uninterrupted_one(capsys: pytest.CaptureFixture[str]) -> None:
    kills(1, capsys)


def test_another_process_samples_the_same(capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]) -> None:
    """To the byte: pictures, and arrays, from the weights that a run saved."""
    command = ["sample", str(digits_run()), "--per-class", "3", "--seed", "5", "--standing", "2"]
    command += ["--precision", "float32", "--out"]
    for out in ("here", "here.npz"):
        assert condgan(capsys, *command, out).code == 0
    script = (
        "import sys\nfrom condgan.app.cli.main import app\n"
        "for out in ('there', 'there.npz'):\n    app([*sys.argv[1:], out], standalone_mode=False)"
    )
    subprocess.run([sys.executable, "-c", script, *command], check=True, capture_output=True)
    pictures = sorted(path.relative_to("here") for path in Path("here").rglob("*.png"))
    assert len(pictures) >= 30
    for path in pictures:
        assert ("there" / path).read_bytes() == ("here" / path).read_bytes(), path
    assert Path("there.npz").read_bytes() == Path("here.npz").read_bytes()


@pytest.mark.slow
def test_ten_kills_change_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    kills(10, capsys)


@pytest.mark.parametrize(
    ("recipe", "score", "known"),
    [("digits-acgan", "fid", "coverage"), ("digits-acgan", "identity_l1", "coverage"),
     ("digits-stargan", "coverage", "identity_l1")],
)  # fmt: skip
def test_a_score_that_there_is_not_is_refused_before_anything_is_written(
    capsys: pytest.CaptureFixture[str], recipe: str, score: str, known: str
) -> None:
    for options in (["--dry-run"], []):
        done = condgan(capsys, "train", recipe, f"schedule.best_by={score}", "--out", "run", *options)
        refused(done, f"unknown score schedule.best_by '{score}'", known)
    assert not list(Path().iterdir())


def test_a_dry_run_of_very_deep_networks_is_told_in_time(capsys: pytest.CaptureFixture[str]) -> None:
    deep = ["generator.depth=8", "backbone.depth=8", "generator.width=4", "backbone.width=4"]
    start = time.process_time()
    done = condgan(capsys, "train", "biggan-deep-imagenet128", *deep, "--dry-run")
    assert done.code == 0, done.err
    assert "memory         not estimated: going through networks of 1,112 layers" in done.out
    assert "run directory  runs/biggan-deep-imagenet128" in done.out
    assert time.process_time() - start < 10
