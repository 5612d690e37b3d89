"""Exponential moving average of a network."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)


class EMA(Generic[Network]):
    """A copy of a network whose weights and buffers follow the original's, in evaluation mode.

    ema ← decay · ema + (1 − decay) · original, once an iteration; a plain copy until `start` images were seen.
    Integer buffers (counters) are copied.
    """

    def __init__(self, original: Network, decay: float, start: int) -> None:
        self.module: Network = deepcopy(original).eval().requires_grad_(False)
        self.decay, self.start = decay, start

    @torch.no_grad()
    def update(self, original: nn.Module, images: int) -> None:
        """Follow the original after the iteration that brought the real images seen to `images`."""
        pairs = list(zip(_tensors(self.module), _tensors(original), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        weight = 1.0 if images < self.start else 1 - self.decay
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], weight)  # pyright: ignore[reportPrivateImportUsage]
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
