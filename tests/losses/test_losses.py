from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from condgan.labels import Field, Labels, LabelSpec
from condgan.losses import ADVERSARIAL, OBJECTIVES, Objective, Penalties, Term, weighted_sum
from condgan.losses.labels import multi_hinge
from condgan.losses.penalties import gradient_penalty, orthogonal, r1
from condgan.networks import BACKBONES, HEADS, Discriminator
from condgan.networks.spectral_norm import Spectral, spectral_normalize
from condgan.schedules import Ramp
from condgan.types import DiscriminatorOutput, ImageShape, LabelWeights, Step

SPEC = LabelSpec.of_classes([str(i) for i in range(10)])


class ReadOff(nn.Module):
    """A discriminator that reads score, logits and the twin's off the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        self.calls.append(len(images))
        flat = images.flatten(1)
        return DiscriminatorOutput(flat[:, 0], None, {"logits": flat[:, 1:11], "twin": flat[:, 11:]})


def a_step(joint: bool = False, scale: float = 1.0) -> tuple[Step, dict[str, np.ndarray]]:
    """A step whose discriminator reads its scores and logits off the pixels."""
    rng = np.random.default_rng(0)
    pixels = {kind: rng.normal(size=(6, 21)) * scale for kind in ("real", "fake")}
    index = {kind: rng.integers(0, 10, 6) for kind in ("real", "fake")}

    images = {kind: torch.tensor(values).reshape(6, 1, 1, 21) for kind, values in pixels.items()}
    labels = {kind: Labels.from_index(SPEC, torch.tensor(values)) for kind, values in index.items()}
    step = Step(
        generator=nn.Identity(),
        discriminator=ReadOff(),
        real=images["real"],
        real_labels=labels["real"],
        fake=images["fake"],
        fake_labels=labels["fake"],
        joint=joint,
    )
    numbers = {f"{kind}_score": values[:, 0] for kind, values in pixels.items()}
    numbers |= {f"{kind}_logits": values[:, 1:11] for kind, values in pixels.items()}
    numbers |= {f"{kind}_twin": values[:, 11:] for kind, values in pixels.items()} | {
        f"{k}_index": v for k, v in index.items()
    }
    return step, numbers


def cross_entropy(probabilities: np.ndarray, index: np.ndarray) -> float:
    return float(-np.log(probabilities[np.arange(len(index)), index]).mean())


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def means(objective: Objective, player: str, step: Step) -> dict[str, float]:
    return {name: float(value) for name, value in weighted_sum(getattr(objective, player), step, 0)[1].items()}


@pytest.mark.parametrize("joint", [False, True])
def test_acgan_is_the_paper_in_numpy(joint: bool) -> None:
    step, n = a_step(joint)
    objective = OBJECTIVES["acgan"]()
    real, fake = 1 / (1 + np.exp(-n["real_score"])), 1 / (1 + np.exp(-n["fake_score"]))
    expected = {
        "adv": float((-np.log(real) - np.log(1 - fake)).mean()),
        "class/real": cross_entropy(softmax(n["real_logits"]), n["real_index"]),
        "class/fake": cross_entropy(softmax(n["fake_logits"]), n["fake_index"]),
    }
    assert means(objective, "discriminator", step) == pytest.approx(expected, abs=1e-6)
    expected = {"adv": float(-np.log(fake).mean()), "class/fake": expected["class/fake"]}
    assert means(objective, "generator", step) == pytest.approx(expected, abs=1e-6)


REFERENCE = {
    "hinge": lambda r, f: (np.maximum(0, 1 - r) + np.maximum(0, 1 + f), -f),
    "least-squares": lambda r, f: ((r - 1) ** 2 / 2 + f**2 / 2, (f - 1) ** 2 / 2),
    "wasserstein": lambda r, f: (f - r, -f),
    "relativistic": lambda r, f: (np.log1p(np.exp(f - r)), np.log1p(np.exp(r - f))),
    "non-saturating": lambda r, f: (np.log1p(np.exp(-r)) + np.log1p(np.exp(f)), np.log1p(np.exp(-f))),
}


@pytest.mark.parametrize("adversarial", list(ADVERSARIAL))
def test_adversarial_losses_are_their_papers(adversarial: str) -> None:
    step, n = a_step()
    objective = OBJECTIVES["gan"](adversarial=adversarial)
    d, g = REFERENCE[adversarial](n["real_score"], n["fake_score"])
    assert means(objective, "discriminator", step) == pytest.approx({"adv": d.mean()}, abs=1e-6)
    assert means(objective, "generator", step) == pytest.approx({"adv": g.mean()}, abs=1e-6)


@pytest.mark.parametrize("adversarial", list(ADVERSARIAL))
def test_the_generator_may_learn_from_the_fakes_that_score_highest(adversarial: str) -> None:
    """Sinha et al. 2020: a share of the batch that falls."""
    step, n = a_step()
    d, g = REFERENCE[adversarial](n["real_score"], n["fake_score"])
    ranked = n["fake_score"].argsort()[::-1]
    objective = OBJECTIVES["gan"](adversarial=adversarial, top=Ramp(1.0, 0.5, 1000))
    assert objective.of_batch
    for images, kept in {0: 6, 334: 5, 1000: 3, 10_000: 3}.items():
        step.images = images
        assert means(objective, "generator", step) == pytest.approx({"adv": g[ranked[:kept]].mean()}, abs=1e-6)
        assert means(objective, "discriminator", step) == pytest.approx({"adv": d.mean()}, abs=1e-6)
    both = OBJECTIVES["gan"](top=0.5, transition=Ramp(0.0, 1.0, 100)).generator
    assert [term.of_batch for term in both.values()] == [True, True]


def numpy_multi_hinge(logits: np.ndarray, index: np.ndarray, clamp: bool) -> float:
    total = 0.0
    for row, y in zip(logits, index, strict=True):
        for s in row:
            total += max(0.0, 1 - row[y] + s) if clamp else 1 - row[y] + s
    return total / logits.size


def test_tacgan_is_the_paper_in_numpy() -> None:
    step, n = a_step()
    objective = OBJECTIVES["tacgan"](weight=0.5)
    real = cross_entropy(softmax(n["real_logits"]), n["real_index"])
    fake = cross_entropy(softmax(n["fake_logits"]), n["fake_index"])
    twin = cross_entropy(softmax(n["fake_twin"]), n["fake_index"])
    d, g = REFERENCE["hinge"](n["real_score"], n["fake_score"])
    total, values = weighted_sum(objective.discriminator, step, 0)
    assert {k: float(v) for k, v in values.items()} == pytest.approx(
        {"adv": d.mean(), "class/real": real, "twin/fake": twin}
    )
    assert float(total) == pytest.approx(d.mean() + 0.5 * (real + twin))
    total, _ = weighted_sum(objective.generator, step, 0)
    assert float(total) == pytest.approx(g.mean() + 0.5 * (fake - twin))


def test_tacgan_with_multi_hinge_is_clamped_for_the_discriminator_alone() -> None:
    step, n = a_step(scale=3.0)
    objective = OBJECTIVES["tacgan"](classification="multi-hinge")
    assert means(objective, "discriminator", step)["class/real"] == pytest.approx(
        numpy_multi_hinge(n["real_logits"], n["real_index"], clamp=True)
    )
    assert means(objective, "discriminator", step)["twin/fake"] == pytest.approx(
        numpy_multi_hinge(n["fake_twin"], n["fake_index"], clamp=True)
    )
    got = means(objective, "generator", step)
    assert got["class/fake"] == pytest.approx(numpy_multi_hinge(n["fake_logits"], n["fake_index"], clamp=False))
    assert got["twin/fake"] == pytest.approx(numpy_multi_hinge(n["fake_twin"], n["fake_index"], clamp=False))


def test_multi_hinge_knows_fields_and_what_is_unknown() -> None:
    spec = LabelSpec((Field("hair", ("black", "blond")), Field("has", ("hat", "glasses", "beard"), exclusive=False)))
    values = torch.tensor([[1.0, 0, 1, 0, 1], [0, 1, 0, 0, 1]])
    known = torch.tensor([[True, True], [True, False]])
    logits = torch.tensor([[2.0, 0.5, 0.2, 0.4, -3], [1.0, 0.0, 9, 9, 9]])
    hair = [(1 + 0) / 2, (2 + 1) / 2]
    has = (0.8 + 1.4 + 4) / 3
    assert multi_hinge(logits, Labels(spec, values, known), clamp=True).tolist() == pytest.approx(
        [hair[0] + has, hair[1]]
    )


class Twin(nn.Module):
    """A linear discriminator with three heads of their own."""

    def __init__(self) -> None:
        super().__init__()
        self.score, self.classifier, self.twin = nn.Linear(7, 1), nn.Linear(7, 10), nn.Linear(7, 10)

    def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        flat = images.flatten(1)
        return DiscriminatorOutput(
            self.score(flat).flatten(), flat, {"logits": self.classifier(flat), "twin": self.twin(flat)}
        )


def gradients(objective: Objective, player: str, real: torch.Tensor, fake: torch.Tensor) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    twin, labels = Twin(), Labels.from_index(SPEC, torch.tensor([1, 2]))
    total, _ = weighted_sum(
        getattr(objective, player),
        Step(generator=nn.Identity(), discriminator=twin, real=real, real_labels=labels, fake=fake, fake_labels=labels),
        0,
    )
    total.backward()
    return {name: p.grad for name, p in twin.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("classification", ["cross-entropy", "multi-hinge"])
def test_the_twin_learns_from_fakes_only_and_the_classifier_from_reals_only(classification: str) -> None:
    objective = OBJECTIVES["tacgan"](classification=classification)
    real, other, fake = (torch.randn(2, 1, 1, 7) for _ in range(3))
    a, b = gradients(objective, "discriminator", real, fake), gradients(objective, "discriminator", other, fake)
    assert torch.equal(a["twin.weight"], b["twin.weight"])
    assert not torch.equal(a["classifier.weight"], b["classifier.weight"])
    c = gradients(objective, "discriminator", real, other)
    assert torch.equal(a["classifier.weight"], c["classifier.weight"])
    assert not torch.equal(a["twin.weight"], c["twin.weight"])


def test_the_generators_twin_term_has_the_opposite_sign_of_its_class_term() -> None:
    """Where both classifiers agree, the two label terms cancel and leave the adversarial gradient alone."""
    terms = OBJECTIVES["tacgan"](weight=0.7).generator
    assert terms["class/fake"].weight == -terms["twin/fake"].weight == 0.7
    torch.manual_seed(0)
    twin, labels = Twin(), Labels.from_index(SPEC, torch.tensor([1, 2]))
    twin.twin.load_state_dict(twin.classifier.state_dict())
    gradient = {}
    for method in ("tacgan", "gan"):
        fake = torch.randn(2, 1, 1, 7, generator=torch.Generator().manual_seed(1)).requires_grad_()
        step = Step(
            generator=nn.Identity(),
            discriminator=twin,
            real=fake.detach(),
            real_labels=labels,
            fake=fake,
            fake_labels=labels,
        )
        weighted_sum(OBJECTIVES[method](adversarial="hinge").generator, step, 0)[0].backward()
        gradient[method] = fake.grad
    assert torch.allclose(gradient["tacgan"], gradient["gan"], atol=1e-6)


class Bowl(nn.Module):
    """score = a |x|²/2 of each image, whose gradient is a·x."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Parameter(torch.tensor(3.0, dtype=torch.float64))

    def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.a * images.flatten(1).square().sum(1) / 2)


def test_gradient_penalties_are_their_formulas_and_reach_the_weights() -> None:
    bowl, labels = Bowl(), Labels.from_index(SPEC, torch.arange(4))
    real, fake = torch.randn(2, 4, 1, 2, 3, dtype=torch.float64)
    step = Step(
        generator=nn.Identity(), discriminator=bowl, real=real, real_labels=labels, fake=fake, fake_labels=labels
    )
    value = r1(step)
    assert torch.allclose(value, 9 * real.flatten(1).square().sum(1) / 2)
    value.sum().backward()
    assert bowl.a.grad == pytest.approx(3 * real.square().sum().item())
    torch.manual_seed(5)
    penalty = gradient_penalty(step)
    torch.manual_seed(5)
    mix = torch.rand(4, 1, 1, 1, dtype=torch.float64)
    between = fake + mix * (real - fake)
    assert torch.allclose(penalty, (3 * between.flatten(1).norm(dim=1) - 1).square())


def test_the_gradient_penalty_is_a_term_of_the_one_step_and_passes_attention() -> None:
    """A penalty of its own under Adam would be as strong as all else whatever its weight (SAGAN's public code)."""
    backbone = BACKBONES["resnet"](ImageShape(1, 16, 16), width=2, attention=(8,))
    discriminator = Discriminator(backbone, HEADS["projection"](backbone.features, SPEC))
    objective = OBJECTIVES["gan"](adversarial="wasserstein", penalties=Penalties(gradient_penalty=10.0, r1=1.0))
    labels = Labels.from_index(SPEC, torch.arange(3))
    step = Step(generator=nn.Identity(), discriminator=discriminator, **_twice(torch.randn(3, 1, 16, 16), labels))
    total, values = weighted_sum(objective.discriminator, step, 0)
    assert float(total.detach()) == pytest.approx(
        float((values["adv"] + 10 * values["gradient-penalty"] + values["r1"]).detach()), rel=1e-5
    )
    total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in discriminator.parameters())


def _twice(images: torch.Tensor, labels: Labels) -> dict[str, Any]:
    return {"real": images, "real_labels": labels, "fake": -images, "fake_labels": labels}


def test_orthogonal_penalty_has_its_true_gradient_and_spares_the_labels() -> None:
    """∂ |W Wᵀ ⊙ (1 − I)|² / ∂W = 4 (W Wᵀ ⊙ (1 − I)) W, twice what the public BigGAN code adds."""

    class Table(LabelWeights):
        def __init__(self) -> None:
            super().__init__()
            self.weight = nn.Parameter(torch.randn(10, 4))

    network = nn.ModuleDict({"linear": nn.Linear(5, 4), "conv": nn.Conv2d(3, 6, 3), "labels": Table()}).double()
    orthogonal(network).backward()
    for layer in (network["linear"], network["conv"]):
        weight = layer.weight.detach().flatten(1)
        gram = weight @ weight.T
        expected = 4 * (gram * (1 - torch.eye(len(gram), dtype=torch.float64))) @ weight
        assert torch.allclose(layer.weight.grad.flatten(1), expected)
        assert layer.bias.grad is None
    assert network["labels"].weight.grad is None


@pytest.mark.parametrize("normalized", [False, True])
@pytest.mark.parametrize("tall", [False, True])
def test_orthogonal_penalty_has_a_row_per_output_whatever_the_shape(tall: bool, normalized: bool) -> None:
    sizes = (2, 40) if tall else (20, 3)
    for layer in (nn.Linear(*sizes), nn.Conv2d(*sizes, 3), nn.ConvTranspose2d(*sizes, 3)):
        network = nn.Sequential(layer).double()
        weight = layer.weight.detach()
        rows = (weight.transpose(0, 1) if isinstance(layer, nn.ConvTranspose2d) else weight).flatten(1)
        if normalized:
            spectral_normalize(network, Spectral())
        gram = rows @ rows.T
        expected = (gram * (1 - torch.eye(len(gram)))).square().sum().item()
        assert orthogonal(network).item() == pytest.approx(expected)


def test_the_sum_weighs_terms_and_leaves_lazy_ones_out() -> None:
    step, _ = a_step()
    terms = {
        "a": Term(lambda s: s.on_real.score, weight=2.0),
        "b": Term(lambda s: s.on_fake.score, weight=0.5, every=4),
    }
    a, b = step.on_real.score.mean(), step.on_fake.score.mean()
    total, values = weighted_sum(terms, step, 8)
    assert total.item() == pytest.approx((2 * a + 0.5 * 4 * b).item())
    assert set(values) == {"a", "b"}
    total, values = weighted_sum(terms, step, 9)
    assert total.item() == pytest.approx(2 * a.item())
    assert set(values) == {"a"}


def test_a_loss_pays_only_for_what_it_reads() -> None:
    generator, discriminator = nn.Identity(), ReadOff()
    images, labels = torch.randn(4, 1, 1, 21), Labels.from_index(SPEC, torch.arange(4))
    objective = OBJECTIVES["acgan"]()
    weighted_sum(
        objective.generator,
        Step(
            generator=generator,
            discriminator=discriminator,
            real=images,
            real_labels=labels,
            fake=images,
            fake_labels=labels,
        ),
        0,
    )
    assert discriminator.calls == [4]
    joint = Step(
        generator=generator,
        discriminator=discriminator,
        real=images,
        real_labels=labels,
        fake=images,
        fake_labels=labels,
        joint=True,
    )
    weighted_sum(objective.discriminator, joint, 0)
    assert discriminator.calls == [4, 8]
