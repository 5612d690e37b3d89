"""The faults that benchmarks show are those of the tutorial; its golden losses are beside the recipes'."""

from collections.abc import Iterator

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks import faults
from condgan.build import build_discriminator, build_generator
from condgan.estimate import count_parameters
from condgan.labels import Labels, LabelSpec
from condgan.recipes.load import load
from condgan.types import DiscriminatorOutput

DIGITS = LabelSpec.of_classes([str(digit) for digit in range(10)])


@pytest.fixture(autouse=True)
def _added() -> Iterator[None]:
    with faults.added():
        yield


def test_the_networks_are_as_large_as_the_tutorials() -> None:
    assert count_parameters(load(faults.LEGACY), DIGITS) == (1_050_985, 103_243)
    network = build_generator(load(faults.LEGACY), DIGITS)
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]
    assert [norm.eps for norm in norms] == [1e-5, 0.8, 0.8]
    assert {norm.momentum for norm in norms} == {0.1}


def test_the_norm_barely_normalizes_and_the_mended_one_does() -> None:
    """With an input standard deviation of 0.1, eps 0.8 leaves 0.11 (measured in the tutorial's layer)."""
    spread = {}
    for name in ("mnist-acgan", faults.LEGACY):
        backbone = build_discriminator(load(name), DIGITS).backbone
        norm = next(layer for layer in backbone.modules() if isinstance(layer, nn.BatchNorm2d))
        torch.nn.init.ones_(norm.weight)
        spread[name] = norm(0.1 * torch.randn(64, 32, 8, 8)).std().item()
    assert spread["mnist-acgan"] == pytest.approx(1, abs=0.01)
    assert spread[faults.LEGACY] == pytest.approx(0.11, abs=0.01)


@pytest.mark.parametrize("scale", [1.0, 100.0])
def test_softmax_before_cross_entropy_is_confined(scale: float) -> None:
    logits, index = scale * torch.randn(6, 10), torch.arange(6)
    output = DiscriminatorOutput(torch.zeros(6), named={"logits": logits})
    got = faults.softmax_cross_entropy(output, Labels.from_index(DIGITS, index)).numpy()
    first = np.exp((logits.double() - logits.double().max(1, keepdim=True).values).numpy())
    again = np.exp(first / first.sum(1, keepdims=True))
    expected = -np.log((again / again.sum(1, keepdims=True))[np.arange(6), index])
    assert got == pytest.approx(expected, abs=1e-6)
    assert got.min() >= 1.461
    assert got.max() <= 2.4613


def test_the_sigmoid_stops_the_gradient_where_it_saturates() -> None:
    score = torch.tensor([0.3, -200.0], requires_grad=True)
    faults._cross_entropy_of_sigmoid(score, 1.0).sum().backward()
    assert score.grad is not None
    assert score.grad.tolist() == pytest.approx([-1 / (1 + np.exp(0.3)), 0], abs=1e-6)
