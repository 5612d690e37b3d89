"""How far an exported file's images are from this package's.

Axes: b images, c channels, h × w pixels.
"""

from collections.abc import Callable, Mapping
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor

from condgan.utils.errors import UserError

BATCHES = (1, 2, 7)
"""How many images are made at once where files are compared."""
TOLERANCE = 1e-4
"""By how much a pixel of [−1, 1] may differ."""


class Case(NamedTuple):
    """Inputs, and the images that this package makes of them, in [−1, 1]."""

    source: Tensor
    labels: Tensor
    expected: Float[Tensor, "b c h w"]


def distance(found: np.ndarray, expected: Float[Tensor, "b c h w"]) -> float:
    """The largest difference of pixels in [−1, 1]; of gray levels, what is beyond their rounding."""
    if found.shape != tuple(expected.shape):
        return float("inf")
    reference = expected.double().numpy()
    if found.dtype != np.uint8:
        return float(np.abs(found - reference).max())
    levels = np.abs(found - ((reference + 1) * 127.5).clip(0, 255))
    return float((levels - 0.5).clip(0).max() / 127.5)


def measured(run: Callable[[Tensor, Tensor], np.ndarray], cases: Mapping[int, Case], what: str) -> dict[str, float]:
    """The distance at each batch. Raises UserError where it is larger than may be."""
    found = {str(batch): distance(run(one.source, one.labels), one.expected) for batch, one in cases.items()}
    for batch, apart in found.items():
        if not apart <= TOLERANCE:  # also where it is no number
            raise UserError(
                f"{what} asked for, whose images would differ from this package's by {apart:.1g} in a batch of "
                f"{batch}, more than {TOLERANCE:g}: nothing is written; take another format, such as safetensors"
            )
    return found
