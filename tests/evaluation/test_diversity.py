import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import ndimage, signal
from torch import Tensor, nn

from condgan.evaluation.extractors import Extractor
from condgan.evaluation.metrics.diversity import class_means, class_pairs, ms_ssim, perceptual_distance
from condgan.utils.errors import UserError


def written_out(a: np.ndarray, b: np.ndarray) -> float:
    """MS-SSIM of two images h × w × c."""
    a, b, product = a.astype(float), b.astype(float), 1.0
    for scale, weight in enumerate([0.0448, 0.2856, 0.3001, 0.2363, 0.1333]):
        size = min(11, *a.shape[:2])
        offsets = np.arange(size) - (size - 1) / 2
        window = np.exp(-(offsets[:, None] ** 2 + offsets**2) / (2 * (1.5 * size / 11) ** 2))[..., None]
        ma, mb, aa, bb, ab = (
            signal.fftconvolve(x, window / window.sum(), "valid", axes=(0, 1)) for x in (a, b, a * a, b * b, a * b)
        )
        c1, c2 = (0.01 * 255) ** 2, (0.03 * 255) ** 2
        contrast = (2 * (ab - ma * mb) + c2) / (aa - ma**2 + bb - mb**2 + c2)
        luminance = (2 * ma * mb + c1) / (ma**2 + mb**2 + c1)
        product *= max(0, (contrast * luminance if scale == 4 else contrast).mean()) ** weight
        a, b = (ndimage.convolve(x, np.full((2, 2, 1), 0.25), mode="reflect")[::2, ::2] for x in (a, b))
    return product


def pictures(count: int, channels: int, height: int, width: int) -> Tensor:
    """Smooth images and noisy ones like them, so that similarities are of all sizes."""
    rng = np.random.default_rng(height + width + channels)
    smooth = ndimage.gaussian_filter(rng.normal(size=(channels, height, width)), (0, height / 8, width / 8))
    noise = (
        rng.normal(size=(count, channels, height, width)) * smooth.std() * np.linspace(0, 3, count).reshape(-1, 1, 1, 1)
    )
    return torch.from_numpy((128 + 40 * (smooth + noise) / smooth.std()).clip(0, 255).astype(np.uint8))


@pytest.mark.parametrize("channels", [1, 3, 4])
@pytest.mark.parametrize("size", [(64, 64), (32, 32), (16, 16), (28, 28), (8, 8), (37, 21)])
def test_ms_ssim_is_the_papers_written_out(channels: int, size: tuple[int, int]) -> None:
    images = pictures(5, channels, *size)
    a, b = images[[0, 0, 0, 0, 1, 3]], images[[0, 1, 2, 4, 3, 4]]
    expected = [written_out(*(x.permute(1, 2, 0).numpy() for x in pair)) for pair in zip(a, b, strict=True)]
    assert expected[0] > expected[1] > expected[2] > expected[3]
    assert ms_ssim(a, b).tolist() == pytest.approx(expected, rel=1e-9)


def test_ms_ssim_of_an_image_to_itself_is_1_and_to_its_negative_0_either_way_round() -> None:
    images = pictures(40, 3, 16, 16)
    assert ms_ssim(images, images).tolist() == pytest.approx([1] * 40)
    assert ms_ssim(images, 255 - images).tolist() == [0] * 40
    assert ms_ssim(images[:0], images[:0]).tolist() == []
    other = images.roll(1, 0)
    assert ms_ssim(images, other).tolist() == pytest.approx(ms_ssim(other, images).tolist(), rel=1e-12)


def test_perceptual_distance_is_that_of_normalized_maps() -> None:
    class Two(nn.Module):
        """Maps 4 × 6 × 6 and 5 × 3 × 3."""

        def __init__(self) -> None:
            super().__init__()
            self.first, self.relu, self.second = nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Conv2d(4, 5, 2, stride=2)

        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            return self.second(self.relu(self.first(images / 255))).mean((2, 3)), None

    network = Two().eval()
    a, b = torch.randint(0, 256, (2, 40, 3, 8, 8), dtype=torch.uint8)
    expected = np.zeros(40)
    with torch.no_grad():
        fine = [network.relu(network.first(images / 255)) for images in (a, b)]
        for maps in (fine, [network.second(one) for one in fine]):
            x, y = (one.numpy() / np.maximum(np.linalg.norm(one.numpy(), axis=1, keepdims=True), 1e-12) for one in maps)
            expected += ((x - y) ** 2).sum(1).mean((1, 2))
    extractor = Extractor(name="two", sha256="", resize="none", network=network)
    assert perceptual_distance(extractor, a, b).numpy() == pytest.approx(expected, rel=1e-5)
    assert perceptual_distance(extractor, a, a).tolist() == [0] * 40


def test_without_maps_there_is_no_perceptual_distance() -> None:
    class Flat(nn.Module):
        def forward(self, images: Tensor) -> tuple[Tensor, None]:
            return images.flatten(1).float(), None

    images = torch.zeros(2, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(UserError, match="'flat' makes no feature maps.* choose"):
        perceptual_distance(Extractor(name="flat", sha256="", resize="none", network=Flat()), images, images)


@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.integers(1, 30), st.integers(0, 9))
def test_pairs_are_different_images_of_one_class_none_twice(index: list[int], per_class: int, seed: int) -> None:
    labels = torch.tensor(index)
    pairs = class_pairs(labels, 5, per_class, at_most=100, seed=seed)
    assert torch.equal(pairs, class_pairs(labels, 5, per_class, at_most=100, seed=seed))
    assert len({frozenset(pair) for pair in pairs.tolist()}) == len(pairs)
    assert all(a != b and index[a] == index[b] for a, b in pairs.tolist())
    sizes = [index.count(number) for number in range(5)]
    expected = [min(per_class, 20, size * (size - 1) // 2) for size in sizes]
    assert labels[pairs[:, 0]].bincount(minlength=5).tolist() == expected


def test_pairs_are_drawn_evenly_and_from_the_seed() -> None:
    labels = torch.zeros(6, dtype=torch.int64)
    drawn = [class_pairs(labels, 1, 3, seed=seed) for seed in range(500)]
    counts = np.zeros((6, 6), int)
    for a, b in torch.cat(drawn).tolist():
        counts[min(a, b), max(a, b)] += 1
    assert counts[np.triu_indices(6, 1)] == pytest.approx([100] * 15, abs=45)
    of_many = class_pairs(torch.arange(600) % 300, 300, at_most=200)
    assert of_many.shape == (300, 2)


def test_means_are_of_classes_that_have_values() -> None:
    values, index = torch.tensor([1.0, 3.0, 5.0]), torch.tensor([0, 0, 2])
    assert class_means(values, index, 4) == (3.5, [2.0, None, 5.0, None])
    assert class_means(values[:0], index[:0], 2) == (None, [None, None])
