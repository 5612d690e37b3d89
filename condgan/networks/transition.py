"""Transitional conditioning: a generator is told its labels by and by."""

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from condgan.labels import Labels
from condgan.schedules import Ramp
from condgan.types import Generator


class Transitional(Generator):
    """A generator whose label vectors are multiplied by a ramp (Shahbazi et al. 2022).

    The ramp stands where `images` says, the images seen before the last iteration: training moves it, and averages and
    checkpoints keep it, so that a generator is sampled with the labels that it was trained with.
    """

    images: Int[Tensor, ""]

    def __init__(self, network: Generator, ramp: Ramp) -> None:
        super().__init__()
        self.network, self.ramp, self.latent_dim = network, ramp, network.latent_dim
        self.register_buffer("images", torch.tensor(0))

    def forward(self, latent: Float[Tensor, "b z"], labels: Labels) -> Float[Tensor, "b c h w"]:
        passed = ((self.images - self.ramp.begin) / self.ramp.images).clamp(0, 1)
        share = self.ramp.start + (self.ramp.end - self.ramp.start) * passed
        return self.network(latent, Labels(labels.spec, labels.values * share, labels.known))


def bare(network: nn.Module) -> nn.Module:
    """A network without a ramp around it."""
    return network.network if isinstance(network, Transitional) else network
