"""Whether a run's images help a classifier: whose they are, who has seen what, and what is written."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from condgan.app.export.write import export
from condgan.data.dataset import Split
from condgan.data.open import read
from condgan.evaluation import classifier
from condgan.evaluation.usefulness import Pool
from condgan.labels import LabelSpec, LabelTable
from condgan.recipes.load import load
from condgan.runs import utility as module
from condgan.runs.models import load_either, load_model, read_data
from condgan.runs.train import train_run
from condgan.runs.utility import GivenImages, TranslatedImages, utility
from condgan.sampling.translator import Translator
from condgan.utils.errors import UserError
from tests.conftest import TINY, TINY_TRANSLATOR
from tests.helpers import condgan, linear_classifier, refused

NO_TIME = 1e-9
"""Minutes: of everything as little as there can be."""


@pytest.fixture(autouse=True)
def _short(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(classifier, "ENOUGH", 0)
    monkeypatch.setattr(module, "training_batches", lambda real: 2)
    monkeypatch.setattr(module, "find_classifier", linear_classifier)
    monkeypatch.setattr(module, "SELECTIONS", {"none": ()})


def write_folders(root: Path, split: Split, part: slice = slice(None)) -> Path:
    """Images of a split as class folders."""
    names = split.labels.spec.classes
    for number in range(len(split))[part]:
        path = root / names[int(split.labels.index()[number])] / f"{number:05}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(split.images[number, 0].numpy()).save(path)
    return root


def test_a_runs_command_tells_as_it_goes_and_keeps_all_of_it(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    run = digits_run()
    done = condgan(capsys, "utility", run, "--seeds", 3, "--minutes", NO_TIME, "--write", "chosen")
    assert done.code == 0, done.err
    lines = done.out.splitlines()
    assert lines[-2].startswith("verdict: ")
    assert "fakes and chosen/selection.csv" in lines[-1]
    for told in ("real   ", "augmented by crops", "4 mixtures tried with 1 seed", "of test images", " left)"):
        assert told in done.err
    found = json.loads((run / "utility.json").read_text())
    assert (found["n_real"], found["n_validation"] + found["n_test"]) == (1438, 359)
    assert abs(found["n_validation"] - found["n_test"]) <= 10
    assert found["about"]["classifier"] == "small"
    assert found["about"]["training_images"] == 2 * 64
    assert found["about"]["warnings"] == []
    rows = list(csv.DictReader(Path("chosen/selection.csv").read_text().splitlines()))
    assert len(rows) == found["n_fakes"] == len([*Path("chosen").rglob("*.png")])
    model = load_model(run, precision="float32")
    if found["chosen"]["truncation"] is not None:
        model = model.with_latents(found["chosen"]["truncation"])
    for row in rows[::97]:
        image = model.sample(row["class"], 1 + int(row["number"]), int(row["seed"]))[-1]
        assert np.array_equal(np.asarray(Image.open(Path("chosen") / row["file"])), image)
    counts = {name: sum(row["class"] == name for row in rows) for name in found["chosen"]["counts"]}
    assert counts == found["chosen"]["counts"]
    added = read("chosen", 16, 1)
    assert added.spec.classes == tuple(model.classes)
    assert condgan(capsys, "report", run).code == 0
    assert found["advice"][:20] in (run / "report.html").read_text()


def test_half_of_each_class_chooses_and_the_other_half_judges() -> None:
    held_out = read("digits", 16, 1).held_out
    validation, test = module._halves(held_out)
    both = torch.cat([validation.images, test.images]).flatten(1)
    assert sorted(map(tuple, both.tolist())) == sorted(map(tuple, held_out.images.flatten(1).tolist()))
    counts = validation.labels.counts() - test.labels.counts()
    assert counts.abs().max() <= 1
    again, _ = module._halves(held_out)
    assert torch.equal(validation.images, again.images)


def test_images_that_the_run_was_trained_on_are_no_test(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path]
) -> None:
    run, digits = digits_run(), read("digits", 16, 1)
    seen = write_folders(Path("seen"), digits.train, slice(0, 300))
    done = condgan(capsys, "utility", run, "--data", seen, "--seeds", 3, "--minutes", NO_TIME)
    refused(done, "held-out images are among the images that", "was trained on: give others to judge by")
    other = write_folders(Path("other"), digits.held_out)
    found = utility(run, other, 3, NO_TIME)
    (few,) = found["about"]["warnings"]
    counts = ", ".join(f"{name} ({count})" for name, count in found["real_counts"].items())
    assert few.startswith(f"fewer than 50 training images of class {counts}: ")
    assert not (run / "utility.json").exists(), "it is of other data"


def test_a_run_that_began_from_one_which_saw_the_test_images_is_refused(digits_run: Callable[..., Path]) -> None:
    first = digits_run()
    recipe = load("digits-acgan", [*TINY, "data.held_out=0.5", f"transfer.run={first.resolve()}"])
    train_run(recipe, "runs/second")
    with pytest.raises(UserError, match=r"held-out images are among the images that '.*digits-acgan' was trained on"):
        utility("runs/second", seeds=3, minutes=NO_TIME)
    train_run(load("digits-acgan", [*TINY, f"transfer.run={first.resolve()}"]), "runs/third")
    assert utility("runs/third", seeds=3, minutes=NO_TIME)["about"]["warnings"] == []
    shutil.rmtree(first)
    (told,) = utility("runs/third", seeds=3, minutes=NO_TIME)["about"]["warnings"]
    assert "from which it began, is not there: make sure that it has not seen the test images" in told


def test_changed_data_are_refused_and_a_model_of_unknown_data_is_told(
    digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = digits_run()
    environment = json.loads((run / "environment.json").read_text())
    changed = environment | {"data": environment["data"] | {"sha256": "0" * 64}}
    (run / "environment.json").write_text(json.dumps(changed))
    with pytest.raises(UserError, match="has changed"):
        utility(run, seeds=3, minutes=NO_TIME)
    other = write_folders(Path("other"), read("digits", 16, 1).held_out)
    told = utility(run, other, 3, NO_TIME)["about"]["warnings"]
    assert told[0].startswith("nobody can tell whether 'runs/digits-acgan' has seen the test images: the data of run")
    (run / "environment.json").unlink()
    told = utility(run, other, 3, NO_TIME)["about"]["warnings"]
    assert told[0].startswith("'runs/digits-acgan' does not say what it was trained on")


def test_images_in_folders_are_asked_about_in_the_same_way(capsys: pytest.CaptureFixture[str]) -> None:
    digits = read("digits", 16, 1)
    real = write_folders(Path("real"), digits.train, slice(0, 400))
    fakes = write_folders(Path("fakes"), digits.train, slice(400, 700))
    done = condgan(capsys, "utility", fakes, "--data", real, "--seeds", 3, "--minutes", NO_TIME, "--json")
    found = json.loads(done.out)
    assert 0 < found["n_fakes"] <= 300
    assert "nobody can tell whether what made these images" in found["about"]["warnings"][-2]
    refused(condgan(capsys, "utility", fakes), "given without --data")
    refused(condgan(capsys, "utility", fakes, "--data", real, "--truncation", 0.5), "options of a run's sampling")
    refused(condgan(capsys, "utility", fakes, "--data", real, "--write", real / "3" / "more"), "--write")
    refused(condgan(capsys, "utility", fakes, "--data", real, "--write", fakes / "3" / "more"), "--write")
    done = condgan(capsys, "utility", real, "--data", real, "--seeds", 3, "--minutes", NO_TIME)
    refused(done, "held-out images are among 'real': give others to judge by")


def test_a_few_copies_that_came_by_chance_are_left_out() -> None:
    digits = read("digits", 16, 1)
    others = torch.cat([digits.train.images, digits.held_out.images[5:8]])
    left, (said,) = module._without(digits.held_out, others, "'others'")
    assert said == "3 held-out images are among 'others', and left out"
    assert torch.equal(left.images, torch.cat([digits.held_out.images[:5], digits.held_out.images[8:]]))
    with pytest.raises(UserError, match="4 of 359 held-out images are among 'others'"):
        module._without(digits.held_out, digits.held_out.images[:4], "'others'")


def test_classes_that_no_test_image_is_of_are_told() -> None:
    held_out = read("digits", 16, 1).held_out
    index = held_out.labels.index()
    rows = torch.cat([(index != 3).nonzero().squeeze(1), (index == 3).nonzero().squeeze(1)[:0]])
    assert module._untested(held_out) == []
    assert module._untested(held_out.at(rows)) == ["no test image is of class 3: hold more out"]


def test_what_is_left_of_a_run_without_its_discriminator_is_asked_about_by_the_other_selections(
    digits_run: Callable[..., Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """All ways to select, of an export, which has none; and of the run, which has."""
    every = {"none": (), "agreement": ("copies",), "centroid": ("centroid",), "discriminator": ("discriminator",)}
    monkeypatch.setattr(module, "SELECTIONS", every)
    run, other = digits_run(), write_folders(Path("other"), read("digits", 16, 1).held_out)
    export("runs/digits-acgan", "exported")
    found = utility("exported", other, 3, 0.02)
    assert "discriminator" not in {one["selection"] for one in found["search"]}
    subject = module._of_run(run, None, module.Sampling())
    assert subject.fakes.selections == tuple(every)
    assert subject.fakes.judges.others is subject.validation, "judges know nothing of the test images"
    assert not subject.flips, "mirrored digits look different"
    drawn = subject.fakes.draw("discriminator", 0.7, {3: 2, 4: 1}, 5)
    assert drawn.labels.index().tolist() == [3, 3, 4]


def test_training_images_of_another_crop_are_found_all_the_same(digits_run: Callable[..., Path]) -> None:
    rng = np.random.default_rng(0)
    for number in range(60):
        path = Path("photos") / "ab"[number % 2] / f"{number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (16, 24), np.uint8)).save(path)
    first = ["data.source=photos", "data.size=16", "data.channels=1", *TINY, "schedule.images=64"]
    train_run(load("digits-acgan", [*first, "data.held_out=0.1"]), "runs/first")
    start = f"transfer.run={Path('runs/first').resolve()}"
    train_run(load("digits-acgan", [*first, "data.held_out=0.5", "data.crop=pad", start]), "runs/second")
    with pytest.raises(UserError, match=r"held-out images are among the images that '.*first' was trained on"):
        utility("runs/second", seeds=3, minutes=NO_TIME)


def test_stored_images_come_in_an_order_that_is_drawn_until_there_are_no_more() -> None:
    index = torch.arange(20) % 2
    images = torch.arange(20, dtype=torch.uint8)[:, None, None, None]
    stored = GivenImages(images, LabelTable.from_index(LabelSpec.of_classes(["even", "odd"]), index))
    whole = stored.make(1, range(20), 3)[:, 0, 0, 0]
    assert sorted(whole.tolist()) == [*range(1, 20, 2)]
    parts = [stored.make(1, range(start, start + 4), 3)[:, 0, 0, 0] for start in (0, 4, 8, 12)]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(stored.make(1, range(20), 4)[:, 0, 0, 0], whole)


def test_a_translators_fakes_are_translations_of_training_images_of_other_classes() -> None:
    write_folders(Path("photos"), read("digits", 16, 1).held_out)
    overrides = ["data.source=photos", "data.size=16", "data.channels=1", *TINY_TRANSLATOR]
    train_run(load("any-stargan", overrides), "runs/translator")
    found = utility("runs/translator", seeds=3, minutes=NO_TIME)
    assert 0 < found["n_fakes"] <= 2 * found["n_real"]
    shutil.copytree("photos", "renamed")
    Path("renamed/3").rename("renamed/three")
    with pytest.raises(UserError, match="^class '(3|three)' is one of (run 'runs/translator'|the real images) only"):
        utility("runs/translator", "renamed", seeds=3, minutes=NO_TIME)
    model = load_either("runs/translator", precision="float32")
    assert isinstance(model, Translator)
    training = read_data(load("runs/translator/recipe.yaml")).train
    maker = TranslatedImages(model, Pool(training.images, training.labels))
    made = maker.make(4, range(3, 5), 7)
    assert torch.equal(made, maker.make(4, range(5), 7)[3:])
    others = training.images[training.labels.index() != 4]
    labels = LabelTable.from_index(model.spec, torch.full((len(others),), 4))[:]
    every = {tuple(one.flatten().tolist()) for one in model.generate(others, labels)}
    assert all(tuple(one.flatten().tolist()) in every for one in made)
    with pytest.raises(UserError, match="options of latents given with run"):
        utility("runs/translator", seeds=3, minutes=NO_TIME, sampling=module.Sampling(truncation=0.5))


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--seeds", 1], "1 seeds given"),
        (["--minutes", 0], "minutes 0 given: expected a number above 0"),
        (["--classifier", "resnet"], "unknown classifier 'resnet'"),
        (["--write", "full"], "--write full given, where other images are"),
        (["--truncation", -1], "truncation"),
    ],
)
def test_bad_input_is_refused_before_anything_is_trained(
    capsys: pytest.CaptureFixture[str], digits_run: Callable[..., Path], options: list[object], part: str
) -> None:
    Path("full").mkdir()
    Image.new("L", (8, 8)).save("full/1.png")
    refused(condgan(capsys, "utility", digits_run(), *options), part)
