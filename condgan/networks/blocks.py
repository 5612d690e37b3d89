"""Blocks that can be computed anew in the backward pass, and layers that keep their weights' precision.

Axes: b images, c channels, h × w pixels."""

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.utils.checkpoint import checkpoint

from condgan.utils import distributed
from condgan.utils.errors import UserError


class Dropout2d(nn.Dropout2d):
    """Dropout of channels, whose mask is drawn for the whole batch of all processes."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self.training or distributed.size() == 1:
            return super().forward(x)
        return x * distributed.draw_rows(_kept, len(x), x.shape[1], 1, 1, like=x, share=self.p)


def _kept(*shape: int, like: Tensor, share: float) -> Tensor:
    return F.dropout2d(like.new_ones(shape), share)


class Block(nn.Module):
    """A part of a network that may, once told so, compute its activations anew in the backward pass, not keep them."""

    recompute = False

    def __call__(self, *inputs: Tensor) -> Any:
        if not (self.recompute and self.training and torch.is_grad_enabled()):
            return super().__call__(*inputs)
        return checkpoint(super().__call__, *inputs, use_reentrant=False, context_fn=self._contexts)

    def _contexts(self) -> tuple[AbstractContextManager, AbstractContextManager]:
        """For the first time, and for the second, in which batch norms shall not count the batch again."""
        return nullcontext(), self._running_statistics_kept()

    @contextmanager
    def _running_statistics_kept(self) -> Iterator[None]:
        norms = [one for one in self.modules() if isinstance(one, _BatchNorm) and one.num_batches_tracked is not None]
        momenta = [norm.momentum for norm in norms]
        for norm in norms:
            norm.momentum = 0.0
        try:
            yield
        finally:
            for norm, momentum in zip(norms, momenta, strict=True):
                norm.momentum = momentum
                norm.num_batches_tracked.sub_(1)  # pyright: ignore[reportOptionalMemberAccess]


def set_recompute(networks: Sequence[nn.Module], wanted: bool) -> None:
    """Tell the blocks of networks whether to compute their activations anew. Raises UserError where none has any."""
    blocks = [one for network in networks for one in network.modules() if isinstance(one, Block)]
    if wanted and not blocks:
        raise UserError(
            "compute.recompute given with networks that have no residual blocks to compute anew: leave it out, or "
            "choose networks such as resnet, biggan-deep or, for translators, stargan"
        )
    for block in blocks:
        block.recompute = wanted


def in_weights_precision(on: Tensor) -> AbstractContextManager:
    """No autocast where this tensor is."""
    return torch.autocast("cuda" if on.is_cuda else "cpu", enabled=False)
