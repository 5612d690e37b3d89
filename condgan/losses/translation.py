"""Losses of what a translation must not change."""

from jaxtyping import Float
from torch import Tensor

from condgan.types import Step


def cycle_consistency(step: Step) -> Float[Tensor, " b"]:
    """|x − G(G(x, c′), c)|₁, the mean over pixels in [−1, 1] (Choi et al. 2018, eq. 4)."""
    return _l1(step.real, step.generator(step.fake, step.real_labels))


def to_own_labels(step: Step) -> Float[Tensor, " b"]:
    """|x − G(x, c)|₁ (Zhu et al. 2017, §5.2)."""
    return _l1(step.real, step.generator(step.real, step.real_labels))


def _l1(a: Tensor, b: Tensor) -> Tensor:
    return (a - b).abs().flatten(1).mean(1)
