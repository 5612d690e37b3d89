"""The plain reference computes what condgan computes, and what is measured against it is read rightly."""

import itertools
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from io import BytesIO
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn.utils.spectral_norm import SpectralNorm

from benchmarks import growth, many, plain, scale, throughput
from benchmarks.exchange import Exchange, Link, summed
from benchmarks.exchange import counted as exchanges_of
from benchmarks.throughput import Apart, Case, counted, fast_stepper, plain_stepper, prepared, some_split, widths
from condgan.build import build_state, build_stream
from condgan.data.dataset import Split
from condgan.data.open import read
from condgan.estimate import count_parameters, iteration_flops
from condgan.labels import Labels
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.training_steps import build_steps
from condgan.types import Batch

RECIPES = {
    "digits-acgan": ["schedule.batch=8"],
    "digits-biggan": ["schedule.batch=8"],
    "digits-stargan": ["generator.width=4", "backbone.width=4", "schedule.batch=8"],
    "biggan-cifar10": ["generator.width=8", "backbone.width=8", "schedule.batch=4"],
}


@pytest.fixture
def double() -> Iterator[None]:
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(torch.float32)


def batches(recipe: Recipe, split: Split) -> Iterator[Batch]:
    for images, labels in build_stream(recipe, split):
        yield Batch(images.double(), Labels(labels.spec, labels.values.double(), labels.known))


def iterate(network: nn.Module) -> None:
    """Power iteration of torch's spectral norms."""
    for layer in network.modules():
        for hook in layer._forward_pre_hooks.values():
            if isinstance(hook, SpectralNorm):
                hook.compute_weight(layer, do_power_iteration=True)


def losses(name: str) -> tuple[list[dict[str, float]], list[dict[str, float]]]:
    """Of three iterations, condgan's and the plain trainer's."""
    recipe = load(name, [*RECIPES[name], "compute.compile=false", "compute.precision=float32"])
    split = some_split(recipe, 64)
    fast = build_steps(recipe, build_state(recipe, split.labels.spec), split, batches(recipe, split))
    trainer, own = plain.Trainer(recipe, split.labels), batches(recipe, split)
    trainer.g_opt.register_step_post_hook(lambda *_: iterate(trainer.generator))
    trainer.d_opt.register_step_post_hook(lambda *_: iterate(trainer.discriminator))
    return (
        [{name: float(loss) for name, loss in one.items()} for one in itertools.islice(fast, 3)],
        [dict(trainer.step(own)) for _ in range(3)],
    )


@pytest.mark.parametrize("name", RECIPES)
def test_plain_training_has_the_losses_of_ours_where_power_iteration_is_once_per_step(
    name: str, double: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_iteration(norm: SpectralNorm, layer: nn.Module, inputs: object) -> None:
        setattr(layer, norm.name, norm.compute_weight(layer, do_power_iteration=False))

    monkeypatch.setattr(SpectralNorm, "__call__", without_iteration)
    ours, theirs = losses(name)
    for mine, other in zip(ours, theirs, strict=True):
        assert mine == pytest.approx(other, rel=1e-8, abs=1e-8)


def test_the_plain_reference_iterates_at_every_forward_pass_of_training(double: None) -> None:
    ours, theirs = losses("digits-biggan")
    assert ours[0]["D/adv"] == pytest.approx(theirs[0]["D/adv"], rel=1e-8), "the vectors are exact at first"
    assert ours[2]["D/adv"] != pytest.approx(theirs[2]["D/adv"], rel=1e-8)


def test_the_plain_loader_gives_every_picture_as_the_stream_does() -> None:
    recipe = load("digits-acgan", ["schedule.batch=7"])
    split = read("digits", 16, 1).train.at(torch.arange(14))
    own, streamed = plain.loader(recipe, split), build_stream(recipe, split)

    def epoch(batches: Iterator[Batch]) -> tuple[Tensor, Tensor]:
        pairs = [next(batches) for _ in range(2)]
        images = torch.cat([batch.images for batch in pairs]).float()
        order = images.flatten(1).sum(1).argsort()
        return images[order], torch.cat([batch.labels.index() for batch in pairs])[order]

    for mine, other in zip(epoch(own), epoch(streamed), strict=True):
        torch.testing.assert_close(mine, other)


def test_fusing_saves_what_it_says() -> None:
    """Of BigGAN's arithmetic at 32 px more than a third, as counted in training, and as `iteration_flops` counts."""
    case = Case("biggan-cifar10", (*widths(8), "schedule.batch=4", "compute.compile=false"))
    recipe = case.load()
    split = some_split(recipe, 16)
    plainly, fast = (counted(stepper(recipe, split)) for stepper in (plain_stepper, fast_stepper))
    assert fast == pytest.approx(iteration_flops(recipe, split.labels.spec), rel=0.01)
    assert 1.5 < plainly / fast < 2


@pytest.mark.slow
def test_a_recipe_is_compiled_as_its_own_length_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("condgan.estimate.can_compile", lambda: True)
    rounded = ("compute.precision=bfloat16",)
    assert not Case("digits-acgan", rounded).load().compute.compile
    assert Case("biggan-cifar10", rounded).load().compute.compile
    assert Case("digits-acgan", ("compute.compile=true",)).load().compute.compile


TINY = ["--recipe", "digits-acgan", "--width", "4", "--rounds", "2"]


def bench(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """The exit code of `python -m benchmarks.throughput` in this process."""
    monkeypatch.setattr("sys.argv", ["throughput", *arguments])
    monkeypatch.setattr(throughput, "LONG_ENOUGH", 0.0)
    try:
        throughput.main()
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


@pytest.mark.slow
def test_rows_make_a_record(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path("record.json")
    assert bench(monkeypatch, *TINY, "--json", "--out", str(out)) == 0
    row = json.loads(capsys.readouterr().out)
    assert json.loads(out.read_text())["rows"] == [row]
    assert (row["recipe"], row["width"]) == ("digits-acgan", 4)
    assert row["ratio_min"] <= row["ratio"] <= row["ratio_max"]
    assert row["gflops"] == pytest.approx(row["gflop"] / row["fast_s"], rel=2e-3)


def test_a_ratio_that_fell_is_told(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    out = Path("record.json")
    row = {"recipe": "digits-acgan", "overrides": [], "width": 4, "ratio": 2.0, "threads": torch.get_num_threads()}
    row["device"] = throughput.device_name()
    monkeypatch.setattr(throughput, "trained", lambda case, rounds: row)
    for share, code in ((0.9, 0), (1.1, 0), (1.2, 1)):
        out.write_text(json.dumps({"rows": [row | {"ratio": share * row["ratio"]}]}))
        assert bench(monkeypatch, "--check", str(out), "--rounds", "1") == code
        assert capsys.readouterr().out.startswith("FELL" if code else "good")
    out.write_text(json.dumps({"rows": [row | {"device": "another"}]}))
    assert bench(monkeypatch, "--check", str(out)) == 2
    assert "another" in capsys.readouterr().err
    out.write_text("{}")
    assert bench(monkeypatch, "--check", str(out)) == 2


TRAINING = {"s_per_image": 2e-3, "min": 1e-3, "max": 3e-3, "gflop_per_image": 0.5, "mib": 90, "counted_mib": 40}
OF_IMAGES = {
    "us_per_image": {"listing": 9.0, "copies": 0.5}, "most_bytes_per_image": {"listing": 400.0, "copies": 300.0},
    "kept_bytes_per_image": 130.0,
}  # fmt: skip


@pytest.mark.parametrize("axes", [growth.AXES, ["batch"], ["images"]])
def test_growth_is_drawn_for_any_axes(axes: Iterable[str]) -> None:
    rows = [
        {"axis": axis, "value": value} | (OF_IMAGES if axis == "images" else TRAINING)
        for axis in axes
        for value in growth.AXES[axis]
    ]
    width, height = Image.open(BytesIO(growth.plot(rows))).size
    assert width == 330 * len(list(axes))
    assert height == 640


def test_points_take_turns() -> None:
    asked: list[int] = []
    found = growth.in_rounds([8, 16], lambda value: asked.append(value) or len(asked), rounds=2)
    assert asked == [8, 16, 8, 16]
    assert found == {8: [1, 3], 16: [2, 4]}


def test_what_many_images_cost_is_told_by_stages() -> None:
    told = many.measure(1_000)
    assert list(told["s"]) == list(told["bytes"])
    assert {"listing", "opening", "first batch", "balanced order"} <= told["s"].keys()
    assert all(taken > 0 for taken in told["s"].values())
    assert 0 < told["batch_s"] < 1


def test_exchanges_of_an_iteration_are_counted() -> None:
    """Gradients of either player once per step, and a norm's moments of each forward and backward pass."""
    recipe = Case("biggan-cifar10", (*widths(8), "schedule.batch=8", "compute.compile=false")).load()
    labels = recipe.data.published_spec()
    assert labels is not None
    generator, discriminator = (4 * count for count in count_parameters(recipe, labels))
    steps, norms, row = recipe.schedule.d_steps, 7, 2 * 32 * 4
    for processes in (2, 4):
        found = exchanges_of(recipe, labels, processes)
        assert summed(found, "gradients") == (steps + 1, steps * discriminator + generator)
        assert summed(found, "rows") == ((steps + 1) * norms, (steps + 1) * norms * processes * row)
        assert summed(found, "sums") == (norms, norms * processes * row)
    alone = load("biggan-cifar10", [*widths(8), "schedule.batch=8", "compute.sync_batch_norm=false"])
    assert summed(exchanges_of(alone, labels, 2), "rows", "sums") == (0, 0)


def test_exchanges_go_around_a_ring() -> None:
    link = Link("a wire", 1e9, 1e-3)
    assert link.seconds(Counter({Exchange("gradients", 8_000_000): 1}), 4) == pytest.approx(0.012 + 6 * 1e-3)
    assert link.seconds(Counter({Exchange("rows", 8_000_000): 3}), 4) == pytest.approx(3 * (0.006 + 3 * 1e-3))


@pytest.mark.slow
@pytest.mark.parametrize("kind", ["plain", "fast"])
def test_memory_is_that_of_training(kind: str) -> None:
    """A few hundred images more in a batch need what their activations take, in either way."""
    found = []
    for count in (64, 1024):
        training = Apart(partial(prepared, Case("digits-acgan", (f"schedule.batch={count}",)), kind))
        training.ask(2)
        found.append(training.ask("MiB"))
        training.stop()
    assert found[0] + 50 < found[1]


@pytest.mark.slow
def test_two_processes_exchange_what_is_counted() -> None:
    told = growth.launched(2)
    assert 0 < told["s"] < 60
    assert told["mib"] > 0
    recipe = growth.case("processes", 2).load()
    number, size = summed(exchanges_of(recipe, some_split(recipe, 1).labels.spec, 2), "gradients", "rows", "sums")
    assert (told["exchanges"], told["exchanged_mb"]) == (number, pytest.approx(size / 1e6, rel=1e-12))


@pytest.mark.slow
@pytest.mark.parametrize("table", [scale.table, scale.exchange_table])
def test_the_tables_of_what_recipes_need_are_those_of_the_program(table: Callable[[], str]) -> None:
    text = (Path(scale.__file__).parents[1] / "docs" / "scale.md").read_text()
    assert table() in text
