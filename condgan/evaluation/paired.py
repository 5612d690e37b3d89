"""Compare two sorts of classifiers, by which test images those of the same seeds get right.

Axes: s seeds, t test images, k classes among them.
"""

from typing import Any

import torch
from jaxtyping import Float, Int
from scipy.special import stdtrit
from torch import Tensor

CONFIDENCE = 0.95
HELPS, HURTS, NO_DIFFERENCE, NO_BETTER = "helps", "hurts", "no difference", "no better than augmentation"


def means_by_class(values: Float[Tensor, "s t"], index: Int[Tensor, " t"]) -> Float[Tensor, "s k"]:
    """Means over the images of each class that has any, in the order of their numbers."""
    _, place, counts = index.unique(return_inverse=True, return_counts=True)
    sums = torch.zeros(len(values), len(counts), dtype=torch.float64)
    return sums.index_add_(1, place, values.double()) / counts


def balanced(values: Float[Tensor, "s t"], index: Int[Tensor, " t"]) -> Float[Tensor, " s"]:
    """The mean over classes of the means over their images: of accuracies, the balanced accuracy."""
    return means_by_class(values, index).mean(1)


def interval(
    differences: Float[Tensor, "s t"], confidence: float = CONFIDENCE, index: Int[Tensor, " t"] | None = None
) -> tuple[float, float]:
    """A confidence interval of the mean over all seeds and test images there might be, for differences in −1 … 1.

    With the images' classes (`index`), of the mean over classes of the means over their images. Seeds and images are
    drawn by chance and crossed. The squared standard errors of the means over seeds and over images are added; what is
    of neither alone counts in both, which errs on the wide side. Student's t has Satterthwaite's (1946) degrees of
    freedom. As many images more as in the interval of Agresti & Min (2005), half of one with each of the four outcomes
    of a pair, shared by the classes, keep a few images that all agree from proving anything. To each class's sum of
    squares the variance of all images is added for the degree of freedom that its mean takes, so that classes of a few
    images, which tell little of their own variance, do not make the interval narrow.
    """
    index = torch.zeros(differences.shape[1], dtype=torch.long) if index is None else index
    per_image, seeds = differences.double().mean(0), len(differences)
    _, place, counts = index.unique(return_inverse=True, return_counts=True)
    classes = len(counts)
    more, taken = 2 / classes, 1 - 1 / classes
    of_seeds = balanced(differences, index).var() / seeds
    _, of_all = _moments(per_image, torch.zeros_like(place), 2.0)
    means, own = _moments(per_image, place, more)
    images = counts + more
    of_classes = (own + taken * of_all / images) / images / classes**2
    variance = of_seeds + of_classes.sum()
    spread = (of_classes.square() / (images - 1 + taken)).sum()
    freedom = variance.square() / (of_seeds.square() / (seeds - 1) + spread)
    center, reach = float(means.mean()), float(variance.sqrt()) * float(stdtrit(float(freedom), (1 + confidence) / 2))
    return center - reach, center + reach


def _moments(values: Float[Tensor, " t"], place: Int[Tensor, " t"], more: float) -> tuple[Tensor, Tensor]:
    """Means and variances of classes' differences, so many more in each, in halves for each outcome of a pair."""
    counts = place.bincount() + more
    sums, squares = (torch.zeros(len(counts), dtype=torch.float64).index_add_(0, place, one)
                     for one in (values, values.square()))  # fmt: skip
    means = sums / counts
    return means, (squares + more / 2) / counts - means.square()


def gain(
    differences: Float[Tensor, "s t"], confidence: float = CONFIDENCE, index: Int[Tensor, " t"] | None = None
) -> dict[str, Any]:
    """{"difference", "interval", "verdict"}: "helps" or "hurts" where the interval leaves out 0, else "no difference".

    With the images' classes (`index`), of the balanced accuracy. No end of the interval is beyond −1 or 1.
    """
    low, high = interval(differences, confidence, index)
    verdict = HELPS if low > 0 else HURTS if high < 0 else NO_DIFFERENCE
    mean = differences.double().mean() if index is None else balanced(differences, index).mean()
    return {"difference": float(mean), "interval": [max(-1.0, low), min(1.0, high)], "verdict": verdict}


def class_gains(
    differences: Float[Tensor, "s t"], index: Int[Tensor, " t"], classes: tuple[str, ...]
) -> dict[str, dict[str, Any]]:
    """The gain of each class that has test images; the intervals hold for all of them together (Bonferroni)."""
    numbers = index.unique().tolist()
    for_each = 1 - (1 - CONFIDENCE) / len(numbers)
    return {classes[number]: gain(differences[:, index == number], for_each) for number in numbers}
