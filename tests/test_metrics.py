import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condgan.data.sources import read
from condgan.labels import Labels, LabelSpec
from condgan.metrics import features
from condgan.metrics.conditional import compare
from condgan.metrics.distances import density_and_coverage, frechet, mean_pairwise, quadratic_mmd
from condgan.metrics.features import Judged, trained_judge


def points(seed: int, count: int, dim: int, shift: float = 0.0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.normal(size=(count, dim)) @ rng.normal(size=(dim, dim)) + shift


@given(st.integers(0, 1000), st.integers(8, 60), st.integers(1, 6), st.floats(-3, 3))
def test_frechet_is_the_formula_with_scipys_root(seed: int, count: int, dim: int, shift: float) -> None:
    a, b = points(seed, count, dim), points(seed + 1, count + 3, dim, shift)
    ca, cb = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    root = scipy.linalg.sqrtm(ca @ cb).real
    expected = ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(ca + cb - 2 * root)
    assert frechet(torch.tensor(a), torch.tensor(b)) == pytest.approx(expected, rel=1e-4, abs=1e-4)


@settings(deadline=None)
@given(st.integers(0, 1000), st.integers(2, 20), st.integers(1, 30))
def test_frechet_of_a_set_to_itself_is_zero_at_any_rank(seed: int, count: int, dim: int) -> None:
    a, b = torch.tensor(points(seed, count, dim)), torch.tensor(points(seed + 9, count, dim))
    size = float(a.var(0).sum())
    assert frechet(a, a) <= 1e-6 * (1 + size)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-6, abs=1e-6 * (1 + size))


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(2, 30), st.integers(2, 30), st.integers(1, 6))
def test_density_and_coverage_are_ten_lines_of_numpy(seed: int, fakes: int, reals: int, neighbors: int) -> None:
    fake, real = points(seed, fakes, 3), points(seed + 1, reals, 3)
    k = min(neighbors, reals - 1)
    between = np.linalg.norm(real[:, None] - real[None], axis=2)
    radius = np.sort(between, axis=1)[:, k]
    inside = np.linalg.norm(real[:, None] - fake[None], axis=2) < radius[:, None]
    density, coverage = density_and_coverage(torch.tensor(fake), torch.tensor(real), neighbors)
    assert density == pytest.approx(inside.sum() / (k * fakes))
    assert coverage == pytest.approx(inside.any(1).mean())


def test_mean_pairwise_is_the_mean_over_pairs() -> None:
    a = points(0, 9, 4)
    pairs = [np.linalg.norm(a[i] - a[j]) for i in range(9) for j in range(9) if i != j]
    assert mean_pairwise(torch.tensor(a)) == pytest.approx(np.mean(pairs), rel=1e-6)


SPEC = LabelSpec.of_classes(["a", "b"])


def judged(seed: int, index: list[int], right: float = 1.0) -> Judged:
    labels = Labels.from_index(SPEC, torch.tensor(index))
    logits = labels.values.clone()
    wrong = int(len(index) * (1 - right))
    logits[:wrong] = 1 - logits[:wrong]
    return Judged(torch.tensor(points(seed, len(index), 3)), logits, labels)


def test_numbers_stand_beside_their_ceilings() -> None:
    index = [0] * 10 + [1] * 10
    result = compare(judged(1, index, right=0.75), judged(2, index), judged(3, index))
    names = ["label_agreement", "fd_classifier", "density", "coverage", "intra_class_diversity"]
    assert set(result) == {*names, "per_class"}
    assert set(result["per_class"]) == {"a", "b"}
    for row in (result, *result["per_class"].values()):
        assert all(set(row[name]) == {"fake", "real"} for name in names)
    assert result["label_agreement"] == {"fake": 0.75, "real": 1.0}
    assert result["per_class"]["a"]["label_agreement"]["fake"] == 0.5
    twin = compare(judged(2, index), judged(2, index), judged(2, index))
    assert twin["fd_classifier"]["fake"] == pytest.approx(0, abs=1e-9)
    assert twin["coverage"]["fake"] == 1
    assert twin["intra_class_diversity"]["fake"] == twin["intra_class_diversity"]["real"]


@pytest.mark.parametrize("dimensions", [1, 3])
def test_quadratic_mmd_is_that_of_the_kernels_written_out(dimensions: int) -> None:
    a, b = torch.randn(40, dimensions).double(), 2 * torch.randn(50, dimensions).double() + 1
    xx, yy, xy = ((x @ y.T / dimensions + 1) ** 2 for x, y in ((a, a), (b, b), (a, b)))
    expected = (xx.sum() - xx.trace()) / (40 * 39) + (yy.sum() - yy.trace()) / (50 * 49) - 2 * xy.mean()
    assert quadratic_mmd(a, b) == pytest.approx(expected.item())


def test_a_class_of_one_image_has_no_distances() -> None:
    index = [0] * 5 + [1]
    result = compare(judged(1, index), judged(2, index), judged(3, index))
    assert result["per_class"]["b"]["fd_classifier"] == {"fake": None, "real": None}
    assert result["per_class"]["b"]["intra_class_diversity"]["fake"] is None
    assert result["fd_classifier"]["fake"] is not None


def test_the_judge_knows_digits_and_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = read("digits", 16, 1)
    judge = trained_judge(data.train.images, data.train.labels, data.content_hash)
    seen = judge.judge(data.held_out.images, data.held_out.labels[:])
    assert seen.labels.accuracy(seen.logits).mean() >= 0.97
    monkeypatch.setattr(features, "_train", None)
    again = trained_judge(data.train.images, data.train.labels, data.content_hash)
    assert torch.equal(again.judge(data.held_out.images, data.held_out.labels[:]).features, seen.features)
