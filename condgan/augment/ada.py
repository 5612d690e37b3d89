"""Adaptive discriminator augmentation (Karras et al. 2020, "Training GANs with limited data", §3 and appendix B)."""

from functools import reduce
from math import pi, sqrt
from typing import Annotated

import torch
from jaxtyping import Float, Shaped
from pydantic import Field
from torch import Tensor

from condgan.augment.draws import Draws
from condgan.augment.warp import compose, rotation, scaling, translation, warp
from condgan.types import Step, Tracker
from condgan.utils.options import Depth, ImageCount


class ADA(Tracker):
    """Changes images with a probability p that follows how sure the discriminator is of real ones.

    Each change happens to each image with probability p. Every `interval` discriminator steps p moves: up where the
    mean sign of the scores of real images was above `target`, down where below, so fast that it goes from 0 to 1 in
    `images` images. At p = 0 images stay the same to the bit.

    `blit`: quarter turns and shifts by whole pixels; `geometry`: scaling, rotation, shifts; `color`: of all but alpha;
    `flip`: mirroring, for data in which mirror images are as likely.
    """

    p: Tensor
    signs: Tensor
    steps: Tensor
    seen: Tensor

    def __init__(
        self,
        *,
        target: Annotated[float, Field(gt=-1, lt=1)] = 0.6,
        interval: Depth = 4,
        images: ImageCount = 500_000,
        flip: bool = False,
        blit: bool = True,
        geometry: bool = True,
        color: bool = True,
    ) -> None:
        super().__init__()
        self.target, self.interval, self.images = target, interval, images
        self.flip, self.blit, self.geometry, self.color = flip, blit, geometry, color
        self.register_buffer("p", torch.zeros(()))
        self.register_buffer("signs", torch.zeros(()))
        self.register_buffer("steps", torch.zeros((), dtype=torch.int64))
        self.register_buffer("seen", torch.zeros((), dtype=torch.int64))

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        if self.flip or self.blit or self.geometry:
            images = warp(images, self.matrix(images))
        return recolor(images, self.p) if self.color else images

    def matrix(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b 3 3"]:
        """Draw a transform of each image: the paper's, in their order. The law of each is that of its inverse."""
        draws, p, (height, width) = Draws(images), self.p, images.shape[2:]
        transforms = []
        if self.flip:
            side = 1.0 - 2 * draws.happens(p / 2)
            transforms.append(scaling(side, torch.ones_like(side)))
        if self.blit:
            turned, shifted = draws.happens(p), draws.happens(p)
            transforms.append(rotation(turned * draws.integers(0, 3) * (pi / 2)))
            x, y = (shifted * (n * draws.uniform(-1 / 8, 1 / 8)).round() for n in (width, height))
            transforms.append(translation(x, y))
        if self.geometry:
            either = 1 - (1 - p).sqrt()  # of two rotations at least one happens with probability p
            size = (draws.happens(p) * draws.normal(0.2)).exp2()
            first = draws.happens(either) * draws.uniform(-pi, pi)
            stretch = (draws.happens(p) * draws.normal(0.2)).exp2()
            second = draws.happens(either) * draws.uniform(-pi, pi)
            shifted = draws.happens(p)
            x, y = (shifted * draws.normal(n / 8) for n in (width, height))
            transforms += [scaling(size, size), rotation(first), scaling(stretch, 1 / stretch), rotation(second)]
            transforms.append(translation(x, y))
        return reduce(compose, transforms)

    def observe(self, step: Step) -> Float[Tensor, ""]:
        """The mean sign of the scores of real images."""
        return step.on_real.score.sign().mean()

    def update(self, observed: Float[Tensor, ""], images: int) -> None:
        self.signs += observed
        self.steps += 1
        self.seen += images
        due = self.steps == self.interval
        move = (self.signs / self.interval - self.target).sign() * self.seen / self.images
        self.p.copy_((self.p + due * move).clamp(0, 1))
        for since in (self.signs, self.steps, self.seen):
            since.masked_fill_(due, 0)

    def watched(self) -> dict[str, Float[Tensor, ""]]:
        return {"p": self.p}


def recolor(images: Float[Tensor, "b c h w"], p: Float[Tensor, ""]) -> Float[Tensor, "b c h w"]:
    """Brightness, contrast, luma flip, hue and saturation, each with probability p; of gray images the first three.

    The paper's 4 × 4 matrices, multiplied out: a pixel's mean is shifted and scaled, what it differs from the mean is
    turned around the gray axis and scaled.
    """
    draws, colors = Draws(images), images[:, :3]
    changes = [draws.happens(p) for _ in range(2 + 2 * (colors.shape[1] == 3))]
    brightness, contrast = changes[0] * draws.normal(0.2), (changes[1] * draws.normal(0.5)).exp2()
    inverted = draws.happens(p / 2)
    mean = colors.mean(1, keepdim=True)
    changed = _each(contrast * (1.0 - 2 * inverted)) * (mean + _each(brightness))
    if colors.shape[1] == 3:
        hue, saturation = changes[2] * draws.uniform(-pi, pi), (changes[3] * draws.normal(1.0)).exp2()
        chroma = colors - mean
        across = (chroma.roll(1, 1) - chroma.roll(-1, 1)) / sqrt(3)
        changed = changed + _each(contrast * saturation) * (_each(hue.cos()) * chroma + _each(hue.sin()) * across)
    some = torch.stack([*changes, inverted]).any(0)
    return torch.cat([torch.where(_each(some), changed, colors), images[:, 3:]], 1)


def _each(values: Shaped[Tensor, " b"]) -> Shaped[Tensor, "b 1 1 1"]:
    """One value for each image, to go with all its pixels."""
    return values[:, None, None, None]
