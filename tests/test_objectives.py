import numpy as np
import pytest
import torch
from torch import nn

from condgan.interfaces import DiscriminatorOutput, Step
from condgan.labels import Labels, LabelSpec
from condgan.objectives import OBJECTIVES, Objective, Term, weighted_sum

SPEC = LabelSpec.of_classes([str(i) for i in range(10)])


class ReadOff(nn.Module):
    """A discriminator that reads score, logits and the twin's off the pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[int] = []

    def forward(self, images: torch.Tensor, labels: Labels) -> DiscriminatorOutput:
        self.calls.append(len(images))
        flat = images.flatten(1)
        return DiscriminatorOutput(flat[:, 0], None, flat[:, 1:11], flat[:, 11:])


def a_step(joint: bool = False, scale: float = 1.0) -> tuple[Step, dict[str, np.ndarray]]:
    """A step whose discriminator reads its scores and logits off the pixels."""
    rng = np.random.default_rng(0)
    pixels = {kind: rng.normal(size=(6, 21)) * scale for kind in ("real", "fake")}
    index = {kind: rng.integers(0, 10, 6) for kind in ("real", "fake")}

    images = {kind: torch.tensor(values).reshape(6, 1, 1, 21) for kind, values in pixels.items()}
    labels = {kind: Labels.from_index(SPEC, torch.tensor(values)) for kind, values in index.items()}
    step = Step(nn.Identity(), ReadOff(), images["real"], labels["real"], images["fake"], labels["fake"], joint)
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
@pytest.mark.parametrize("adversarial", ["non-saturating", "non-saturating-sigmoid"])
def test_acgan_is_the_paper_in_numpy(joint: bool, adversarial: str) -> None:
    step, n = a_step(joint)
    objective = OBJECTIVES["acgan"](adversarial=adversarial)
    real, fake = 1 / (1 + np.exp(-n["real_score"])), 1 / (1 + np.exp(-n["fake_score"]))
    expected = {
        "adv": float((-np.log(real) - np.log(1 - fake)).mean()),
        "class/real": cross_entropy(softmax(n["real_logits"]), n["real_index"]),
        "class/fake": cross_entropy(softmax(n["fake_logits"]), n["fake_index"]),
    }
    assert means(objective, "discriminator", step) == pytest.approx(expected, abs=1e-6)
    expected = {"adv": float(-np.log(fake).mean()), "class/fake": expected["class/fake"]}
    assert means(objective, "generator", step) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_softmax_before_cross_entropy_is_confined(scale: float) -> None:
    step, n = a_step(scale=scale)
    objective = OBJECTIVES["acgan"](softmax_before_cross_entropy=True)
    got = means(objective, "discriminator", step)["class/real"]
    stable = np.exp(n["real_logits"] - n["real_logits"].max(1, keepdims=True))
    assert got == pytest.approx(
        cross_entropy(softmax(stable / stable.sum(1, keepdims=True)), n["real_index"]), abs=1e-6
    )
    assert 1.461 <= got <= 2.4613


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
    weighted_sum(objective.generator, Step(generator, discriminator, images, labels, images, labels), 0)
    assert discriminator.calls == [4]
    joint = Step(generator, discriminator, images, labels, images, labels, joint=True)
    weighted_sum(objective.discriminator, joint, 0)
    assert discriminator.calls == [4, 8]
