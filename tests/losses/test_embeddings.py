"""Losses of embeddings, of directions, and of classes with fakes as one more, against their papers in numpy."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from torch import nn

from condgan.labels import Field, Labels, LabelSpec
from condgan.losses import OBJECTIVES, weighted_sum
from condgan.losses.contrastive import conditional_contrastive, data_to_data
from condgan.losses.labels import classes_and_fake
from condgan.networks import HEADS
from condgan.types import DiscriminatorOutput, Step

SPEC = LabelSpec.of_classes(["a", "b", "c"])
RNG = np.random.default_rng(0)
INDEX = np.array([0, 1, 0, 2, 1, 0, 2])
COUNT = len(INDEX)


class Saying(nn.Module):
    """A discriminator that is a function."""

    def __init__(self, say: Callable[[torch.Tensor, Labels], DiscriminatorOutput]) -> None:
        super().__init__()
        self.say = say

    def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        return self.say(images, labels)


def on_sphere(count: int, seed: int) -> np.ndarray:
    points = np.random.default_rng(seed).normal(size=(count, 5))
    return points / np.linalg.norm(points, axis=1, keepdims=True)


EMBEDDING, PROXIES = on_sphere(COUNT, 0), on_sphere(3, 1)
LABELS = Labels.from_index(SPEC, torch.tensor(INDEX))


def unknown(labels: Labels, *which: int) -> Labels:
    """The same with nothing known of some images."""
    values, known = labels.values.clone(), labels.known.clone()
    values[list(which)], known[list(which)] = 0, False
    return Labels(labels.spec, values, known)


def given(proxies: np.ndarray = PROXIES[INDEX]) -> tuple[torch.Tensor, torch.Tensor]:
    return torch.tensor(EMBEDDING), torch.tensor(proxies)


def paper_2c(which: list[int], temperature: float) -> list[float]:
    """Kang & Park 2020, eq. 8, of some images alone."""
    losses = []
    for i in which:
        proxy = np.exp(EMBEDDING[i] @ PROXIES[INDEX[i]] / temperature)
        others = {k: np.exp(EMBEDDING[i] @ EMBEDDING[k] / temperature) for k in which if k != i}
        alike = sum(value for k, value in others.items() if INDEX[k] == INDEX[i])
        losses.append(-np.log((proxy + alike) / (proxy + sum(others.values()))))
    return losses


def paper_d2d(which: list[int], temperature: float, margin: float, as_published: bool) -> list[float]:
    """Kang et al. 2021, eq. 6, of some images alone; in the code, rows of negatives less their largest one."""
    losses = []
    for i in which:
        positive = min(0.0, EMBEDDING[i] @ PROXIES[INDEX[i]] - margin) / temperature
        nearness = {k: (EMBEDDING[i] @ EMBEDDING[k] - (1 - margin)) / temperature for k in which if k != i}
        less = max(nearness.values()) if as_published else 0.0
        negative = sum(np.exp(max(0.0, n) - less) for k, n in nearness.items() if INDEX[k] != INDEX[i])
        losses.append(-np.log(np.exp(positive) / (np.exp(positive) + negative)))
    return losses


@pytest.mark.parametrize("temperature", [1.0, 0.1])
def test_2c_is_the_paper_in_numpy(temperature: float) -> None:
    found = conditional_contrastive(*given(), LABELS, temperature=temperature)
    assert found.numpy() == pytest.approx(paper_2c([*range(COUNT)], temperature), rel=1e-6)


@pytest.mark.parametrize("as_published", [False, True])
@pytest.mark.parametrize(("temperature", "margin"), [(0.5, 0.98), (0.75, 1.0), (0.3, 0.4)])
def test_d2d_is_the_paper_and_its_code_in_numpy(temperature: float, margin: float, as_published: bool) -> None:
    found = data_to_data(*given(), LABELS, temperature=temperature, margin=margin, as_published=as_published)
    assert found.numpy() == pytest.approx(paper_d2d([*range(COUNT)], temperature, margin, as_published), rel=1e-6)


def test_images_of_unknown_labels_count_nothing_and_are_compared_with_none() -> None:
    some = unknown(LABELS, 1, 5)
    known = [i for i in range(COUNT) if i not in (1, 5)]
    found = conditional_contrastive(*given(), some, temperature=0.5).numpy()
    assert found[known] == pytest.approx(paper_2c(known, 0.5), rel=1e-6)
    assert not found[[1, 5]].any()
    found = data_to_data(*given(), some, temperature=0.5, margin=0.98, as_published=False).numpy()
    assert found[known] == pytest.approx(paper_d2d(known, 0.5, 0.98, False), rel=1e-6)
    assert not found[[1, 5]].any()


@pytest.mark.parametrize("loss", ["2c", "d2d"])
def test_labels_are_the_same_where_all_that_is_known_of_them_is(loss: str) -> None:
    """Attributes are compared as sets, and of several data sets only images of one."""
    attributes = LabelSpec((Field("hair", ("black", "brown"), exclusive=False), Field("class", ("x", "y"))))
    rows = [(1, 0, 0, 0), (1, 0, 0, 0), (1, 1, 0, 0), (0, 0, 1, 0), (0, 0, 1, 0), (0, 0, 0, 0), (0, 0, 0, 1)]
    of_second = [0, 0, 0, 1, 1, 0, 1]
    known = torch.tensor([[not second, bool(second)] for second in of_second])
    labels = Labels(attributes, torch.tensor(rows, dtype=torch.float64), known)
    classes = Labels.from_index(LabelSpec.of_classes("abcde"), torch.tensor([0, 0, 1, 2, 2, 3, 4]))

    def found(labels: Labels) -> np.ndarray:
        if loss == "2c":
            return conditional_contrastive(*given(), labels, temperature=0.5).numpy()
        return data_to_data(*given(), labels, temperature=0.5, margin=0.9, as_published=False).numpy()

    assert found(labels) == pytest.approx(found(classes), rel=1e-9)


@pytest.mark.parametrize("objective", ["contragan", "reacgan"])
def test_gradients_are_finite_where_an_image_has_none_to_be_compared_with(objective: str) -> None:
    head = HEADS["contrastive"]((4,), SPEC, embedded=6)
    features = torch.randn(2, 4, requires_grad=True)
    labels = unknown(Labels.from_index(SPEC, torch.tensor([0, 1])), 0)
    _, loss = OBJECTIVES[objective]().generator.values()
    images = features[:, :, None, None]
    step = Step(
        generator=nn.Identity(), discriminator=Saying(head), real=images, real_labels=labels, fake=images,
        fake_labels=labels,
    )  # fmt: skip
    loss.loss(step).sum().backward()
    assert features.grad is not None
    assert features.grad.isfinite().all()


def test_the_head_gives_points_of_length_1() -> None:
    head = HEADS["contrastive"]((4,), SPEC, embedded=6)
    named = head(torch.randn(COUNT, 4), LABELS).named
    assert {name: one.shape for name, one in named.items()} == {"embedding": (COUNT, 6), "proxy": (COUNT, 6)}
    for one in named.values():
        assert one.norm(dim=1).detach().numpy() == pytest.approx(1, abs=1e-5)
    assert torch.equal(named["proxy"][0], named["proxy"][2]), "images of one class have one proxy"


def test_the_direction_alone_raises_real_over_fake_and_the_function_alone_plays() -> None:
    """Takida et al. 2024, eq. 12–14: numbers of s ⟨h + b, ω⟩, and which gradients each part has."""
    head = HEADS["slicing"]((4,), SPEC, init="normal", spectral_norm=None).double()
    with torch.no_grad():
        head.bias.copy_(torch.tensor([0.1, -0.2, 0.3, 0.4]))
        head.scale.fill_(1.7)
    features = torch.tensor(RNG.normal(size=(COUNT, 4)), requires_grad=True)
    labels = Labels(SPEC, LABELS.values.double(), LABELS.known)
    w, v = head.score.weight.detach().numpy()[0], head.embedding.weight.detach().numpy()
    omega = (w + v[INDEX]) / np.linalg.norm(w + v[INDEX], axis=1, keepdims=True)
    expected = 1.7 * ((features.detach().numpy() + head.bias.detach().numpy()) * omega).sum(1)
    said = head(features, labels)
    for score in (said.score, *said.named.values()):
        assert score.detach().numpy() == pytest.approx(expected, rel=1e-9)
    of_direction, of_function = [head.score.weight, head.embedding.weight], [head.bias, head.scale, features]
    for name, learns, rests in (("function", of_function, of_direction), ("direction", of_direction, of_function)):
        every = torch.autograd.grad(said.named[name].sum(), [*learns, *rests], retain_graph=True, allow_unused=True)
        assert all(one is not None and one.any() for one in every[: len(learns)])
        assert all(one is None for one in every[len(learns) :])


def a_step(**outputs: tuple[torch.Tensor, torch.Tensor]) -> Step:
    """A step of which the discriminator says this, of real images and of fakes."""

    def said(images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        half = int(images[0, 0, 0, 0])
        named = {name: both[half] for name, both in outputs.items() if name != "features"}
        features = outputs["features"][half] if "features" in outputs else None
        return DiscriminatorOutput(torch.zeros(COUNT), features, named)

    images = torch.zeros(COUNT, 1, 1, 1)
    return Step(
        generator=nn.Identity(), discriminator=Saying(said), real=images, real_labels=LABELS, fake=images + 1,
        fake_labels=LABELS,
    )  # fmt: skip


def means(objective: str, player: str, step: Step) -> dict[str, float]:
    terms = getattr(OBJECTIVES[objective](), player)
    return {name: float(value) for name, value in weighted_sum(terms, step, 0)[1].items()}


def test_san_is_the_paper_in_numpy() -> None:
    real, fake = RNG.normal(size=(2, COUNT))
    both = torch.tensor(real), torch.tensor(fake)
    told = means("san", "discriminator", a_step(function=both, direction=both))
    game = np.maximum(0, 1 - real) + np.maximum(0, 1 + fake)
    assert told == pytest.approx({"adv": game.mean(), "direction": (fake - real).mean()})


def paper_hinge(outputs: np.ndarray, targets: np.ndarray) -> list[float]:
    """max(0, 1 − o_y + max over j ≠ y of o_j)."""
    return [
        max(0.0, 1 - row[y] + max(one for j, one in enumerate(row) if j != y))
        for row, y in zip(outputs, targets, strict=True)
    ]


def test_mhgan_is_the_paper_in_numpy() -> None:
    real, fake = RNG.normal(size=(2, COUNT, 4))
    features = RNG.normal(size=(2, COUNT, 5))
    step = a_step(
        classes=(torch.tensor(real), torch.tensor(fake)),
        features=(torch.tensor(features[0]), torch.tensor(features[1])),
    )
    last = np.full(COUNT, 3)
    assert means("mhgan", "discriminator", step) == pytest.approx(
        {"class/real": np.mean(paper_hinge(real, INDEX)), "class/as-fake": np.mean(paper_hinge(fake, last))}
    )
    apart = np.abs(features[0].mean(0) - features[1].mean(0)).mean()
    expected = {"class/as-real": np.mean(paper_hinge(fake, INDEX)), "matching": apart}
    assert means("mhgan", "generator", step) == pytest.approx(expected)
    terms = OBJECTIVES["mhgan"]().generator
    assert float(weighted_sum(terms, step, 0)[0]) == pytest.approx(0.05 * expected["class/as-real"] + apart)


def test_an_image_of_an_unknown_class_is_to_be_of_any() -> None:
    outputs = RNG.normal(size=(COUNT, 4))
    found = classes_and_fake(torch.tensor(outputs), unknown(LABELS, 2), fake=False).numpy()
    expected = paper_hinge(outputs, INDEX)
    expected[2] = max(0.0, 1 + outputs[2, 3] - outputs[2, :3].max())
    assert found == pytest.approx(expected)


def test_the_score_of_classes_and_fakes_is_of_the_class_over_fake() -> None:
    head = HEADS["classes-and-fake"]((4,), SPEC, spectral_norm=None)
    said = head(torch.randn(COUNT, 4), LABELS)
    outputs = said.named["classes"].detach().numpy()
    assert said.score.detach().numpy() == pytest.approx(outputs[np.arange(COUNT), INDEX] - outputs[:, 3], abs=1e-6)
