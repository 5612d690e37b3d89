"""A network as training calls it: in less than float32 where the hardware is faster so, and compiled."""

from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

from condgan.labels import Labels


class MixedPrecision(nn.Module):
    """A network as training calls it: in `precision` under autocast and perhaps compiled, with float32 results.

    In float32, nothing is cast. What is differentiated twice asks for the network itself, by `full_precision`.
    """

    def __init__(self, network: nn.Module, precision: torch.dtype = torch.float32, compiled: bool = False) -> None:
        super().__init__()
        self.full_precision, self.precision = network, precision
        self.call = torch.compile(network, dynamic=False) if compiled else network

    def forward(self, x: Float[Tensor, "b *d"], labels: Labels) -> Any:
        if self.precision == torch.float32:
            return self.call(x, labels)
        with torch.autocast(x.device.type, self.precision):
            result = self.call(x, labels)
        return tree_map_only(Tensor, Tensor.float, result)
