"""What a new method may bring: states, ramps, averages, outputs, losses of pairs, optimizers, augmentations."""

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from condgan.build import build_state
from condgan.data.open import read
from condgan.labels import Field, Labels, LabelSpec
from condgan.losses import OBJECTIVES, Objective, Term, weighted_sum
from condgan.networks import HEADS
from condgan.recipes.load import dump, load
from condgan.recipes.schema import Recipe
from condgan.runs.checkpoint import load_checkpoint, save_checkpoint
from condgan.sampling.model import Model
from condgan.sampling.translator import Translator
from condgan.schedules import Ramp, Weight, value_at
from condgan.training.state import State
from condgan.training_steps import build_steps
from condgan.types import DiscriminatorOutput, Step
from condgan.utils.errors import UserError
from tests import adc, openings
from tests.contract import contract, gradients

SMALL = [
    "generator.width=4", "backbone.width=4", "generator.norm=group", "generator.init=normal", "backbone.init=normal",
    "schedule.batch=8", "schedule.images=800", "compute.compile=false", "compute.precision=float32",
]  # fmt: skip
JOINT = LabelSpec((Field("class", ("a", "b", "c")), Field("attributes", ("smiles", "young"), exclusive=False)))


@pytest.fixture(autouse=True)
def _added(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    for table, part in adc.PARTS:
        monkeypatch.setitem(table, "mine", part)
    with openings.added():
        yield


def after(recipe: Recipe, iterations: int) -> tuple[list[dict[str, float]], State]:
    data = read("digits", 16, 1)
    state = build_state(recipe, data.spec)
    steps = build_steps(recipe, state, data.train)
    return [{k: float(v) for k, v in one.items()} for one in itertools.islice(steps, iterations)], state


def test_a_method_with_all_of_them_keeps_the_contract(tmp_path: Path) -> None:
    more = ["augment.name=brightness", "averages.slow.half_life=1000", "d_opt={name: rmsprop, lr: 1e-3}"]
    more += ["g_opt.lr={start: 1e-3, end: 3e-3, images: 64}", "objective.weight={start: 0.1, end: 0.2, images: 64}"]
    recipe = load("digits-projection", [*SMALL, "objective.name=opened", *more])
    contract(recipe, tmp_path)
    saved = {path.stem for path in next((tmp_path / "checkpoints").iterdir()).glob("*.safetensors")}
    assert saved == {"generator", "discriminator", "ema", "slow", "means", "augment"}


def test_a_tracker_follows_the_means_of_each_discriminator_step() -> None:
    overrides = ["objective.name=opened", "objective.weight=0", "schedule.d_steps=2", "generator.norm=batch"]
    seen = []

    class Watched(openings.Means):
        def update(self, observed: torch.Tensor, images: int) -> None:
            assert images == 8
            seen.append(observed.tolist())
            super().update(observed, images)

    recipe = load("digits-projection", [*SMALL, *overrides])
    data = read("digits", 16, 1)
    state = build_state(recipe, data.spec)
    state.modules["means"] = Watched()
    steps = build_steps(recipe, state, data.train)
    shown = [[losses["means/real"], losses["means/fake"]] for losses in (next(steps), next(steps))]
    expected = np.zeros(2)
    means = []
    for one in seen:
        expected += 0.25 * (np.array(one) - expected)
        means.append(expected.tolist())
    assert len(seen) == 4
    assert np.array(shown) == pytest.approx(np.array(means[1::2]), rel=1e-5), "each iteration shows its own last ones"
    assert state.modules["means"].scores.tolist() == pytest.approx(expected.tolist(), rel=1e-5)


def test_real_and_fake_images_and_penalties_see_what_the_augmentation_makes_of_them() -> None:
    class Sums(torch.nn.Module):
        def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
            return DiscriminatorOutput(images.square().flatten(1).sum(1))

    labels = Labels.from_index(LabelSpec.of_classes(["a", "b"]), torch.tensor([0, 1]))
    real, fake = torch.ones(2, 1, 2, 2), torch.full((2, 1, 2, 2), 2.0, requires_grad=True)
    step = Step(
        generator=torch.nn.Identity(), discriminator=Sums(), real=real, real_labels=labels, fake=fake,
        fake_labels=labels, augment=lambda images: 3 * images,
    )  # fmt: skip
    assert step.on_real.score.tolist() == [36, 36]
    assert step.on_fake.score.tolist() == [144, 144]
    from condgan.losses.penalties import r1

    assert r1(step).tolist() == [72, 72], "½ |2 · 3|² · 4"
    step.on_fake.score.sum().backward()
    assert fake.grad is not None
    assert (fake.grad == 36).all(), "the generator learns through it"


@pytest.mark.parametrize(("images", "value"), [(0, 10.0), (250, 7.5), (1_000, 0.0), (5_000, 0.0)])
def test_a_ramp_is_straight_and_then_level(images: int, value: float) -> None:
    assert value_at(Ramp(10.0, 0.0, 1_000), images) == value
    assert value_at(-Ramp(10.0, 0.0, 1_000), images) == -value
    wave = Ramp(10.0, 0.0, 1_000, cosine=True)
    assert value_at(wave, images) == pytest.approx(5 + 5 * np.cos(np.pi * min(images, 1_000) / 1_000))
    assert value_at(wave.times(0.5), images) == pytest.approx(value_at(wave, images) / 2)
    assert value_at(3.5, images) == 3.5


def test_ramps_stand_where_numbers_do(tmp_path: Path) -> None:
    ramp = "{start: 0.5, end: 0.0, images: 32}"
    changes = [f"objective.penalties.r1={ramp}", "d_opt.lr={start: 1e-3, end: 3e-3, images: 16}"]
    changes += [
        "d_opt.betas=[0, {start: 0.9, end: 0.99, images: 16}]",
        "schedule.images=32",
        "schedule.decay=16",
        "ema.decay=null",
    ]
    changes += ["ema.half_life={start: 8, end: 80, images: 16}"]
    recipe = load("digits-projection", [*SMALL, *changes])
    (tmp_path / "again.yaml").write_text(dump(recipe))
    assert load(tmp_path / "again.yaml") == recipe
    assert recipe.penalties.r1 == Ramp(0.5, 0.0, 32)
    data = read("digits", 16, 1)
    state = build_state(recipe, data.spec)
    steps = build_steps(recipe, state, data.train)
    seen = []
    for _ in range(3):
        next(steps)
        (group,) = state.d_optimizer.param_groups
        seen.append((group["lr"], group["betas"][1]))
    next(steps)
    (group,) = state.d_optimizer.param_groups
    seen.append((group["lr"], group["betas"][1]))
    falling = [[1e-3, 0.9], [2e-3, 0.945], [3e-3, 0.99], [1.5e-3, 0.99]]
    assert np.array(seen) == pytest.approx(np.array(falling)), "the ramp, times the decay over the last 16 of 32 images"


def test_a_weight_is_read_where_its_ramp_is() -> None:
    terms = {"score": Term(lambda step: step.fake.flatten(), weight=Ramp(4.0, 0.0, 100))}
    labels = Labels.from_index(LabelSpec.of_classes(["a", "b"]), torch.tensor([0]))
    one = torch.ones(1, 1, 1, 1)
    step = Step(
        generator=torch.nn.Identity(), discriminator=torch.nn.Identity(), real=one, real_labels=labels, fake=one,
        fake_labels=labels,
    )  # fmt: skip
    assert [float(weighted_sum(terms, step, images)[0]) for images in (0, 25, 100, 300)] == [4, 3, 0, 0]


def test_a_lazy_term_is_counted_in_images() -> None:
    """Once in 100 images whatever the batch, it weighs the same in the sum over a run."""
    labels = Labels.from_index(LabelSpec.of_classes(["a", "b"]), torch.tensor([0]))
    one = torch.ones(1, 1, 1, 1)
    step = Step(
        generator=torch.nn.Identity(), discriminator=torch.nn.Identity(), real=one, real_labels=labels, fake=one,
        fake_labels=labels,
    )  # fmt: skip
    terms = {"adv": Term(lambda step: 0 * step.fake), "lazy": Term(lambda step: step.fake, every=100)}
    for batch in (10, 50, 100, 200):
        taken = [float(weighted_sum(terms, step, i, iteration_images=batch)[0]) for i in range(0, 1_000, batch)]
        assert sum(taken) == pytest.approx(1_000 / batch), batch
        assert sum(value > 0 for value in taken) == min(10, 1_000 // batch)


def test_young_averages_of_different_half_lives_differ_and_forget_the_first_weights() -> None:
    from condgan.training.ema import EMA

    network = torch.nn.Linear(1, 1, bias=False)
    torch.nn.init.zeros_(network.weight)
    averages = [EMA(network, half_life=half_life) for half_life in (1_000.0, 100_000.0)]
    torch.nn.init.ones_(network.weight)
    for number in range(1_000):
        if number == 950:
            torch.nn.init.constant_(network.weight, 2.0)
        for average in averages:
            average.update(network, 64 * (number + 1), number, 64)
    short, long = (average.module.weight.item() for average in averages)
    assert 1.85 < short < 2
    assert 1.4 < long < 1.7, "a half-life of at most a twentieth of the images: nothing of the weights before training"


def test_half_of_an_average_is_new_after_its_half_life_whatever_the_batch() -> None:
    from condgan.training.ema import EMA

    for batch in (10, 100):
        network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.zeros_(network.weight)
        average = EMA(network, half_life=1_000.0, start=1)
        torch.nn.init.ones_(network.weight)
        for number in range(1_000 // batch):
            average.update(network, (number + 1) * batch, number + 100, batch)
        assert average.module.weight.item() == pytest.approx(0.5, abs=1e-5)


def test_a_second_average_is_saved_and_sampled_from(tmp_path: Path) -> None:
    recipe = load("digits-projection", [*SMALL, "averages.slow={half_life: 100_000, start: 1}"])
    _, state = after(recipe, 3)
    path = save_checkpoint(tmp_path, state, recipe, read("digits", 16, 1).spec, {})
    found = {name: load_checkpoint(path, name) for name in ("ema", "slow")}
    for name, model in found.items():
        assert isinstance(model, Model)
        kept = state.averages[name].module.state_dict()
        assert all(torch.equal(value, kept[key]) for key, value in model.generator.state_dict().items())
    weights = [next(iter(one.module.parameters())) for one in state.averages.values()]
    assert not torch.equal(*weights)
    with pytest.raises(UserError, match="unknown average 'fast'"):
        load_checkpoint(path, "fast")


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (["averages.ema.decay=0.9"], "averages ema given: expected names of letters"),
        (["averages.slow={}"], "none of decay, half_life and width of an average given"),
        (["ema.half_life=10"], "decay and half_life of decay, half_life and width of an average given"),
        (["g_opt={betas: [0, 0.9]}"], "option g_opt.lr is missing: the recipe must set it"),
        (["g_opt.name=adamm"], "unknown g_opt 'adamm': did you mean 'adam'?"),
        (
            ["g_opt.lr={start: 0, end: 1, images: 10}"],
            "option g_opt.lr: {'start': 0, 'end': 1, 'images': 10} given, expected a ramp within 0",
        ),
        (["objective.penalties.r1={start: -1, end: 1, images: 10}"], "option objective.penalties.r1: "),
        (["averages.augment.decay=0.9"], "averages augment given: expected names of letters"),
        (
            ["objective.name=opened", "averages.means.decay=0.9"],
            "but not augment, discriminator, ema, generator, means",
        ),
        (["g_opt.lr={start: 1, ende: 1, images: 10}"], "unknown option 'g_opt.lr.ende': did you mean 'g_opt.lr.end'?"),
        (
            ["averages.slow.halflife=10"],
            "unknown option 'averages.slow.halflife': did you mean 'averages.slow.half_life'",
        ),
        (["ema={half_life: 0}"], "option ema.half_life: 0 given, expected greater than 0"),
        (["d_opt.betas=[0, {start: 0.5, end: 1.5, images: 10}]"], "expected a ramp within 0 … 1"),
        (["augment.name=brightnes"], "unknown augment 'brightnes': did you mean 'brightness'?"),
        (
            ["objective.name=opened", "schedule.accumulate=2"],
            "compares the images of a batch with each other: expected 1",
        ),
    ],
)
def test_what_they_refuse_is_one_line(overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        load("digits-projection", [*SMALL, *overrides])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def mine() -> Recipe:
    return load(Path(adc.__file__).with_suffix(".yaml"), ["compute.compile=false", "compute.precision=float32"])


def test_adc_gan_is_one_file_and_a_recipe(tmp_path: Path) -> None:
    contract(
        load("digits-projection", [*SMALL, "objective={name: mine, penalties: {r1: 1}}", "head.name=mine"]), tmp_path
    )
    code = [line for line in Path(adc.__file__).read_text().splitlines() if line.strip()]
    assert len(code) <= 40
    assert yaml.safe_load(Path(adc.__file__).with_suffix(".yaml").read_text())["objective"]["name"] == "mine"
    losses, _ = after(mine(), 3)
    assert all(np.isfinite([*one.values()]).all() for one in losses)
    assert losses[0].keys() == {"D/adv", "D/class/real", "D/class/fake", "G/adv", "G/as-real", "G/as-fake"}


@pytest.mark.parametrize("fake", [0, 1])
def test_the_shipped_adc_loss_is_that_file_and_the_paper_in_numpy(fake: int) -> None:
    """Classes, attributes and unknown fields."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(4, 4, 5))
    values = np.array([[1, 0, 0, 0, 0], [0, 1, 0, 1, 0], [0, 0, 1, 1, 1], [0, 0, 0, 0, 0]], float)
    known = np.array([[1, 0], [1, 1], [0, 1], [0, 0]], bool)
    expected = np.zeros(4)
    for b in range(4):
        if known[b, 0]:
            chances = np.exp(scores[b, :2, :3])
            expected[b] -= np.log(chances[fake, values[b, :3].argmax()] / chances.sum())
        for k in (3, 4):
            if known[b, 1]:
                chances = np.exp(scores[b, :, k])
                expected[b] -= np.log(chances[fake if values[b, k] else 2 + fake] / chances.sum())
    labels = Labels(JOINT, torch.tensor(values), torch.tensor(known))
    from condgan.losses.labels import adc as shipped

    assert shipped(torch.tensor(scores), labels, fake=bool(fake)).numpy() == pytest.approx(expected)
    assert adc.loss(torch.tensor(scores), labels, fake=fake).numpy() == pytest.approx(expected)


def test_the_adc_heads_logits_are_of_the_labels_alone() -> None:
    head = HEADS["adc"]((6,), JOINT, init="normal")
    output = head(torch.randn(5, 6, generator=torch.Generator().manual_seed(0)), Labels.nothing(JOINT, 5))
    chances = output.named["adc"].double().exp().detach()
    classes = chances[:, :2, :3].sum(1) / chances[:, :2, :3].sum((1, 2))[:, None]
    assert torch.allclose(output.logits[:, :3].double().softmax(1), classes)
    attributes = chances[:, :2, 3:].sum(1) / chances[:, :, 3:].sum(1)
    assert torch.allclose(output.logits[:, 3:].double().sigmoid(), attributes)


@pytest.mark.parametrize("spec", [LabelSpec.of_classes(["a", "b", "c"]), LabelSpec(JOINT.fields[1:]), JOINT])
@pytest.mark.parametrize("name", ["mine", "adcgan"])
def test_adc_gan_learns_classes_and_attributes(name: str, spec: LabelSpec) -> None:
    recipe = load(
        "digits-projection", [*SMALL, f"objective.name={name}", f"head.name={'adc' if name != 'mine' else name}"]
    )
    found = gradients(recipe, spec)
    assert all(one is not None and one.isfinite().all() for of in found.values() for one in of.values())
    classifier = next(value for key, value in found["discriminator"].items() if "classifier" in key and value.ndim == 2)
    assert classifier.any()


def test_the_generators_label_terms_are_the_odds() -> None:
    """L_G = CE(real y) − CE(fake y) = −log (p(real, y) / p(fake, y))."""
    objective, spec = OBJECTIVES["adcgan"](), LabelSpec.of_classes(["a", "b"])
    scores = torch.randn(3, 2, 2, generator=torch.Generator().manual_seed(1))

    class Said(torch.nn.Module):
        def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
            return DiscriminatorOutput(torch.zeros(3), named={"adc": scores})

    labels, images = Labels.from_index(spec, torch.tensor([0, 1, 1])), torch.zeros(3, 1, 1, 1)
    step = Step(
        generator=torch.nn.Identity(), discriminator=Said(), real=images, real_labels=labels, fake=images,
        fake_labels=labels,
    )  # fmt: skip
    total, _ = weighted_sum(objective.generator, step, 0)
    odds = [scores[i, 0, y] - scores[i, 1, y] for i, y in enumerate((0, 1, 1))]
    assert float(total) == pytest.approx(float(-torch.stack(odds).mean()), abs=1e-6)


def test_a_tracker_sees_parts_of_a_batch_as_it_sees_the_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    def tracked(*, weight: Weight = 0.001) -> Objective:
        whole = openings.opened(weight=weight)
        return replace(whole, generator={"adv": whole.generator["adv"]})

    monkeypatch.setitem(OBJECTIVES, "tracked", tracked)
    overrides = [*SMALL, "objective={name: tracked}"]
    scores = []
    for parts in (1, 4):
        _, state = after(load("digits-projection", [*overrides, f"schedule.accumulate={parts}"]), 2)
        scores.append(state.modules["means"].scores)
    assert torch.allclose(*scores, rtol=1e-4)


def test_an_adc_discriminator_of_a_translator_is_loaded(tmp_path: Path) -> None:
    small = ["generator.width=4", "generator.blocks=1", "backbone.width=4", "compute.compile=false"]
    recipe = load("digits-stargan", [*small, "head={name: adc}", "compute.precision=float32"])
    data = read("tinted-digits", 16, 3)
    path = save_checkpoint(tmp_path, build_state(recipe, data.spec), recipe, data.spec, {})
    model = load_checkpoint(path)
    assert isinstance(model, Translator)
    assert len(model.read(data.held_out.images[:3])) == 3


def test_an_objective_that_no_head_serves_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(OBJECTIVES, "lost", lambda *, weight=1.0: Objective({}, {}, reads=("nothing",)))
    with pytest.raises(UserError, match="objective 'lost' given, which reads nothing: no head gives that"):
        load("digits-projection", [*SMALL, "objective={name: lost}"])
