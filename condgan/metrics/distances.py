"""Distances between sets of features, as pure functions.

Axes: n and m images, d features.
"""

import torch
from jaxtyping import Float
from torch import Tensor


def frechet(a: Float[Tensor, "n d"], b: Float[Tensor, "m d"]) -> float:
    """Fréchet distance of the normal distributions fitted to two sets of features (Heusel et al. 2017, eq. 6).

    |μa − μb|² + tr(Σa + Σb − 2 (Σa Σb)^½), in float64; safe where a covariance lacks full rank.
    """
    a, b = a.double(), b.double()
    covariance_a, covariance_b = torch.atleast_2d(a.T.cov()), torch.atleast_2d(b.T.cov())
    values, vectors = torch.linalg.eigh(covariance_a)
    root = (vectors * values.clamp(min=0).sqrt()) @ vectors.T
    cross = torch.linalg.eigvalsh(root @ covariance_b @ root).clamp(min=0).sqrt().sum()
    mean = (a.mean(0) - b.mean(0)).square().sum()
    return float((mean + covariance_a.trace() + covariance_b.trace() - 2 * cross).clamp(min=0))


def density_and_coverage(
    fake: Float[Tensor, "n d"], real: Float[Tensor, "m d"], neighbors: int = 5
) -> tuple[float, float]:
    """Density and coverage of fakes on reals (Naeem et al. 2020, eq. 3–4).

    Around each real image lies a ball that reaches to its k-th nearest other real one (k is at most m − 1). Density:
    the balls that a fake lies in, over k, on average. Coverage: the share of balls with a fake in them.
    """
    fake, real = fake.double(), real.double()
    neighbors = min(neighbors, len(real) - 1)
    inside = torch.zeros((), dtype=torch.float64)
    covered = 0
    for chunk in real.split(1024):
        radius = torch.cdist(chunk, real).kthvalue(neighbors + 1, dim=1).values  # the nearest is itself
        hit = torch.cdist(chunk, fake) < radius[:, None]
        inside = inside + hit.sum().cpu()
        covered += int(hit.any(1).sum())
    return float(inside) / (neighbors * len(fake)), covered / len(real)


def mean_pairwise(features: Float[Tensor, "n d"]) -> float:
    """Mean Euclidean distance between two different images."""
    count = len(features)
    total = sum(float(torch.cdist(chunk, features.double()).sum()) for chunk in features.double().split(1024))
    return total / (count * (count - 1))


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
