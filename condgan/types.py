"""Where networks and losses meet: the shapes of the parts and the step that a loss looks at.

Axes: b images, c channels, h × w pixels or patches, d features, k label values.
"""

from functools import cached_property
from typing import NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn

from condgan.labels import Labels
from condgan.utils import distributed


class ImageShape(NamedTuple):
    """Channels, height and width of an image."""

    channels: int
    height: int
    width: int


class Batch(NamedTuple):
    """Real images, in [-1, 1], and their labels."""

    images: Float[Tensor, "b c h w"]
    labels: Labels

    def chunk(self, count: int) -> "list[Batch]":
        """The batch in `count` equal parts."""
        return [Batch(*part) for part in zip(self.images.chunk(count), self.labels.chunk(count), strict=True)]


class DiscriminatorOutput(NamedTuple):
    """All that a discriminator says of b images; a loss pays only for what it reads."""

    score: Float[Tensor, "b *patches"]
    """Higher is more real."""
    features: Float[Tensor, "b d"] | None = None
    logits: Float[Tensor, "b k"] | None = None
    """Of the labels, before softmax or sigmoid."""
    twin: Float[Tensor, "b k"] | None = None
    """The same from TAC-GAN's second classifier, that of fakes."""


class Generator(nn.Module):
    """(Latents b × z, labels) → images in [−1, 1]; a translator takes images in the latents' place."""

    latent_dim: int | None
    """None: a translator."""


class Backbone(nn.Module):
    """Images in [−1, 1] → features b × `features`: (d) where they are pooled, else a map's (d, h, w)."""

    features: tuple[int, ...]


class Head(nn.Module):
    """(Features, the labels that the images claim to have) → `DiscriminatorOutput`."""


class LabelWeights(nn.Module):
    """A layer whose weights belong to label values, a row each; penalties on weights leave them alone."""


def full_precision(network: nn.Module) -> nn.Module:
    """The network itself, which computes in the precision of its weights and is differentiable twice.

    Training calls it through a module that has it as `full_precision`.
    """
    return getattr(network, "full_precision", network)


class Step:
    """One micro-batch as the losses see it; the discriminator runs when a loss first asks what it says.

    `joint`: real and fake images go through it as one batch, so that a batch norm in it sees both; else in two passes,
    of which a loss that reads only one causes only one.
    """

    def __init__(
        self,
        generator: nn.Module,
        discriminator: nn.Module,
        real: Float[Tensor, "b c h w"],
        real_labels: Labels,
        fake: Float[Tensor, "b c h w"],
        fake_labels: Labels,
        joint: bool = False,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.real, self.real_labels = real, real_labels
        self.fake, self.fake_labels = fake, fake_labels
        self.joint = joint

    @cached_property
    def on_real(self) -> DiscriminatorOutput:
        return self._both[0] if self.joint else self.discriminator(self.real, self.real_labels)

    @cached_property
    def on_fake(self) -> DiscriminatorOutput:
        return self._both[1] if self.joint else self.discriminator(self.fake, self.fake_labels)

    @cached_property
    def _both(self) -> list[DiscriminatorOutput]:
        labels = Labels.cat([self.real_labels, self.fake_labels])
        with distributed.stacked_batches(2):
            both = self.discriminator(torch.cat([self.real, self.fake]), labels)
        halves = [[None, None] if part is None else part.chunk(2) for part in both]
        return [DiscriminatorOutput(*half) for half in zip(*halves, strict=True)]


def to_float(images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """0 … 255 → [−1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """[−1, 1] → 0 … 255, rounded."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
