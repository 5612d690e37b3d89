"""Intervals and verdicts of classifiers that are compared by seed and image."""

import numpy as np
import pytest
import scipy.stats
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from condgan.evaluation.paired import balanced, class_gains, gain, interval

DIFFERENCES = arrays.arrays(
    np.float64, st.tuples(st.integers(3, 6), st.integers(1, 40)), elements=st.sampled_from([-1.0, 0.0, 1.0])
)


def simulated(rng: np.random.Generator, seeds: int, images: int, gain: float = 0, **spread: float) -> torch.Tensor:
    """Which images two kinds of classifier get right: latent scores of images, seeds, both, and each kind's own."""
    sd = {"image": 1.5, "own_image": 0.5, "seed": 0.1, "own_seed": 0.1, "rest": 0.7} | spread
    shared = rng.normal(0, sd["image"], images) + rng.normal(0, sd["seed"], (seeds, 1))
    own = (
        rng.normal(0, sd["own_image"], images)
        + rng.normal(0, sd["own_seed"], (seeds, 1))
        + rng.normal(0, sd["rest"], (seeds, images))
        for _ in range(2)
    )
    before, after = (2.5 + shared + one for one in own)
    return torch.from_numpy((after + gain > 0).astype(float) - (before > 0))


@pytest.mark.parametrize(
    ("seeds", "images", "spread", "least", "most"),
    [
        (3, 359, {}, 0.005, 0.08),
        (5, 359, {}, 0.005, 0.06),
        (5, 359, {"own_image": 1.5, "rest": 0.2, "own_seed": 0}, 0.02, 0.07),
        (5, 1600, {"own_seed": 0.5}, 0.02, 0.07),
        (5, 36, {}, 0, 0.05),
    ],
)
def test_no_difference_is_seldom_called_one(
    seeds: int, images: int, spread: dict[str, float], least: float, most: float
) -> None:
    rng = np.random.default_rng(1)
    found = [
        low > 0 or high < 0 for low, high in (interval(simulated(rng, seeds, images, **spread)) for _ in range(600))
    ]
    assert least <= np.mean(found) <= most


def test_a_large_difference_is_found_and_has_its_sign() -> None:
    rng = np.random.default_rng(2)
    found = [interval(simulated(rng, 5, 359, gain=1))[0] > 0 for _ in range(200)]
    assert np.mean(found) > 0.95


@given(st.integers(1, 400), st.integers(0, 400), st.integers(0, 400))
def test_where_seeds_agree_it_is_the_interval_of_agresti_and_min(same: int, gained: int, lost: int) -> None:
    n = same + gained + lost
    one = torch.tensor([0.0] * same + [1.0] * gained + [-1.0] * lost)
    b, c, total = gained + 0.5, lost + 0.5, n + 2
    error = np.sqrt(b + c - (b - c) ** 2 / total) / total
    expected = (b - c) / total + scipy.stats.t.ppf([0.025, 0.975], n + 1) * error
    assert interval(one.expand(3, -1)) == pytest.approx(tuple(expected))


@given(st.integers(0, 1000), st.integers(3, 8))
def test_where_only_seeds_differ_it_is_students(seed: int, seeds: int) -> None:
    of_seed = np.random.default_rng(seed).normal(0, 0.2, seeds)
    expected = scipy.stats.ttest_1samp(of_seed, 0).confidence_interval(0.95)
    assert interval(torch.from_numpy(of_seed)[:, None].expand(-1, 20_000)) == pytest.approx(tuple(expected), abs=2e-3)


@given(DIFFERENCES)
def test_an_interval_holds_what_was_seen_and_has_no_favorite(differences: np.ndarray) -> None:
    low, high = interval(torch.from_numpy(differences))
    assert low <= differences.mean() <= high
    assert interval(torch.from_numpy(-differences)) == pytest.approx((-high, -low))
    wider = interval(torch.from_numpy(differences), 0.995)
    assert wider[0] < low < high < wider[1]


@pytest.mark.parametrize("images", [1, 2, 3])
def test_few_images_prove_nothing_even_if_all_agree(images: int) -> None:
    low, high = interval(torch.ones(5, images), 0.995)
    assert low < 0 < high


def test_no_gain_is_beyond_what_accuracies_allow() -> None:
    assert gain(torch.zeros(3, 1))["interval"] == [-1.0, 1.0]
    assert gain(torch.ones(3, 2))["interval"][1] == 1.0


def test_balanced_accuracy_is_the_mean_over_classes() -> None:
    rng = np.random.default_rng(0)
    right, index = (rng.random((3, 50)) < 0.6).astype(float), np.repeat([2, 0, 5], [30, 15, 5])
    expected = np.mean([right[:, index == number].mean(1) for number in (0, 2, 5)], 0)
    assert balanced(torch.from_numpy(right), torch.from_numpy(index)) == pytest.approx(expected)


@given(st.integers(0, 1000), st.integers(1, 4))
def test_the_interval_of_a_balanced_difference_is_that_of_a_stratified_mean(seed: int, classes: int) -> None:
    rng = np.random.default_rng(seed)
    index = np.repeat(np.arange(classes), rng.integers(20, 400, classes))
    one = rng.choice([-1.0, 0.0, 1.0], len(index))
    low, high = interval(torch.from_numpy(one).expand(3, -1), index=torch.from_numpy(index))
    n = len(one) + 2
    of_all = (np.square(one).sum() + 1) / n - (one.sum() / n) ** 2
    center = variance = freedom = 0.0
    for number in range(classes):
        values = one[index == number]
        n = len(values) + 2 / classes
        mean = values.sum() / n
        squares = np.square(values).sum() + 1 / classes - n * mean**2 + (1 - 1 / classes) * of_all
        own = squares / n / n / classes**2
        center, variance = center + mean / classes, variance + own
        freedom += own**2 / (n - 1 / classes)
    reach = np.sqrt(variance) * scipy.stats.t.ppf(0.975, variance**2 / freedom)
    assert (low, high) == pytest.approx((center - reach, center + reach))


def test_where_only_seeds_differ_by_class_it_is_students_of_the_balanced_differences() -> None:
    of_seed = np.random.default_rng(0).normal(0, 0.2, (5, 2))
    index = torch.tensor([0] * 20_000 + [1] * 5_000)
    expected = scipy.stats.ttest_1samp(of_seed.mean(1), 0).confidence_interval(0.95)
    differences = torch.from_numpy(of_seed)[:, index]
    assert interval(differences, index=index) == pytest.approx(tuple(expected), abs=3e-3)


FEW_OF_EACH = [(1,) * 100, (2,) * 50, (2,) * 100, (3,) * 30, (5,) * 100, (300, 2, 2, 1)]


@pytest.mark.parametrize(
    "counts", [(200, 200), (300, 20), (400, 30, 8), *FEW_OF_EACH], ids=lambda counts: str(counts[:4])
)
@pytest.mark.parametrize("spread", [{}, {"own_image": 1.5, "rest": 0.2, "own_seed": 0}, {"own_seed": 0.5}])
def test_no_balanced_difference_is_seldom_called_one(counts: tuple[int, ...], spread: dict[str, float]) -> None:
    rng = np.random.default_rng(3)
    index = torch.from_numpy(np.repeat(np.arange(len(counts)), counts))
    found = [gain(simulated(rng, 5, sum(counts), **spread), index=index)["verdict"] for _ in range(300)]
    assert found.count("helps") <= 0.045 * 300, "2.5 %, with what chance gives"
    assert found.count("hurts") <= 0.045 * 300


def test_of_many_classes_few_are_called_changed() -> None:
    rng, names = np.random.default_rng(4), tuple("abcdefghij")
    index = torch.arange(10).repeat_interleave(40)
    wrong = [
        any(one["verdict"] != "no difference" for one in class_gains(simulated(rng, 5, 400), index, names).values())
        for _ in range(200)
    ]
    assert np.mean(wrong) <= 0.05
    assert class_gains(torch.ones(3, 40), torch.full((40,), 7), names).keys() == {"h"}
