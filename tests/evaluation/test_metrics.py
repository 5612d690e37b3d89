import json
from pathlib import Path
from random import Random

import numpy as np
import pytest
import scipy.linalg
import scipy.special
import scipy.stats
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from condgan.data.open import read
from condgan.evaluation import classifier
from condgan.evaluation.classifier import trained_classifier
from condgan.evaluation.metrics import distances
from condgan.evaluation.metrics.distances import (
    frechet,
    frechet_interval,
    frechet_of,
    kernel_distance,
    manifolds,
    mean_pairwise,
    quadratic_mmd,
)
from condgan.evaluation.moments import GROUPS, Moments, groups_of, read_normal, write_normal
from condgan.evaluation.statistics import Scores, splits_of
from condgan.utils.errors import UserError


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


@given(st.integers(0, 1000), st.integers(2, 20), st.integers(1, 30))
def test_frechet_of_a_set_to_itself_is_zero_at_any_rank(seed: int, count: int, dim: int) -> None:
    a, b = torch.tensor(points(seed, count, dim)), torch.tensor(points(seed + 9, count, dim))
    size = float(a.var(0).sum())
    assert frechet(a, a) <= 1e-6 * (1 + size)
    assert frechet(a, b) == pytest.approx(frechet(b, a), rel=1e-6, abs=1e-6 * (1 + size))


@settings(max_examples=30)
@given(st.integers(0, 1000), st.integers(6, 30), st.integers(7, 30))
def test_manifolds_are_ten_lines_of_numpy(seed: int, fakes: int, reals: int) -> None:
    fake, real = points(seed, fakes, 3), points(seed + 1, reals, 3)
    among = [np.sort(np.linalg.norm(one[:, None] - one[None], axis=2), axis=1) for one in (fake, real)]
    between = np.linalg.norm(real[:, None] - fake[None], axis=2)
    inside = between < among[1][:, 5:6]
    found = manifolds(torch.tensor(fake), torch.tensor(real))
    assert found.precision == (between <= among[1][:, 3:4]).any(0).mean()
    assert found.recall == (between <= among[0][:, 3]).any(1).mean()
    assert found.density == inside.sum() / (5 * fakes)
    assert found.coverage == inside.any(1).mean()


def test_manifolds_in_tiles_are_those_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, real = (torch.tensor(points(seed, 90, 4)).float() for seed in (0, 1))
    whole = manifolds(fake, real)
    monkeypatch.setattr(distances, "CELLS", 16 * 90)
    assert manifolds(fake, real) == whole
    assert manifolds(real, real)[:2] == (1, 1)
    assert manifolds(fake, real)[:2] == manifolds(real, fake)[1::-1], "recall is precision the other way round"


@given(st.integers(0, 1000), st.integers(2, 40), st.integers(1, 6), st.randoms())
def test_moments_are_those_of_numpy_in_any_chunks_and_order(seed: int, count: int, dim: int, random: Random) -> None:
    classifier = torch.tensor(points(seed, count, dim, shift=3))
    cuts = sorted(random.sample(range(count + 1), min(3, count)))
    parts = [classifier[a:b] for a, b in zip([0, *cuts], [*cuts, count], strict=True)]
    random.shuffle(parts)
    moments = [Moments.of(part) for part in parts]
    left, right = moments[0], moments[-1]
    for one in moments[1:]:
        left = left + one
    for one in moments[-2::-1]:
        right = one + right
    expected = classifier.numpy()
    for normal in (left.normal(), right.normal()):
        np.testing.assert_allclose(normal.mean, expected.mean(0), atol=1e-9)
        np.testing.assert_allclose(normal.covariance, np.atleast_2d(np.cov(expected.T)), atol=1e-8)


@given(st.integers(0, 1000), st.integers(20, 60), st.integers(2, 12))
def test_frechet_is_the_same_from_features_from_moments_and_without_full_rank(seed: int, count: int, dim: int) -> None:
    a, b = (torch.tensor(points(seed + k, count, dim)) for k in (0, 1))
    wide_a, wide_b = (torch.cat([one, torch.zeros(count, 60)], 1) for one in (a, b))  # fewer images than dimensions
    rotation = torch.linalg.qr(torch.randn(dim + 60, dim + 60, dtype=torch.float64)).Q
    of_moments = frechet_of(Moments.of(a).normal(), Moments.of(b).normal())
    assert frechet(a, b) == pytest.approx(of_moments, rel=1e-8, abs=1e-8)
    assert frechet(wide_a @ rotation, wide_b @ rotation) == pytest.approx(of_moments, rel=1e-6, abs=1e-6)
    rotated = [Moments.of(one @ rotation).normal() for one in (wide_a, wide_b)]
    assert frechet_of(*rotated) == pytest.approx(of_moments, rel=1e-5, abs=1e-4)


@pytest.mark.parametrize("classes", [None, 2])
def test_the_interval_is_as_wide_as_the_spread_of_other_fakes(classes: int | None) -> None:
    rng = np.random.default_rng(0)
    index = None if classes is None else torch.arange(800) % classes
    far = 0 if index is None else 6 * index[:, None].numpy()
    real = Moments.of(torch.tensor(rng.normal(size=(5000, 5)) + 0.5 + (0 if classes is None else 3))).normal()
    values, widths, ours = [], [], groups_of(800, index)
    for _ in range(60):
        classifier = torch.tensor(rng.normal(size=(800, 5)) * 1.3 + far)
        moments = Moments.nothing(5, GROUPS)
        moments.add(classifier, ours)
        values.append(frechet_of(moments.normal(), real))
        low, high = frechet_interval(moments, real)
        widths.append(high - low)
        assert low < 0 < high
    assert np.mean(widths) == pytest.approx(3.92 * np.std(values), rel=0.25)


def test_groups_hold_all_classes_alike() -> None:
    index = torch.arange(1000) % 7
    group = groups_of(1000, index)
    counts = torch.zeros(GROUPS, 7).index_put_((group, index), torch.ones(1000), accumulate=True)
    assert int(counts.amax(0).sub(counts.amin(0)).max()) <= 1
    assert torch.bincount(group).tolist() == torch.bincount(groups_of(1000)).tolist()


def test_kernel_distance_is_the_mean_over_all_pairs() -> None:
    a, b = torch.tensor(points(0, 30, 4)), torch.tensor(points(1, 40, 4, shift=0.5))

    def kernel(x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return (x @ y.T / 4 + 1) ** 3

    xx = kernel(a, a)
    within = (xx.sum() - xx.trace()) / (30 * 29)
    mean, spread = kernel_distance(a, a.clone())
    assert mean == pytest.approx(float(2 * within - 2 * xx.mean()))
    assert spread == pytest.approx(0, abs=1e-9)
    far, spread = kernel_distance(a, b)
    bb = kernel(b, b)
    exact = within + (bb.sum() - bb.trace()) / (40 * 39) - 2 * kernel(a, b).mean()
    assert far == pytest.approx(float(exact), abs=4 * spread / 10)


@settings(max_examples=25)
@given(st.integers(0, 1000), st.integers(10, 50), st.integers(2, 6))
def test_inception_score_is_the_papers_formula(seed: int, count: int, classes: int) -> None:
    logits = torch.tensor(points(seed, count, classes)).float() * 3
    split = splits_of(count)
    scores = Scores.nothing(classes)
    scores.add(logits, split)
    expected = []
    for number in range(10):
        p = scipy.special.softmax(logits.numpy().astype(np.float64)[split.numpy() == number], 1)
        expected.append(np.exp(scipy.stats.entropy(p.T, p.mean(0)[:, None]).mean()))
    assert scores.score() == pytest.approx((np.mean(expected), np.std(expected)))
    halves = [Scores.nothing(classes) for _ in range(2)]
    for half, part in zip(halves, (slice(0, 7), slice(7, None)), strict=True):
        half.add(logits[part], split[part])
    assert (halves[1] + halves[0]).score() == pytest.approx(scores.score())
    assert sorted(torch.bincount(split, minlength=10).tolist())[0] >= count // 10


def test_a_certain_classifier_scores_the_number_of_classes_and_an_infinite_margin_is_finite() -> None:
    scores = Scores.nothing(4)
    scores.add(1e5 * torch.eye(4).repeat(10, 1), torch.arange(40) // 4)
    assert scores.score() == pytest.approx((4, 0))


def test_mean_pairwise_is_the_mean_over_pairs() -> None:
    a = points(0, 9, 4)
    pairs = [np.linalg.norm(a[i] - a[j]) for i in range(9) for j in range(9) if i != j]
    assert mean_pairwise(torch.tensor(a)) == pytest.approx(np.mean(pairs), rel=1e-6)


@pytest.mark.parametrize("dimensions", [1, 3])
def test_quadratic_mmd_is_that_of_the_kernels_written_out(dimensions: int) -> None:
    a, b = torch.randn(40, dimensions).double(), 2 * torch.randn(50, dimensions).double() + 1
    xx, yy, xy = ((x @ y.T / dimensions + 1) ** 2 for x, y in ((a, a), (b, b), (a, b)))
    expected = (xx.sum() - xx.trace()) / (40 * 39) + (yy.sum() - yy.trace()) / (50 * 49) - 2 * xy.mean()
    assert quadratic_mmd(a, b) == pytest.approx(expected.item())


@pytest.mark.parametrize("theirs", [False, True])
def test_statistics_are_kept_in_the_layout_of_others(tmp_path: Path, theirs: bool) -> None:
    normal = Moments.of(torch.tensor(points(0, 40, 6))).normal()
    about = {"extractor": "inception", "extractor_sha256": "ab", "real": 40, "size": "8×8"}
    write_normal(tmp_path / "stats.npz", normal, about)
    with np.load(tmp_path / "stats.npz") as file:  # as pytorch-fid and BigGAN-PyTorch read it
        mean, covariance = file["mu"], file["sigma"]
    if theirs:
        np.savez(tmp_path / "stats.npz", mu=mean.astype(np.float32), sigma=covariance)
    again, known = read_normal(tmp_path / "stats.npz")
    assert frechet_of(again, normal) == pytest.approx(0, abs=1e-6)
    assert known == ({} if theirs else about)


ABOUT = {"extractor": "inception", "extractor_sha256": "ab", "real": 40, "size": "8×8"}


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ({"sigma": np.array([[1.0, 0.5], [0.1, 1.0]])}, "sigma is not symmetric"),
        ({"sigma": np.array([[1.0, 2.0], [2.0, 1.0]])}, "sigma has negative eigenvalues"),
        ({"sigma": -np.eye(2)}, "sigma has negative eigenvalues"),
        ({"sigma": np.full((2, 2), np.nan)}, "expected finite ones"),
        ({"sigma": np.eye(3)}, "of shape"),
        ({"sigma": np.eye(2) * 1j}, "sigma of complex128"),
        ({"mu": np.array(1.0)}, "of shape"),
        ({"mu": np.array(["a", "b"])}, "mu of <U1"),
        ({"mu": None}, "has no mu"),
        ({"about": np.array(json.dumps(ABOUT | {"real": 1}))}, "real: Input should be greater"),
        ({"about": np.array(json.dumps(ABOUT | {"real": "many"}))}, "real: Input should be a valid integer"),
        ({"about": np.array(json.dumps(ABOUT | {"size": [8, 8]}))}, "size: Input should be a valid string"),
        ({"about": np.array(json.dumps(ABOUT | {"extractor": None}))}, "extractor: Input should be"),
        ({"about": np.array("{")}, "does not tell what its statistics are of"),
        ({"about": np.array("[" * 100_000)}, "does not tell what its statistics are of"),
    ],
)
def test_statistics_that_are_none_are_one_line(tmp_path: Path, parts: dict, said: str) -> None:
    whole = {"mu": np.zeros(2), "sigma": np.eye(2), "about": np.array(json.dumps(ABOUT))} | parts
    np.savez(tmp_path / "x.npz", **{name: part for name, part in whole.items() if part is not None})
    with pytest.raises(UserError) as refused:
        read_normal(tmp_path / "x.npz")
    assert said in str(refused.value)
    assert "\n" not in str(refused.value)


def test_rounded_statistics_are_read(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(20, 50)).astype(np.float32)
    np.savez(tmp_path / "x.npz", mu=features.mean(0), sigma=np.cov(features.T).astype(np.float32))
    assert read_normal(tmp_path / "x.npz")[1] == {}


@pytest.mark.usefixtures("good_classifiers")
def test_the_classifier_knows_digits_and_is_trained_once(monkeypatch: pytest.MonkeyPatch) -> None:
    data = read("digits", 16, 1)
    model = trained_classifier(data.train.images, data.train.labels, data.content_hash)
    seen = model.predict(data.held_out.images, data.held_out.labels[:])
    assert seen.labels.accuracy(seen.logits).mean() >= 0.97
    monkeypatch.setattr(classifier, "_train", None)
    again = trained_classifier(data.train.images, data.train.labels, data.content_hash)
    assert torch.equal(again.predict(data.held_out.images, data.held_out.labels[:]).features, seen.features)
