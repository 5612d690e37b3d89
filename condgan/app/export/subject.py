"""What is exported: a run's generator, how it takes labels and gives images, and what is known of it."""

from collections.abc import Callable, Collection
from copy import deepcopy
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.export import Dim, ExportedProgram

from condgan import __version__
from condgan.app.export.network import PlainNetwork, numbers_read, truncating, unchanged, vectors_read
from condgan.app.export.parity import BATCHES, Case
from condgan.build import image_shape
from condgan.labels import Labels, LabelSpec
from condgan.recipes.schema import Recipe
from condgan.sampling.fuse import fuse_for_inference
from condgan.sampling.latents import draw_latents, latent_dim
from condgan.sampling.model import Model, some_labels
from condgan.sampling.options import Sampling, sampling_record
from condgan.sampling.translator import Translator
from condgan.types import Generator, ImageShape, to_float, to_uint8
from condgan.utils.choices import ExportOutput

LARGEST_BATCH = 4096
"""Images of a batch, for which files are made at most."""


class ExportOptions(NamedTuple):
    """How a model is exported."""

    output: ExportOutput = "uint8"
    """Pixels of 0 … 255 or of [−1, 1], also of the images that a translator takes."""
    mixtures: bool = False
    """Whether a weight of each class goes in, not a class number."""
    truncation: float | None = None
    """Of the latents, which becomes part of the file."""
    standing: int | None = None
    """Batch norms know the standing statistics of so many batches."""
    with_discriminator: bool = False
    runtime: Path | None = None
    """npm's onnxruntime-web, for a page."""


@dataclass(frozen=True)
class ExportSubject:
    """A model of a run's checkpoint, and how a file of it takes labels and gives images."""

    run: Path
    checkpoint: Path
    needed: Collection[str]
    """Files of the checkpoint that a folder holds."""
    recipe: Recipe
    model: Model | Translator
    options: ExportOptions

    @property
    def spec(self) -> LabelSpec:
        return self.model.spec

    @property
    def shape(self) -> ImageShape:
        return image_shape(self.recipe)

    @property
    def inputs(self) -> dict[str, list[Any]]:
        """The names and shapes of what goes in."""
        if isinstance(self.model, Translator):
            return {"pictures": ["batch", *self.shape], "labels": ["batch", self.spec.vector_width]}
        labels = {"labels": ["batch", self.spec.width]} if self.weighs else {"classes": ["batch"]}
        return {"latents": ["batch", latent_dim(self.model.generator)]} | labels

    @property
    def weighs(self) -> bool:
        """Whether a number for each label value goes in: of attributes, a number or mixtures of classes."""
        return self.options.mixtures or not self.spec.exclusive

    @cached_property
    def network(self) -> PlainNetwork:
        """The fused generator on the CPU."""
        fused, spec = fuse_for_inference(self.model.generator).cpu(), self.spec
        gray_levels = self.options.output == "uint8"
        leaving = to_uint8 if gray_levels else unchanged
        if isinstance(self.model, Translator):
            return PlainNetwork(fused, to_float if gray_levels else unchanged, vectors_read(spec), leaving)
        entering = unchanged if self.options.truncation is None else truncating(self.options.truncation)
        return PlainNetwork(fused, entering, self._reader, leaving)

    @property
    def _reader(self) -> Callable[[Tensor], Labels]:
        return (vectors_read if self.weighs else numbers_read)(self.spec)

    @cached_property
    def program(self) -> ExportedProgram:
        """The network as PyTorch exports it, for batches of any number."""
        batch, (source, labels, _) = Dim("batch", min=1, max=LARGEST_BATCH), self.cases[2]
        return torch.export.export(self.network.eval(), (source, labels), dynamic_shapes=({0: batch}, {0: batch}))

    @cached_property
    def cases(self) -> dict[int, Case]:
        """What files are compared by: drawn inputs, and the images of the generator as it was trained."""
        generator = deepcopy(self.model.generator).cpu()
        return {batch: self._case(generator, batch) for batch in BATCHES}

    @torch.no_grad()
    def _case(self, generator: Generator, batch: int) -> Case:
        rng = np.random.default_rng(batch)
        if isinstance(self.model, Translator):
            images = torch.from_numpy(rng.integers(0, 256, (batch, *self.shape), np.uint8))
            vectors = torch.from_numpy(rng.integers(0, 2, (batch, self.spec.vector_width)).astype(np.float32))
            source, entering = images if self.options.output == "uint8" else to_float(images), to_float(images)
            return Case(source, vectors, generator(entering, vectors_read(self.spec)(vectors)))
        latents = draw_latents(batch, 0, batch, latent_dim(generator))
        truncation = self.options.truncation
        far = [5.6, *([] if truncation is None or truncation > 5.6 else [truncation])]  # as far as draws go
        edges = torch.tensor([sign * one for one in far for sign in (1, -1)])[: latents.shape[1]]
        latents[-1, : len(edges)] = edges
        entering = torch.from_numpy(self.model.law(latents.numpy()).astype(np.float32))
        labels: Tensor = torch.arange(batch) % self.spec.width
        if not self.spec.exclusive:
            labels = some_labels(self.spec, batch, batch).values
        elif self.options.mixtures:
            labels = torch.from_numpy(rng.dirichlet(np.ones(self.spec.width), batch).astype(np.float32))
        return Case(latents, labels, generator(entering, self._reader(labels)))

    def about(self, parity: dict[str, float]) -> dict[str, Any]:
        """What a file says of itself."""
        drawn = Sampling(truncation=self.options.truncation, standing=self.options.standing)
        sampled = {} if isinstance(self.model, Translator) else sampling_record(drawn)
        return {
            "condgan": __version__,
            "torch": torch.__version__,
            "recipe": self.recipe.name,
            "images_of_training": self.model.images,
            "inputs": self.inputs,
            "labels": {field.name: list(field.values) for field in self.spec.fields},
            **({} if (range := self.spec.range) is None else {"range": [range.low, range.high]}),
            "outputs": {"images": ["batch", *self.shape]},
            "pixels": "0 to 255" if self.options.output == "uint8" else "-1 to 1",
            **sampled,
            "parity": parity,
        }
