"""Averages of any width, put together after training from snapshots of a few (Karras et al. 2024, §3 and app. C)."""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Float
from torch import Tensor, nn

from condgan.networks.spectral_norm import spectral_norms


class Profile(NamedTuple):
    """How an average weighs the weights that a network had: by the images seen then, to the power of an exponent."""

    images: int
    """Seen when the average was taken."""
    width: float
    """The standard deviation of when its weights are from, as a share of `images`."""

    @property
    def exponent(self) -> float:
        return exponent(self.width)


def exponent(width: float) -> float:
    """γ of the average that weighs what there was at t by t^γ, of a relative width: √(γ+1) / ((γ+2) √(γ+3))."""
    roots = np.roots([1, 7, 16 - width**-2, 12 - width**-2])
    return float(roots.real.max())


def coefficients(kept: Sequence[Profile], wanted: Profile) -> Float[np.ndarray, " n"]:
    """By how much each of some averages must be taken, so that the sum weighs most nearly as the wanted one does.

    Least squares of the difference of the weights over time; they add up to 1, which the paper does not ask for.
    """
    count = len(kept)
    among = np.ones((count + 1, count + 1))
    among[:count, :count] = [[_product(one, other) for other in kept] for one in kept]
    among[count, count] = 0
    wished = np.array([*(_product(one, wanted) for one in kept), 1])
    return np.linalg.lstsq(among, wished, rcond=None)[0][:count]


def _product(one: Profile, other: Profile) -> float:
    """∫ of the product of two averages' weights over the images seen, of which each alone has 1 in all."""
    first, last = sorted((one, other))
    share = (first.images / last.images) ** last.exponent
    both = (first.exponent + 1) * (last.exponent + 1) / (first.exponent + last.exponent + 1)
    return both * share / last.images


def put_together(network: nn.Module, parts: Iterable[tuple[float, dict[str, Tensor]]]) -> None:
    """Give a network the sum of others' weights, each times a factor; what is no float is the last one's.

    Its spectral norms begin anew, since the vectors that they follow add up to nothing.
    """
    sums: dict[str, Tensor] = {}
    for factor, state in parts:
        for name, value in state.items():
            if value.is_floating_point():
                sums[name] = sums[name] + factor * value.double() if name in sums else factor * value.double()
            else:
                sums[name] = value
    own = network.state_dict()
    network.load_state_dict({name: sums[name].to(value) for name, value in own.items()})
    for _, norm, weight in spectral_norms(network):
        norm.begin(weight.detach())
