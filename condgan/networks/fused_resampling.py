"""3×3 convolutions fused with the doubling before them or the halving after them: 4×4 ones of stride 2.

Doubling by nearest neighbors repeats pixels, so that weights that meet the same one can be added up before; halving by
means is a convolution itself. Either takes 4/9 of the multiplications of the two steps, whose weights, results and
gradients it has. Axes: b images, c → d channels, h × w pixels, i × j of half the size.
"""

from typing import Any

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class UpConv2d(nn.Conv2d):
    """A 3×3 convolution, padded by 1, of what is doubled by nearest neighbors."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d 2*h 2*w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        bias, kernel = self.bias, self.kernel()
        if bias is None or not (x.is_cpu and bias.requires_grad and torch.is_grad_enabled()):
            return F.conv_transpose2d(x, kernel, bias, stride=2, padding=1)
        result = F.conv_transpose2d(x, kernel, bias.detach(), stride=2, padding=1)
        return _Biased.apply(result, bias)  # pyright: ignore[reportReturnType]

    def kernel(self) -> Float[Tensor, "c d 4 4"]:
        """Of the transposed convolution of stride 2: the sums of each 2 × 2 of the weights, turned by 180°.

        In the weights' layout, which is that of the result, whatever the image's is.
        """
        sums = means_of_windows(self.weight, divisor=1)
        last = self.weight.is_contiguous(memory_format=torch.channels_last)
        layout = torch.channels_last if last else torch.contiguous_format
        return sums.flip(2, 3).transpose(0, 1).contiguous(memory_format=layout)


class _Biased(torch.autograd.Function):
    """What a bias was added to already, with the bias's gradient.

    That of a transposed convolution on a CPU takes oneDNN as long as the weights'.
    """

    @staticmethod
    def forward(ctx: Any, result: Float[Tensor, "b d h w"], bias: Float[Tensor, " d"]) -> Float[Tensor, "b d h w"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        ctx.mark_dirty(result)  # which may be changed in place afterwards, as no view may
        return result

    @staticmethod
    def backward(ctx: Any, gradient: Float[Tensor, "b d h w"]) -> tuple[Tensor, Tensor]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return gradient, gradient.sum((0, 2, 3))


class DownConv2d(nn.Conv2d):
    """A 3×3 convolution, padded by 1, and the mean of each 2 × 2 of its pixels."""

    def __init__(self, entering: int, leaving: int) -> None:
        super().__init__(entering, leaving, 3, padding=1)

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b d i j"]:  # pyright: ignore[reportIncompatibleMethodOverride]
        return F.conv2d(x, self.kernel(), self.bias, stride=2, padding=1)

    def kernel(self) -> Float[Tensor, "d c 4 4"]:
        """Of the convolution of stride 2: the means of each 2 × 2 of the weights."""
        return means_of_windows(self.weight)


def means_of_windows(weight: Float[Tensor, "d c 3 3"], divisor: int | None = None) -> Float[Tensor, "d c 4 4"]:
    """The means of each 2 × 2 of weights, and of zeros around them; `divisor`: sums, divided by it instead."""
    if weight.is_cpu:
        return F.avg_pool2d(weight, 2, stride=1, padding=1, divisor_override=divisor)
    return padded_before(weight, divisor)


def padded_before(weight: Float[Tensor, "d c 3 3"], divisor: int | None = None) -> Float[Tensor, "d c 4 4"]:
    """The same for GPUs, where PyTorch's gradients of padded pooling are wrong with channels last (pytorch#188344)."""
    return F.avg_pool2d(F.pad(weight, (1, 1, 1, 1)), 2, stride=1, divisor_override=divisor)
