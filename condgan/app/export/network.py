"""A generator as a module of plain tensors, as programs take it that know nothing of this package.

Axes: b images, z latents, k label values, v the labels' vector, c channels, h × w pixels; s either of z and c h w.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
from numpy.polynomial import Chebyshev, Polynomial
from scipy.special import erfcx
from torch import Tensor, nn

from condgan.labels import Labels, LabelSpec
from condgan.types import Generator

GivenLabels = Int[Tensor, " b"] | Float[Tensor, "b v"]


class PlainNetwork(nn.Module):
    """(Latents or images, labels) → images: a generator after what its inputs go through, and before its output."""

    def __init__(
        self,
        generator: Generator,
        entering: Callable[[Tensor], Tensor],
        read: Callable[[GivenLabels], Labels],
        leaving: Callable[[Tensor], Tensor],
    ) -> None:
        super().__init__()
        self.generator, self.entering, self.read, self.leaving = generator, entering, read, leaving

    def forward(self, source: Tensor, labels: GivenLabels) -> Float[Tensor, "b c h w"] | UInt8[Tensor, "b c h w"]:
        return self.leaving(self.generator(self.entering(source), self.read(labels)))


def unchanged(x: Tensor) -> Tensor:
    return x


def numbers_read(spec: LabelSpec) -> Callable[[Int[Tensor, " b"]], Labels]:
    """Reads numbers of the classes of a vocabulary."""
    return lambda numbers: Labels(spec, F.one_hot(numbers, spec.width).float(), _all_known(numbers[:, None]))


def vectors_read(spec: LabelSpec) -> Callable[[Float[Tensor, "b v"]], Labels]:
    """Reads labels: a number for each value, and of a vocabulary of several fields the mask of known fields."""
    if len(spec.fields) == 1:
        return lambda vectors: Labels(spec, vectors, _all_known(vectors[:, :1]))
    return lambda vectors: Labels(spec, vectors[:, : spec.width], vectors[:, spec.width :] > 0.5)


def _all_known(column: Tensor) -> Bool[Tensor, "b 1"]:
    return torch.ones_like(column, dtype=torch.bool)


def truncating(threshold: float) -> Callable[[Float[Tensor, "b z"]], Float[Tensor, "b z"]]:
    """Maps standard normal latents as the law of `latents.truncated` does, but in float32.

    The law is odd, and |z| becomes the x at which erfc(x / √2) = erfc(threshold / √2) + erf(threshold / √2) ·
    erfc(|z| / √2): by what lies beyond, so that nothing is lost where that is little.
    """
    beyond, within = math.erfc(threshold / math.sqrt(2)), math.erf(threshold / math.sqrt(2))
    return lambda z: z.sign() * math.sqrt(2) * inverse_erfc(beyond + within * erfc(z.abs() / math.sqrt(2)))


def erfc(x: Float[Tensor, "b z"]) -> Float[Tensor, "b z"]:
    """1 − erf of numbers from 0 on, to a few parts in a million however small it is, by operators all formats know."""
    t = 1 / (1 + x / 2)
    scaled = torch.zeros_like(t)
    for coefficient in reversed(_SCALED):
        scaled = scaled * t + coefficient
    return scaled * t * torch.exp(-x * x)


def inverse_erfc(y: Float[Tensor, "b z"]) -> Float[Tensor, "b z"]:
    """The inverse of erfc within (0, 1], by the same operators.

    Winitzki's closed formula for that of erf (2008, a = 0.147), which is good to 0.002 of it, and three steps of
    Newton's method.
    """
    a, y = 0.147, y.clamp(min=LEAST)
    log = torch.log(y * (2 - y)).clamp(max=0)
    half = 2 / (math.pi * a) + log / 2
    x = torch.sqrt(-log / a / (torch.sqrt(half**2 - log / a) + half))
    for _ in range(3):
        x = x + (erfc(x) - y) * (math.sqrt(math.pi) / 2) * torch.exp(x * x)
    return x.clamp(min=0)


LEAST = 1e-37
"""Of what float32 holds at full precision: erfc is as little at 9.2."""
_SERIES = Chebyshev.interpolate(lambda t: erfcx(2 / t - 2) / t, 10, (0, 1))
_SCALED: list[float] = _SERIES.convert(kind=Polynomial).coef.tolist()
"""The polynomial of t = 1 / (1 + x / 2), by powers, that is exp(x²) erfc(x) / t to 2e-8."""
