"""A generator as a module of plain tensors, as programs take it that know nothing of this package.

Axes: b images, z latents, k label values, v the labels' vector, c channels, h × w pixels; s either of z and c h w.
"""

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float, Int, UInt8
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
    """Reads labels' vectors: of a vocabulary of several fields, the values and the mask of known fields."""
    if len(spec.fields) == 1:
        return lambda vectors: Labels(spec, vectors, _all_known(vectors[:, :1]))
    return lambda vectors: Labels(spec, vectors[:, : spec.width], vectors[:, spec.width :] > 0.5)


def _all_known(column: Tensor) -> Bool[Tensor, "b 1"]:
    return torch.ones_like(column, dtype=torch.bool)


def truncating(threshold: float) -> Callable[[Float[Tensor, "b z"]], Float[Tensor, "b z"]]:
    """Maps standard normal latents as the law of `latents.truncated` does, but in float32.

    The law is odd: √2 erf⁻¹(erf(z / √2) · erf(threshold / √2)).
    """
    share = math.erf(threshold / math.sqrt(2))
    return lambda z: math.sqrt(2) * inverse_erf(share * torch.erf(z / math.sqrt(2)))


def inverse_erf(y: Float[Tensor, "b z"]) -> Float[Tensor, "b z"]:
    """The inverse of erf within (−1, 1), by operators that all formats know.

    Winitzki's closed formula (2008, a = 0.147), which is good to 0.002, and two steps of Newton's method.
    """
    a = 0.147
    log = torch.log((1 - y) * (1 + y))
    half = 2 / (math.pi * a) + log / 2
    x = y.sign() * torch.sqrt(-log / a / (torch.sqrt(half**2 - log / a) + half))
    for _ in range(2):
        x = x - (torch.erf(x) - y) * (math.sqrt(math.pi) / 2) * torch.exp(x * x)
    return x
