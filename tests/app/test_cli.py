"""Verbs, and bad input as one line with exit code 2 and nothing written."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from condgan import __version__
from condgan.app.cli.main import app
from condgan.app.cli.options import chosen_names, quoted_names
from condgan.data.open import list_source
from condgan.labels import LabelSpec
from condgan.networks.attention import Attention
from condgan.recipes import catalog, text
from condgan.recipes.load import load
from condgan.runs.evaluate import load_model
from condgan.sampling.model import Model
from condgan.timing import TRAINING
from condgan.utils.files import file_names
from tests.conftest import TINY, write_image
from tests.helpers import condgan, refused, tiny


@pytest.fixture
def run(digits_run: Callable[..., Path]) -> Path:
    return digits_run(images=64)


def test_recipes_are_listed_and_printed(capsys: pytest.CaptureFixture[str]) -> None:
    listed = condgan(capsys, "recipes").out
    assert all(name in listed and description in listed for name, description in catalog().items())
    assert condgan(capsys, "recipes", "mnist-acgan").out.strip() == text("mnist-acgan").strip()
    assert condgan(capsys).out.startswith("Usage: ")


def test_a_dry_run_counts_and_writes_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "train", "mnist-acgan", "--data", "digits", "g_opt.lr=1e-4", "--out", "x", "--dry-run")
    assert done.code == 0
    assert "lr: " not in done.out
    images = load("mnist-acgan").schedule.images
    minutes = round(images / 100 / 60 / TRAINING)
    assert f"time           about {minutes} minutes: {images:,} images of training, 100 in a second" in done.out
    done = condgan(
        capsys, "train", "mnist-acgan", "--data", "digits", "g_opt.lr=1e-4", "--out", "x", "--dry-run", "--full"
    )
    assert "1,050,985" in done.out
    assert "103,243" in done.out
    assert "lr: 0.0001" in done.out
    assert not list(Path().iterdir())


def test_one_class_trains_without_labels(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    shutil.copytree(photos / "apple", "one/apple")
    arguments = ["train", "sagan-celeba64", "--data", "one", "--out", "faces", "generator.width=4", "backbone.width=4"]
    schedule = {"batch": 4, "images": 16, "save": 8, "sample": 8, "log": 8}
    done = condgan(capsys, *arguments, "data.size=16", "generator.attention=[4]", "backbone.attention=[4]",
                   *(f"schedule.{key}={value}" for key, value in schedule.items()))  # fmt: skip
    assert done.code == 0, done.err
    assert json.loads(Path("faces/metrics.json").read_text())["about"]["warnings"][-1] == (
        "of one class the classifier has nothing to learn: its features are those of an untrained network"
    )


def test_a_dry_run_of_a_large_recipe_needs_neither_data_nor_memory(capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "train", "biggan-imagenet128", "--dry-run")
    assert done.code == 0
    assert "not looked at; counted for 1,000 classes" in done.out
    assert "70,433,988" in done.out
    assert "87,982,370" in done.out
    # weights, gradients and two moments of both players, and the average, in float32
    kept = (4 * (70_433_988 + 87_982_370) + 70_433_988) * 4 / 2**30
    assert f"{kept:.1f} GiB of weights, gradients, optimizers and average" in done.out
    assert "for 256 images at a time" in done.out
    assert "time           not measured" in done.out
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
    said, table, classes, _ = condgan(capsys, "evaluate", run, "--full").out.split("\n\n")
    metrics = json.loads(done.out)
    assert said.splitlines() == metrics["verdict"]
    assert [line.split()[0] for line in table.splitlines()[1:4]] == [*metrics][:3]
    assert [line.split()[0] for line in classes.splitlines()[1:]] == [*"0123456789"]
    assert f"{metrics['label_agreement']:.3f}" in table.splitlines()[1]


def test_colored_folders_train_and_sample(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    assert (
        condgan(
            capsys,
            "train",
            "digits-acgan",
            *TINY,
            "--data",
            photos,
            "data.channels=3",
            "data.size=32",
            "--out",
            "fruit",
        ).code
        == 0
    )
    assert condgan(capsys, "sample", "fruit", "--per-class", 2, "--out", "images").code == 0
    assert Image.open("images/banana/1.png").mode == "RGB"
    assert condgan(capsys, "evaluate", "fruit").code == 0


def test_left_out_images_are_counted(capsys: pytest.CaptureFixture[str], photos: Path) -> None:
    (photos / "apple" / "bad.png").write_bytes(b"no image")
    refused(
        condgan(capsys, "train", "digits-acgan", *TINY, "--data", photos),
        "unreadable image 'apple/bad.png' of class 'apple'",
    )
    assert not Path("runs").exists()
    done = condgan(capsys, "train", "digits-acgan", *TINY, "--data", photos, "--skip-bad-images")
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
        (["train", "--no-such"], ["no such option '--no-such'"]),
        (["fly"], ["no such command 'fly'"]),
        (["train", "sagan-celeba64"], ["no data of its own: expected --data PATH"]),
        (["train", "--data", "nowhere"], ["nowhere' does not exist"]),
        (["train", "--data", "flat"], ["has 1 readable image in", "at least 2 needed"]),
        (["train", "--data", "empty"], ["is empty"]),
        (["train", "digits-acgan", "--data", "one"], ["one class only, 'apple'"]),
        (["train", "--data", "text"], ["neither a folder nor a complete zip file"]),
        (["train", "data.size=20"], ["image size 20 × 20 given", "multiples of 16"]),
        (["train", "--out", "flat"], ["'flat' exists and is no run directory"]),
        (["sample", "flat", "--out", "x"], ["'flat' is no run directory"]),
        (["sample", "nowhere", "--out", "x"], ["'nowhere' is no run directory"]),
        (["evaluate", "flat"], ["'flat' is no run directory"]),
        (["sample"], ["missing argument 'RUN'"]),
        (["recipes", "mnist"], ["unknown recipe 'mnist'", "did you mean 'mnist-acgan'?"]),
    ],
)
def test_bad_input_is_one_line(capsys: pytest.CaptureFixture[str], arguments: list[str], parts: list[str]) -> None:
    write_image(Path("flat/0.png"))
    for name in ("0.png", "1.png", "2.png"):
        write_image(Path("one/apple") / name)
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
        (["--per-class", "0"], ["images per class 0 given: expected 1 or more"]),
        (["--checkpoint", "7"], ["no checkpoint 7", "64"]),
        (["--checkpoint", "newest"], ["checkpoint 'newest' given: expected best, latest or"]),
    ],
)
def test_bad_sampling_is_one_line(
    capsys: pytest.CaptureFixture[str], run: Path, arguments: list[str], parts: list[str]
) -> None:
    refused(condgan(capsys, "sample", run, *arguments, "--out", "x"), *parts)
    assert not Path("x").exists()


@pytest.mark.parametrize(
    ("line", "wrong", "to_do"),
    [
        ("--color", "no such option '--color'", "see condgan --help"),
        ("smaple", "no such command 'smaple'", "did you mean 'sample'? see condgan --help"),
        ("fly", "no such command 'fly'", "see condgan --help"),
        ("sample", "missing argument 'RUN'", "see condgan sample --help"),
        ("sample a --out", "option '--out' requires an argument", "see condgan sample --help"),
        ("sample a b --out x", "got unexpected extra argument (b)", "see condgan sample --help"),
        ("sample a --outt x", "no such option '--outt'", "did you mean '--out'? see condgan sample --help"),
        ("sample a --out x -q", "no such option '-q'", "see condgan sample --help"),
        ("sample a --out x --compile=3", "option '--compile' does not take a value", "see condgan sample --help"),
        ("sample a --per-class x", "option '--per-class': 'x' is not a valid integer", "see condgan sample --help"),
        ("sample a --truncation x", "option '--truncation': 'x' is not a valid float", "see condgan sample --help"),
        (
            "sample a --precision foo",
            "option '--precision': 'foo' is not one of 'auto', 'float32', 'bfloat16'",
            "see condgan sample --help",
        ),
        ("evaluate", "missing argument 'RUN|IMAGES'", "see condgan evaluate --help"),
        ("prepare a b", "missing option '--size'", "see condgan prepare --help"),
    ],
)
def test_an_error_of_usage_says_what_was_given_and_what_to_do(
    capsys: pytest.CaptureFixture[str], line: str, wrong: str, to_do: str
) -> None:
    done = condgan(capsys, *line.split())
    assert (done.code, done.out, done.err) == (2, "", f"condgan: {wrong}, given 'condgan {line}': {to_do}\n")


def test_an_error_of_usage_repeats_the_start_of_a_long_command_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    done = condgan(capsys, "sample", "run", "--out", "o", f"--truncation=1{5_000 * '0'}x")
    assert done.code == 2
    assert done.err.startswith("condgan: option '--truncation': '1000")
    assert done.err.endswith("…': see condgan sample --help\n")
    assert len(done.err) < 1_000


def test_arguments_with_line_breaks_are_told_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    refused(condgan(capsys, "sample", "my run", "--out", "x", "--seed", "1\nx"), "option '--seed'", "'my run'")


def test_the_version_is_told(capsys: pytest.CaptureFixture[str]) -> None:
    done = condgan(capsys, "--version")
    assert (done.code, done.out, done.err) == (0, f"condgan {__version__}\n", "")


def test_verbs_are_listed_in_the_order_of_use(capsys: pytest.CaptureFixture[str]) -> None:
    listed = condgan(capsys, "--help").out.partition("Commands:")[2].splitlines()
    verbs = [line.split()[0] for line in listed if line.strip()]
    assert verbs == [*app.commands]
    assert (verbs[0], verbs[-1]) == ("train", "recipes")
    for verb in verbs:
        assert condgan(capsys, verb, "--help").out.startswith(f"Usage: condgan {verb} [OPTIONS]")


def test_too_little_memory_is_one_line(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def on_gpu(*_: object) -> None:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    def in_numpy(*_: object) -> None:
        np.empty(10**15)

    for failing in (lambda *_: torch.empty(10**15), on_gpu, in_numpy):
        monkeypatch.setattr("condgan.runs.train.train_run", failing)
        refused(condgan(capsys, "train"), "not enough memory: lower data.size, schedule.batch or the number of images")


def test_other_errors_of_torch_are_shown_whole(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("condgan.runs.train.train_run", lambda *_: torch.ones(2) @ torch.ones(3))
    with pytest.raises(RuntimeError, match="inconsistent tensor size"):
        condgan(capsys, "train")


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


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> Callable[[Model], None]:
    """Let every directory be a run, and its model this one."""

    def patch(model: Model) -> None:
        monkeypatch.setattr("condgan.app.cli.sample.require_run", lambda *_: None)
        monkeypatch.setattr("condgan.app.cli.latent.require_run", lambda *_: None)
        monkeypatch.setattr("condgan.runs.models.load_model", lambda *_: model)

    return patch


def test_mixtures_and_truncation_are_sampled(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]
) -> None:
    model = tiny()
    untrained(model)
    arguments = ["--mixture", "apple = 1, cherry=3.0", "--per-class", 3, "--truncation", 0.5, "--standing", 2]
    done = condgan(capsys, "sample", "run", *arguments, "--seed", 4, "--out", "images")
    assert "wrote 3 images and images/sheet.png" in done.out
    model = model.with_latents(truncation=0.5).with_standing_statistics(2, seed=4)
    expected = model.sample({"apple": 1.0, "cherry": 3.0}, 3, seed=4)
    for i, image in enumerate(expected):
        assert np.array_equal(np.asarray(Image.open(f"images/apple=1,cherry=3/{i}.png")), image)


def test_samples_of_many_classes_fill_several_sheets(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]
) -> None:
    untrained(tiny(spec=LabelSpec.of_classes([f"class-{i}" for i in range(150)])))
    done = condgan(capsys, "sample", "run", "--per-class", 1, "--out", "images")
    assert "wrote 150 images and images/sheet-1.png, images/sheet-2.png" in done.out
    assert len(list(Path("images").rglob("*.png"))) == 152


def reopened(folder: Path) -> tuple[list[str], list[int]]:
    """The classes of the images in a folder as condgan reads them, and how many there are of each."""
    labels = list_source(str(folder)).labels
    return [*labels.spec.classes], labels.counts().tolist()


ODD = (
    "cat/dog", " lead", "..", "con", "a.", "Cat", "cat", "x" * 200, "é" * 200, "猫" * 150, "train", "sheet.png",
    "dataset.json", ".hidden", "__MACOSX", "a=b", "a,b", "-x",
)  # fmt: skip


@pytest.mark.parametrize("names", [ODD, ("Train", "test"), ("b", " b"), ("apple", "banana")])
def test_samples_are_read_again_as_their_classes(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None], names: tuple[str, ...]
) -> None:
    untrained(tiny(spec=LabelSpec.of_classes(names)))
    for _ in range(2):  # the same command may be repeated
        done = condgan(capsys, "sample", "run", "--per-class", 2, "--out", "images")
        assert done.code == 0, done.err
    assert Path("images/dataset.json").exists() == (names != ("apple", "banana"))
    classes, counts = reopened(Path("images"))
    assert sorted(classes) == sorted(names)
    assert set(counts) == {2}
    assert all(len(path.name.encode()) <= 255 for path in Path("images").rglob("*"))


@pytest.mark.parametrize(
    ("text", "chosen"),
    [
        ("a,b", ["a,b"]),
        ("b,a", ["b", "a"]),
        ("a,b,c", ["a,b,c"]),
        ("a,b,b", ["a,b", "b"]),
        (" a , c=1", ["a", "c=1"]),
        (" lead,a", [" lead", "a"]),
        ("a,,b", ["a", "", "b"]),
        ("-x,a", ["-x", "a"]),
        ("d,a", ["d", "a"]),
        ("a,a", ["a"]),
    ],
)
def test_class_names_are_taken_whole(text: str, chosen: list[str]) -> None:
    assert chosen_names(text, ["a", "b", "a,b", "a,b,c", "c=1", " lead", "", "-x"]) == chosen


def test_names_with_commas_and_equals_signs_are_sampled(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]
) -> None:
    model = tiny(spec=LabelSpec.of_classes(["a,b", "c=1", " d"]))
    untrained(model)
    for arguments, folder, asked in (
        (["--classes", "a,b"], "a,b", "a,b"),
        (["--classes=c=1"], "c=1", "c=1"),
        (["--mixture", "a,b=1,c=1=3, d=1"], "a,b=1,c=1=3, d=1", {"a,b": 1.0, "c=1": 3.0, " d": 1.0}),
    ):
        done = condgan(capsys, "sample", "run", *arguments, "--per-class", 1, "--out", folder)
        assert done.code == 0, done.err
        assert np.array_equal(np.asarray(Image.open(Path(folder, folder, "0.png"))), model.sample(asked, 1)[0])


def test_other_images_are_not_mixed_with_new_ones(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]
) -> None:
    untrained(tiny(3, Attention(8, pooled=True)))
    commands = [["sample", "--per-class", 1], ["interpolate", "--rows", 1], ["attention"], ["truncation"]]
    for verb, *options in commands:
        Path(verb).mkdir()
        Path(verb, "mine.JPG").touch()
        refused(condgan(capsys, verb, "run", *options, "--out", verb), "other images", "'mine.JPG'", "another folder")
        assert [path.name for path in Path(verb).iterdir()] == ["mine.JPG"]
    for count in (3, 3, 2):
        done = condgan(capsys, "sample", "run", "--per-class", count, "--out", "again")
        assert (done.code == 0) == (count == 3)
    refused(done, "other images are", "/2.png'")
    refused(
        condgan(capsys, "sample", "run", "--classes", "apple", "--per-class", 3, "--out", "again"), "other images are"
    )
    assert condgan(capsys, "interpolate", "run", "--rows", 1, "--out", "ways").code == 0
    assert condgan(capsys, "interpolate", "run", "--rows", 1, "--vary", "both", "--out", "ways").code == 0


def test_a_run_is_looked_at_before_what_is_missing(capsys: pytest.CaptureFixture[str]) -> None:
    Path("run").mkdir()
    for verb in ("sample", "translate", "interpolate", "attention", "truncation"):
        refused(condgan(capsys, verb, "run"), "'run' is no run directory")
    Path("run/recipe.yaml").touch()
    refused(condgan(capsys, "sample", "run"), "missing option '--out'", "see condgan sample --help")


def test_home_is_known_where_no_shell_says_it(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    untrained(tiny())
    monkeypatch.setenv("HOME", str(Path("home").absolute()))
    assert condgan(capsys, "sample", "run", "--per-class", 1, "--out=~/images").code == 0
    assert Path("home/images/sheet.png").exists()


def test_nothing_is_written_into_a_run(capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]) -> None:
    untrained(tiny(3, Attention(8, pooled=True)))
    Path("other/samples").mkdir(parents=True)
    Path("other/recipe.yaml").touch()
    for out in ("other", "other/samples", "other/samples/x", "other/checkpoints"):
        for verb in ("sample", "interpolate", "attention"):
            refused(condgan(capsys, verb, "run", "--out", out), f"--out {out} given, which belongs to run")
    refused(condgan(capsys, "sample", "run", "--out", "other/samples/x.npz"), "which belongs to run")
    refused(condgan(capsys, "sample", "run", "--out", "other/recipe.yaml"), "is a file; give a folder")
    assert sorted(path.name for path in Path("other").rglob("*")) == ["recipe.yaml", "samples"]
    assert condgan(capsys, "sample", "run", "--out", "other/mine").code == 0


def test_samples_are_one_npz_on_request(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    assert condgan(capsys, "sample", run, "--classes", "7,3", "--per-class", 2, "--out", "new/x.npz").code == 0
    file = np.load("new/x.npz")
    assert file["y"].tolist() == [7, 7, 3, 3]
    assert np.array_equal(file["x"][:, 0], load_model(run).sample(["7", "3"], 2))


def test_interpolations_are_three_pictures_or_one(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]
) -> None:
    untrained(tiny())
    assert condgan(capsys, "interpolate", "run", "--out", "ways", "--rows", 2, "--steps", 3).code == 0
    assert {path.name for path in Path("ways").iterdir()} == {"latent.png", "class.png", "both.png"}
    options = ["--vary", "class", "--path", "spherical", "--classes", "apple,cherry"]
    assert condgan(capsys, "interpolate", "run", "--out", "one", *options).out == "wrote one/class.png\n"


def test_attention_has_a_picture_per_layer(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]
) -> None:
    untrained(tiny(3, nn.Sequential(Attention(8, pooled=True), Attention(8, pooled=False))))
    done = condgan(capsys, "attention", "run", "--out", "maps", "--per-class", 2, "--positions", "0,0; 7,3")
    assert done.out == "wrote maps/between.0.png, maps/between.1.png\n"
    width, height = Image.open("maps/between.0.png").size
    assert width > 3 * 98
    assert height > 6 * 98


def test_directions_have_a_picture_per_class(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None]
) -> None:
    untrained(model := tiny())
    arguments = ["--count", 3, "--steps", 5, "--per-class", 2, "--classes", "apple,cherry"]
    done = condgan(capsys, "directions", "run", "--out", "ways", *arguments)
    assert done.out == "wrote ways/apple.png, ways/cherry.png, ways/directions.csv\n"
    assert {path.name for path in Path("ways").iterdir()} == {"apple.png", "cherry.png", "directions.csv"}
    assert Image.open("ways/apple.png").height > 6 * 50
    with open("ways/directions.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["class"], row["direction"]) for row in rows[:4]] == [*(("apple", n) for n in "123"), ("cherry", "1")]
    found = torch.tensor([[float(row[f"z{i}"]) for i in range(4)] for row in rows[:3]])
    assert torch.equal(found, model.directions(3).vectors)


def test_pictures_are_found_in_a_run(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    condgan(capsys, "sample", run, "--out", "images", "--classes", "3", "--per-class", 2)
    done = condgan(capsys, "invert", run, "images/3", "--out", "found", "--steps", 5, "--tried", 2)
    lines = done.out.splitlines()
    assert lines[0].startswith("0.png: class ")
    assert lines[-1] == "wrote found/inversion.csv, found/sheet.png"
    with open("found/inversion.csv") as file:
        rows = list(csv.DictReader(file))
    assert [(row["image"], row["rank"]) for row in rows] == [(f"{i}.png", rank) for i in range(2) for rank in "12"]
    refused(condgan(capsys, "invert", run, "images/3", "--out", "images/3"), "--out images/3 given")
    refused(condgan(capsys, "invert", run, "--out", "found"), "missing argument")
    refused(condgan(capsys, "invert", run, "nowhere.png", "--out", "found"), "'nowhere.png'")


def test_neighbors_are_two_pictures_and_a_table(
    capsys: pytest.CaptureFixture[str], run: Path, digits_classifier: None
) -> None:
    arguments = ["--n", 50, "--count", 3, "--classes", "3,8", "--per-class", 2]
    done = condgan(capsys, "neighbors", run, "--out", "like", *arguments)
    assert "of 4 are as near to a training image as a copy" in done.out
    assert {path.name for path in Path("like").iterdir()} == {"neighbors.csv", "neighbors.png", "nearby.png"}
    with open("like/neighbors.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 4 * 2 * 3
    refused(condgan(capsys, "neighbors", run, "--out", "other", "--count", 0), "--count 0 given")
    refused(condgan(capsys, "neighbors", run, "--out", "other", "--distance", 2), "distance 2 given")
    assert not Path("other").exists()


def test_a_tree_of_classes_is_of_weights_and_images(
    capsys: pytest.CaptureFixture[str], run: Path, digits_classifier: None
) -> None:
    done = condgan(capsys, "tree", run, "--out", "tree", "--per-class", 10)
    assert "times as far apart as in real images" in done.out
    assert {path.name for path in Path("tree").iterdir()} == {"distances.csv", "tree.png"}
    wide = Image.open("tree/tree.png").width
    with open("tree/distances.csv") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 45
    assert [*rows[0]] == ["class", "other", "label weights", "generated images", "held-out images"]
    (run / "environment.json").unlink()
    done = condgan(capsys, "tree", run, "--out", "tree")
    assert "the tree is of the label weights alone" in done.err
    assert Image.open("tree/tree.png").width == wide // 3


@pytest.mark.parametrize(("flags", "column"), [([], "truncation"), (["--scaled", "--standing", 2], "latent_scale")])
def test_a_truncation_curve_ends_with_what_evaluate_says(
    capsys: pytest.CaptureFixture[str], run: Path, flags: list[object], column: str
) -> None:
    assert condgan(capsys, "truncation", run, "--out", "curve", "--at", "1,0.5", *flags).code == 0
    assert {path.name for path in Path("curve").iterdir()} == {"truncation.csv", "truncation.png", "sheet.png"}
    with open("curve/truncation.csv") as file:
        points = list(csv.DictReader(file))
    assert [point[column] for point in points] == ["0.5", "1.0", ""]
    metrics = json.loads((run / "metrics.json").read_text())
    for name in ("label_agreement", "fd_classifier", "density", "coverage", "intra_class_diversity"):
        assert float(points[-1][f"{name}_real"]) == metrics["real"][name]
        if not flags:
            assert float(points[-1][name]) == metrics[name]
    assert float(points[0]["intra_class_diversity"]) < float(points[-1]["intra_class_diversity"])


@pytest.mark.parametrize(
    ("arguments", "parts"),
    [
        (["sample", "--truncation", "0"], ["truncation 0 given: expected a number above 0"]),
        (["sample", "--truncation", "1", "--latent-scale", "1"], ["expected one of them"]),
        (["sample", "--standing", "0"], ["batches of standing statistics 0 given"]),
        (["sample", "--standing", "1", "--seed", "-1"], ["seed -1 given"]),
        (["sample", "--classes", "apple", "--mixture", "apple=1"], ["--classes apple and --mixture apple=1 given"]),
        (["sample", "--mixture", "aple=1"], ["did you mean 'apple'?"]),
        (["sample", "--mixture", "apple"], ["mixture 'apple' given: expected weights"]),
        (["sample", "--mixture", "apple=1,apple=2"], ["weights of different classes"]),
        (["sample", "--mixture", "apple=-1"], ["weight of class 'apple' -1 given"]),
        (["sample", "--mixture", "apple=1", "--out", "x.npz"], ["a mixture has no class number"]),
        (["interpolate", "--classes", "apple"], ["1 classes to interpolate between given"]),
        (["interpolate", "--steps", "1"], ["steps 1 given: expected 2 or more"]),
        (["interpolate", "--vary", "all"], ["'all' is not one of"]),
        (["interpolate", "--path", "curved"], ["'curved' is not one of"]),
        (["attention"], ["no attention", "digits-sagan"]),
        (["directions", "--count", "5"], ["directions 5 given: expected 1 to 4"]),
        (["directions", "--reach", "0"], ["reach 0 given"]),
        (["directions", "--classes", "aple"], ["did you mean 'apple'?"]),
        (["truncation", "--at", "0.5,x"], ["'0.5,x' given: expected numbers with commas between"]),
        (["truncation", "--at", "0.5,-1"], ["truncation -1 given"]),
        (["truncation"], ["'run' is no run directory"]),
    ],
)
def test_bad_pictures_are_refused_in_one_line(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None], arguments: list[str], parts: list[str]
) -> None:
    untrained(tiny())
    verb, *options = arguments
    refused(condgan(capsys, verb, "run", "--out", "x", *options), *parts)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    ("positions", "part"), [("8,0", "position 8,0 given"), ("1", "positions '1' given"), ("1,2,3", "expected pixels")]
)
def test_positions_outside_the_image_are_refused(
    capsys: pytest.CaptureFixture[str], untrained: Callable[[Model], None], positions: str, part: str
) -> None:
    untrained(tiny(between=Attention(8, pooled=False)))
    refused(condgan(capsys, "attention", "run", "--out", "x", "--positions", positions), part)


def test_classes_of_any_name_stay_in_the_folder() -> None:
    names = ["../../x", "/etc/y", "", ".", "..", "a/b", "a_b", "tab\there", "caf\udce9", "T-shirt/top", "Ünïcode 日本"]
    made = file_names(names)
    assert len(set(made)) == len(names)
    for name in made:
        assert (Path("out") / name).resolve().parent == Path("out").resolve()
        name.encode()
    assert made[-1] == "Ünïcode 日本"


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("Bright,Hat", ["Bright", "Hat"]),
        (" Bright , Hat,Hat", ["Bright", "Hat"]),
        ('Bright,"Hat, tall"', ["Bright", "Hat, tall"]),
        ('"Hat, tall", "5"" heel"', ["Hat, tall", '5" heel']),
        ('5" heel', ['5" heel']),
    ],
)
def test_names_with_commas_stand_in_quotes(text: str, names: list[str]) -> None:
    assert quoted_names(text) == names


@pytest.mark.parametrize("text", ['"Hat, tall', '"Hat"tall', "a\rb", "a" * 200_000])
def test_quotes_that_do_not_fit_are_refused(capsys: pytest.CaptureFixture[str], text: str) -> None:
    refused(condgan(capsys, "train", "any-stargan", "--attributes", text), "given: expected names with commas between")


def test_an_empty_name_is_shown_as_it_is(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    refused(condgan(capsys, "sample", run, "--out", "x", "--classes", ""), "unknown class '': known: 0, 1")


def test_a_number_that_is_too_large_is_told_the_most(capsys: pytest.CaptureFixture[str], run: Path) -> None:
    refused(condgan(capsys, "sample", run, "--out", "x", "--seed", 10**20), "expected 0 to 18,446,744,073,709,551,615")


@pytest.mark.parametrize("name", ["mine", "mine/", "./mine"])
def test_a_run_in_the_place_of_a_recipe_is_told_how_to_go_on(capsys: pytest.CaptureFixture[str], name: str) -> None:
    Path("mine").mkdir()
    Path("mine/recipe.yaml").touch()
    refused(condgan(capsys, "train", name), "which is a run: give 'mine/recipe.yaml' and --out 'mine'")
