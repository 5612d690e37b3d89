"""LeCam: scores are kept near those that the other kind of images had (Tseng et al. 2021)."""

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor

from condgan.types import Step, Tracker

ANCHOR_DECAY = 0.99
"""Of the anchors, per discriminator step."""


class Anchors(Tracker):
    """Moving averages α of the scores of real and of fake images; over the first 1/(1 − decay) steps plain means."""

    scores: Float[Tensor, "2"]
    steps: Int[Tensor, ""]

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("scores", torch.zeros(2))
        self.register_buffer("steps", torch.tensor(0))

    def observe(self, step: Step) -> Float[Tensor, "2"]:
        return torch.stack([step.on_real.score.mean(), step.on_fake.score.mean()])

    def update(self, observed: Float[Tensor, "2"], images: int) -> None:
        self.steps.add_(1)
        self.scores.lerp_(observed.to(self.scores), (1 / self.steps).clamp(min=1 - ANCHOR_DECAY).to(self.scores))


def lecam(step: Step) -> Float[Tensor, "b *patches"]:
    """max(0, D(x) − α_fake)² + max(0, α_real − D(x̂))² (Tseng et al. 2021, clamped at 0 as in its code)."""
    anchors = step.modules["lecam"]
    assert isinstance(anchors, Anchors)
    real, fake = anchors.scores
    return F.relu(step.on_real.score - fake).square() + F.relu(real - step.on_fake.score).square()
