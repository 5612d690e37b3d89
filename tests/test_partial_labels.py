"""Labels that are not all known: read, told to networks, left out of losses, and drawn for fakes."""

import io
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import condgan
from condgan import build, training_steps
from condgan.app.export.write import export
from condgan.data.open import list_source, read
from condgan.data.readers.attributes import _neighbors
from condgan.labels import Field, Labels, LabelSpec, LabelTable
from condgan.recipes.load import load
from condgan.runs.models import read_data
from condgan.training.player_loss import FakeLabels
from condgan.types import Batch, Generator
from condgan.utils.errors import UserError

ABC = LabelSpec.of_classes(["a", "b", "c"])
HAIR = LabelSpec((Field("attributes", ("black", "blond", "hat", "old"), False, (("black", "blond"),)),))


def pictures(folder: Path, count: int) -> list[str]:
    """Gray squares, each of a tone of its own."""
    folder.mkdir(parents=True)
    for i in range(count):
        Image.new("L", (8, 8), 3 * i).save(folder / f"{i:03}.png")
    return [f"{i:03}.png" for i in range(count)]


@given(st.integers(0, 1000))
def test_what_is_not_known_costs_nothing_and_has_no_gradient(seed: int) -> None:
    rng = np.random.default_rng(seed)
    codes = rng.integers(-1, 2, (6, 4)).astype(np.int32)
    logits = torch.tensor(rng.normal(size=(6, 4)), requires_grad=True)
    labels = LabelTable(HAIR, torch.from_numpy(codes))[:]
    labels.cross_entropy(logits).sum().backward()
    losses = np.log1p(np.exp(-np.where(codes == 1, 1, -1) * logits.detach().numpy()))
    assert np.allclose(labels.cross_entropy(logits.detach()).numpy(), np.where(codes < 0, 0, losses).sum(1), atol=1e-5)
    assert logits.grad is not None
    assert np.array_equal(logits.grad.numpy() == 0, codes < 0)


def test_accuracy_counts_units_that_are_known() -> None:
    labels = LabelTable(HAIR, torch.tensor([[1, 0, -1, 0], [-1, -1, 1, -1]]))[:]
    logits = torch.tensor([[2.0, -1, 5, 3], [1, -1, -1, 0]])
    assert labels.accuracy(logits).tolist() == [0.5, 0]


def test_a_table_keeps_what_is_not_known() -> None:
    for spec, codes in ((ABC, [[0], [-1], [2]]), (HAIR, [[1, 0, -1, 0], [-1, -1, -1, -1], [0, 0, 1, 1]])):
        table = LabelTable(spec, torch.tensor(codes, dtype=torch.int32))
        assert LabelTable.of(table[:]).codes.tolist() == codes
        assert table.partial
        assert not table.drawn(0).partial


def test_a_class_that_is_not_known_is_nothing_to_a_projection() -> None:
    discriminator = build.build_discriminator(load("digits-projection"), ABC)
    images = torch.randn(2, 1, 16, 16)
    said = discriminator.eval()(images, Labels.nothing(ABC, 2))
    assert torch.allclose(said.score, said.named["unconditional"])


@given(st.integers(0, 1000), st.floats(0.1, 0.9))
def test_unknown_labels_are_drawn_as_often_as_known_ones_hold(seed: int, share: float) -> None:
    rng = np.random.default_rng(seed)
    whole = np.stack([rng.random(4000) < 0.3, rng.random(4000) < 0.6], 1).astype(np.int32)
    codes = np.where(rng.random(whole.shape) < share, -1, whole)
    spec = LabelSpec((Field("attributes", ("x", "y"), exclusive=False),))
    completed = LabelTable(spec, torch.from_numpy(codes)).drawn(seed).codes.numpy()
    assert np.array_equal(completed[codes >= 0], codes[codes >= 0])
    for column in (0, 1):
        known = codes[:, column] >= 0
        assert abs(completed[~known, column].mean() - codes[known, column].mean()) < 0.12


def test_groups_are_completed_as_a_whole() -> None:
    codes = torch.tensor([[1, 0, 1, 0], [0, 1, -1, 0], [-1, -1, 0, 1], [-1, -1, -1, -1]], dtype=torch.int32)
    completed = LabelTable(HAIR, codes).drawn(3).codes
    assert completed[:, :2].sum(1).tolist() == [1, 1, 1, 1]


def test_nothing_is_drawn_of_what_no_image_knows() -> None:
    with pytest.raises(UserError, match="label 'black' is known of no training image"):
        LabelTable(HAIR, torch.tensor([[-1, -1, 0, 1]] * 3)).drawn(0)


def test_the_discriminator_knows_of_fakes_what_it_knows_of_real_images() -> None:
    """Else an image without a label would be a real one."""
    given_labels, claimed = [], []

    class Watching(Generator):
        latent_dim = 2

        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.zeros(1))

        def forward(self, latent: torch.Tensor, labels: Labels) -> torch.Tensor:
            given_labels.append(labels)
            return self.weight * torch.ones(len(latent), 1, 16, 16)

    recipe = load("digits-projection", ["schedule.images=64", "schedule.batch=16", "schedule.d_steps=1"])
    state = build.build_state(recipe, ABC)
    state.generator, state.averages = Watching(), {}
    table = LabelTable(ABC, torch.arange(64, dtype=torch.int32)[:, None] % 4 - 1)
    own = state.discriminator.forward

    def watch(images: torch.Tensor, labels: Labels) -> object:
        claimed.append(labels)
        return own(images, labels)

    state.discriminator.forward = watch  # pyright: ignore[reportAttributeAccessIssue]
    state.g_optimizer = torch.optim.Adam(state.generator.parameters())
    batches = iter([Batch(torch.randn(16, 1, 16, 16), table[torch.arange(16)])] * 4)
    for how in (FakeLabels(table.drawn(0), partial=True), FakeLabels(table.drawn(0), None, True, True)):
        given_labels.clear()
        claimed.clear()
        state.images = 0
        training = training_steps.train(
            state, build.build_objective(recipe), batches, how, until=16, d_steps=recipe.schedule.d_steps
        )
        next(training)
        unknown = (torch.arange(16) % 4) == 0
        assert all(bool(labels.known.all()) for labels in given_labels)
        assert claimed
        for labels in claimed:
            half = labels[:16]
            assert torch.equal(~half.known[:, 0], unknown)
            assert (half.values[unknown] == 0).all()


def test_empty_cells_of_classes_are_not_known(tmp_path: Path) -> None:
    names = pictures(tmp_path / "data", 40)
    rows = [f"{name},{'' if i % 2 else 'ab'[i // 2 % 2]}" for i, name in enumerate(names)]
    (tmp_path / "data" / "labels.csv").write_text("file,label\n" + "\n".join(rows) + "\n")
    listing = list_source(str(tmp_path / "data"))
    assert listing.labels.spec.classes == ("a", "b")
    assert (listing.labels.index() < 0).sum() == 20
    assert (listing.labels.index()[listing.train :] >= 0).all()
    assert any("20 of 40 images have no label" in note for note in listing.notes)
    data = read(str(tmp_path / "data"), 16, 1)
    assert data.train.labels.partial
    assert not data.held_out.labels.partial


def test_a_folder_of_unlabeled_images_stands_beside_classes(tmp_path: Path) -> None:
    for folder, count in (("cat", 12), ("dog", 12), ("unlabeled", 30)):
        pictures(tmp_path / "data" / folder, count)
    listing = list_source(str(tmp_path / "data"))
    assert listing.labels.spec.classes == ("cat", "dog")
    assert (listing.labels.index() < 0).sum() == 30
    assert any("folder 'unlabeled' are of no known class" in note for note in listing.notes)


def test_empty_cells_of_attributes_are_not_known(tmp_path: Path) -> None:
    names = pictures(tmp_path / "data", 30)
    rows = [f"{name},{i % 2},{'' if i % 3 else i // 3 % 2}" for i, name in enumerate(names)]
    (tmp_path / "data" / "attributes.csv").write_text("file,Hat,Old\n" + "\n".join(rows) + "\n")
    labels = list_source(str(tmp_path / "data")).labels
    assert labels.spec.classes == ("Hat", "Old")
    assert ((labels.codes < 0).sum(0)).tolist() == [0, 20]


def test_question_marks_of_attribute_files_are_not_known(tmp_path: Path) -> None:
    names = pictures(tmp_path / "data" / "img", 20)
    lines = [f"{name} {(-1) ** i} {'?' if i % 2 else (-1) ** (i // 2)}" for i, name in enumerate(names)]
    (tmp_path / "data" / "list_attr.txt").write_text("20\nHat Old\n" + "\n".join(lines) + "\n")
    assert ((list_source(str(tmp_path / "data")).labels.codes < 0).sum(0)).tolist() == [0, 10]


def test_groups_are_known_as_a_whole(tmp_path: Path) -> None:
    """Where one of a group holds the others do not; else all are unknown where one is."""
    names = pictures(tmp_path / "data", 30)
    cells = ["1,0,0", "1,,", ",0,0", "0,1,0", ",1,", "0,0,1"]
    rows = [f"{name},{cells[i % 6]},{i // 3 % 2}" for i, name in enumerate(names)]
    (tmp_path / "data" / "attributes.csv").write_text("file,Red,Blue,Gray,Hat\n" + "\n".join(rows) + "\n")
    data = read(str(tmp_path / "data"), 16, 1, exclusive=[("Red", "Blue", "Gray")])
    assert data.spec.fields[0].groups == (("Red", "Blue", "Gray"),)
    found = set(map(tuple, data.train.labels.codes[:, :3].tolist()))
    assert found == {(1, 0, 0), (-1, -1, -1), (0, 1, 0), (0, 0, 1)}


@pytest.mark.parametrize("kept", [0.3, 0.5, 0.9])
def test_groups_are_found_where_half_is_known(kept: float) -> None:
    """And none among attributes that are independent, however rare."""
    rng = np.random.default_rng(0)
    hair = np.eye(6, dtype=np.int32)[rng.choice(6, 3000, p=[0.3, 0.2, 0.2, 0.1, 0.1, 0.1])]
    others = (rng.random((3000, 6)) < [0.5, 0.4, 0.3, 0.1, 0.02, 0.5]).astype(np.int32)
    codes = np.concatenate([hair, others], 1)
    codes = np.where(rng.random(codes.shape) < kept, codes, -1).astype(np.int32)
    assert _neighbors("abcdefghijkl", codes) == [tuple("abcdef")]


def test_a_column_of_ones_and_blanks_is_refused(tmp_path: Path) -> None:
    names = pictures(tmp_path / "data", 30)
    rows = [f"{name},{i % 2},{'' if i % 3 else 1}" for i, name in enumerate(names)]
    (tmp_path / "data" / "attributes.csv").write_text("file,Hat,Old\n" + "\n".join(rows) + "\n")
    with pytest.raises(UserError, match="every training image that knows it has it; write 0 where it does not hold"):
        read(str(tmp_path / "data"), 16, 1)


def test_fakes_are_told_by_the_law_of_real_images() -> None:
    """Two equal attributes, half of whose cells are deleted: no fake is told that they differ, as no real image is."""
    spec = LabelSpec((Field("attributes", ("x", "y"), exclusive=False),))
    rng = np.random.default_rng(0)
    codes = np.repeat(rng.integers(0, 2, (2000, 1)), 2, 1).astype(np.int32)
    codes = np.where(rng.random(codes.shape) < 0.5, codes, -1)
    table = LabelTable(spec, torch.from_numpy(codes))
    how = training_steps.fake_labels_of(load("digits-projection"), table)
    torch.manual_seed(0)
    labels, told = how.draw(4000)
    assert told is not None
    claimed = labels.as_known_in(told).values
    both = ((claimed == 0) | (claimed == 1)).all(1)
    assert (claimed[both, 0] == claimed[both, 1]).all()
    assert abs(both.float().mean() - 0.25) < 0.03
    assert ((labels.values == 0) | (labels.values == 1)).all()


def test_several_data_sets_must_know_their_labels(tmp_path: Path) -> None:
    for name in ("one", "two"):
        for folder in ("x", "y", "unlabeled"):
            pictures(tmp_path / name / folder, 6)
    with pytest.raises(UserError, match="'one' has images without labels, beside other data sets"):
        read([str(tmp_path / name) for name in ("one", "two")], 16, 1)


def test_a_run_learns_from_partial_labels_and_is_judged(tmp_path: Path) -> None:
    for folder, count in (("a", 24), ("b", 24), ("unlabeled", 60)):
        pictures(tmp_path / "data" / folder, count)
    options = ["schedule.images=128", "schedule.batch=16", "schedule.decay=0", "data.class_balance=0.5"]
    run = condgan.train(
        tmp_path / "data", recipe="digits-projection", overrides=options, out=tmp_path / "run", fresh=True
    )
    results = run.evaluate()
    assert 0 <= results["label_agreement"] <= 1
    assert set(results["per_class"]) == {"a", "b"}
    assert condgan.load(run.directory).sample("a", 2).shape == (2, 16, 16)
    assert read_data(load(str(run.directory / "recipe.yaml"))).train.labels.partial


def test_held_out_images_of_no_known_class_are_judged(tmp_path: Path) -> None:
    """Copies of images are held out with them, whether it is known what they show or not."""
    data, rows = tmp_path / "data", ["file,class"]
    data.mkdir()
    for i in range(90):
        Image.fromarray(np.full((16, 16), i // 2 * 5, np.uint8)).save(data / f"{i:02}.png")
        rows.append(f"{i:02}.png,{'' if i % 2 else 'abc'[i // 2 % 3]}")
    (data / "labels.csv").write_text("\n".join(rows) + "\n")
    options = ["schedule.images=64", "schedule.batch=16", "generator.width=4", "backbone.width=4"]
    run = condgan.train(data, recipe="digits-projection", overrides=options, out=tmp_path / "run", fresh=True)
    assert (read_data(load(str(run.directory / "recipe.yaml"))).held_out.labels.codes < 0).any()
    assert (run.directory / "tree.png").exists()


@pytest.fixture(scope="module")
def hats(tmp_path_factory: pytest.TempPathFactory) -> condgan.Run:
    """A run of pictures with attributes, half of which are told: a hat, and one of two colors."""
    folder = tmp_path_factory.mktemp("hats")
    names = pictures(folder / "data", 80)
    rng, rows = np.random.default_rng(0), ["file,Red,Blue,Hat"]
    for i, name in enumerate(names):
        cells = [i % 2, 1 - i % 2, i // 2 % 2]
        rows.append(",".join([name, *(str(cell) if rng.random() < 0.5 or i < 8 else "" for cell in cells)]))
    (folder / "data" / "attributes.csv").write_text("\n".join(rows) + "\n")
    options = ["schedule.images=128", "schedule.batch=16", "schedule.decay=0", "data.exclusive=[[Red, Blue]]"]
    return condgan.train(folder / "data", recipe="digits-projection", overrides=options, out=folder / "run", fresh=True)


def test_a_generator_of_attributes_is_judged(hats: condgan.Run) -> None:
    found = hats.evaluate()
    assert found["about"]["labels"] == "attributes"
    assert 0 <= found["label_agreement"] <= 1
    assert "per_class" not in found
    assert not any("lasses" in sentence for sentence in found["verdict"])


def test_attributes_are_asked_for_and_the_rest_is_as_in_training_images(hats: condgan.Run) -> None:
    model = hats.model
    assert model.spec.fields[0].groups == (("Red", "Blue"),)
    drawn = model.draw({"Red": True, "Hat": False}, 6, seed=3)
    assert drawn.weights.tolist() == [[1, 0, 0]] * 6
    drawn = model.draw({"Hat": True}, 20)
    assert (drawn.weights[:, :2].sum(1) == 1).all()
    assert 0 < drawn.weights[:, 0].mean() < 1
    every = model.draw(None, 2)
    assert torch.equal(every.latents[:2], every.latents[2:4])  # all that is asked for has the same latents
    assert model.group_names(None) == ["Red", "Blue", "Hat"]
    with np.load(io.BytesIO(model.npz({"Hat": True}, 2))) as file:
        assert file["y"][:, 2].tolist() == [1, 1]
        assert file["attributes"].tolist() == ["Red", "Blue", "Hat"]
    with pytest.raises(UserError, match="Red and Blue given, which exclude each other"):
        model.sample({"Red": True, "Blue": True})
    with pytest.raises(UserError, match="labels that are 3 attributes: expected a model of classes"):
        hats.invert(np.zeros((16, 16), np.uint8))


def test_samples_of_attributes_are_data_with_them(hats: condgan.Run, tmp_path: Path) -> None:
    from condgan.app.cli.sample import sample_command

    sample_command(str(hats.directory), tmp_path / "out", settings=("Hat=1,Red=1",), per_class=5)
    assert (tmp_path / "out" / "labels.csv").read_text().splitlines()[0] == "file,Red,Blue,Hat"
    labels = list_source(str(tmp_path / "out")).labels
    assert labels.spec.classes == ("Red", "Blue", "Hat")
    assert labels.codes.tolist() == [[1, 0, 1]] * 5
    for wrong, match in (
        ({"classes": "Red"}, "--classes Red given with a model of 3 attributes: expected --set"),
        ({"settings": ("Hat",)}, "--set Hat given: expected names and values"),
        ({"settings": ("Hat=2",)}, "Hat=2 given: expected 1 or 0"),
        ({"settings": ("Hatt=1",)}, "unknown label 'Hatt': did you mean 'Hat'"),
    ):
        with pytest.raises(UserError, match=match):
            sample_command(str(hats.directory), tmp_path / "no", **wrong)
    assert not (tmp_path / "no").exists()


def test_the_page_asks_for_attributes(hats: condgan.Run) -> None:
    from condgan.app.web import generators, served
    from condgan.sampling.options import Sampling

    run = hats.directory
    sampling = Sampling(served.resolved(run, "best"))
    assert generators.attribute_choices(run, sampling) == ["Red", "Blue", "Hat", "no Hat"]
    grid = generators.asked_grid(run, sampling, generators.asked_from(run, sampling, ["Red", "no Hat"]), 3)
    assert np.array_equal(generators.grid_images(grid), hats.model.sample({"Red": True, "Hat": False}, 3))
    assert "--set Red=1 --set Hat=0" in grid.about["command"]
    assert len(generators.asked_grid(run, sampling, None, 1)) == 3


@pytest.mark.slow
def test_an_exported_program_takes_attributes(hats: condgan.Run, tmp_path: Path) -> None:
    assert "model.onnx" in export(hats.directory, tmp_path / "onnx", "onnx")  # refused where it makes other images
    subprocess.run([sys.executable, "sample.py"], cwd=tmp_path / "onnx", check=True)
    made = [np.asarray(Image.open(tmp_path / "onnx" / f"{i}.png")) for i in range(3)]
    assert np.abs(np.stack(made).astype(int) - hats.model.sample(None, 1)).max() <= 1
