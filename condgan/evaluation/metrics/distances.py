"""Distances between sets of features, as pure functions.

Axes: n fake and m real images (a and b where it does not matter), d features, g groups of images.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from scipy.special import ndtri, stdtrit
from torch import Tensor

from condgan.evaluation.moments import Moments, Normal

CELLS = 1 << 24
"""Distances that are in memory at once."""
KERNEL_SUBSETS, KERNEL_SUBSET = 100, 1_000
DENSITY_NEIGHBORS = 5
"""The neighbor of a real image to which its ball reaches, in density and coverage."""
SCORE_SPLITS = 10
SHUFFLE = 2020
"""The seed with which torch-fidelity draws kernel distances' subsets, and shuffles before it splits."""


def frechet(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Fréchet distance of the normal distributions fitted to two sets of features (Heusel et al. 2017, eq. 6).

    In float64. Where either set is smaller than its dimensions the trace of the root is the sum of the singular values
    of A Bᵀ, centered, over √((n − 1)(m − 1)): the same number without d × d roots.
    """
    a, b = a.double(), b.double()
    if min(len(a), len(b)) > a.shape[1]:
        return frechet_of(Moments.of(a).normal(), Moments.of(b).normal())
    centered = a - a.mean(0), b - b.mean(0)
    (x, y), (n, m) = centered, (len(a) - 1, len(b) - 1)
    cross = torch.linalg.svdvals(x @ y.T).sum() / (n * m) ** 0.5
    traces = x.square().sum() / n + y.square().sum() / m
    return float(((a.mean(0) - b.mean(0)).square().sum() + traces - 2 * cross).clamp(min=0))


def frechet_of(a: Normal, b: Normal) -> float:
    """|μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½), safe where a covariance lacks full rank."""
    root = _root(b.covariance)
    cross = torch.linalg.eigvalsh(root.T @ a.covariance @ root).clamp(min=0).sqrt().sum()
    mean = (a.mean - b.mean).square().sum()
    return float((mean + a.covariance.trace() + b.covariance.trace() - 2 * cross).clamp(min=0))


def frechet_interval(a: Moments, b: Normal, share: float = 0.95, resamples: int = 1_000) -> tuple[float, float]:
    """How far the Fréchet distance of a to b would lie from its value here for other images, as many, of a's source.

    The lower and upper end of a bootstrap interval over a's groups, as differences, wider by Student's t since groups
    are few. b is taken as it is. Resamples of the groups are put
    through the distance's derivative: as such they tell the spread alone, and not the bias that all Fréchet distances
    of few images have and resampling would double. The derivative is 2 (μa − μb)·dμ + tr((I − T) dΣ), where T, the
    optimal transport from a to b, is L (Lᵀ Σa L)^−½ Lᵀ with Σb = L Lᵀ.
    """
    whole = a.normal()
    count = a.count.sum()
    root = _root(b.covariance)
    values, vectors = torch.linalg.eigh(root.T @ whole.covariance @ root)
    there = values > 1e-10 * values[-1]
    half = (root @ vectors)[:, there] / values[there].sqrt().sqrt()
    rest = torch.eye(len(root), dtype=root.dtype, device=root.device) - half @ half.T
    mean = (a.total - a.count[:, None] * whole.mean) / count
    slope = 2 * mean @ (whole.mean - b.mean)
    for number in range(len(a.count)):
        about = a.total[number].outer(whole.mean)
        outer = a.outer[number] - about - about.T + a.count[number] * whole.mean.outer(whole.mean)
        slope[number] += ((outer - a.count[number] * whole.covariance) / count * rest).sum()
    groups = len(slope)
    weights = np.random.default_rng(0).multinomial(groups, [1 / groups] * groups, size=resamples) - 1
    spread = weights @ slope.cpu().numpy() * (groups / (groups - 1)) ** 0.5
    wider = stdtrit(groups - 1, (1 + share) / 2) / ndtri((1 + share) / 2)
    low, high = wider * np.quantile(spread, [(1 - share) / 2, (1 + share) / 2])
    return float(low), float(high)


def kernel_distance(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> tuple[float, float]:
    """Mean and spread over subsets of the unbiased squared MMD with the kernel (x·y/d + 1)³ (Bińkowski et al. 2018).

    100 random subsets of 1,000 images of either set, or of as many as the smaller one has: with the Inception features
    this is KID, and as the subsets are those of torch-fidelity, its number.
    """
    size = min(KERNEL_SUBSET, len(a), len(b))
    rng = np.random.RandomState(SHUFFLE)
    distances = []
    for _ in range(1 if size == len(a) == len(b) else KERNEL_SUBSETS):  # all subsets are then the same
        x, y = (features[torch.from_numpy(rng.choice(len(features), size, replace=False))] for features in (a, b))
        within = sum(_cubic(one, one).fill_diagonal_(0).sum() for one in (x, y))
        distances.append(within / (size * (size - 1)) - 2 * _cubic(x, y).mean())
    values = torch.stack(distances)
    return float(values.mean()), float(values.std(correction=0))


def _cubic(x: Tensor, y: Tensor) -> Tensor:
    """The kernel in float64: in float32 its rounding errors are a thousandth of the small distances of alike sets."""
    return (x @ y.T).double().div_(x.shape[1]).add_(1).pow_(3)


class Manifolds(NamedTuple):
    """How the manifolds of two sets of images cover each other."""

    precision: float
    recall: float
    density: float
    coverage: float


def manifolds(
    fake: Float[Tensor, "n d"],
    real: Float[Tensor, "m d"],
    neighbors: int = 3,
    density_neighbors: int = DENSITY_NEIGHBORS,
) -> Manifolds:
    """Precision and recall (Kynkäänniemi et al. 2019, eq. 2), density and coverage (Naeem et al. 2020, eq. 3–4).

    Around each image lies a ball that reaches to its k-th nearest other image of its set: k is 3 for the former two, 5
    for the latter, and at most the set's size − 1. Precision: the share of fakes in any real ball, border included.
    Recall: the share of real images in any fake ball. Density: the real balls that a fake lies in, border excluded,
    over k, on average. Coverage: the share of real balls with a fake in them. Float64, in tiles.
    """
    fake, real = fake.double(), real.double()
    near, dense = (min(k, len(real) - 1) for k in (neighbors, density_neighbors))
    (close, wide), (around_fakes,) = _radii(real, [near, dense]), _radii(fake, [min(neighbors, len(fake) - 1)])
    precise = torch.zeros(len(fake), dtype=torch.bool, device=fake.device)
    recalled, covered, inside = 0, 0, 0
    for place, distance in tiled_distances(real, fake):
        precise |= (distance <= close[place, None]).any(0)
        recalled += int((distance <= around_fakes).any(1).sum())
        hit = distance < wide[place, None]
        inside += int(hit.sum())
        covered += int(hit.any(1).sum())
    return Manifolds(_share(precise), recalled / len(real), inside / (dense * len(fake)), covered / len(real))


def _radii(features: Float[Tensor, "n d"], neighbors: list[int]) -> Float[Tensor, "k n"]:
    """The distance of each image to its k-th nearest other one, for each k."""
    parts = []
    for place, distance in tiled_distances(features, features):
        rows = torch.arange(len(distance), device=features.device)
        distance[rows, rows + place.start] = 0  # itself, exactly
        nearest = distance.topk(max(neighbors) + 1, dim=1, largest=False).values
        parts.append(nearest[:, neighbors].T)
    return torch.cat(parts, 1)


def tiled_distances(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> Iterator[tuple[slice, Float[Tensor, "t m"]]]:
    """The distances of some images of a at a time to all of b."""
    rows = max(1, CELLS // len(b))
    for start in range(0, len(a), rows):
        yield slice(start, start + rows), torch.cdist(a[start : start + rows], b)


def _share(found: Bool[Tensor, " n"]) -> float:
    return int(found.sum()) / len(found)


def mean_pairwise(features: Float[Tensor, "n d"]) -> float:
    """Mean Euclidean distance between two different images."""
    features = features.double()
    total = sum(float(distance.sum()) for _, distance in tiled_distances(features, features))
    return total / (len(features) * (len(features) - 1))


def quadratic_mmd(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Unbiased squared maximum mean discrepancy with the kernel (x·y/d + 1)² (Gretton et al. 2012, eq. 3).

    In closed form, without n × m kernels: it sees means and second moments only, and grows with the scale.
    """
    (a, b), gamma = (a.double(), b.double()), 1 / a.shape[1]

    def total(x: Tensor, y: Tensor) -> Tensor:
        """Σᵢⱼ k(xᵢ, yⱼ)."""
        return len(x) * len(y) + 2 * gamma * x.sum(0) @ y.sum(0) + gamma**2 * ((x.T @ x) * (y.T @ y)).sum()

    def among(x: Tensor) -> Tensor:
        """The mean over pairs of different ones."""
        same = (gamma * x.square().sum(1) + 1).square().sum()
        return (total(x, x) - same) / (len(x) * (len(x) - 1))

    return float(among(a) + among(b) - 2 * total(a, b) / (len(a) * len(b)))


def _root(covariance: Float[Tensor, "d d"]) -> Float[Tensor, "d d"]:
    """L with Σ = L Lᵀ: Cholesky's, or, where Σ lacks full rank, that of its eigenvectors."""
    root, failed = torch.linalg.cholesky_ex(covariance)
    if not failed:
        return root
    values, vectors = torch.linalg.eigh(covariance)
    return vectors * values.clamp(min=0).sqrt()
