"""Parts that several networks share.

Axes: b images, c channels, h × w pixels, v the labels' vector, d features, n = h·w positions, k attended positions.
"""

import math
from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from condgan.utils import distributed

NormKind = Literal["batch", "instance", "group", "none"]

NORMS: dict[str, Callable[[int, float, bool], nn.Module]] = {
    "batch": lambda channels, eps, affine: nn.BatchNorm2d(channels, eps, affine=affine),
    "instance": lambda channels, eps, affine: nn.InstanceNorm2d(channels, eps, affine=affine),
    "group": lambda channels, eps, affine: nn.GroupNorm(math.gcd(channels, 32), channels, eps, affine),
    "none": lambda channels, eps, affine: nn.Identity(),
}
"""By channels, eps and whether gain and bias of its own follow; 32 groups, as far as the channels divide."""


class SyncedBatchNorm(nn.BatchNorm2d):
    """Batch norm by the moments of all processes' equal parts of a batch; torch has it for GPUs alone, in kernels that
    torch.compile cannot fuse.
    """

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        if not self.training or distributed.size() == 1:
            return super().forward(x)
        precise = x if x.dtype == torch.float64 else x.float()
        own = precise.mean((0, 2, 3))
        centered = precise - own[:, None, None]
        means, variances = distributed.all_gather_with_gradient(
            torch.stack([own, centered.square().mean((0, 2, 3))])[None]
        ).unbind(1)
        mean = means.mean(0)
        variance = variances.mean(0) + (means - mean).square().mean(0)
        if self.running_mean is not None and self.running_var is not None and self.num_batches_tracked is not None:
            assert self.momentum is not None, "cumulative averages are for sampling"
            count, momentum = distributed.size() * x.numel() // x.shape[1], self.momentum
            with torch.no_grad():
                self.running_mean.lerp_(mean, momentum)
                self.running_var.lerp_(variance * count / (count - 1), momentum)
                self.num_batches_tracked.add_(1)
        scale = (variance + self.eps).rsqrt() * (self.weight if self.affine else 1)
        shift = (self.bias if self.affine else 0) + (own - mean) * scale
        return torch.addcmul(shift[:, None, None], centered, scale[:, None, None]).to(x.dtype)


def synchronize(network: nn.Module) -> None:
    """From now on, let a network's batch norms see the parts of all processes."""
    for layer in network.modules():
        if type(layer) is nn.BatchNorm2d:
            layer.__class__ = SyncedBatchNorm


class Unconditional(nn.Module):
    """A norm that ignores the condition."""

    def __init__(self, norm: nn.Module) -> None:
        super().__init__()
        self.norm = norm

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        return self.norm(x)


class Conditional(nn.Module):
    """A norm without gain and bias, followed by 1 + gain(condition) and bias(condition) (Dumoulin et al. 2017)."""

    def __init__(self, norm: nn.Module, gain: nn.Module, bias: nn.Module) -> None:
        super().__init__()
        self.norm, self.gain, self.bias = norm, gain, bias

    def forward(self, x: Float[Tensor, "b c h w"], condition: Float[Tensor, "b d"]) -> Float[Tensor, "b c h w"]:
        gain, bias = 1 + self.gain(condition), self.bias(condition)
        return torch.addcmul(bias[..., None, None], self.norm(x), gain[..., None, None])
