"""Measure how different the images of one class are from each other.

Axes: n images or pairs of them, p pairs, c channels, h × w pixels, i × o pixels before and after a window.
"""

from math import comb
from statistics import fmean

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from condgan.evaluation.extractors import Extractor
from condgan.utils.errors import UserError
from condgan.utils.seeds import derive_seed

SCALES = 0.0448, 0.2856, 0.3001, 0.2363, 0.1333
"""Weights of the scales, the finest first (Wang et al. 2003, section 3.2)."""
WINDOW, SIGMA = 11, 1.5
LUMINANCE, CONTRAST = (0.01 * 255) ** 2, (0.03 * 255) ** 2
"""Constants that keep ratios finite (Wang et al. 2003, eq. 4)."""
COMPARED_AT_ONCE = 32


def ms_ssim(a: UInt8[Tensor, "n c h w"], b: UInt8[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    """Multi-scale structural similarity of each pair of images of 0 … 255 (Wang et al. 2003, eq. 7): 1 if identical.

    As Odena et al. (2017) measure the diversity of a class: each scale's contrast and, of the last, luminance are
    averaged over pixels and channels. The Gaussian window is 11 pixels wide, or as wide as the image, with a standard
    deviation of 1.5/11 of that, and stays inside the image. Between the five scales 2 × 2 pixels are averaged, the last
    of an odd number alone; a side of one pixel stays, so below 16 pixels the coarsest scales are the same. Negative
    terms are 0. In float64.
    """
    return torch.cat(
        [
            _ms_ssim(x.double(), y.double())
            for x, y in zip(a.split(COMPARED_AT_ONCE), b.split(COMPARED_AT_ONCE), strict=True)
        ]
    )


@torch.inference_mode()
def perceptual_distance(
    extractor: Extractor, a: UInt8[Tensor, "n c h w"], b: UInt8[Tensor, "n c h w"]
) -> Float[Tensor, " n"]:
    """Distance of each pair of images of 0 … 255 in a network's feature maps (Zhang et al. 2018, eq. 1 with w = 1).

    At each position the channels are divided by their length; squared differences are averaged over the positions of a
    map and summed over maps, the last of each resolution. UserError: of an extractor that makes no maps.
    """
    parts = []
    for x, y in zip(a.split(COMPARED_AT_ONCE), b.split(COMPARED_AT_ONCE), strict=True):
        maps = list(zip(extractor.maps(x), extractor.maps(y), strict=True))
        if not maps:
            raise UserError(
                f"the extractor '{extractor.name}' makes no feature maps, which perceptual distances compare: choose "
                "a convolutional one, such as 'inception' or 'classifier'"
            )
        squares = [(F.normalize(of_x) - F.normalize(of_y)).square().sum(1).mean((1, 2)) for of_x, of_y in maps]
        parts.append(torch.stack(squares).sum(0))
    return torch.cat(parts).to(a.device)


def class_pairs(
    index: Int[Tensor, " n"], classes: int, per_class: int = 100, at_most: int = 10_000, seed: int = 0
) -> Int[Tensor, "p 2"]:
    """Random pairs of different images of the same class, by number, no pair twice; class by class.

    `per_class` of each class (Odena et al. 2017), or all where it has fewer; of many classes fewer each, so that there
    are `at_most` in all, but one at least.
    """
    wanted = min(per_class, max(1, at_most // classes))
    drawing = np.random.default_rng(derive_seed(seed, "pairs"))
    parts = []
    for members in index.argsort(stable=True).split(index.bincount(minlength=classes).tolist()):
        possible = comb(len(members), 2)
        drawn = torch.from_numpy(drawing.choice(possible, min(wanted, possible), replace=False))
        # Pairs are counted (0, 1), (0, 2), (1, 2), (0, 3), …: j(j − 1)/2 of them come before (0, j).
        later = ((1 + (1 + 8 * drawn.double()).sqrt()) / 2).long()
        parts.append(members[torch.stack([drawn - later * (later - 1) // 2, later], 1)])
    return torch.cat(parts)


def class_means(
    values: Float[Tensor, " p"], index: Int[Tensor, " p"], classes: int
) -> tuple[float | None, list[float | None]]:
    """The mean over classes of their means, and these means, of values with classes; None where there are none."""
    groups = [values[index == number] for number in range(classes)]
    means = [float(group.double().mean()) if len(group) else None for group in groups]
    known = [mean for mean in means if mean is not None]
    return fmean(known) if known else None, means


def _ms_ssim(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> Float[Tensor, " n"]:
    product = torch.ones(len(a), dtype=a.dtype, device=a.device)
    for scale, weight in enumerate(SCALES):
        luminance, contrast = _similarity(a, b)
        last = scale == len(SCALES) - 1
        term = (luminance * contrast if last else contrast).mean((1, 2, 3))
        product = product * term.clamp(min=0) ** weight
        a, b = (F.avg_pool2d(images, 2, ceil_mode=True) for images in (a, b))
    return product


def _similarity(a: Float[Tensor, "n c h w"], b: Float[Tensor, "n c h w"]) -> tuple[Tensor, Tensor]:
    """The luminance term, and the product of contrast and structure, of each window (Wang et al. 2003, eq. 1–4)."""
    width = min(WINDOW, *a.shape[2:])
    rows, columns = (_windows(side, width).to(a.device) for side in a.shape[2:])

    def local(images: Tensor) -> Tensor:
        return rows.T @ images @ columns

    mean_a, mean_b = local(a), local(b)
    variances = local(a * a + b * b) - mean_a**2 - mean_b**2
    covariance = local(a * b) - mean_a * mean_b
    luminance = (2 * mean_a * mean_b + LUMINANCE) / (mean_a**2 + mean_b**2 + LUMINANCE)
    return luminance, (2 * covariance + CONTRAST) / (variances + CONTRAST)


def _windows(side: int, width: int) -> Float[Tensor, "i o"]:
    """The Gaussian windows that lie inside a side: a weighted mean of each is a product with this matrix."""
    offsets = torch.arange(width, dtype=torch.float64) - (width - 1) / 2
    window = torch.softmax(-((offsets / (SIGMA * width / WINDOW)) ** 2) / 2, 0)
    return torch.stack([F.pad(window, (start, side - width - start)) for start in range(side - width + 1)], 1)
