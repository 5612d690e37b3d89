"""Consistency: a discriminator says the same of an image and of a shifted one.

Axes: b images, c channels, h × w pixels.
"""

import torch
from jaxtyping import Float, Int
from torch import Tensor

from condgan.types import Step
from condgan.utils import distributed


def real_consistency(step: Step, flip: bool = False) -> Float[Tensor, "b *patches"]:
    """(D(x) − D(T(x)))² of real images (Zhang et al. 2020); T follows the augmentation, if there is one."""
    shown = moved(step.shown_real, flip)
    return (step.on_real.score - step.discriminator(shown, step.real_labels).score).square()


def fake_consistency(step: Step, flip: bool = False) -> Float[Tensor, "b *patches"]:
    """The same of fakes; both together are balanced consistency (Zhao et al. 2021)."""
    shown = moved(step.shown_fake, flip)
    return (step.on_fake.score - step.discriminator(shown, step.fake_labels).score).square()


def moved(images: Float[Tensor, "b c h w"], flip: bool) -> Float[Tensor, "b c h w"]:
    """Each image shifted by chance, by an eighth of its size at most, with what enters mirrored at the border.

    `flip`: half of them are mirrored from left to right, too.
    """
    count, _, height, width = images.shape
    down, right, mirrored = distributed.draw_rows(torch.rand, count, 3, device=images.device).T
    rows, columns = _shifted(down, height), _shifted(right, width)
    if flip:
        columns = torch.where(mirrored[:, None] < 0.5, width - 1 - columns, columns)
    which = torch.arange(count, device=images.device)[:, None, None]
    return images[which, :, rows[:, :, None], columns[:, None, :]].movedim(-1, 1)


def _shifted(chance: Float[Tensor, " b"], size: int) -> Int[Tensor, "b n"]:
    """Where each row of a shifted image lies in the image."""
    most = size // 8
    by = (chance * (2 * most + 1)).long() - most
    places = (torch.arange(size, device=chance.device) + by[:, None]).abs()
    return size - 1 - (size - 1 - places).abs()
