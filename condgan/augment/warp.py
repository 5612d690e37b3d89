"""Affine transforms of images: each image by its own matrix, resampled once, with little loss and aliasing.

Axes: b images, c channels, h × w pixels, n pixels of a row or column. A matrix tells, for a point of the result, the
point of the image that is seen there: in homogeneous (x, y, 1), in pixels to the right and down from the center.
"""

import torch
import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor

UP = (1.115087052456994, 0.5912717631142470, -0.05754352622849957, -0.09127176311424948)
DOWN = (0.6029490182363579, 0.2668641184428723, -0.07822326652898785, -0.01686411844287495, 0.02674875741080976)
"""The low-pass filters of the biorthogonal 9/7 wavelets, from their middle to an end (Cohen et al. 1992, table 1)."""
REACH = len(DOWN) - 1


def scaling(x: Float[Tensor, " b"], y: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], 1))


def rotation(angle: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    return torch.stack([cos, -sin, zero, sin, cos, zero, zero, zero, zero + 1], 1).unflatten(1, (3, 3))


def translation(x: Float[Tensor, " b"], y: Float[Tensor, " b"]) -> Float[Tensor, "b 3 3"]:
    zero, one = torch.zeros_like(x), torch.ones_like(x)
    return torch.stack([one, zero, x, zero, one, y, zero, zero, one], 1).unflatten(1, (3, 3))


def compose(first: Float[Tensor, "b 3 3"], then: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b 3 3"]:
    """The matrix of a transform and of another one of its result. In full precision, where matmul might use TF32."""
    return (first[:, :, :, None] * then[:, None, :, :]).sum(2)


def warp(images: Float[Tensor, "b c h w"], matrix: Float[Tensor, "b 3 3"]) -> Float[Tensor, "b c h w"]:
    """Transform each image; beyond its edges it is reflected, without end. Height and width: 2 or more.

    After Karras et al. 2020, appendix B: brought to twice the size by a wavelet's filter, sampled linearly there, and
    brought back by the filter that undoes the first. The paper's sym6 is nearly symmetric; the 9/7 pair is symmetric,
    so mirror images, quarter turns and shifts by whole pixels are exact copies, but for rounding.
    Images with the identity as their matrix are the same to the bit.
    """
    height, width = images.shape[2:]
    like = {"dtype": images.dtype, "device": images.device}
    x, y = ((torch.arange(2 * n - 1 + 2 * REACH, **like) - (n - 1) - REACH) / 2 for n in (width, height))
    xx, xy, x0, yx, yy, y0 = matrix[:, :2, :, None, None].flatten(1, 2).unbind(1)
    across = (xx * x + x0) * (2 / (width - 1)) + xy * y[:, None] * (2 / (width - 1))
    down = yx * x * (2 / (height - 1)) + (yy * y[:, None] + y0) * (2 / (height - 1))
    fine = _upsampling(height, images) @ images @ _upsampling(width, images).mT
    grid = torch.stack([across, down], -1)
    fine = F.grid_sample(fine, grid, mode="bilinear", padding_mode="reflection", align_corners=True)
    warped = _downsampling(height, images) @ fine @ _downsampling(width, images).mT
    moved = (matrix != torch.eye(3, **like)).any(2).any(1)
    return torch.where(moved[:, None, None, None], warped, images)


def _upsampling(n: int, like: Tensor) -> Float[Tensor, "fine n"]:
    """The matrix that brings n pixels, reflected at their ends, to 2n − 1: one at each and one between each two."""
    pixel = torch.arange(n, device=like.device)
    fine = torch.arange(2 * n - 1, device=like.device)[:, None]
    left = (pixel > 0) * _taps(UP, fine + 2 * pixel)
    right = (pixel < n - 1) * _taps(UP, fine + 2 * pixel - 4 * (n - 1))
    return (_taps(UP, fine - 2 * pixel) + left + right).to(like.dtype)


def _downsampling(n: int, like: Tensor) -> Float[Tensor, "n fine"]:
    """The matrix that brings 2n − 1 pixels, and `REACH` more at either end, to n."""
    pixel = torch.arange(n, device=like.device)[:, None]
    fine = torch.arange(-REACH, 2 * n - 1 + REACH, device=like.device)
    return _taps(DOWN, fine - 2 * pixel).to(like.dtype)


def _taps(half: tuple[float, ...], distance: Tensor) -> Tensor:
    """A symmetric filter's value at a distance from its middle. Without a copy of the filter to the device."""
    distance = distance.abs()
    return torch.stack([value * (distance == place) for place, value in enumerate(half)]).sum(0)
