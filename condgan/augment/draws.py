"""Random numbers of augmentations, one for each image of a batch, the same in any number of processes."""

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from condgan.utils import distributed


class Draws:
    """Draws one number for each of b images, of their type and on their device."""

    def __init__(self, images: Float[Tensor, "b c h w"]) -> None:
        self.count = len(images)
        self.like = {"dtype": images.dtype, "device": images.device}

    def uniform(self, least: float = 0.0, most: float = 1.0) -> Float[Tensor, " b"]:
        """From `least` to `most`, all alike."""
        return least + (most - least) * distributed.draw_rows(torch.rand, self.count, **self.like)

    def normal(self, deviation: float) -> Float[Tensor, " b"]:
        """Around 0, with this standard deviation."""
        return deviation * distributed.draw_rows(torch.randn, self.count, **self.like)

    def integers(self, least: int, most: int) -> Int[Tensor, " b"]:
        """From `least` to `most`, both included."""
        return distributed.draw_rows(
            lambda count: torch.randint(least, most + 1, (count,), device=self.like["device"]), self.count
        )

    def happens(self, p: Float[Tensor, ""]) -> Bool[Tensor, " b"]:
        """True with probability p: never at 0, always at 1."""
        return distributed.draw_rows(torch.rand, self.count, **self.like) < p
