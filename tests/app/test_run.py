"""A run as one object: what the command line does, and what a notebook shows."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

import condgan
from condgan.recipes.load import dump
from condgan.runs.results import Results
from condgan.utils.figures import channels_first, png, sheet
from tests import arguments
from tests.conftest import TINY
from tests.helpers import condgan as command
from tests.helpers import weights


@pytest.fixture
def run(digits_run: Callable[..., Path]) -> condgan.Run:
    return condgan.Run(digits_run())


def test_training_in_python_is_that_of_the_command_line(run: condgan.Run, capsys: pytest.CaptureFixture[str]) -> None:
    settings = [*TINY, "schedule.images=64"]
    trained = condgan.train("digits", recipe="digits-acgan", overrides=settings, out="here")
    done = command(capsys, "train", "digits-acgan", "--data", "digits", *settings, "--out", "there")
    assert done.code == 0, done.err
    assert trained.directory == Path("here")
    assert weights(trained.directory) == weights(Path("there"))
    assert (trained.directory / "recipe.yaml").read_bytes() == Path("there/recipe.yaml").read_bytes()
    longer = condgan.train("digits", recipe="digits-acgan", overrides=TINY, out="here")
    assert weights(longer.directory) == weights(run.directory), "the same call with more images goes on"


def test_a_recipe_is_chosen_for_a_folder_as_on_the_command_line(
    photos: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    small = ["generator.width=4", "backbone.width=4", "schedule.batch=4", "schedule.log=16", "schedule.sample=16"]
    small += ["schedule.save=16", "compute.precision=float32", "data.size=16", "seed=3"]
    told = command(capsys, "train", "--data", photos, "--minutes", "0.01", *small, "--dry-run", "--full").out
    run = condgan.train(photos, minutes=np.float64(0.01), overrides=small)
    assert dump(run.recipe) in told, "the same settings"
    assert run.directory == Path("runs/photos")
    said = capsys.readouterr().err
    assert all(line in said for line in told.splitlines() if line.startswith(("found", "chose")))
    assert run.sample("cherry", per_class=2).shape == (2, 16, 16, 3)
    assert condgan.train(photos, minutes=0.01, overrides=small).directory == run.directory, "which is there"


def test_a_run_gives_what_its_best_model_gives(run: condgan.Run) -> None:
    model = condgan.load(run.directory)
    images = model.sample(["3", "7"], 2, seed=5)
    assert np.array_equal(run.sample(["3", "7"], 2, seed=5), images)
    assert np.array_equal(np.stack([np.asarray(one) for one in run.pictures(["3", "7"], 2, seed=5)]), images)
    by_rows = channels_first(images)[torch.tensor([0, 2, 1, 3])]
    assert png(run.sheet(["3", "7"], 2, seed=5)) == png(sheet(by_rows, ["3", "7"]))
    mixed = {"3": 0.5, 8: 1}
    assert png(model.sheet(mixed, 2)) == png(sheet(channels_first(model.sample(mixed, 2)), ["3=0.5, 8=1"]))


def test_a_notebook_shows_a_runs_sheet_and_its_results(run: condgan.Run) -> None:
    assert run._repr_png_() == (run.directory / "sheet.png").read_bytes()
    results = run.results
    assert results == json.loads((run.directory / "metrics.json").read_text())
    assert results == run.evaluate()
    assert isinstance(condgan.evaluate(run.directory), Results)
    shown = results._repr_html_()
    assert all(line in shown for line in results["verdict"])
    assert f"<td>{100 * results['label_agreement']:.1f}%</td>" in shown
    assert f"<td>{100 * results['real']['label_agreement']:.1f}%</td>" in shown
    about = results["about"]
    for key in ("extractor", "split", "fakes"):
        assert f"<td>{about[key]}</td>" in shown, key
    assert shown.count("<tr>") == shown.count("</tr>") > 5
    for name in ("sheet.png", "metrics.json"):
        (run.directory / name).unlink()
    assert run._repr_png_() is None
    assert run.results is None


def test_what_stands_in_results_is_text(run: condgan.Run) -> None:
    shown = Results(run.results | {"verdict": ["<script>"]})._repr_html_()
    assert "<script>" not in shown
    assert "&lt;script&gt;" in shown


def test_a_translators_sheet_has_a_row_of_each_picture() -> None:
    model = arguments.translator()
    pictures = [Image.new("RGB", (9, 7), color) for color in ("red", "blue")]
    rows = [[one, *of_one.values()] for one, of_one in zip(pictures, model.every_domain(pictures), strict=True)]
    cells = model.pixels([one for row in rows for one in row])
    assert png(model.sheet(pictures)) == png(sheet(cells, ["input", *model.domains]))


def test_a_run_is_exported_and_served_as_by_the_command_line(
    run: condgan.Run, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names = run.export("ours", options=condgan.ExportOptions(with_discriminator=True))
    done = command(capsys, "export", run.directory, "--out", "theirs", "--with-discriminator")
    assert done.code == 0, done.err
    assert [Path("ours", one).read_bytes() for one in names] == [Path("theirs", one).read_bytes() for one in names]
    monkeypatch.setattr("condgan.app.web.start.find_spec", lambda _name: None)
    with pytest.raises(condgan.UserError, match="needs Gradio"):
        run.app()
    with pytest.raises(condgan.UserError, match="--port 0 given"):
        run.app(port=0)
