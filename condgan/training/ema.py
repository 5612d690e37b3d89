"""Exponential moving average of a network."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

Averaged = TypeVar("Averaged", bound=nn.Module)


class EMA(Generic[Averaged]):
    """A copy of a network whose weights and buffers follow the original's, in evaluation mode.

    ema ← decay · ema + (1 − decay) · original, once an iteration. Until `start` images were seen it is a plain copy;
    with a start of 0, the n-th iteration's decay is at most (1 + n) / (10 + n), as in TensorFlow's moving average, so
    that a young average is not mostly the weights before training. Integer buffers (counters) are copied.
    """

    def __init__(self, original: Averaged, decay: float, start: int) -> None:
        self.module: Averaged = deepcopy(original).eval().requires_grad_(False)
        self.decay, self.start = decay, start

    @torch.no_grad()
    def update(self, original: nn.Module, images: int, iteration: int) -> None:
        """Follow the original after an iteration, from 0 on, that brought the real images seen to `images`."""
        pairs = list(zip(_tensors(self.module), _tensors(original), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        young = 0.0 if self.start else 9 / (10 + iteration)
        weight = 1.0 if images < self.start else max(1 - self.decay, young)
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], weight)  # pyright: ignore[reportPrivateImportUsage]
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
