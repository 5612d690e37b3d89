"""Texture, grain and checkerboard: against numpy, and in the order in which eyes see what is wrong."""

from itertools import pairwise

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from condgan.evaluation.metrics.texture import (
    BINS,
    VISIBLE,
    Contrasts,
    alternating,
    compare_textures,
    contrast,
    fine_detail,
)
from condgan.evaluation.statistics import collect_statistics
from tests.evaluation.test_evaluation import EXTRACTOR, Drawn

SIZE = 32


def photographs(count: int, seed: int, slopes: np.ndarray | None = None) -> Tensor:
    """Random fields with the spectrum of photographs, whose amplitudes fall with the frequency, and little color.

    `slopes`: how steeply, of each; evenly spread by default.
    """
    rng = np.random.default_rng(seed)
    rows, columns = np.fft.fftfreq(SIZE)[:, None], np.fft.fftfreq(SIZE)
    frequency = np.hypot(rows, columns)
    frequency[0, 0] = 1
    noise = 0.2 * rng.standard_normal((count, 3, SIZE, SIZE)) + rng.standard_normal((count, 1, SIZE, SIZE))
    slope = (np.linspace(1.25, 2.5, count) if slopes is None else slopes)[:, None, None, None]
    fields = np.fft.ifft2(np.fft.fft2(noise) / frequency**slope).real
    fields *= 50 / fields.std((1, 2, 3), keepdims=True)
    return torch.from_numpy((128 + fields).round().clip(0, 255)).byte()


def noisy(images: Tensor, sigma: float) -> Tensor:
    noise = sigma * torch.randn(images.shape, generator=torch.Generator().manual_seed(0))
    return (images + noise).round().clamp(0, 255).byte()


def blurred(images: Tensor, sigma: float) -> Tensor:
    offsets = torch.arange(-5.0, 6)
    window = torch.softmax(-((offsets / sigma) ** 2) / 2, 0)
    kernel = window.outer(window).expand(images.shape[1], 1, -1, -1)
    padded = F.pad(images.float(), (5, 5, 5, 5), mode="reflect")
    return F.conv2d(padded, kernel, groups=images.shape[1]).round().clamp(0, 255).byte()


def checkered(images: Tensor, level: int) -> Tensor:
    rows = torch.arange(SIZE)
    signs = 1 - 2 * ((rows[:, None] + rows) % 2)
    return (images + level * signs).clamp(0, 255).byte()


REAL, OTHERS = photographs(100, 0), photographs(100, 1)
OF_REAL = Contrasts.of(REAL)


def distance(images: Tensor) -> float:
    return compare_textures(Contrasts.of(images), OF_REAL).distance


def grain(images: Tensor) -> float:
    return compare_textures(Contrasts.of(images), OF_REAL).grain


def reference_contrasts(image: np.ndarray) -> np.ndarray:
    """Of one channel, at one scale: the mean around each pixel taken off, twice, then places of 4 × 4 pixels."""
    for _ in range(2):
        height, width = image.shape
        mean = sum(
            weight * other * image[1 + y : height - 1 + y, 1 + x : width - 1 + x]
            for y, weight in ((-1, 0.25), (0, 0.5), (1, 0.25))
            for x, other in ((-1, 0.25), (0, 0.5), (1, 0.25))
        )
        image = image[1:-1, 1:-1] - mean
    places = [
        np.sqrt(np.mean(image[y : y + 4, x : x + 4] ** 2) + VISIBLE**2)
        for y in range(0, image.shape[0] - 3, 4)
        for x in range(0, image.shape[1] - 3, 4)
    ]
    return np.log2(places)


def test_texture_is_what_numpy_says() -> None:
    """Sorted contrasts of each scale and channel are compared one by one: 32, 16 and 8 pixels a side."""
    fake, real = noisy(OTHERS[:5], 20), REAL[:5]
    squares, shifts = [], []
    for scale in (1, 2, 4):
        small = [
            images.double().numpy().reshape(5, 3, 32 // scale, scale, -1, scale).mean((3, 5)) for images in (fake, real)
        ]
        for channel in range(3):
            a, b = (np.sort(np.concatenate([reference_contrasts(one[channel]) for one in images])) for images in small)
            squares.append(np.mean((a - b) ** 2))
            shifts.append(np.mean(a - b) if scale == 1 else np.nan)
    found = compare_textures(Contrasts.of(fake), Contrasts.of(real))
    assert found.distance == pytest.approx(np.sqrt(np.mean(squares)), abs=1 / BINS)
    assert found.grain == pytest.approx(np.nanmean(shifts), abs=1 / BINS)


def test_the_filter_keeps_what_alternates_and_drops_what_is_slow() -> None:
    for frequency, gain in ((0.5, 1), (0.25, 0.25), (0, 0)):
        wave = (2 * torch.pi * frequency * torch.arange(16.0)).cos().expand(1, 1, 16, 16)
        torch.testing.assert_close(fine_detail(wave), gain * wave[..., 2:-2, 2:-2], atol=1e-6, rtol=0)


def test_grain_is_counted_in_octaves() -> None:
    """Twice the contrast is one more, but where it is hardly seen."""
    noise = torch.randn(50, 1, 40, 40, generator=torch.Generator().manual_seed(0))
    levels = [Contrasts.of((128 + level * noise).round().clamp(0, 255).byte()) for level in (0.5, 1, 16, 32)]
    assert compare_textures(levels[3], levels[2]).grain == pytest.approx(1, abs=0.05)
    assert compare_textures(levels[3], levels[2]).distance == pytest.approx(1, abs=0.2)
    assert 0 < compare_textures(levels[1], levels[0]).grain < 0.2


def test_real_images_are_nearer_than_noise_and_noise_than_blur() -> None:
    ranked = [OTHERS, noisy(OTHERS, 4), noisy(OTHERS, 8), blurred(OTHERS, 1), blurred(OTHERS, 1.5)]
    found = [distance(images) for images in ranked]
    assert all(a < b for a, b in pairwise(found)), found
    assert found[0] < 0.1 < 0.3 < found[2]


def test_more_noise_is_more_grain_and_more_blur_is_less() -> None:
    found = [
        grain(one)
        for one in (*(blurred(OTHERS, s) for s in (1.5, 1, 0.5)), OTHERS, *(noisy(OTHERS, s) for s in (4, 8, 16)))
    ]
    assert all(a < b for a, b in pairwise(found)), found
    assert abs(found[3]) < 0.1
    assert found[2] < -0.1
    assert found[4] > 0.1


def test_colored_grain_that_brightness_hides_is_seen() -> None:
    """Noise that takes from one channel what it gives another leaves the mean of the channels as it was."""
    noise = 8 * torch.randn(100, 1, SIZE, SIZE, generator=torch.Generator().manual_seed(0))
    colored = (OTHERS + torch.cat([noise, -noise, 0 * noise], 1)).round().clamp(0, 255).byte()
    assert grain(colored) > 3 * abs(grain(OTHERS)) + 0.1
    assert distance(colored) > 2 * distance(OTHERS)


def test_checkerboards_alternate_and_noise_does_not() -> None:
    noise = 40 * torch.randn(50, 1, 44, 44, generator=torch.Generator().manual_seed(0))
    assert float(alternating(noise).mean()) == pytest.approx(3 / 64, rel=0.1)
    assert Contrasts.of(checkered(torch.full((2, 3, SIZE, SIZE), 128), 60)).checkerboard == pytest.approx(1, abs=0.01)
    plain = OF_REAL.checkerboard
    found = [Contrasts.of(checkered(OTHERS, level)).checkerboard for level in (0, 2, 4, 8)]
    assert found[0] == pytest.approx(plain, abs=0.01)
    assert all(a < b for a, b in pairwise(found)), found
    assert found[2] > 5 * plain
    assert Contrasts.of(noisy(OTHERS, 8)).checkerboard < 0.07


@settings(max_examples=10, deadline=None)
@given(
    channels=st.sampled_from([1, 3, 4]), height=st.integers(8, 36), width=st.integers(8, 36), seed=st.integers(0, 99),
    cut=st.integers(0, 5),
)  # fmt: skip
def test_parts_are_the_whole_at_any_size(channels: int, height: int, width: int, seed: int, cut: int) -> None:
    drawing = torch.Generator().manual_seed(seed)
    images = torch.randint(0, 256, (5, channels, height, width), generator=drawing).byte()
    parts, whole = Contrasts.nothing(channels, height, width), Contrasts.of(images)
    for part in (images[:cut], images[cut:]):
        parts.add(part)
    assert int((parts.counts - whole.counts).abs().sum()) <= 2, "a contrast at the edge of a step may be rounded"
    torch.testing.assert_close(parts.alternating, whole.alternating)
    itself = compare_textures(whole, whole)
    assert (itself.distance, itself.grain) == (0, 0)
    other = Contrasts.of(images // 2)
    there, back = compare_textures(whole, other), compare_textures(other, whole)
    assert there.distance == pytest.approx(back.distance)
    assert there.grain == pytest.approx(-back.grain)
    assert there.grain > 0


def test_flat_images_have_no_texture() -> None:
    flat = Contrasts.of(torch.zeros(3, 1, 8, 8, dtype=torch.uint8))
    assert flat.checkerboard == 0
    assert int(flat.counts[0, 0, 0]) == 3
    assert float(contrast(torch.zeros(1, 1, 4, 4))) == 1


def test_chunks_are_one() -> None:
    whole, parts = (collect_statistics(Drawn(0, 200, size), EXTRACTOR, frozenset({"contrasts"})) for size in (200, 30))
    assert whole.contrasts.counts.sum() == parts.contrasts.counts.sum() == 3 * 200
    found = compare_textures(parts.contrasts, whole.contrasts)
    assert found.distance == pytest.approx(0, abs=1e-2)
    assert parts.contrasts.checkerboard == pytest.approx(whole.contrasts.checkerboard)
