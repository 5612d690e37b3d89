"""The reproduced experiments: their data and judgements, and the claim itself as a slow test."""

from statistics import median

import pytest
import torch

from benchmarks import mixture_of_gaussians, overlapping_mnist


def test_points_of_the_mixture_have_their_moments_and_judge_as_perfect() -> None:
    points = mixture_of_gaussians.draw(100_000, 1, 3.0, torch.Generator().manual_seed(5))
    assert points.mean(1).flatten().tolist() == pytest.approx([0, 3, 6], abs=0.03)
    assert points.std(1).flatten().tolist() == pytest.approx([1, 2, 3], rel=0.01)
    judged = mixture_of_gaussians.judge(points[:, :10_000], 1, 3.0)
    assert max(one["w1"] for one in judged["classes"]) < 0.15


@pytest.mark.parametrize("method", mixture_of_gaussians.METHODS)
def test_every_method_learns_points(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mixture_of_gaussians, "STEPS", {1: 20, 2: 20})
    assert mixture_of_gaussians.learn(method, 2, 3.5, 0, "non-saturating").shape == (3, 10_000, 2)


@pytest.mark.slow
def test_acgan_pushes_the_last_class_out_and_tacgan_does_not() -> None:
    """W₁ of the last class, three seeds: more than five times as large."""
    w1 = {
        method: median(
            mixture_of_gaussians.run(method, 1, 3.0, seed, "non-saturating")[0]["classes"][2]["w1"] for seed in range(3)
        )
        for method in ("acgan", "tacgan")
    }
    assert w1["acgan"] > 5 * w1["tacgan"]


def test_groups_share_their_zeros() -> None:
    digits = torch.cat([torch.full((6_000,), digit) for digit in range(3)])
    numbers = torch.arange(len(digits))
    images = torch.stack([numbers // 256, numbers % 256], 1).reshape(-1, 2, 1, 1).to(torch.uint8)
    split = overlapping_mnist.overlapping(images, digits)
    groups, high, low = split.labels.index(), *split.images.flatten(1).long().T
    chosen = 256 * high + low
    a, b = (digits[chosen[groups == group]] for group in (0, 1))
    assert a.bincount(minlength=3).tolist() == [5_000, 5_000, 0]
    assert b.bincount(minlength=3).tolist() == [5_000, 0, 5_000]
    zeros = [set(chosen[(groups == group) & (digits[chosen] == 0)].tolist()) for group in (0, 1)]
    assert len(zeros[0] & zeros[1]) > 3_000


def test_both_methods_differ_in_the_objective_alone() -> None:
    recipes = [overlapping_mnist.recipe_of(method, 3.0, 1, 1000, 16) for method in overlapping_mnist.METHODS]
    assert recipes[0].objective.name == "acgan"
    assert recipes[1].objective.name == "tacgan"
    for part in ("generator", "backbone", "head", "g_opt", "d_opt", "ema", "schedule", "seed"):
        assert getattr(recipes[0], part) == getattr(recipes[1], part)
