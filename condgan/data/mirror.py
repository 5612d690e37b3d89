"""Tell whether images may be flipped: whether their mirror images could be theirs."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from condgan.labels import Labels, LabelTable
from condgan.types import to_float

AT_LEAST = 500
"""Images of which a network learns enough to tell mirrored ones; of fewer it would be right by chance alone."""
LIMIT = 2 / 3
"""Flips are fine if surely fewer mirrored images are told: where half are by chance, one in three shows it at most."""
DEVIATIONS = 2.178
"""Standard deviations of a bound, of two looks (Pocock 1977)."""
STEPS, BATCH = 120, 64
"""Of each network."""


class Mirrored(NamedTuple):
    """How many mirrored images were told from the originals."""

    told: int
    of: int

    @property
    def share(self) -> float:
        return self.told / self.of

    def bound(self, z: float) -> float:
        """The share that lies z standard deviations away (Wilson 1927): chance alone gives some more or less."""
        n, p = self.of, self.share
        return (p + z * z / (2 * n) + z * (p * (1 - p) / n + z * z / (4 * n * n)) ** 0.5) / (1 + z * z / n)

    @property
    def alike(self) -> bool:
        """Whether mirrored images look like the others, with 97.5 % confidence, though it is asked twice at most."""
        return self.bound(DEVIATIONS) < LIMIT

    @property
    def different(self) -> bool:
        """Whether they do not, with the same."""
        return self.bound(-DEVIATIONS) > LIMIT


def tell_mirrored(images: UInt8[Tensor, "n c h w"], labels: LabelTable) -> Mirrored | None:
    """Of how many images a network that learned on others tells which is mirrored, given the label.

    None where they are too few to learn from. Half of the images are held out, and where that leaves doubt, the other
    half, too, from a second network.

    The network's answer is g(x, y) − g(mirror(x), y), which changes its sign where x is mirrored, so that one answer
    for each image tells all; it is right half of the time by chance.
    """
    if len(images) < AT_LEAST:
        return None
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        one, other = torch.randperm(len(images)).chunk(2)
        found = Mirrored(_told(images, labels, one, other), len(other))
        if found.alike or found.different:
            return found
        return Mirrored(found.told + _told(images, labels, other, one), len(images))


class _Network(nn.Module):
    """g(x, y) − g(mirror(x), y): a convolutional network with a vector of its own for each label.

    Its first layer takes steps of four pixels: with one of two before it, it tells as many for twice the time.
    """

    def __init__(self, channels: int, width: int) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(channels, 32, 6, 4, 1), nn.ReLU(), nn.Conv2d(32, 64, 3, 2, 1), nn.ReLU(),
            nn.Flatten(), nn.LazyLinear(64), nn.ReLU(),
        )  # fmt: skip
        self.any_label, self.of_label = nn.Linear(64, 1, bias=False), nn.Linear(width, 64, bias=False)

    def forward(self, images: Float[Tensor, "b c h w"], labels: Labels) -> Float[Tensor, " b"]:
        difference = self.features(images) - self.features(images.flip(3))
        return self.any_label(difference)[:, 0] + (difference * self.of_label(labels.vector())).sum(1)


def _told(images: UInt8[Tensor, "n c h w"], labels: LabelTable, learn: Tensor, held: Tensor) -> int:
    """In how many held-out images a network that learned on others is right."""
    network = _Network(images.shape[1], labels.spec.vector_width)
    network(to_float(images[learn[:2]]), labels[learn[:2]])  # which finds out how many features there are
    optimizer = torch.optim.AdamW(network.parameters(), 2e-3, weight_decay=1e-2)
    for batch, _ in zip(_batches(learn), range(STEPS), strict=False):
        optimizer.zero_grad()
        F.softplus(-network(to_float(images[batch]), labels[batch])).mean().backward()
        optimizer.step()
    with torch.no_grad():
        answers = torch.cat([network(to_float(images[some]), labels[some]) for some in held.split(500)])
    return int((answers > 0).sum())


def _batches(places: Tensor) -> Iterator[Tensor]:
    while True:
        yield from places[torch.randperm(len(places))].split(BATCH)
