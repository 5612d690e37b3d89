import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from condgan.evaluation.metrics import distances
from condgan.evaluation.metrics.neighbors import Nearest, copies, neighbor_sheet
from condgan.utils.figures import enlarged

SIZES = st.integers(1, 40)


def points(seed: int, count: int, dim: int) -> torch.Tensor:
    """Features around an offset, a third of them repeated."""
    features = np.random.default_rng(seed).normal(3, 1, (count, dim)).astype(np.float32)
    features[: count // 3] = features[count - count // 3 :]
    return torch.from_numpy(features)


@given(st.integers(0, 1000), SIZES, SIZES, st.integers(1, 600), st.integers(1, 5))
def test_neighbors_are_those_of_all_distances(seed: int, queries: int, count: int, dim: int, keep: int) -> None:
    fake, train = points(seed, queries, dim), points(seed + 1, count, dim)
    between = np.linalg.norm(fake.numpy()[:, None].astype(float) - train.numpy()[None], axis=2)
    nearest = Nearest.among(fake, train, keep)
    assert nearest.distances.shape == nearest.numbers.shape == (queries, min(keep, count))
    rounding = 3e-8 * float(fake.norm(dim=1).max())
    assert nearest.distances.numpy() == pytest.approx(np.sort(between, axis=1)[:, :keep], rel=1e-6, abs=rounding)
    chosen = np.take_along_axis(between, nearest.numbers.numpy(), 1)
    assert nearest.distances.numpy() == pytest.approx(chosen, rel=1e-6, abs=rounding)
    assert all(len(set(row)) == len(row) for row in nearest.numbers.tolist())


def test_tiles_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    fake, train = points(0, 40, 50), points(1, 300, 50)
    whole = Nearest.among(fake, train, 4)
    monkeypatch.setattr(distances, "CELLS", 1_000)
    tiled = Nearest.among(fake, train, 4)
    assert tiled.distances.numpy() == pytest.approx(whole.distances.numpy(), abs=1e-7)


def test_copies_of_a_copied_image_are_at_no_distance() -> None:
    train = torch.randn(100, 777).repeat(7, 1)
    nearest = Nearest.among(train[20:23], train, 3)
    assert nearest.distances.tolist() == [[0, 0, 0]] * 3
    assert (nearest.numbers % 100).tolist() == [[place] * 3 for place in (20, 21, 22)]


def test_of_the_same_images_relative_distances_are_0() -> None:
    assert Nearest.among(torch.zeros(2, 3), torch.zeros(4, 3), 3).relative.tolist() == [0, 0]


def test_relative_distances_are_to_the_others_kept() -> None:
    train = torch.tensor([[0.0, 6.0], [3.0, 4.0], [10.0, 0.0], [0.0, 2.0]])
    nearest = Nearest.among(torch.zeros(1, 2), train, 3)
    assert nearest.distances.tolist() == [[2, 5, 6]]
    assert nearest.relative.tolist() == pytest.approx([2 / 5.5])


@given(
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.lists(st.integers(0, 9), min_size=1, max_size=20),
    st.floats(0.01, 0.9),
)
def test_copies_are_fakes_whose_rank_among_held_out_images_is_low(
    fake: list[int], real: list[int], share: float
) -> None:
    """Ties are broken at random, and the p-value is the rank, less a random part of a place, over m + 1."""
    rng, chances = np.random.default_rng(0), []
    for one in fake:
        below, equal = sum(other < one for other in real), sum(other == one for other in real)
        p = (below + rng.random(4000) * (1 + equal)) / (len(real) + 1)
        chances.append((p <= share).mean())
    assert copies(torch.tensor(fake).float(), torch.tensor(real).float(), share) == pytest.approx(
        np.mean(chances), abs=0.04
    )


@pytest.mark.parametrize("real_count", [20, 99, 359])
@pytest.mark.parametrize("kinds", [3, 1_000_000])
def test_of_a_generator_that_does_not_copy_they_are_1_percent(real_count: int, kinds: int) -> None:
    """Many ties or none; the mean over 600 sets, whose spread the tolerance is three times."""
    rng = np.random.default_rng(0)
    values = []
    for _ in range(600):
        distances = torch.from_numpy(rng.integers(0, kinds, 200 + real_count).astype(np.float32))
        values.append(copies(distances[:200], distances[200:]))
    assert np.mean(values) == pytest.approx(0.01, abs=3 * np.std(values) / 600**0.5)
    assert np.std(values) < 0.02


def test_of_a_generator_that_copies_they_are_what_it_copies() -> None:
    real = torch.linspace(1, 2, 359)
    fake = torch.cat([torch.zeros(30), torch.linspace(1.1, 2, 70)])
    assert copies(fake, real) == pytest.approx(0.3)
    held_out_copies = real.clone()
    held_out_copies[:18] = 0
    assert copies(torch.zeros(10), held_out_copies) == pytest.approx(3.6 / 19)
    assert copies(torch.zeros(10), torch.ones(49)) == pytest.approx(0.5)


def test_typical_images_are_no_copies_by_relative_distances_and_noisy_copies_are() -> None:
    """Fakes at the centers of a data set's clusters lie nearer to training images than held-out ones do."""
    drawing = torch.Generator().manual_seed(0)
    centers = 8 * torch.randn(30, 16, generator=drawing)

    def drawn(count: int, spread: float = 1.0) -> torch.Tensor:
        of = torch.randint(30, (count,), generator=drawing)
        return centers[of] + spread * torch.randn(count, 16, generator=drawing)

    train, held_out, typical = drawn(900), drawn(400), drawn(400, 0.3)
    noisy_copies = train[:400] + 0.3 * torch.randn(400, 16, generator=drawing)
    near = [Nearest.among(queries, train, 6) for queries in (held_out, typical, noisy_copies)]
    held_out_near, *fakes = near
    absolute, relative = (
        [copies(one(fake), one(held_out_near)) for fake in fakes]
        for one in (lambda nearest: nearest.distances[:, 0], lambda nearest: nearest.relative)
    )
    assert absolute[0] > 0.1
    assert relative[0] < 0.02
    assert min(absolute[1], relative[1]) > 0.95


def test_a_sheet_shows_each_fake_before_its_neighbors() -> None:
    fakes = torch.randint(0, 256, (2, 1, 8, 8), dtype=torch.uint8)
    neighbors = torch.randint(0, 256, (2, 3, 1, 8, 8), dtype=torch.uint8)
    pixels = np.asarray(neighbor_sheet(fakes, neighbors, torch.tensor([[0.1, 2.0, 3.0], [4.0, 5.0, 6.0]])))[..., 0]
    cells = enlarged(torch.cat([fakes[:, None], neighbors], 1).flatten(0, 1), 48)[:, 0].numpy().reshape(2, 4, 48, 48)
    left, top = pixels.shape[1] - 4 * 50, pixels.shape[0] - 2 * 50
    shown = pixels[top : top + 100, left : left + 200].reshape(2, 50, 4, 50).swapaxes(1, 2)
    assert np.array_equal(shown[:, :, :48, :48], cells)
    assert (pixels[top:, : left - 2] < 128).any(1).sum() > 10
