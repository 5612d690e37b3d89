"""Averages by powers of the images seen, against their definition and against one that was kept directly."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from condgan.networks.spectral_norm import Spectral, spectral_normalize, spectral_norms
from condgan.training.ema import EMA
from condgan.training.post_hoc import Profile, coefficients, exponent, put_together

ITERATIONS, BATCH = 4_000, 16


@given(st.floats(0.01, 0.28))
def test_the_exponent_gives_the_width(width: float) -> None:
    """Karras et al. 2024, eq. 3: the standard deviation of t with the law (γ + 1) t^γ on [0, 1]."""
    power = exponent(width)
    mean, of_square = (power + 1) / (power + 2), (power + 1) / (power + 3)
    assert np.sqrt(of_square - mean**2) == pytest.approx(width, rel=1e-6)


def test_the_published_exponents() -> None:
    assert exponent(0.05) == pytest.approx(16.97, abs=0.005)
    assert exponent(0.10) == pytest.approx(6.94, abs=0.005)


def walk(seed: int) -> np.ndarray:
    """Weights that wander, less and less."""
    steps = np.random.default_rng(seed).normal(size=(ITERATIONS, 3))
    return np.cumsum(steps / np.sqrt(1 + np.arange(ITERATIONS))[:, None], 0)


def kept(path: np.ndarray, width: float, every: int) -> dict[int, torch.Tensor]:
    """What an average was after every so many iterations."""
    original = nn.Linear(3, 1, bias=False).double()
    average, found = EMA(original, width=width), {}
    for number, weights in enumerate(path):
        original.weight.data[:] = torch.from_numpy(weights)
        images = (number + 1) * BATCH
        average.update(original, images, number, BATCH)
        if (number + 1) % every == 0:
            found[images] = average.module.weight.detach().clone()
    return found


def test_an_average_weighs_by_a_power_of_the_images_seen() -> None:
    path, last = walk(0), ITERATIONS * BATCH
    found = kept(path, 0.1, ITERATIONS)[last].numpy()[0]
    ends = (np.arange(ITERATIONS + 1) / ITERATIONS) ** (exponent(0.1) + 1)
    assert found == pytest.approx((np.diff(ends)[:, None] * path).sum(0), rel=1e-9)


@pytest.mark.parametrize("width", [0.03, 0.05, 0.07, 0.1, 0.15, 0.2])
def test_what_is_put_together_is_nearly_what_would_have_been_kept(width: float) -> None:
    """Of sixteen snapshots of two averages; the error is a share of how far the weights are from it at the end."""
    path = walk(1)
    snapshots = {
        (Profile(images, one)): weights for one in (0.05, 0.1) for images, weights in kept(path, one, 250).items()
    }
    wanted = Profile(ITERATIONS * BATCH, width)
    factors = coefficients([*snapshots], wanted)
    assert factors.sum() == pytest.approx(1)
    network = nn.Linear(3, 1, bias=False).double()
    put_together(network, [(factor, {"weight": one}) for factor, one in zip(factors, snapshots.values(), strict=True)])
    direct = kept(path, width, ITERATIONS)[ITERATIONS * BATCH]
    away = float((torch.from_numpy(path[-1]) - direct).norm())
    assert float((network.weight - direct).norm()) < {0.03: 0.1}.get(width, 0.03) * away


def test_a_kept_average_is_put_together_of_itself() -> None:
    profiles = [Profile(images, width) for images in (100, 200, 300) for width in (0.05, 0.1)]
    assert coefficients(profiles, profiles[-1]) == pytest.approx([0, 0, 0, 0, 0, 1], abs=1e-6)


def test_what_is_no_float_is_the_last_and_spectral_norms_begin_anew() -> None:
    network = nn.Sequential(nn.Linear(4, 4), nn.BatchNorm1d(4))
    spectral_normalize(network, Spectral())
    states = []
    for count in (1, 2):
        network[1].num_batches_tracked.fill_(count)
        network[0].parametrizations.weight.original.data.normal_()
        states.append({name: value.clone() for name, value in network.state_dict().items()})
    put_together(network, [(0.25, states[0]), (0.75, states[1])])
    mean = sum(
        share * state["0.parametrizations.weight.original"] for share, state in zip((0.25, 0.75), states, strict=True)
    )
    ((_, norm, weight),) = spectral_norms(network)
    assert weight.detach().numpy() == pytest.approx(mean.numpy(), abs=1e-6)
    assert int(network[1].num_batches_tracked) == 2
    assert float(norm.singular_values(weight)) == pytest.approx(float(torch.linalg.svdvals(mean)[0]), rel=1e-4)
