"""All that training changes."""

from dataclasses import dataclass, field
from typing import NamedTuple

from torch import nn
from torch.optim import Optimizer

from condgan.training.ema import EMA
from condgan.types import Generator


class Scored(NamedTuple):
    """The scores of a model after so many images."""

    images: int
    scores: dict[str, float]


@dataclass(slots=True)
class State:
    """All that training changes; with the recipe and the data, all that a resumed run needs."""

    generator: Generator
    discriminator: nn.Module
    averages: dict[str, EMA[Generator]]
    """Of the generator, by name; `ema` is the one that is sampled from."""
    g_optimizer: Optimizer
    d_optimizer: Optimizer
    seed: int
    modules: dict[str, nn.Module] = field(default_factory=dict)
    """Other things that change, in buffers: trackers of losses by their names, and the augmentation as `augment`."""
    images: int = 0
    """Real images seen by the discriminator."""
    iteration: int = 0
    retries: int = 0
    """How often training went back to an earlier checkpoint; each time both learning rates were halved."""
    history: list[Scored] = field(default_factory=list)
    """All scores up to here, oldest first; of several processes only the leader adds to it."""

    @property
    def rates(self) -> float:
        """What both learning rates are multiplied by."""
        return 0.5**self.retries

    @property
    def ema(self) -> EMA[Generator]:
        """The average that is sampled from."""
        return self.averages["ema"]

    @property
    def networks(self) -> dict[str, nn.Module]:
        """All that has weights or buffers, by the names of a checkpoint's files."""
        averages = {name: average.module for name, average in self.averages.items()}
        modules = {name: module for name, module in self.modules.items() if module.state_dict()}
        networks = {"generator": self.generator, "discriminator": self.discriminator}
        assert len(networks | averages | modules) == len(networks) + len(averages) + len(modules), "one name twice"
        return networks | averages | modules
