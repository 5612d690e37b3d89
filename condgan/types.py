"""Where networks and losses meet: the shapes of the parts and the step that a loss looks at.

Axes: b images, c channels, h × w pixels or patches, d features, k label values.
"""

from collections.abc import Callable, Mapping
from functools import cached_property
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, UInt8
from torch import Tensor, nn
from torch.utils._pytree import tree_map_only

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
    named: Mapping[str, Float[Tensor, "b ..."]] = {}
    """The head's other outputs, by the names in its `outputs`, such as TAC-GAN's twin."""

    @property
    def logits(self) -> Float[Tensor, "b k"]:
        """The classifier's, of the labels, before softmax or sigmoid."""
        return self.named["logits"]


class Generator(nn.Module):
    """(Latents b × z, labels) → images in [−1, 1]; a translator takes images in the latents' place."""

    latent_dim: int | None
    """None: a translator."""


class Backbone(nn.Module):
    """Images in [−1, 1] → features b × `features`: (d) where they are pooled, else a map's (d, h, w)."""

    features: tuple[int, ...]

    def stages(self) -> list[nn.Module]:
        """Its parts with weights, from the image on: blocks, convolutions, norms and attention between them."""
        parts = [part for one in self.children() for part in (one if isinstance(one, nn.Sequential) else [one])]
        return [part for part in parts if part.state_dict()]


class Head(nn.Module):
    """(Features, the labels that the images claim to have) → `DiscriminatorOutput`."""

    outputs: ClassVar[tuple[str, ...]] = ()
    """The names of what it gives beside the score."""
    scores: ClassVar[tuple[str, ...]] = ()
    """The names of other scores that it gives, such as `unconditional`: the one without labels."""
    conditional: ClassVar[bool] = True
    """Whether what it says depends on labels, or is of them."""


class Tracker(nn.Module):
    """State that training keeps beside the networks, in buffers: saved, resumed and the same in all processes."""

    def observe(self, step: "Step") -> Float[Tensor, "..."]:
        """The followed quantities as means over one micro-batch of a discriminator's step; without gradients."""
        raise NotImplementedError

    def update(self, observed: Float[Tensor, "..."], images: int) -> None:
        """Change the buffers after a discriminator's step, given the means over its whole batch.

        `images`: how many real images that has, in all processes.
        """
        raise NotImplementedError

    def watched(self) -> dict[str, Float[Tensor, ""]]:
        """Numbers to log beside the losses, by name."""
        return {}


class LabelWeights(nn.Module):
    """A layer whose weights belong to label values, a row each; penalties on weights leave them alone."""


def full_precision(network: nn.Module) -> nn.Module:
    """The network itself, which computes in the precision of its weights and is differentiable twice.

    Training calls it through a module that has it as `full_precision`.
    """
    return getattr(network, "full_precision", network)


def is_rounded(network: nn.Module) -> bool:
    """Whether training calls a network in less than float32."""
    return getattr(network, "precision", torch.float32) != torch.float32


class Step:
    """One micro-batch as the losses see it; the discriminator runs when a loss first asks what it says.

    `joint`: real and fake images go through it as one batch, so that a batch norm in it sees both; else in two passes,
    of which a loss that reads only one causes only one. `augment`: what both kinds of images go through on their way to
    the discriminator. `modules`: the states that losses read, by name. `images`: how many real ones were seen before.
    """

    def __init__(
        self,
        *,
        generator: nn.Module,
        discriminator: nn.Module,
        real: Float[Tensor, "b c h w"],
        real_labels: Labels,
        fake: Float[Tensor, "b c h w"],
        fake_labels: Labels,
        joint: bool = False,
        augment: Callable[[Tensor], Tensor] | None = None,
        modules: Mapping[str, nn.Module] | None = None,
        images: int = 0,
    ) -> None:
        self.generator, self.discriminator = generator, discriminator
        self.real, self.real_labels = real, real_labels
        self.fake, self.fake_labels = fake, fake_labels
        self.joint, self.augment, self.modules, self.images = joint, augment, modules or {}, images

    @cached_property
    def shown_real(self) -> Float[Tensor, "b c h w"]:
        """The real images as the discriminator, and penalties on it, see them."""
        return self.real if self.augment is None else self.augment(self.real)

    @cached_property
    def shown_fake(self) -> Float[Tensor, "b c h w"]:
        """The same of the fakes."""
        return self.fake if self.augment is None else self.augment(self.fake)

    @cached_property
    def on_real(self) -> DiscriminatorOutput:
        return self._both[0] if self.joint else self.discriminator(self.shown_real, self.real_labels)

    @cached_property
    def on_fake(self) -> DiscriminatorOutput:
        return self._both[1] if self.joint else self.discriminator(self.shown_fake, self.fake_labels)

    @cached_property
    def _both(self) -> list[DiscriminatorOutput]:
        images = torch.cat([self.shown_real, self.shown_fake])
        labels = Labels.cat([self.real_labels, self.fake_labels])
        with distributed.stacked_batches(2):
            both = self.discriminator(images, labels)
        return [tree_map_only(Tensor, lambda output, half=half: output.chunk(2)[half], both) for half in (0, 1)]

    @cached_property
    def whole(self) -> "Step":
        """The step of the whole batch: with what the discriminator says in all processes, gradients included."""
        return self if distributed.size() == 1 else _WholeStep(self)


class _WholeStep(Step):
    """A step with the discriminator's outputs in all processes, by their ranks; images are this process's own."""

    def __init__(self, own: Step) -> None:
        self.__dict__.update(own.__dict__)
        self._own = own
        for name in ("on_real", "on_fake", "whole"):
            self.__dict__.pop(name, None)
        self.real_labels, self.fake_labels = (
            Labels(labels.spec, distributed.all_gather(labels.values), distributed.all_gather(labels.known))
            for labels in (own.real_labels, own.fake_labels)
        )

    @cached_property
    def whole(self) -> Step:
        return self

    @cached_property
    def on_real(self) -> DiscriminatorOutput:
        return tree_map_only(Tensor, distributed.all_gather_with_gradient, self._own.on_real)

    @cached_property
    def on_fake(self) -> DiscriminatorOutput:
        return tree_map_only(Tensor, distributed.all_gather_with_gradient, self._own.on_fake)


def to_float(images: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """0 … 255 → [−1, 1]."""
    return images.float().div_(127.5).sub_(1)


def to_uint8(images: Float[Tensor, "b c h w"]) -> UInt8[Tensor, "b c h w"]:
    """[−1, 1] → 0 … 255, rounded."""
    return ((images.float() + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
