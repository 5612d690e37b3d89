"""Losses for small data: each against a few lines of numpy, and in training."""

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

from condgan.build import build_state, empty_networks
from condgan.data.open import read
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.losses import OBJECTIVES, Penalties, weighted_sum
from condgan.losses.consistency import moved
from condgan.losses.lecam import Anchors, lecam
from condgan.losses.penalties import approximate_r1, approximate_r2, r1, r2, spectral_groups
from condgan.networks.embeddings import LabelEmbedding
from condgan.networks.transition import Transitional
from condgan.recipes.load import load
from condgan.runs.checkpoint import load_checkpoint, save_checkpoint
from condgan.sampling.model import Model
from condgan.schedules import Ramp
from condgan.training import loop
from condgan.training.ema import EMA
from condgan.training.mixed_precision import MixedPrecision
from condgan.training.player_loss import FakeLabels
from condgan.training.state import State
from condgan.training_steps import build_steps, fake_labels_of
from condgan.types import Batch, DiscriminatorOutput, Step
from condgan.utils.errors import UserError
from tests import openings
from tests.contract import contract
from tests.helpers import ABC, Tiny

SMALL = [
    "generator.width=4", "backbone.width=4", "schedule.batch=8", "schedule.images=800", "generator.norm=group",
    "generator.init=normal", "backbone.init=normal", "compute.compile=false", "compute.precision=float32",
]  # fmt: skip
RAMP = "{start: 0, end: 1, images: 16, begin: 8}"


class Said(nn.Module):
    """A discriminator of patches that says what the pixels are, and writes down what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: list[Tensor] = []

    def forward(self, images: Tensor, labels: Labels) -> DiscriminatorOutput:
        self.shown.append(images)
        score = images[:, 0]
        return DiscriminatorOutput(score, named={"unconditional": score - labels.index()[:, None, None]})


def labels_of(count: int, spec: LabelSpec = ABC) -> Labels:
    return Labels.from_index(spec, torch.arange(count) % spec.width)


def a_step(discriminator: nn.Module | None = None, **more: Any) -> tuple[Step, np.ndarray, np.ndarray]:
    """A step of five real and five fake images, and these."""
    real, fake = torch.randn(2, 5, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    step = Step(
        generator=nn.Identity(), discriminator=discriminator or Said(), real=real, real_labels=labels_of(5), fake=fake,
        fake_labels=labels_of(5), **more,
    )  # fmt: skip
    return step, real[:, 0].numpy(), fake[:, 0].numpy()


@given(
    ends=st.tuples(st.floats(-10, 10), st.floats(-10, 10)),
    length=st.integers(1, 10**9),
    begin=st.integers(0, 10**9),
    share=st.integers(0, 64),
)
def test_a_ramp_is_level_before_it_begins_and_straight_from_there(
    ends: tuple[float, float], length: int, begin: int, share: int
) -> None:
    ramp = Ramp(*ends, length, begin)
    assert ramp.at(0) == ramp.at(begin) == ends[0]
    assert ramp.at(begin + length) == ramp.at(begin + 2 * length) == pytest.approx(ends[1], abs=1e-9)
    between = begin + length * share // 64
    assert ramp.at(between) == pytest.approx(np.interp(between, [begin, begin + length], ends), abs=1e-9)
    assert (-ramp).at(between) == pytest.approx(-ramp.at(between), abs=1e-9)


def test_pairs_are_of_one_label_where_the_recipe_says_so() -> None:
    recipe = load("digits-projection", [*SMALL, "objective.adversarial=relativistic", "schedule.fake_labels=batch"])
    batch = Batch(torch.zeros(40, 1, 16, 16), labels_of(40))
    made = fake_labels_of(recipe, LabelTable.from_index(ABC, torch.tensor([0, 1, 1, 2])))
    assert isinstance(made, FakeLabels)
    parts = loop._draw(Tiny(ABC), made, batch, 2)
    for (_, labels, _), part in zip(parts, batch.chunk(2), strict=True):
        assert torch.equal(labels.values, part.labels.values)


class Bowl(nn.Module):
    """score = a |x|²/2 of each image, whose gradient is a·x."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, images: Tensor, labels: Labels) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.a * images.flatten(1).square().sum(1) / 2)


def test_r2_is_r1_of_the_fakes() -> None:
    bowl = Bowl()
    step, _, fake = a_step(bowl, augment=lambda images: 2 * images)
    value = r2(step)
    assert value.detach().numpy() == pytest.approx(9 * (2 * fake).reshape(5, -1).__pow__(2).sum(1) / 2)
    value.sum().backward()
    assert bowl.a.grad == pytest.approx(3 * (4 * fake**2).sum())


class Scored(nn.Module):
    """A network's scores."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor, labels: Labels) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.network(images).squeeze(1))


@pytest.mark.parametrize(
    "network",
    [
        nn.Sequential(nn.Flatten(), nn.Linear(16, 1)),
        nn.Sequential(nn.Flatten(), nn.Linear(16, 8), nn.Softplus(), nn.Linear(8, 1)),
        nn.Conv2d(1, 1, 3),
    ],
    ids=["linear", "smooth", "patches"],
)
def test_approximate_penalties_are_the_exact_ones_in_the_mean(network: nn.Module) -> None:
    torch.manual_seed(0)
    for parameter in network.parameters():
        nn.init.normal_(parameter)
    many, labels = 20_000, labels_of(20_000)
    real, fake = torch.randn(2, 1, 1, 4, 4, dtype=torch.float64).expand(2, many, 1, 4, 4).unbind()
    step = Step(
        generator=nn.Identity(), discriminator=Scored(network.double()), real=real, real_labels=labels, fake=fake,
        fake_labels=labels,
    )  # fmt: skip
    one = Step(
        generator=nn.Identity(), discriminator=Scored(network), real=real[:1], real_labels=labels[:1], fake=fake[:1],
        fake_labels=labels[:1],
    )  # fmt: skip
    for approximate, exact in ((approximate_r1, r1), (approximate_r2, r2)):
        assert approximate(step).mean().item() == pytest.approx(exact(one).item(), rel=0.05)
    approximate_r1(one).sum().backward()
    assert any(parameter.grad is not None and parameter.grad.any() for parameter in network.parameters())


def test_the_approximate_penalty_sees_one_augmentation_in_both_passes() -> None:
    said = Said()
    step, real, _ = a_step(said, augment=lambda images: images + torch.rand(5, 1, 1, 1))
    shown = step.shown_real
    approximate_r1(step)
    before, after = said.shown
    assert torch.equal(before, shown)
    assert 0 < (after - before).abs().max() < 0.1
    assert not np.allclose(before[:, 0], real)


def test_the_approximate_penalty_is_not_rounded_to_bfloat16() -> None:
    torch.manual_seed(0)
    network = Scored(nn.Sequential(nn.Flatten(), nn.Linear(64, 8), nn.Softplus(), nn.Linear(8, 1)))
    values = []
    for precision in (torch.float32, torch.bfloat16):
        torch.manual_seed(1)
        images, labels = torch.randn(5, 1, 8, 8), labels_of(5)
        step = Step(
            generator=nn.Identity(), discriminator=MixedPrecision(network, precision), real=images, real_labels=labels,
            fake=images, fake_labels=labels,
        )  # fmt: skip
        values.append(approximate_r1(step))
    assert torch.allclose(*values, rtol=1e-4)


def test_lecam_is_its_paper_in_numpy() -> None:
    anchors = Anchors()
    expected = np.zeros(2)
    for number in range(1, 121):
        seen = np.array([np.sin(number), np.cos(number)])
        expected += (seen - expected) * max(0.01, 1 / number)
        anchors.update(torch.tensor(seen), 8)
    assert anchors.scores.numpy() == pytest.approx(expected, rel=1e-4)
    step, real, fake = a_step(modules={"lecam": anchors})
    assert anchors.observe(step).numpy() == pytest.approx([real.mean(), fake.mean()])
    wanted = np.maximum(0, real - expected[1]) ** 2 + np.maximum(0, expected[0] - fake) ** 2
    assert lecam(step).numpy() == pytest.approx(wanted, rel=1e-4, abs=1e-5)


@pytest.mark.parametrize("flip", [False, True])
def test_images_are_moved_by_an_eighth_at_most(flip: bool) -> None:
    torch.manual_seed(0)
    images = torch.rand(60, 2, 16, 24)
    found = set()
    for image, result in zip(images.numpy(), moved(images, flip).numpy(), strict=True):
        for mirrored in (False, True):
            padded = np.pad(image[..., ::-1] if mirrored else image, ((0, 0), (2, 2), (3, 3)), mode="reflect")
            for down, right in itertools.product(range(5), range(7)):
                if np.array_equal(padded[:, down : down + 16, right : right + 24], result):
                    found.add((down, right, mirrored))
    assert {down for down, _, _ in found} == set(range(5))
    assert {right for _, right, _ in found} == set(range(7))
    assert {mirrored for _, _, mirrored in found} == {False, True} if flip else {False}


def test_consistency_compares_with_what_follows_the_augmentation() -> None:
    said = Said()
    step, real, fake = a_step(said, augment=lambda images: 3 * images)
    terms = Penalties(consistency=10.0, consistency_fake=5.0).discriminator()
    total, means = weighted_sum(terms, step, 0)
    shown = [one for one in said.shown if not any(np.array_equal(one[:, 0], 3 * kind) for kind in (real, fake))]
    expected = {
        f"consistency/{name}": np.square(3 * kind - after[:, 0].numpy()).mean()
        for name, kind, after in zip(("real", "fake"), (real, fake), shown, strict=True)
    }
    assert {name: float(value) for name, value in means.items()} == pytest.approx(expected)
    assert float(total) == pytest.approx(10 * expected["consistency/real"] + 5 * expected["consistency/fake"])
    for kind, after in zip((real, fake), shown, strict=True):
        assert np.isin(after.numpy().round(9), (3 * kind).round(9)).all()


def test_centering_is_the_square_of_the_mean_score() -> None:
    step, real, fake = a_step()
    _, means = weighted_sum(Penalties(centering=0.01).discriminator(), step, 0)
    assert float(means["centering"]) == pytest.approx(np.concatenate([real, fake]).mean() ** 2)


def test_spectral_groups_are_squared_singular_values() -> None:
    tables = [LabelEmbedding(ABC, channels, std=0.02).double() for channels in (12, 7, 64)]
    expected = 0.0
    for table, shape in zip(tables, ((3, 4), (1, 7), (8, 8)), strict=True):
        matrices = table.weight.detach().numpy().reshape(3, *shape)
        expected += np.mean([np.linalg.svd(matrix, compute_uv=False)[0] ** 2 for matrix in matrices])
    other = nn.Linear(2, 2)
    value = spectral_groups(nn.ModuleList([*tables, other]))
    assert value.item() == pytest.approx(expected, rel=0.02)
    value.backward()
    assert other.weight.grad is None
    u, sizes, v = np.linalg.svd(tables[0].weight.detach().numpy()[1].reshape(3, 4))
    gradient = 2 * sizes[0] * np.outer(u[:, 0], v[0]) / 3
    found = tables[0].weight.grad
    assert found is not None
    assert found[1].numpy().reshape(3, 4) == pytest.approx(gradient, abs=0.1 * np.abs(gradient).max())
    assert spectral_groups(nn.ModuleList([LabelEmbedding(ABC, 4, std=0.0)])).item() == 0


def test_a_transition_adds_the_game_with_labels_to_the_one_without() -> None:
    """L = L_unconditional + λ L_conditional."""
    step, real, fake = a_step()
    objective = OBJECTIVES["gan"](transition=Ramp(0.0, 1.0, 100, 50))
    number = (np.arange(5) % 3)[:, None, None]
    without = (np.maximum(0, 1 - real + number) + np.maximum(0, 1 + fake - number)).mean()
    conditional = (np.maximum(0, 1 - real) + np.maximum(0, 1 + fake)).mean()
    for images, share in ((0, 0.0), (100, 0.5), (1_000, 1.0)):
        assert float(weighted_sum(objective.discriminator, step, images)[0]) == pytest.approx(
            without + share * conditional
        )
        assert float(weighted_sum(objective.generator, step, images)[0]) == pytest.approx(
            (number - fake).mean() - share * fake.mean()
        )


@pytest.mark.parametrize("name", ["acgan", "tacgan", "adcgan"])
def test_label_terms_come_in_by_the_transition(name: str) -> None:
    plain, ramp = OBJECTIVES[name](weight=0.5), Ramp(0.0, 1.0, 100, 50)
    objective = OBJECTIVES[name](weight=0.5, transition=ramp)
    assert objective.transition == ramp
    for player in ("discriminator", "generator"):
        for term, one in getattr(objective, player).items():
            weight = getattr(plain, player)[term].weight
            scaled = Ramp(0.0, weight, 100, 50)
            assert one.weight == (1.0 if term == "adv" else scaled), term


def test_a_generator_is_told_its_labels_by_and_by() -> None:
    network = Tiny(ABC).eval()
    generator = Transitional(network, Ramp(0.0, 1.0, 100, 50))
    latent, labels = torch.randn(3, 4), labels_of(3)
    nothing = Labels(ABC, torch.zeros(3, 3), labels.known)
    half = Labels(ABC, labels.values / 2, labels.known)
    average = EMA[Transitional](generator, decay=0.9)
    for images, same in ((0, nothing), (50, nothing), (100, half), (150, labels), (10**7, labels)):
        generator.images.fill_(images)
        assert torch.equal(generator(latent, labels), network(latent, same)), images
        average.update(generator, images, 1)
        assert average.module.images == images


def after(recipe: Any, iterations: int) -> State:
    data = read("digits", 16, 1)
    state = build_state(recipe, data.spec)
    for _ in itertools.islice(build_steps(recipe, state, data.train), iterations):
        pass
    return state


def test_a_checkpoint_of_a_transition_is_sampled_with_the_labels_that_it_was_trained_with(tmp_path: Path) -> None:
    recipe = load("digits-projection", [*SMALL, f"objective.transition={RAMP}"])
    state = after(recipe, 3)
    spec = read("digits", 16, 1).spec
    model = load_checkpoint(save_checkpoint(tmp_path, state, recipe, spec, {}))
    assert isinstance(model, Model)
    assert isinstance(model.generator, Transitional)
    assert model.generator.images == 16, "half of the ramp; the third iteration began there"
    latent, labels = torch.randn(4, 32), labels_of(4, spec)
    with torch.no_grad():
        told = Labels(spec, labels.values / 2, labels.known)
        assert isinstance(state.ema.module, Transitional)
        assert torch.equal(model.generator(latent, labels), state.ema.module.network(latent, told))


@pytest.mark.parametrize(
    ("recipe", "overrides", "said"),
    [
        (
            "digits-projection",
            ["objective.penalties.centering=1", "schedule.accumulate=2"],
            "which compares the images",
        ),
        (
            "digits-projection",
            [f"objective.transition={RAMP}", "head.name=plain"],
            "expected projection; set head.name",
        ),
        ("digits-projection", ["objective.transition={start: 0, end: 2, images: 9}"], "expected a ramp within 0 … 1"),
        (
            "digits-projection",
            ["objective.transition={start: 0, end: 1, images: 9, begin: -1}"],
            "greater than or equal",
        ),
        (
            "digits-acgan",
            [f"objective.transition={RAMP}", f"objective.weight={RAMP}"],
            "objective.transition given with a ramp as objective.weight",
        ),
        (
            "digits-acgan",
            [f"objective.transition={RAMP}", "generator.conditioning=multiply"],
            "objective.transition given with generator.conditioning 'multiply'",
        ),
        (
            "digits-biggan",
            ["objective.penalties.spectral_groups=1"],
            "spectral_groups given with generator 'resnet' and conditioning 'shared', whose norms have no tables",
        ),
        ("digits-stargan", ["objective.penalties.spectral_groups=1"], "given with generator 'stargan', whose norms"),
        (
            "digits-stargan",
            ["schedule.fake_labels=uniform"],
            "schedule.fake_labels uniform given: a translator's targets",
        ),
    ],
)
def test_what_does_not_fit_is_refused_in_one_line(recipe: str, overrides: list[str], said: str) -> None:
    with pytest.raises(UserError) as refused:
        load(recipe, overrides)
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_a_batch_norm_is_refused_beside_penalties_of_the_gradient() -> None:
    for name in ("r2", "approximate_r1", "approximate_r2"):
        recipe = load("digits-acgan", [f"objective.penalties.{name}=1"])
        with pytest.raises(UserError, match="whose batch norm mixes the images"):
            empty_networks(recipe, ABC)


def test_all_that_draws_keeps_the_contract_beside_an_augmentation(tmp_path: Path) -> None:
    penalties = "{lecam: {start: 0, end: 0.3, images: 1, begin: 8}, consistency: 10, consistency_fake: 10, "
    penalties += "consistency_flip: true, approximate_r1: 0.1, approximate_r2: 0.1, centering: 0.01}"
    more = ["augment.name=brightness", "objective.adversarial=relativistic", "schedule.fake_labels=batch"]
    with openings.added():
        contract(load("digits-projection", [*SMALL, *more, f"objective.penalties={penalties}"]), tmp_path)


def test_all_that_draws_nothing_keeps_the_contract(tmp_path: Path) -> None:
    """In parts of a batch, too."""
    more = [f"objective.transition={RAMP}", "objective.penalties={lecam: 0.3, r2: 1, spectral_groups: 0.5}"]
    contract(load("digits-projection", [*SMALL, *more, "objective.adversarial=relativistic"]), tmp_path)
