"""DiffAugment: other colors, shifts and holes for every image (Zhao et al. 2020, §3.3)."""

from typing import Annotated, Literal

import torch
from jaxtyping import Bool, Float, Int
from pydantic import Field
from torch import Tensor, nn

from condgan.augment.draws import Draws

ALL = ("color", "translation", "cutout")


class DiffAugment(nn.Module):
    """Changes each image by all of `policy`, in this order.

    Alpha, the fourth channel, moves and is cut with the colors, and is no color.
    """

    def __init__(
        self,
        *,
        policy: Annotated[
            tuple[Literal["color", "translation", "cutout"], ...], Field(min_length=1, max_length=len(ALL))
        ] = ALL,
    ) -> None:
        super().__init__()
        self.changes = [CHANGES[name] for name in policy]

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        for change in self.changes:
            images = change(images)
        return images


def jitter_colors(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Add U(−½, ½), scale by U(0, 2) around each pixel's mean, then by U(½, 1½) around the image's.

    The second, saturation, leaves gray images as they are.
    """
    draws = Draws(images)
    brightness, saturation, contrast = (
        draws.uniform(least, most)[:, None, None, None] for least, most in ((-0.5, 0.5), (0.0, 2.0), (0.5, 1.5))
    )
    colors = images[:, :3] + brightness
    if colors.shape[1] == 3:
        colors = torch.lerp(colors.mean(1, keepdim=True), colors, saturation)
    colors = torch.lerp(colors.mean((1, 2, 3), keepdim=True), colors, contrast)
    return torch.cat([colors, images[:, 3:]], 1)


def translate(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Move by whole pixels, up to an eighth of the height and of the width; zeros come in."""
    draws, (height, width) = Draws(images), images.shape[2:]
    rows, row_there = _sources(draws, height)
    columns, column_there = _sources(draws, width)
    moved = images.gather(2, rows[:, None, :, None].expand_as(images))
    moved = moved.gather(3, columns[:, None, None, :].expand_as(images))
    return moved * (row_there[:, None, :, None] & column_there[:, None, None, :])


def cut_out(images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """Put zeros in a rectangle of half the height and width, the center of which is anywhere in the image."""
    draws, (height, width) = Draws(images), images.shape[2:]
    rows, columns = _hole(draws, height), _hole(draws, width)
    return images * ~(rows[:, None, :, None] & columns[:, None, None, :])


CHANGES = {"color": jitter_colors, "translation": translate, "cutout": cut_out}


def _sources(draws: Draws, size: int) -> tuple[Int[Tensor, "b n"], Bool[Tensor, "b n"]]:
    """Which of `size` rows, or columns, moves to each place, and whether there is one."""
    most = int(size / 8 + 0.5)
    moves = draws.integers(-most, most)
    source = torch.arange(size, device=moves.device) - moves[:, None]
    return source.clamp(0, size - 1), (source >= 0) & (source < size)


def _hole(draws: Draws, size: int) -> Bool[Tensor, "b n"]:
    """Which of `size` rows, or columns, the rectangle covers."""
    length = int(size / 2 + 0.5)
    start = draws.integers(0, size - length % 2) - length // 2
    place = torch.arange(size, device=start.device)
    return (place >= start[:, None]) & (place < start[:, None] + length)
