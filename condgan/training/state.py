"""All that training changes."""

from dataclasses import dataclass

from torch import nn
from torch.optim import Optimizer

from condgan.training.ema import EMA
from condgan.types import Generator


@dataclass(slots=True)
class State:
    """All that training changes; with the recipe and the data, all that a resumed run needs."""

    generator: Generator
    discriminator: nn.Module
    ema: EMA[Generator]
    g_optimizer: Optimizer
    d_optimizer: Optimizer
    seed: int
    images: int = 0
    """Real images seen by the discriminator."""
    iteration: int = 0
