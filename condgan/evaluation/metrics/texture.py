"""Measure what eyes see at once and features of classifiers hardly tell: grain, blur and checkerboards.

Axes: b images, c channels, h × w pixels, y × x pixels after the filter, i × j places, s scales, v contrasts.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

SMALLEST = 8
"""Pixels of the shorter side from which a scale has a place to look at."""
MOST_SCALES = 3
"""Each of half the size of the one before: the finest octaves of the spectrum."""
PLACE, LARGE_PLACE = 4, 8
"""Pixels of the sides of places: of contrasts and small images, and where it is asked what alternates."""
VISIBLE = 2.0
"""Gray levels that are hardly seen."""
LOWEST, HIGHEST, BINS = 1, 10, 64
"""The range of contrasts, and the steps of each octave of it."""
FILTERED_AT_ONCE = 1 << 20
"""Pixels of channels."""


class Texture(NamedTuple):
    """How far the texture of fakes is from that of real images."""

    distance: float
    """Between the distributions of contrasts, in octaves."""
    grain: float
    """How much stronger the finest detail of fakes is, in octaves: grain is above 0, blur below."""


@dataclass(frozen=True)
class Contrasts:
    """Sums over images of the contrasts of their places; those of several chunks or processes are added."""

    counts: Int[Tensor, "s c v"]
    """How many places have each contrast, by scale, the finest first, and channel."""
    alternating: Float[Tensor, " 2"]
    """The share of the finest detail that alternates from pixel to pixel, summed over places, and their number."""

    @classmethod
    def nothing(cls, channels: int, height: int, width: int) -> "Contrasts":
        """Of no images of this size."""
        scales = sum(min(height, width) >> scale >= SMALLEST for scale in range(MOST_SCALES))
        counts = torch.zeros(scales, channels, (HIGHEST - LOWEST) * BINS, dtype=torch.long)
        return cls(counts, torch.zeros(2, dtype=torch.float64))

    @classmethod
    def of(cls, images: UInt8[Tensor, "b c h w"]) -> "Contrasts":
        """Of some images."""
        contrasts = cls.nothing(*images.shape[1:])
        contrasts.add(images)
        return contrasts

    def add(self, images: UInt8[Tensor, "b c h w"]) -> None:
        """Count some more images."""
        for part in images.split(max(1, FILTERED_AT_ONCE // images.shape[1:].numel())):
            pixels = part.float()
            for scale, counts in enumerate(self.counts):
                detail = fine_detail(pixels)
                counts += _histogram(contrast(detail)).cpu()
                if scale == 0:
                    shares = alternating(detail)
                    self.alternating[0] += shares.double().sum().cpu()
                    self.alternating[1] += shares.numel()
                pixels = F.avg_pool2d(pixels, 2)

    @property
    def checkerboard(self) -> float:
        """The mean share of the finest detail that alternates from pixel to pixel."""
        return float(self.alternating[0] / self.alternating[1])


def fine_detail(pixels: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c y x"]:
    """What pixels have more than the weighted mean [1 2 1]² / 16 around them, and what that has more, once again.

    The filter has gain 1 at the highest frequency, 1/4 at half of it, and stays inside the image.
    """
    mean, again = torch.tensor([1.0, 2.0, 1.0]) / 4, torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]) / 16
    kernel = again.outer(again) - 2 * F.pad(mean.outer(mean), (1, 1, 1, 1))
    kernel[2, 2] += 1
    return F.conv2d(pixels.flatten(0, 1)[:, None], kernel[None, None].to(pixels.device)).view(
        *pixels.shape[:2], pixels.shape[2] - 4, pixels.shape[3] - 4
    )


def contrast(detail: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c i j"]:
    """The logarithm to base 2 of the root mean square of detail in each place, with what is hardly seen added to it."""
    return (F.avg_pool2d(detail.square(), PLACE) + VISIBLE**2).log2() / 2


def alternating(detail: Float[Tensor, "b c y x"]) -> Float[Tensor, "b c i j"]:
    """The share of each place's detail, squared, at the three frequencies that alternate from pixel to pixel.

    Stripes of either direction and checkers of one pixel: 1 where there is nothing else; of white noise 3/64,
    or 3/16 where the shorter side is below 12 pixels.
    """
    side = LARGE_PLACE if min(detail.shape[2:]) >= LARGE_PLACE else PLACE
    rows, columns = (1.0 - 2 * (torch.arange(length, device=detail.device) % 2) for length in detail.shape[2:])
    patterns = rows[:, None], columns, rows.outer(columns)
    squares = torch.stack([F.avg_pool2d(detail * pattern, side).square() for pattern in patterns])
    return squares.sum(0) / (F.avg_pool2d(detail.square(), side) + VISIBLE**2)


def compare_textures(fake: Contrasts, real: Contrasts) -> Texture:
    """Compare the contrasts of fakes and of real images.

    The distance is the 2-Wasserstein distance of each scale's and channel's contrasts, and of these the root mean
    square: sorted contrasts are compared one by one, and since they are logarithms, twice as much counts as half.
    """
    shift, square = _transport(fake.counts, real.counts)
    return Texture(float(square.mean().sqrt()), float(shift[0].mean()))


def _histogram(contrasts: Float[Tensor, "b c i j"]) -> Int[Tensor, "c v"]:
    channels, steps = contrasts.shape[1], (HIGHEST - LOWEST) * BINS
    number = ((contrasts - LOWEST) * BINS).long().clamp(0, steps - 1)
    number += torch.arange(channels, device=number.device)[:, None, None] * steps
    return torch.bincount(number.flatten(), minlength=channels * steps).view(channels, steps)


def _transport(a: Int[Tensor, "s c v"], b: Int[Tensor, "s c v"]) -> tuple[Float[Tensor, "s c"], Float[Tensor, "s c"]]:
    """The mean difference of a's sorted contrasts to b's, and the mean square of it, in octaves."""
    shares = [counts.cumsum(2) / counts.sum(2, keepdim=True) for counts in (a.double(), b.double())]
    edges = torch.cat(shares, 2).sort(2).values
    widths = edges.diff(dim=2, prepend=torch.zeros_like(edges[..., :1]))
    places = edges - widths / 2
    of_a, of_b = (torch.searchsorted(share, places) for share in shares)
    difference = (of_a - of_b) / BINS
    return (widths * difference).sum(2), (widths * difference**2).sum(2)
