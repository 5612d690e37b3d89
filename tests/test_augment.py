"""Augmentations: each operation against numpy, the law of what is drawn, and runs with them."""

import math
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from condgan.augment import AUGMENTATIONS, ada, diffaugment
from condgan.augment.ada import ADA
from condgan.augment.diffaugment import DiffAugment
from condgan.augment.draws import Draws
from condgan.augment.warp import compose, rotation, scaling, translation, warp
from condgan.build import build_state
from condgan.data.open import read
from condgan.estimate import estimate_memory, iteration_flops
from condgan.labels import Labels, LabelSpec
from condgan.recipes.load import load
from condgan.training_steps import build_steps
from condgan.types import DiscriminatorOutput, Step
from condgan.utils import distributed
from condgan.utils.errors import UserError
from tests.contract import contract

SMALL = [
    "generator.width=4", "backbone.width=4", "generator.norm=group", "generator.init=normal", "backbone.init=normal",
    "schedule.batch=8", "schedule.images=800", "compute.compile=false", "compute.precision=float32",
]  # fmt: skip
SHARP = {
    "diffaugment": ["augment={name: diffaugment}"],
    "ada": ["augment={name: ada, images: 32, interval: 1, target: -0.9, flip: true}"],
}
"""ADA so that p is 1 after a few of the small steps."""
ONE = torch.ones(())


class Told(Draws):
    """Draws what the test says, in its order, in place of random numbers."""

    said: ClassVar[list[float | int | bool]] = []

    def _next(self, *_: object) -> Tensor:
        return torch.full((self.count,), Told.said.pop(0))

    uniform = normal = integers = happens = _next  # pyright: ignore[reportAssignmentType]


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[float | int | bool]:
    for module in (ada, diffaugment):
        monkeypatch.setattr(module, "Draws", Told)
    Told.said = []
    return Told.said


def at(p: float, **options: bool) -> ADA:
    pipe = ADA(**options)
    pipe.p.fill_(p)
    return pipe


def pictures(*shape: int) -> Tensor:
    return torch.rand(shape) * 2 - 1


# DiffAugment


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_colors_of_diffaugment_are_the_papers(channels: int, told: list[float]) -> None:
    images = pictures(2, channels, 5, 6)
    told += [0.3, 1.7, 0.6]
    x = images.numpy()[:, :3] + 0.3
    x = (x - x.mean(1, keepdims=True)) * 1.7 + x.mean(1, keepdims=True) if channels > 1 else x
    mean = x.mean((1, 2, 3), keepdims=True)
    expected = np.concatenate([(x - mean) * 0.6 + mean, images.numpy()[:, 3:]], 1)
    np.testing.assert_allclose(DiffAugment(policy=("color",))(images).numpy(), expected, atol=1e-6)
    assert not told


@pytest.mark.parametrize(("down", "right"), [(0, 0), (1, -2), (-1, 2)])
def test_translations_of_diffaugment_move_and_fill_with_zeros(down: int, right: int, told: list[int]) -> None:
    images = pictures(2, 3, 8, 16)
    told += [down, right]
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (1, 1), (2, 2)))
    expected = padded[:, :, 1 - down : 9 - down, 2 - right : 18 - right]
    np.testing.assert_array_equal(DiffAugment(policy=("translation",))(images).numpy(), expected)


@pytest.mark.parametrize(("row", "column"), [(0, 0), (4, 7), (8, 10)])
def test_cutouts_of_diffaugment_are_half_as_high_and_wide(row: int, column: int, told: list[int]) -> None:
    images = pictures(2, 3, 8, 10)
    told += [row, column]
    expected = images.numpy().copy()
    expected[:, :, max(0, row - 2) : row + 2, max(0, column - 2) : column + 3] = 0
    np.testing.assert_array_equal(DiffAugment(policy=("cutout",))(images).numpy(), expected)


def test_what_diffaugment_draws_has_the_papers_range() -> None:
    count = 4_000
    ramp = torch.arange(1.0, 17).expand(count, 1, 16, 16)
    moved = DiffAugment(policy=("translation",))(ramp)[:, 0, 8, 8] - 9
    assert {*moved.int().tolist()} == {-2, -1, 0, 1, 2}
    assert moved.mean().abs() < 0.1
    holes = DiffAugment(policy=("cutout",))(torch.ones(count, 1, 16, 16)) == 0
    sizes = holes.sum((1, 2, 3))
    assert sizes.max() == 64
    assert sizes.min() == 16, "a quarter of the hole is left where its center is a corner"
    bright = DiffAugment(policy=("color",))(torch.zeros(count, 1, 4, 4))[:, 0, 0, 0]
    assert -0.5 <= bright.min() < -0.49
    assert 0.49 < bright.max() <= 0.5


# ADA: what it does


V = np.array([1, 1, 1, 0]) / math.sqrt(3)


def papers_color(brightness: float, contrast: float, flip: bool, hue: float, saturation: float) -> np.ndarray:
    """The product of the 4 × 4 matrices of Karras et al. 2020, appendix B, the last ones first."""
    moved = np.eye(4)
    moved[:3, 3] = brightness
    scaled = np.diag([contrast, contrast, contrast, 1])
    flipped = np.eye(4) - 2 * flip * np.outer(V, V)
    x, y, z = V[:3]
    k = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    turned = np.eye(4)
    turned[:3, :3] = np.eye(3) + math.sin(hue) * k + (1 - math.cos(hue)) * k @ k  # Rodrigues
    luma, one = np.outer(V, V), np.eye(4)
    saturated = luma + (one - luma) * saturation
    saturated[3] = one[3]
    return saturated @ turned @ flipped @ scaled @ moved


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("drawn", [
    (0.3, 0.0, False, 0.0, 0.0), (0.0, 0.7, False, 0.0, 0.0), (0.0, 0.0, True, 0.0, 0.0),
    (0.0, 0.0, False, 1.1, 0.0), (0.0, 0.0, False, 0.0, -1.2), (-0.2, -0.5, True, -2.5, 0.9),
])  # fmt: skip
def test_colors_of_ada_are_the_papers_matrices(
    drawn: tuple[float, float, bool, float, float], channels: int, told: list[float | bool]
) -> None:
    brightness, contrast, flip, hue, saturation = drawn
    told += [True] * (4 if channels > 1 else 2) + [brightness, contrast, flip]
    told += [hue, saturation] if channels > 1 else []
    images = pictures(2, channels, 5, 6)
    colors = np.repeat(images.numpy(), 3, 1) if channels == 1 else images.numpy()[:, :3]
    matrix = papers_color(brightness, 2**contrast, flip, hue, 2**saturation)
    expected = np.einsum("ij,bjhw->bihw", matrix[:3, :3], colors) + matrix[:3, 3, None, None]
    found = ada.recolor(images, ONE)
    np.testing.assert_allclose(found[:, :3].numpy(), expected[:, : min(channels, 3)], atol=2e-6)
    assert torch.equal(found[:, 3:], images[:, 3:]), "alpha is no color"
    assert not told


def papers_points(points: np.ndarray, size: tuple[int, int], drawn: dict[str, float]) -> np.ndarray:
    """Where points (x, y from the center) of a result come from: the paper's transforms undone, the last ones first."""
    height, width = size

    def turned(points: np.ndarray, angle: float) -> np.ndarray:
        x, y = points
        return np.array([math.cos(angle) * x - math.sin(angle) * y, math.sin(angle) * x + math.cos(angle) * y])

    x, y = points
    points = np.array([x + drawn["right"], y + drawn["down"]])
    points = turned(points, drawn["second"])
    points = np.array([points[0] * 2 ** drawn["stretch"], points[1] / 2 ** drawn["stretch"]])
    points = 2 ** drawn["size"] * turned(points, drawn["first"])
    points += np.array([[np.round(width * drawn["column"])], [np.round(height * drawn["row"])]])
    points = turned(points, drawn["quarter"] * math.pi / 2)
    return points * np.array([[-1 if drawn["flip"] else 1], [1]])


def test_the_matrix_of_ada_is_the_papers_transforms_in_their_order(told: list[float | int | bool]) -> None:
    drawn = {"flip": True, "quarter": 3, "column": 0.1, "row": -0.08, "size": 0.3, "first": 0.7, "stretch": -0.2}
    drawn |= {"second": -1.9, "right": 1.3, "down": 0.4}
    told += [True, True, True, 3, 0.1, -0.08, True, 0.3, True, 0.7, True, -0.2, True, -1.9, True, 1.3, 0.4]
    points = np.random.default_rng(0).normal(size=(2, 7)) * 10
    matrix = ADA(flip=True).matrix(pictures(2, 1, 20, 30)).numpy()
    found = matrix[0] @ np.concatenate([points, np.ones((1, 7))])
    np.testing.assert_allclose(found[:2], papers_points(points, (20, 30), drawn), atol=1e-4)
    assert not told


# ADA: how images are resampled


def numbers(value: float) -> Tensor:
    return torch.full((2,), float(value))


@pytest.mark.parametrize("size", [(12, 12), (9, 16)])
def test_mirrors_turns_and_whole_shifts_are_copies(size: tuple[int, int]) -> None:
    images = pictures(2, 3, *size)
    mirrored = warp(images, scaling(numbers(-1), numbers(1)))
    np.testing.assert_allclose(mirrored.numpy(), images.numpy()[..., ::-1], atol=1e-5)
    shifted = warp(images, translation(numbers(3), numbers(-5)))
    padded = np.pad(images.numpy(), ((0, 0), (0, 0), (5, 0), (0, 3)), mode="reflect")
    np.testing.assert_allclose(shifted.numpy(), padded[:, :, : size[0], 3:], atol=1e-5)
    if size[0] == size[1]:
        turned = warp(images, rotation(numbers(math.pi / 2)))
        np.testing.assert_allclose(turned.numpy(), np.rot90(images.numpy(), 1, (2, 3)), atol=1e-5)


def test_smooth_images_are_warped_as_by_their_formula() -> None:
    """An image of waves, at the points where a matrix looks."""
    height, width = 24, 32
    y, x = torch.meshgrid(torch.arange(height) - 11.5, torch.arange(width) - 15.5, indexing="ij")

    def waves(x: Tensor, y: Tensor) -> Tensor:
        return torch.sin(0.4 * x + 0.3 * y) + torch.cos(0.5 * y)

    turn = compose(
        scaling(numbers(0.8), numbers(1.1)), compose(rotation(numbers(0.5)), translation(numbers(1.5), numbers(0.3)))
    )
    source = torch.einsum("ij,jhw->ihw", turn[0], torch.stack([x, y, torch.ones_like(x)]))
    found = warp(waves(x, y).expand(2, 1, -1, -1), turn)[0, 0]
    inside = (source[0].abs() < width / 2 - 3) & (source[1].abs() < height / 2 - 3)
    assert inside.sum() > 200
    error = (found - waves(source[0], source[1]))[inside]
    assert error.abs().max() < 0.05
    assert error.square().mean().sqrt() < 0.02


def test_shrinking_leaves_no_aliases() -> None:
    """Stripes finer than the smaller image can show turn gray, where linear sampling alone would show others."""
    stripes = torch.cos(0.85 * math.pi * torch.arange(64.0)).expand(2, 1, 64, 64)
    small = warp(stripes, scaling(numbers(1.5), numbers(1)))
    assert stripes.std() > 0.7
    assert small[..., 8:-8].std() < 0.25


@given(
    channels=st.sampled_from([1, 3, 4]), height=st.integers(4, 33), width=st.integers(4, 33),
    name=st.sampled_from(["ada", "diffaugment"]), count=st.integers(1, 5),
)  # fmt: skip
def test_any_shape_keeps_its_shape_and_has_finite_gradients(
    channels: int, height: int, width: int, name: str, count: int
) -> None:
    pipe = at(1.0, flip=True) if name == "ada" else DiffAugment()
    images = pictures(count, channels, height, width).requires_grad_()
    changed = pipe(images)
    assert changed.shape == images.shape
    assert changed.dtype == images.dtype
    assert changed.isfinite().all()
    changed.square().sum().backward()
    assert images.grad is not None
    assert images.grad.isfinite().all()
    assert images.grad.any()


# ADA: when it does it


def test_at_p_0_ada_is_the_identity_to_the_bit() -> None:
    for channels in (1, 3, 4):
        images = pictures(16, channels, 8, 12)
        assert torch.equal(at(0.0, flip=True)(images), images)


def test_each_change_of_ada_happens_with_probability_p() -> None:
    images = torch.rand(2_000, 3, 4, 4)
    for p in (0.2, 0.7):
        matrix = at(p, flip=True, blit=False, geometry=False).matrix(images)
        assert (matrix[:, 0, 0] < 0).float().mean() == pytest.approx(p / 2, abs=0.04)
        matrix = at(p, blit=False).matrix(images)
        still = (matrix == torch.eye(3)).all(2).all(1)
        assert still.float().mean() == pytest.approx((1 - p) ** 4, abs=0.04), "of scales, rotations, stretches, shifts"
        same = (ada.recolor(images, torch.tensor(p)) == images).flatten(1).all(1)
        assert same.float().mean() == pytest.approx((1 - p) ** 4 * (1 - p / 2), abs=0.04)


def test_what_ada_draws_has_the_papers_spread() -> None:
    images = torch.rand(4_000, 1, 16, 32)
    matrix = at(1.0, blit=False).matrix(images)
    linear = matrix[:, :2, :2]
    size = torch.linalg.det(linear).log2() / 2
    assert size.mean() == pytest.approx(0, abs=0.02)
    assert size.std() == pytest.approx(0.2, abs=0.02)
    ratio = torch.linalg.svdvals(linear).log2().diff().flatten() / 2
    assert ratio.square().mean().sqrt() == pytest.approx(0.2, abs=0.02)
    shift = torch.linalg.solve(linear, matrix[:, :2, 2:])[..., 0]
    assert shift.std(0).tolist() == pytest.approx([32 / 8, 16 / 8], rel=0.06)
    whole = at(1.0, geometry=False).matrix(images)
    shift = torch.linalg.solve(whole[:, :2, :2], whole[:, :2, 2:])[..., 0]
    assert shift.abs().amax(0).round().tolist() == [4, 2]
    assert torch.allclose(shift, shift.round(), atol=1e-4)


def test_p_follows_the_papers_rule() -> None:
    pipe = ADA(images=4_000, interval=3)
    p, signs, seen, trajectory = 0.0, [], 0, []
    for number, sign in enumerate(np.random.default_rng(0).uniform(0.2, 1, 120)):
        sign = -0.5 if number > 70 else float(sign)
        images = 100 + number % 7
        pipe.update(torch.tensor(sign), images)
        signs.append(sign)
        seen += images
        if len(signs) == 3:
            p = min(1.0, max(0.0, p + np.sign(np.mean(signs) - 0.6) * seen / 4_000))
            signs, seen = [], 0
        trajectory.append(p)
        assert pipe.watched()["p"].item() == pytest.approx(p, abs=1e-5), number
    assert max(trajectory) > 0.1
    assert trajectory[-1] == 0


def test_p_stops_at_1() -> None:
    pipe = ADA(images=100, interval=1)
    for _ in range(4):
        pipe.update(ONE, 40)
    assert pipe.p.item() == 1


def test_ada_observes_the_signs_of_real_scores() -> None:
    class Scores(torch.nn.Module):
        def forward(self, images: Tensor, labels: Labels) -> DiscriminatorOutput:
            return DiscriminatorOutput(images[:, 0, 0])

    labels = Labels.from_index(LabelSpec.of_classes(["a", "b"]), torch.tensor([0, 1]))
    real, fake = torch.tensor([[[[3.0, -0.1]]], [[[0.2, 5.0]]]]), -torch.ones(2, 1, 1, 2)
    step = Step(
        generator=torch.nn.Identity(), discriminator=Scores(), real=real, real_labels=labels, fake=fake,
        fake_labels=labels,
    )  # fmt: skip
    assert ADA().observe(step).item() == 0.5


# Both, in runs


@pytest.mark.parametrize("name", ["ada", "diffaugment"])
def test_real_and_fake_images_are_changed_by_the_same_law(name: str) -> None:
    """Equal images go in as real ones and as fakes; what comes out has the same moments, but other draws."""
    pipe = at(0.6, flip=True) if name == "ada" else DiffAugment()
    same = (pictures(1, 3, 6, 6) / 2 + 0.3).expand(1_500, 3, 6, 6)
    labels = Labels.from_index(LabelSpec.of_classes(["a", "b"]), torch.zeros(1_500, dtype=torch.int64))
    step = Step(
        generator=torch.nn.Identity(), discriminator=torch.nn.Identity(), real=same, real_labels=labels, fake=same,
        fake_labels=labels, augment=pipe,
    )  # fmt: skip
    real, fake = step.shown_real, step.shown_fake
    assert not torch.equal(real, fake)
    error = (real.var(0) / 1_500 + fake.var(0) / 1_500).sqrt()
    assert ((real.mean(0) - fake.mean(0)) / error).abs().max() < 5
    assert real.std(0).mean() == pytest.approx(fake.std(0).mean().item(), rel=0.05)


@pytest.mark.parametrize("name", ["ada", "diffaugment"])
def test_processes_change_their_rows_as_one_changes_all(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = at(0.5, flip=True) if name == "ada" else DiffAugment()
    images = pictures(6, 3, 8, 8)
    torch.manual_seed(3)
    whole = pipe(images)
    monkeypatch.setattr(distributed, "size", lambda: 2)
    for rank in range(2):
        monkeypatch.setattr(distributed, "rank", lambda rank=rank: rank)
        torch.manual_seed(3)
        own = slice(3 * rank, 3 * rank + 3)
        torch.testing.assert_close(pipe(images[own]), whole[own])


@pytest.mark.parametrize("name", SHARP)
def test_recipes_with_augmentations_keep_the_contract(name: str, tmp_path: Path) -> None:
    recipe = load("digits-projection", [*SMALL, *SHARP[name], "objective.penalties={r1: 1, gradient_penalty: 1}"])
    contract(recipe, tmp_path)
    assert (tmp_path / "checkpoints").is_dir()


def test_ada_works_by_p_in_a_run_and_shows_it() -> None:
    recipe = load("digits-projection", [*SMALL, *SHARP["ada"], "schedule.accumulate=2", "schedule.d_steps=2"])
    data = read("digits", 16, 1)
    state = build_state(recipe, data.spec)
    steps = build_steps(recipe, state, data.train)
    shown = [float(next(steps)["augment/p"]) for _ in range(3)]
    assert shown == [0.5, 1.0, 1.0]


def test_estimates_rehearse_augmentations() -> None:
    warped, simple = (load("digits-projection", [*SMALL, *SHARP[name]]) for name in ("ada", "diffaugment"))
    spec = read("digits", 16, 1).spec
    assert estimate_memory(warped, spec).activations > estimate_memory(simple, spec).activations
    assert iteration_flops(warped, spec) > iteration_flops(simple, spec), (
        "of the products that bring images to twice the size"
    )


@pytest.mark.parametrize("name", SHARP)
def test_translators_train_with_augmentations(name: str) -> None:
    small = ["generator.width=4", "generator.blocks=1", "backbone.width=4", "schedule.batch=8", "schedule.decay=0"]
    small.append("objective.adversarial=hinge")
    recipe = load("digits-stargan", [*small, *SHARP[name], "compute.compile=false", "compute.precision=bfloat16"])
    data = read("tinted-digits", recipe.data.size, recipe.data.channels)
    state = build_state(recipe, data.spec)
    steps = build_steps(recipe, state, data.train)
    for _ in range(2):
        assert all(loss.isfinite() for loss in next(steps).values())


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ("{name: diffaugment, policy: [colour]}", "option augment.policy"),
        ("{name: diffaugment, policy: []}", "option augment.policy"),
        ("{name: ada, target: 1}", "option augment.target: 1 given, expected less than 1"),
        ("{name: ada, intervall: 1}", "did you mean 'interval'?"),
        ("{name: ad}", "unknown augment 'ad': did you mean 'ada'?"),
    ],
)
def test_wrong_options_are_refused_in_one_line(given: str, said: str) -> None:
    with pytest.raises(UserError) as refused:
        load("digits-projection", [f"augment={given}"])
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("game", ["least-squares", "relativistic"])
def test_a_sign_that_means_nothing_is_not_followed(game: str) -> None:
    given = ["augment.name=ada", f"objective.adversarial={game}"]
    with pytest.raises(UserError, match=f"augment.name ada given with objective.adversarial {game}, whose scores"):
        load("digits-projection", given)
    load("digits-projection", [given[0], "objective.adversarial=non-saturating"])


def test_every_augmentation_is_held_to_the_contract() -> None:
    assert {*SHARP, "none"} == AUGMENTATIONS.keys()
