"""Verbs, and bad input as one line with exit code 2 and nothing written."""

import json
from pathlib import Path

import pytest
from conftest import TINY, write_image
from helpers import condgan, refused
from PIL import Image

from condgan.recipe import catalog, text


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Path:
    assert condgan(capsys, "train", *TINY, "schedule.images=64").code == 0
    return Path("runs/digits-acgan")


def test_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = condgan(capsys, "recipes").out
    assert all(name in listed and description in listed for name, description in catalog().items())
    assert condgan(capsys, "recipes", "mnist-acgan").out.strip() == text("mnist-acgan").strip()
    assert condgan(capsys).out.startswith("Usage: ")


def test_a_dry_run_counts_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "train", "mnist-acgan", "--data", "digits", "g_opt.lr=1e-4", "--out", "x", "--dry-run")
    assert done.code == 0
    assert "1,050,985" in done.out
    assert "103,243" in done.out
    assert "lr: 0.0001" in done.out
    assert not list(Path().iterdir())


def test_samples_are_files_by_class(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    done = condgan(capsys, "sample", run, "--classes", "3, 7", "--per-class", 5, "--out", "images")
    assert done.code == 0
    names = sorted(str(path) for path in Path("images").rglob("*.png"))
    assert names == sorted(["images/sheet.png", *(f"images/{c}/{i}.png" for c in "37" for i in range(5))])
    assert Image.open("images/3/0.png").size == (16, 16)
    assert Image.open("images/sheet.png").size[0] < Image.open("images/sheet.png").size[1]


def test_evaluation_is_one_line_of_json_on_request(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    done = condgan(capsys, "evaluate", run, "--json")
    assert done.out.count("\n") == 1
    assert json.loads(done.out) == json.loads((run / "metrics.json").read_text())
    table = condgan(capsys, "evaluate", run).out
    assert [line.split()[0] for line in table.splitlines()[1:12]] == ["all", *"0123456789"]


def test_colored_folders_train_and_sample(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    assert (
        condgan(capsys, "train", *TINY, "--data", photos, "data.channels=3", "data.size=32", "--out", "fruit").code == 0
    )
    assert condgan(capsys, "sample", "fruit", "--per-class", 2, "--out", "images").code == 0
    assert Image.open("images/banana/1.png").mode == "RGB"
    assert condgan(capsys, "evaluate", "fruit").code == 0


def test_left_out_images_are_counted(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    (photos / "apple" / "bad.png").write_bytes(b"no image")
    refused(condgan(capsys, "train", *TINY, "--data", photos), "unreadable image 'apple/bad.png' of class 'apple'")
    assert not Path("runs").exists()
    done = condgan(capsys, "train", *TINY, "--data", photos, "--skip-bad-images")
    assert done.code == 0
    assert "left out 1 unreadable image" in done.err
    assert condgan(capsys, "evaluate", "runs/digits-acgan").code == 0


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["train", "digit-acgan"], ["unknown recipe 'digit-acgan'", "did you mean 'digits-acgan'?"]),
        (["train", "g_opt.lrr=1"], ["unknown option 'g_opt.lrr'", "did you mean 'g_opt.lr'?"]),
        (["train", "generator.widht=1"], ["did you mean 'width'?"]),
        (["train", "g_opt.lr=fast"], ["option g_opt.lr: 'fast' given, expected a valid number"]),
        (["train", "digits-acgan", "mnist-acgan"], ["'mnist-acgan' given: expected an override such as"]),
        (["train", "--no-such"], ["No such option"]),
        (["fly"], ["No such command 'fly'"]),
        (["train", "mnist-acgan"], ["no data of its own: give --data PATH"]),
        (["train", "--data", "nowhere"], ["nowhere' does not exist"]),
        (["train", "--data", "flat"], ["holds no class folders"]),
        (["train", "--data", "empty"], ["is empty"]),
        (["train", "--data", "one"], ["one class only, 'apple'"]),
        (["train", "--data", "text"], ["neither a folder nor a complete zip file"]),
        (["train", "data.size=20"], ["image size 20 × 20 given", "multiples of 16"]),
        (["train", "--out", "flat"], ["'flat' exists and is no run directory"]),
        (["sample", "flat", "--out", "x"], ["'flat' is no run directory"]),
        (["sample", "nowhere", "--out", "x"], ["'nowhere' is no run directory"]),
        (["evaluate", "flat"], ["'flat' is no run directory"]),
        (["sample"], ["Missing"]),
        (["recipes", "mnist"], ["unknown recipe 'mnist'", "did you mean 'mnist-acgan'?"]),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]) -> None:
    write_image(Path("flat/0.png"))
    write_image(Path("one/apple/0.png"))
    Path("empty").mkdir()
    Path("text").write_text("hello")
    before = sorted(Path().rglob("*"))
    refused(condgan(capsys, *arguments), *parts)
    assert sorted(Path().rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["--classes", "3,x"], ["unknown class 'x'", "known: 0, 1"]),
        (["--seed", "-1"], ["seed -1 given"]),
        (["--checkpoint", "64", "--seed", "-5"], ["seed -5 given"]),
        (["--seed", "soon"], ["--seed", "soon"]),
        (["--per-class", "0"], ["0 images per class given"]),
        (["--checkpoint", "7"], ["no checkpoint 7", "64"]),
        (["--checkpoint", "newest"], ["checkpoint 'newest' given: expected best, latest or"]),
    ],
)
def test_bad_sampling_is_one_line(
    capsys: pytest.CaptureFixture[str], run: Path, arguments: list[str], parts: list[str]
) -> None:
    refused(condgan(capsys, "sample", run, *arguments, "--out", "x"), *parts)
    assert not Path("x").exists()


def test_a_run_without_a_checkpoint_says_so(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    for path in (run / "checkpoints").rglob("*.*"):
        path.write_text("{}")
    refused(condgan(capsys, "evaluate", run), "all checkpoints", "are damaged")


def test_a_checkpoint_of_another_architecture_is_refused(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    recipe = run / "recipe.yaml"
    recipe.write_text(recipe.read_text().replace("width: 8", "width: 16"))
    refused(
        condgan(capsys, "train", *TINY, "generator.width=16"),
        "is of another architecture: generator.width was 8 there, the run's recipe.yaml says 16",
    )
