"""Ways between two latents.

Axes: b images, z latents, r rows, s steps, d features."""

import math

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

from condgan.utils.choices import Vary
from condgan.utils.errors import UserError
from condgan.utils.seeds import derive_seed


def linear(a: Float[Tensor, "*b z"], b: Float[Tensor, "*b z"], t: Float[Tensor, "*b 1"]) -> Float[Tensor, "*b z"]:
    """The point at t of the way from a to b, straight."""
    return torch.lerp(a, b, t)


def spherical(a: Float[Tensor, "*b z"], b: Float[Tensor, "*b z"], t: Float[Tensor, "*b 1"]) -> Float[Tensor, "*b z"]:
    """The same along the great circle (Shoemake 1985, §3.3); straight where a and b are parallel."""
    wide_a, wide_b = a.double(), b.double()
    cosine = (F.normalize(wide_a, dim=-1) * F.normalize(wide_b, dim=-1)).sum(-1, keepdim=True)
    angle = cosine.clamp(-1, 1).acos()
    sine = angle.sin()
    arc = (((1 - t) * angle).sin() * wide_a + (t * angle).sin() * wide_b) / sine
    return torch.where(sine < 1e-6, torch.lerp(a, b, t), arc.to(a.dtype))


WAYS = {"linear": linear, "spherical": spherical}

VARY: dict[Vary, tuple[int, int]] = {"latent": (1, 0), "class": (0, 1), "both": (1, 1)}
"""How far latent and class go."""


def turned(latents: Float[Tensor, "b z"], count: int, distance: int | float, seed: int) -> Float[Tensor, "b s z"]:
    """Each latent, and `count` others that are it, turned toward random ones, the same for all latents.

    By `distance` · 90°, so that they are as likely as any: at 0 they are its own, at 1 they have nothing of it.
    Raises UserError for a distance beyond.
    """
    if not 0 <= distance <= 1:
        raise UserError(f"distance {distance:g} given: expected 0 to 1")
    angle, rng = distance * math.pi / 2, np.random.default_rng(derive_seed(seed, "nearby"))
    others = torch.from_numpy(rng.standard_normal((count, latents.shape[1]), np.float32))
    own = latents[:, None]
    return torch.cat([own, math.cos(angle) * own + math.sin(angle) * others], 1)


def row_ends(pairs: Float[Tensor, "r 2 d"], steps: int) -> tuple[Float[Tensor, "r s d"], Float[Tensor, "r s d"]]:
    """Both of each pair, to go between in so many steps."""
    first, last = (end.expand(-1, steps, -1) for end in pairs.split(1, dim=1))
    return first, last
