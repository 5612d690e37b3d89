"""From images to images with other labels.

Axes: b images, d domains, k label values over all fields, c channels, h × w pixels.
"""

import dataclasses
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor, nn

from condgan.data.dataset import Split
from condgan.data.preprocessing import Preprocessing, color
from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.sampling.changes import Changes, changed, domains, plan_changes, toward
from condgan.sampling.fuse import Sampler
from condgan.sampling.pictures import images_of
from condgan.types import Generator, ImageShape, to_float
from condgan.utils.choices import Crop, Precision
from condgan.utils.errors import UserError
from condgan.utils.figures import channels_last, sheet

TRANSLATED_AT_ONCE = 32

GivenPicture = Image.Image | np.ndarray | str | Path
GivenPictures = GivenPicture | Sequence[GivenPicture]
"""A picture, as such, as its pixels or as its file; or several, also in one array."""


class Translated(NamedTuple):
    """Images, and what was changed to get them."""

    images: UInt8[Tensor, "b c h w"]
    changes: list[dict[str, bool]]
    """Of each image, the values that it got and lost."""


@dataclass(frozen=True)
class Translator:
    """A trained generator that translates images, and the discriminator, which can read their labels.

    Both in evaluation mode, but for the discriminator of a run that still trains.
    """

    generator: Generator
    discriminator: nn.Module
    spec: LabelSpec
    shape: ImageShape
    background: str
    images: int | None
    """Real images seen in training; None where weights were converted, and nobody here knows."""
    crop: Crop = "center"
    precision: Precision = "float32"
    """Of the network that images are made by."""
    compiled: bool = False
    """Whether it is compiled, which takes up to a minute at first."""

    sampler: Sampler = dataclasses.field(init=False, repr=False, compare=False)
    """The generator as it makes images: fused, in its precision, compiled or not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampler", Sampler(self.generator, self.precision, self.compiled))

    @property
    def domains(self) -> list[str]:
        """Where images can be translated to."""
        return [domain.name for domain in domains(self.spec)]

    @property
    def preprocessing(self) -> Preprocessing:
        """How pictures become images, as in training."""
        return Preprocessing(
            self.shape.height, self.shape.width, self.shape.channels, self.crop, color(self.background)
        )

    def pixels(self, pictures: GivenPictures) -> UInt8[Tensor, "b c h w"]:
        """Pictures of any size and mode as the networks see them; see `condgan.read`.

        Raises UserError for what is no picture.
        """
        return images_of(pictures, self.preprocessing)

    def translate(self, pictures: GivenPictures, changes: Changes) -> list[Image.Image]:
        """Pictures of any size and mode with changed labels, such as {"Red_Hair": True}, the rest as it was.

        What holds in a picture, the discriminator says. Raises UserError for labels that are unknown or exclude each
        other, and for what is no picture.
        """
        self.plan(changes)
        images = self.pixels(pictures)
        return _pictures(self.apply(images, changes).images) if len(images) else []

    def every_domain(self, pictures: GivenPictures) -> list[dict[str, Image.Image]]:
        """Of each picture, its translation to each domain."""
        images = self.pixels(pictures)
        images = self.to_every_domain(images) if len(images) else ()
        return [dict(zip(self.domains, _pictures(of_one), strict=True)) for of_one in images]

    def sheet(self, pictures: GivenPictures) -> Image.Image:
        """The same as one picture, a row per picture: itself, then in each domain. Raises UserError for no picture."""
        images = self.pixels(pictures)
        if not len(images):
            raise UserError("no picture given: expected one or more to translate")
        return self.strips(images)

    def strips(self, images: UInt8[Tensor, "b c h w"], labels: Labels | None = None) -> Image.Image:
        """The same of images of 0 … 255. `labels`: what is known of them."""
        cells = torch.cat([images[:, None], self.to_every_domain(images, labels)], 1)
        return sheet(cells.flatten(0, 1), ["input", *self.domains])

    def apply(self, images: UInt8[Tensor, "b c h w"], changes: Changes, labels: Labels | None = None) -> Translated:
        """Translated images of 0 … 255. `labels`: what is known of them; the discriminator says the rest.

        Changes in several data sets' fields are made one after the other.
        """
        wanted = self.plan(changes)
        got: list[dict[str, bool]] = [{} for _ in images]
        for field, values in wanted.items():
            before = self.complete(images, labels)
            after = before
            for value, on in sorted(values.items(), key=lambda item: item[1]):  # what is switched off, first
                after = changed(after, field, value, torch.full((len(images),), on > 0))
            where = self.spec.where(field)
            for image, value in (before.values[:, where] != after.values[:, where]).nonzero().tolist():
                got[image][self.spec.fields[field].values[value]] = bool(after.values[:, where][image, value])
            images = self.generate(images, after)
        return Translated(images, got)

    def to_every_domain(
        self, images: UInt8[Tensor, "b c h w"], labels: Labels | None = None, most: int | None = None
    ) -> UInt8[Tensor, "b d c h w"]:
        """Images of 0 … 255 in each domain, or in the first ones, `most` of them.

        `labels`: what is known of the images; the discriminator says the rest.
        """
        before = self.complete(images, labels)
        return torch.stack([self.generate(images, toward(before, domain)) for domain in domains(self.spec)[:most]], 1)

    def complete(self, images: UInt8[Tensor, "b c h w"], labels: Labels | None = None) -> Labels:
        """Labels with every field known: as given, where they are, else as the discriminator reads them."""
        if labels is not None and bool(labels.known.all()):
            return labels
        read = self.read(images)
        if labels is None:
            return read
        values = read.values.clone()
        for position, _, where in self.spec.slices():
            values[:, where] = torch.where(labels.known[:, [position]], labels.values[:, where], values[:, where])
        return Labels(self.spec, values, read.known)

    @torch.inference_mode()
    def read(self, images: UInt8[Tensor, "b c h w"]) -> Labels:
        """The labels that the discriminator's classifier sees in images of 0 … 255."""
        device = next(self.generator.parameters()).device
        values = []
        with _evaluating(self.discriminator):
            for chunk in images.split(TRANSLATED_AT_ONCE):
                nothing = Labels.nothing(self.spec, len(chunk)).to(device)
                logits = self.discriminator(to_float(chunk.to(device)), nothing).logits
                fields = [field.most_likely(logits[:, where]) for _, field, where in self.spec.slices()]
                values.append(torch.cat(fields, 1).to(torch.get_default_dtype()).cpu())
        return Labels(self.spec, torch.cat(values), torch.ones(len(images), len(self.spec.fields), dtype=torch.bool))

    def generate(self, images: UInt8[Tensor, "b c h w"], labels: Labels) -> UInt8[Tensor, "b c h w"]:
        """Images of 0 … 255 with just these labels."""
        return self.sampler(images, labels, TRANSLATED_AT_ONCE)

    def plan(self, changes: Changes) -> dict[int, dict[int, float]]:
        """Sort out what to change; see `plan_changes`."""
        return plan_changes(self.spec, changes)


@dataclass(frozen=True)
class Translations:
    """A translator's translations of images to labels, one of each."""

    model: Translator
    split: Split
    labels: LabelTable
    numbers: Int[Tensor, " n"]
    """Of the images among those that they were chosen from."""

    source = "the run's translations"
    strata = None
    chunk_size = TRANSLATED_AT_ONCE

    @property
    def names(self) -> Sequence[str]:
        return self.split.names

    def __len__(self) -> int:
        return len(self.split)

    def chunks(self, part: slice = slice(None)) -> Iterator[UInt8[Tensor, "b c h w"]]:
        for numbers in torch.arange(len(self))[part].split(TRANSLATED_AT_ONCE):
            yield self.at(numbers)

    def at(self, numbers: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        return self.model.generate(self.split.images[numbers], self.labels[numbers])


@contextmanager
def _evaluating(network: nn.Module) -> Iterator[None]:
    if not network.training:  # which threads may share
        yield
        return
    network.eval()
    try:
        yield
    finally:
        network.train()


def _pictures(images: UInt8[Tensor, "b c h w"]) -> list[Image.Image]:
    return [Image.fromarray(image) for image in channels_last(images)]
