"""Exponential moving average of a network."""

from copy import deepcopy
from typing import Generic, TypeVar

import torch
from torch import nn

from condgan.schedules import Number, value_at
from condgan.training.post_hoc import exponent

Averaged = TypeVar("Averaged", bound=nn.Module)


class EMA(Generic[Averaged]):
    """A copy of a network whose weights and buffers follow the original's, in evaluation mode.

    ema ← decay · ema + (1 − decay) · original, once an iteration. With a `half_life`, in images, the decay
    is ½ to the power of the iteration's images over it, so that it does not depend on the batch. Until `start` images
    were seen the average is a plain copy. With a start of 0 it is young at first, and should not be mostly the weights
    before training: the n-th iteration's decay is at most (1 + n) / (10 + n), as in TensorFlow's moving average, and a
    half-life at most a twentieth of the images seen (Karras et al. 2020). Integer buffers (counters) are copied.

    With a `width` the decay is (1 − the iteration's images / those seen) to the power of γ + 1: what the original was
    at t counts by t^γ, so that the average grows with training, and its weights' spread over time is always this share
    of it (Karras et al. 2024).
    """

    def __init__(
        self,
        original: Averaged,
        decay: float | None = None,
        start: int = 0,
        half_life: Number | None = None,
        width: float | None = None,
    ) -> None:
        assert [decay, half_life, width].count(None) == 2
        self.module: Averaged = deepcopy(original).eval().requires_grad_(False)
        self.decay, self.start, self.half_life = decay, start, half_life
        self.power = None if width is None else exponent(width) + 1

    @torch.no_grad()
    def update(self, original: nn.Module, images: int, iteration: int, iteration_images: int = 0) -> None:
        """Follow the original after an iteration, from 0 on, that brought the real images seen to `images`.

        `iteration_images`: how many the iteration saw, which a half-life is measured in.
        """
        pairs = list(zip(_tensors(self.module), _tensors(original), strict=True))
        floats = [pair for pair in pairs if pair[0].is_floating_point()]
        if images < self.start:
            weight = 1.0
        elif self.power is not None:
            weight = 1 - (1 - iteration_images / images) ** self.power
        elif self.half_life is None:
            assert self.decay is not None
            weight = max(1 - self.decay, 0.0 if self.start else 9 / (10 + iteration))
        else:
            half_life = value_at(self.half_life, images - iteration_images)
            half_life = half_life if self.start else min(half_life, images / 20)
            weight = 1 - 0.5 ** (iteration_images / half_life)
        torch._foreach_lerp_([mine for mine, _ in floats], [theirs for _, theirs in floats], weight)  # pyright: ignore[reportPrivateImportUsage]
        for mine, theirs in pairs:
            if not mine.is_floating_point():
                mine.copy_(theirs)


def _tensors(module: nn.Module) -> list[torch.Tensor]:
    return [*module.parameters(), *module.buffers()]
