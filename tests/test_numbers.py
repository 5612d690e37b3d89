"""Numbers as labels: read from a column, seen by networks as waves, vicinal, asked for, judged by a regressor."""

import itertools
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import condgan
from condgan.app.export.write import export
from condgan.build import build_state
from condgan.data.dataset import _usual_vicinity
from condgan.data.open import list_source, read
from condgan.evaluation.images import ImageSubset
from condgan.evaluation.statistics import FeatureStatistics
from condgan.labels import NEARLY, WAVES, Field, Labels, LabelSpec, LabelTable, Range
from condgan.losses.labels import multi_hinge
from condgan.networks import HEADS
from condgan.networks.embeddings import LabelEmbedding
from condgan.recipes.load import load
from condgan.runs.checkpoint import Description, _examples
from condgan.runs.models import load_model, read_data
from condgan.runs.train import train_run
from condgan.sampling.changes import plan_changes
from condgan.training_steps import build_steps
from condgan.utils.errors import UserError
from tests.helpers import condgan as condgan_command
from tests.helpers import refused

AGE = LabelSpec((Field.of_number("age", Range(10.0, 60.0)),))


def labels_at(*numbers: float | int | None) -> Labels:
    return LabelTable.of_numbers("age", numbers, low=10.0, high=60.0)[:]


@given(st.lists(st.floats(10, 60), min_size=1, max_size=5))
def test_a_table_keeps_numbers_to_a_millionth_of_their_range(numbers: list[float]) -> None:
    labels = labels_at(*numbers, None)
    told = [AGE.fields[0].range.number(share) for share in labels.values[:-1, 0].tolist()]  # pyright: ignore
    assert np.allclose(told, numbers, atol=50e-6)
    assert labels.known.flatten().tolist() == [True] * len(numbers) + [False]
    assert torch.equal(
        LabelTable.of(labels).codes, LabelTable.of_numbers("age", [*numbers, None], low=10.0, high=60.0).codes
    )


def test_networks_see_waves_and_nothing_of_what_is_not_known() -> None:
    vector = labels_at(10, 35, 47.5, None).vector().numpy()
    shares = np.array([0, 0.5, 0.75])
    assert vector.shape == (4, AGE.vector_width) == (4, 1 + WAVES)
    assert np.allclose(vector[:3], np.cos(np.pi * np.outer(shares, np.arange(1 + WAVES))), atol=1e-6)
    assert (vector[3] == 0).all()
    assert (LabelEmbedding(AGE, 5)(torch.from_numpy(vector))[3] == 0).all()


def test_a_wrong_number_costs_the_square_of_its_distance() -> None:
    labels, logits = labels_at(10, 60, 35, None), torch.tensor([[0.1], [0.7], [0.5], [9.0]])
    expected = np.array([0.1, 0.3, 0, 0]) ** 2 / (2 * NEARLY**2)
    assert np.allclose(labels.cross_entropy(logits).numpy(), expected, atol=1e-5)
    assert np.allclose(multi_hinge(logits, labels, clamp=True).numpy(), expected, atol=1e-5)
    assert labels.accuracy(torch.tensor([[0.04], [0.96], [0.56], [0.5]])).tolist() == [1, 1, 0, 0]


@pytest.mark.parametrize("hard", [False, True])
def test_labels_nearby_weigh_images_as_the_paper_does(hard: bool) -> None:
    """Ding et al. 2021, eq. 8 and 9: what a label is learned from weighs exp(−ν(y − y′)²), ν = 1/κ², or all within κ.

    Here each image is told labels around its own: of what is told a label, the images' shares are the same weights.
    """
    shares, κ, draws = np.array([0.40, 0.46, 0.55]), 0.1, 400_000
    spec = LabelSpec((Field.of_number("age", Range(0.0, 1.0, κ, hard)),))
    own = Labels(spec, torch.tensor(shares).float().repeat_interleave(draws)[:, None], torch.ones(3 * draws, 1) > 0)
    drawing = torch.Generator().manual_seed(0)
    noise = torch.randn(3 * draws, 1, generator=drawing)
    uniform = 2 * torch.rand(3 * draws, 1, generator=drawing) - 1
    told = own.nearby(noise, uniform).values.numpy().reshape(3, draws)
    for label in (0.38, 0.47, 0.52):
        near = (np.abs(told - label) < 0.002).sum(1)
        weights = (np.abs(shares - label) <= κ) * 1.0 if hard else np.exp(-((shares - label) ** 2) / κ**2)
        assert np.allclose(near / near.sum(), weights / weights.sum(), atol=0.02)


def test_half_of_the_vicinities_hold_fifty_images() -> None:
    shares = np.sort(np.random.default_rng(0).random(2000))
    κ = _usual_vicinity(shares)
    held = [int((np.abs(shares - one) <= κ).sum()) for one in shares]
    assert 45 <= np.median(held) <= 55
    years = np.repeat(np.arange(11) / 10, 200)
    assert _usual_vicinity(years) == pytest.approx(0.1)  # as far as to the next year


def test_heads_that_need_classes_refuse_a_number() -> None:
    for name in ("adc", "contrastive", "classes-and-fake"):
        with pytest.raises(UserError, match=f"head '{name}' given with"):
            HEADS[name]((8,), AGE)


def test_numbers_outside_of_their_range_are_refused() -> None:
    assert plan_changes(AGE, {"age": "35"}) == {0: {0: 0.5}}
    for wrong in (9, 61, "old", math.nan, True):
        with pytest.raises(UserError, match="expected a number from 10 to 60"):
            plan_changes(AGE, {"age": wrong})
    with pytest.raises(UserError, match="unknown number 'aged'"):
        plan_changes(AGE, {"aged": 20})


def test_statistics_of_a_part_are_those_of_its_images() -> None:
    table = LabelTable.of_numbers("age", [10, 12, 30, 59, None], low=10.0, high=60.0)
    classes = table.by_class()
    assert classes is not None
    assert classes.index().tolist() == [0, 0, 3, 7, -1]
    assert classes.spec.classes[:2] == ("10 to 16", "16 to 22")
    errors = torch.tensor([1.0, 4, 9, 2, math.nan])
    part = FeatureStatistics(5, labels=table, features=torch.zeros(5, 2), errors=errors).of_class(0)
    assert part.count == 2
    assert part.agreement == 0.5  # one of them is within a twentieth of 50
    assert part.errors is not None
    assert part.errors.tolist() == [1, 4]


def test_parts_of_narrow_ranges_have_names_of_their_own() -> None:
    assert len(set(Range(1000.001, 1000.002).ends())) == 9


@pytest.fixture(scope="module")
def turned(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Bars turned by angles; of every fifth it is not known by how much."""
    folder = tmp_path_factory.mktemp("turned") / "data"
    folder.mkdir()
    rng, rows = np.random.default_rng(0), ["file,angle,weight"]
    for i in range(120):
        angle = rng.uniform(-80, 80)
        bar = np.zeros((32, 32), np.uint8)
        bar[15:17, 4:28] = 255
        Image.fromarray(bar).rotate(angle).save(folder / f"{i:03}.png")
        rows.append(f"{i:03}.png,{'' if i % 5 == 0 else f'{angle:.3f}'},{i}")
    (folder / "angles.csv").write_text("\n".join(rows) + "\n")
    return folder


def test_a_column_of_numbers_is_read(turned: Path) -> None:
    listing = list_source(str(turned), number="angle")
    range = listing.labels.spec.range
    assert range is not None
    assert -80 <= range.low < -60 < 60 < range.high <= 80
    assert (listing.labels.codes < 0).sum() == 24
    assert bool(listing.labels.known[listing.train :].all())  # what is held out is known
    vicinity = read(str(turned), 16, 1, number="angle", vicinity=0.07, hard_vicinity=True).spec.range
    assert (vicinity.vicinity, vicinity.hard) == (0.07, True)  # pyright: ignore[reportOptionalMemberAccess]


def test_what_is_no_number_is_refused(turned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="unknown column of numbers 'angel': did you mean 'angle'"):
        list_source(str(turned), number="angel")
    with pytest.raises(UserError, match="number 'angle' given with data 'digits', which has no such column"):
        list_source("digits", number="angle")
    Image.new("L", (8, 8)).save(tmp_path / "a.png")
    for cell, match in (("x", "line 2: 'x' given in column 'angle', expected a number"), ("nan", "'nan' given")):
        (tmp_path / "angles.csv").write_text(f"file,angle\na.png,{cell}\n")
        with pytest.raises(UserError, match=match):
            list_source(str(tmp_path), number="angle")


def test_the_vicinity_changes_no_data(turned: Path) -> None:
    hashes = {read(str(turned), 16, 1, number="angle", vicinity=width).content_hash for width in (0.0, 0.1)}
    assert len(hashes) == 1


def test_prepared_data_keep_their_number(turned: Path, tmp_path: Path) -> None:
    from condgan.data.prepare import prepare
    from condgan.data.preprocessing import Preprocessing

    prepare(list_source(str(turned), number="angle"), Preprocessing(16, 16, 1), tmp_path / "packed", False)
    again = read(str(tmp_path / "packed"), 16, 1, number="angle")
    straight = read(str(turned), 16, 1, number="angle")
    assert torch.equal(again.train.labels.codes, straight.train.labels.codes)
    with pytest.raises(UserError, match="number 'weight' given with"):
        read(str(tmp_path / "packed"), 16, 1, number="weight")


@pytest.fixture(scope="module")
def run(turned: Path, tmp_path_factory: pytest.TempPathFactory) -> condgan.Run:
    out = tmp_path_factory.mktemp("run") / "run"
    options = ["data.number=angle", "schedule.images=128", "schedule.batch=16", "schedule.decay=0"]
    return condgan.train(turned, recipe="digits-projection", overrides=options, out=out, fresh=True)


def test_a_run_is_judged_by_a_regressor_and_along_the_axis(run: condgan.Run) -> None:
    found = run.evaluate()
    assert found["label_error"] > 0
    assert found["real"]["label_error"] > 0
    assert len(found["per_class"]) == 8
    assert {"label_error", "coverage"} <= set(next(iter(found["per_class"].values())))
    assert found["about"]["labels"] == "number"


@pytest.mark.parametrize("parts", [("acgan", "classifier"), ("tacgan", "twin")])
def test_classifiers_of_heads_learn_numbers(turned: Path, tmp_path: Path, parts: tuple[str, str]) -> None:
    """Their squared errors shrink; the twin's are of generated images."""
    objective, head = parts
    options = ["data.number=angle", f"objective={{name: {objective}}}", f"head={{name: {head}}}", "generator.width=4",
               "backbone.width=4", "schedule.images=640", "schedule.batch=16", "schedule.log=64", "schedule.joint=true",
               "schedule.sample=640", "schedule.save=640", "d_opt.lr=0.002"]  # fmt: skip
    found = train_run(load("digits-projection", [*options, f"data.source={turned}"]), tmp_path / "run")
    assert found["label_error"] > 0
    log = [json.loads(line) for line in (tmp_path / "run" / "log.jsonl").read_text().splitlines()]
    first, last = (log[i]["D/class/real"] for i in (0, -1))
    assert 0 < last < first
    assert ("D/twin/fake" in log[0]) == (head == "twin")


def test_numbers_are_asked_for(run: condgan.Run) -> None:
    model = run.model
    one = model.sample({"angle": 20}, 3)
    assert one.shape == (3, 16, 16)
    several = model.sample({"angle": [20, -20]}, 3)
    assert np.array_equal(several[:3], one)
    assert np.array_equal(model.sample([20, -20], 3), several)
    assert model.group_names({"angle": [20, -20.5]}) == ["angle=20", "angle=-20.5"]
    assert len(model.sample(None, 1)) == 10
    assert model.interpolate("class", rows=2, steps=3).shape == (2, 3, 16, 16)
    with np.load(__import__("io").BytesIO(model.npz({"angle": 20}, 2))) as file:
        assert np.allclose(file["y"], 20)
        assert str(file["number"]) == "angle"
    with pytest.raises(UserError, match="angle=500 given: expected a number from"):
        model.sample({"angle": 500})


def test_ways_go_from_number_to_number(run: condgan.Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    ways = run.model.interpolate("class", rows=2, steps=3, classes={"angle": [-50, 50]}, seed=3)
    assert np.array_equal(ways[0, 0], run.model.sample({"angle": -50}, 1, 3)[0])
    assert np.array_equal(ways[0, 1], run.model.sample({"angle": 0}, 1, 3)[0])
    assert np.array_equal(ways[0, 2], run.model.sample({"angle": 50}, 1, 3)[0])
    for verb, files in (
        (["interpolate", "--vary", "class", "--rows", 2], ["class.png"]),
        (["directions", "--count", 2], ["angle=-50.png", "angle=50.png", "directions.csv"]),
    ):
        done = condgan_command(
            capsys, verb[0], run.directory, *verb[1:], "--set", "angle=-50,50", "--out", tmp_path / verb[0]
        )
        assert done.code == 0, done.err
        assert sorted(path.name for path in (tmp_path / verb[0]).iterdir()) == files
    for options, match in (
        (("--set", "angle=7"), "1 settings to interpolate between given: expected 2, such as angle=-"),
        (("--classes", "a,b"), "--classes a,b given with a model of the number 'angle' from"),
    ):
        refused(condgan_command(capsys, "interpolate", run.directory, *options, "--out", tmp_path / "no"), match)


def test_a_folder_of_samples_is_read_as_what_was_asked_for(run: condgan.Run, tmp_path: Path) -> None:
    from condgan.app.cli.sample import sample_command

    sample_command(str(run.directory), tmp_path / "out", settings=("angle=-30,30",), per_class=4)
    labels = list_source(str(tmp_path / "out"), number="angle").labels
    assert sorted(labels.codes.flatten().tolist()) == [0] * 4 + [1 << 24] * 4


@pytest.mark.slow
def test_an_exported_program_makes_the_same(run: condgan.Run, tmp_path: Path) -> None:
    files = export(run.directory, tmp_path / "onnx", "onnx")
    assert "model.onnx" in files  # which is refused where it makes other images
    export(run.directory, tmp_path / "folder")
    again = load_model(tmp_path / "folder")
    assert np.array_equal(again.sample({"angle": 10}, 2), run.model.sample({"angle": 10}, 2))


def test_a_checkpoint_keeps_examples_and_refuses_others(run: condgan.Run) -> None:
    spec = read_data(load(str(run.directory / "recipe.yaml"))).spec
    assert run.model.spec == spec
    assert run.model.spec.examples == spec.examples
    path = next((run.directory / "checkpoints").iterdir()) / "state.json"
    assert json.loads(path.read_text())["examples"]
    described = Description.model_validate_json(path.read_bytes())
    for wrong in ([[1, 2]], [[-1]], [[1 << 25]]):
        with pytest.raises(UserError, match="numbers of labels each"):
            _examples(described.model_copy(update={"examples": wrong}))


def test_a_run_that_stopped_goes_on_as_if_it_had_not(turned: Path) -> None:
    """Of numbers that are not all known: what is told, and noise on it, are functions of where the state stands."""
    options = ["data.number=angle", "schedule.images=256", "schedule.batch=16", "schedule.decay=0"]
    recipe = load("digits-projection", [f"data.source={turned}", *options])
    data = read_data(recipe)
    assert data.train.labels.partial
    weights = []
    for parts in ((4,), (2, 2)):
        state = build_state(recipe, data.spec)
        for steps in parts:
            for _ in itertools.islice(build_steps(recipe, state, data.train), steps):
                pass
        weights.append(torch.cat([one.detach().flatten() for one in state.generator.parameters()]))
    assert torch.equal(*weights)


def test_transitions_and_runs_of_classes_do_not_fit_a_number(turned: Path, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="objective.transition given with the number 'angle'"):
        condgan.train(
            turned, recipe="digits-projection", out=tmp_path / "no", fresh=True,
            overrides=["data.number=angle", "objective.transition={start: 0, end: 1, images: 100}"],
        )  # fmt: skip
    with pytest.raises(UserError, match="a vicinity given without data.number"):
        condgan.train(None, recipe="digits-projection", overrides=["data.vicinity=0.1"], out=tmp_path / "no")


@pytest.mark.parametrize(
    "ends",
    [{"low": 1.0, "high": 1.0}, {"low": 2.0, "high": 1.0}, {"low": 0.0, "high": 1e300}, {"low": math.nan, "high": 1.0}],
)
def test_ranges_that_are_none_are_refused(ends: dict[str, float]) -> None:
    with pytest.raises(UserError, match="expected different ends"):
        Range(**ends)


def test_numbers_of_other_data_are_those_of_the_model(run: condgan.Run, turned: Path, tmp_path: Path) -> None:
    """Also where their range is another one."""
    (tmp_path / "data").mkdir()
    rows = (turned / "angles.csv").read_text().splitlines()
    few = [rows[0], *(row for row in rows[1:] if row.split(",")[1] and abs(float(row.split(",")[1])) < 40)]
    for row in few[1:]:
        name = row.split(",")[0]
        (tmp_path / "data" / name).write_bytes((turned / name).read_bytes())
    (tmp_path / "data" / "angles.csv").write_text("\n".join(few) + "\n")
    assert run.evaluate(tmp_path / "data")["label_error"] > 0


def test_translators_and_class_balance_refuse_numbers(turned: Path) -> None:
    for recipe, options, match in (
        ("digits-stargan", [], "data.number=angle given with recipe 'digits-stargan', which translates"),
        ("digits-projection", ["data.class_balance=0.5"], "data.class_balance 0.5 given with attributes"),
    ):
        with pytest.raises(UserError, match=match):
            condgan.train(
                turned, recipe=recipe, overrides=["data.number=angle", *options], out=turned.parent / "no", fresh=True
            )


def test_subsets_of_numbers_have_strata(turned: Path) -> None:
    subset = ImageSubset.of("x", read(str(turned), 16, 1, number="angle").held_out)
    assert subset.strata is not None
    assert int(subset.strata.max()) <= 7
