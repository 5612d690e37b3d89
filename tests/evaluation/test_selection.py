"""Selection on mixtures of Gaussians, where the answer is known."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy.stats import kstest, norm

from condgan.evaluation import selection
from condgan.evaluation.moments import class_centroids
from condgan.evaluation.selection import (
    acceptance,
    drawn,
    folds_of,
    log_agreement,
    log_odds,
    nearness,
    no_copies,
    ranks,
    relative_nearness,
)

MANY = 20_000


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def two_classes(count: int, seed: int, apart: float = 2.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Numbers around −apart/2 and apart/2 with a deviation of 1, and their classes."""
    drawing = generator(seed)
    classes = torch.randint(2, (count,), generator=drawing)
    return torch.randn(count, generator=drawing) + apart * (classes - 0.5), classes


def posterior(x: torch.Tensor, apart: float = 2.0) -> torch.Tensor:
    """The exact logits of the two classes."""
    return torch.stack([-apart * x / 2, apart * x / 2], 1)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=60), st.integers(2, 5), st.integers(0, 9))
def test_folds_are_alike(classes: list[int], count: int, seed: int) -> None:
    index = torch.tensor(classes)
    folds = folds_of(index, count, seed)
    assert torch.equal(folds, folds_of(index, count, seed))
    assert int(folds.bincount(minlength=count).max() - folds.bincount(minlength=count).min()) <= 1
    for number in set(classes):
        sizes = folds[index == number].bincount(minlength=count)
        assert len(sizes) == count
        assert sizes.max() - sizes.min() <= 1


def test_folds_are_drawn() -> None:
    assert not torch.equal(folds_of(torch.zeros(99).long(), 3, 0), folds_of(torch.zeros(99).long(), 3, 1))


def test_fakes_drawn_like_real_images_rank_anywhere_alike() -> None:
    (real, real_classes), (fakes, classes) = two_classes(MANY, 0), two_classes(MANY, 1)
    assert kstest(ranks(fakes, classes, real, real_classes).numpy(), "uniform").pvalue > 0.01
    far = ranks(fakes - 9, classes, real, real_classes)
    assert far.max() < 0.001


def test_ranks_count_ties_by_half_and_the_fake_as_one() -> None:
    real, classes = torch.tensor([1.0, 2.0, 2.0, 3.0]), torch.zeros(4).long()
    found = ranks(torch.tensor([0.0, 2.0, 4.0]), torch.zeros(3).long(), real, classes)
    assert found.tolist() == [1 / 10, (1 + 3 + 1) / 10, 9 / 10]
    assert ranks(torch.zeros(1), torch.ones(1).long(), real, classes).isnan().all()


def test_agreement_finds_wrong_labels() -> None:
    """Of fakes of which 30 % are asked for as the other class, those above the lowest tenth of real images are kept.

    By how many of either kind pass, which the normal law tells: agreement is monotonous in the side of x.
    """
    real, real_classes = two_classes(MANY, 0)
    fakes, shown = two_classes(MANY, 1)
    wrong = torch.rand(MANY, generator=generator(2)) < 0.3
    asked = torch.where(wrong, 1 - shown, shown)
    of_fakes, of_real = log_agreement(posterior(fakes), asked), log_agreement(posterior(real), real_classes)
    kept = ranks(of_fakes, asked, of_real, real_classes) >= 0.1
    passes = norm.ppf(0.1)  # of x on its class's side, from the class's mean
    assert float(kept[~wrong].double().mean()) == pytest.approx(0.9, abs=0.01)
    assert float(kept[wrong].double().mean()) == pytest.approx(1 - norm.cdf(passes + 2), abs=0.01)


def test_nearness_is_to_the_mean_of_the_class() -> None:
    features = torch.tensor([[0.0, 0.0], [2.0, 0.0], [5.0, 5.0]])
    centroids = class_centroids(features, torch.tensor([0, 0, 2]), 3)
    assert centroids[[0, 2]].tolist() == [[1.0, 0.0], [5.0, 5.0]]
    assert centroids[1].isnan().all()
    found = nearness(torch.tensor([[1.0, 3.0], [5.0, 5.0]]), torch.tensor([0, 2]), centroids)
    assert found.tolist() == [-3.0, 0.0]


def test_log_odds_undo_any_line() -> None:
    """Of logits that are log p − log q on another scale: p and q normal, a deviation apart."""
    q, p = torch.randn(MANY, generator=generator(0)), torch.randn(MANY, generator=generator(1)) + 1
    points = torch.linspace(-2, 3, 11)

    def logits(x: torch.Tensor) -> torch.Tensor:
        return 40 * (x - 0.5) + 700

    found = log_odds(logits(points), logits(q), logits(p))
    assert torch.allclose(found, points.double() - 0.5, atol=0.12)


def test_rejection_turns_the_generators_law_into_that_of_real_images() -> None:
    """Fakes of two modes, drawn 4 to 1 and too wide, become a half of each of the right width."""
    drawing = generator(0)
    mode = (torch.rand(200_000, generator=drawing) < 0.8).double()
    x = 1.3 * torch.randn(200_000, generator=drawing).double() + 6 * mode - 3

    def log_density(x: torch.Tensor, weight: float, width: float) -> torch.Tensor:
        parts = (math.log(w / width) - ((x - m) / width) ** 2 / 2 for w, m in ((1 - weight, -3), (weight, 3)))
        return torch.logsumexp(torch.stack([*parts]), 0)

    odds = log_density(x, 0.5, 1.0) - log_density(x, 0.8, 1.3)
    kept = x[drawn(acceptance(odds, torch.zeros(len(x)).long(), high=1.0), 0)].numpy()
    assert len(kept) > 20_000
    assert kstest(kept, lambda x: (norm.cdf(x + 3) + norm.cdf(x - 3)) / 2).pvalue > 0.01


def test_an_outlier_keeps_nobody_else_out() -> None:
    odds, classes = torch.cat([torch.zeros(99), torch.tensor([50.0])]), torch.zeros(100).long()
    assert float(acceptance(odds, classes, high=1.0)[:99].max()) < 1e-9
    assert float(acceptance(odds, classes).min()) == 1.0


def test_acceptance_is_a_matter_of_each_class() -> None:
    odds, classes = torch.tensor([0.0, 0.0, 9.0, 9.0]), torch.tensor([0, 0, 1, 1])
    assert acceptance(odds, classes).tolist() == [1.0] * 4


def test_copies_are_found_and_what_is_fresh_stays() -> None:
    drawing = generator(0)
    training, others, fresh = (torch.randn(n, 6, generator=drawing) for n in (500, 1_000, 2_000))
    copied = training[:50] + 1e-3 * torch.randn(50, 6, generator=drawing)
    copied, others, fresh = (relative_nearness(one, training) for one in (copied, others, fresh))
    assert not no_copies(copied, others).any()
    assert float(no_copies(fresh, others).double().mean()) == pytest.approx(0.99, abs=0.01)
    exact = relative_nearness(training[:5], training)
    assert not no_copies(exact, others[:20]).any(), "few others tell exact copies, too"


def test_what_is_drawn_is_a_function_of_the_seed() -> None:
    half = torch.full((1_000,), 0.5)
    assert torch.equal(drawn(half, 3), drawn(half, 3))
    assert not torch.equal(drawn(half, 3), drawn(half, 4))
    assert drawn(torch.ones(9), 0).all()
    assert not drawn(torch.zeros(9), 0).any()
    assert selection.HIGH < 1
