"""Latents: how they are drawn from a seed, truncated or scaled.

Axes: b images, z latents."""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from jaxtyping import Float
from scipy.special import ndtr, ndtri
from torch import Tensor

from condgan.sampling.fuse import MADE_AT_ONCE
from condgan.types import Generator
from condgan.utils.arguments import positive, whole
from condgan.utils.errors import UserError
from condgan.utils.seeds import derive_seed

Law = Callable[[np.ndarray], np.ndarray]
"""Maps standard normal numbers, each for itself and in their order, so that laws share their draws."""


def normal(z: np.ndarray) -> np.ndarray:
    """The law of training."""
    return z


def truncated(threshold: float) -> Law:
    """The normal law given |z| ≤ threshold (Brock et al. 2019, §3.1). Raises UserError unless it is above 0."""
    threshold = positive("truncation", threshold)
    low, high = ndtr(-threshold), ndtr(threshold)
    return lambda z: ndtri(low + ndtr(z.astype(np.float64)) * (high - low))


def scaled(factor: float) -> Law:
    """The normal law times a factor. Raises UserError unless it is above 0."""
    factor = positive("latent scale", factor)
    return lambda z: factor * z


def latent_law(truncation: float | None = None, latent_scale: float | None = None) -> Law:
    """The law of one of the two, or the normal one. Raises UserError for both, or for one that is not above 0."""
    if truncation is not None and latent_scale is not None:
        raise UserError(f"truncation {truncation} and latent scale {latent_scale} given: expected one of them")
    if latent_scale is not None:
        return scaled(latent_scale)
    return normal if truncation is None else truncated(truncation)


def draw_latents(seed: int, position: int, count: int, dim: int, law: Law = normal) -> Float[Tensor, "b z"]:
    """The first `count` latents of a seed at a position (a class's number, for samples of that class).

    Raises UserError for a negative seed.
    """
    seed = whole("seed", seed)
    rng = np.random.default_rng(derive_seed(seed, "latents", position))
    return _latents(law, rng.standard_normal((count, dim), np.float32))


def latent_chunks(
    seed: int, count: int, dim: int, law: Law = normal, size: int = MADE_AT_ONCE
) -> Iterator[Float[Tensor, "b z"]]:
    """The latents of `draw_latents` at position 0, so many at a time."""
    seed = whole("seed", seed)
    rng = np.random.default_rng(derive_seed(seed, "latents", 0))
    for start in range(0, count, size):
        yield _latents(law, rng.standard_normal((min(size, count - start), dim), np.float32))


def _latents(law: Law, drawn: np.ndarray) -> Float[Tensor, "b z"]:
    with np.errstate(over="ignore"):  # images tell, which are not finite either
        return torch.from_numpy(law(drawn).astype(np.float32, copy=False))


def latent_dim(generator: Generator) -> int:
    """Of a generator that is no translator."""
    assert generator.latent_dim is not None, "a translator takes images"
    return generator.latent_dim
