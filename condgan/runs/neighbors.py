"""What is like an image of a run: other images that it makes, and those that it was trained on.

Axes: q images that are asked about, n generated and t training images, k neighbors, d features, c channels, h × w
pixels.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, UInt8
from PIL import Image
from torch import Tensor

from condgan.data.dataset import Split
from condgan.evaluation.classifier import SmallClassifier, classifier_of
from condgan.evaluation.metrics.neighbors import Nearest
from condgan.evaluation.selection import NEXT_ONES, no_copies, relative_nearness
from condgan.labels import Labels, LabelTable
from condgan.runs.directory import recipe_of
from condgan.runs.models import load_model, read_data, require_same_data
from condgan.sampling.interpolate import turned
from condgan.sampling.model import Drawn, Model
from condgan.utils.arguments import whole
from condgan.utils.errors import UserError
from condgan.utils.figures import channels_first, sheet
from condgan.utils.files import csv_bytes

OTHERS = 1_000
"""Generated images among which neighbors are searched, unless another number is asked for."""


class Neighbors(NamedTuple):
    """The nearest generated and training images of some images, by features of the classifier of evaluation."""

    made: Nearest
    trained_on: Nearest
    """At least the ten nearest, where there are as many."""
    copies: Bool[Tensor, " q"] | None
    """Which are so near to a training image as 1 % of held-out images are; None where none are held out."""


@dataclass(frozen=True)
class NeighborSearch:
    """Images of a run, and those that it was trained on, to search neighbors among."""

    model: Model
    training: Split
    made: Split
    """Generated: as many of each class, class by class, as `Model.sample` makes them."""
    classifier: SmallClassifier
    of_made: Float[Tensor, "n d"]
    """Their features."""
    of_training: Float[Tensor, "t d"]
    usual: Float[Tensor, " u"] | None
    """How near held-out images are to training images, relative to the next ones."""

    @classmethod
    def of(cls, directory: Path, count: int = OTHERS, seed: int = 1, which: str = "best") -> "NeighborSearch":
        """Prepare to search among `count` images that a run makes of a seed, and its training images.

        Raises UserError where the run's data are not there or have changed.
        """
        count = whole("images to search among", count, 1)
        model = load_model(directory, which)
        model.spec.require_classes("neighbors of images")
        data = read_data(recipe_of(directory), skip_bad_images=True)
        require_same_data(directory, data)
        if data.spec.fields != model.spec.fields:
            raise UserError(f"the classes of run '{directory}' are not those of its data: give back the old data")
        per_class = math.ceil(count / len(model.classes))
        index = torch.arange(len(model.classes)).repeat_interleave(per_class)
        images = channels_first(model.sample(None, per_class, seed))
        made = Split(images, LabelTable.from_index(model.spec, index))
        classifier, training, held_out = classifier_of(data), data.train.to("cpu"), data.held_out.to("cpu")
        of_made, of_training, of_held_out = (
            classifier.predict(one.images, one.labels[:]).features for one in (made, training, held_out)
        )
        usual = relative_nearness(of_held_out, of_training) if len(held_out) else None
        return cls(model, training, made, classifier, of_made, of_training, usual)

    def among(self, images: UInt8[Tensor, "q c h w"], count: int) -> Neighbors:
        """The `count` nearest of each kind of some images of 0 … 255."""
        features = self.classifier.predict(images, Labels.nothing(self.model.spec, len(images))).features
        near = Nearest.among(features, self.of_training, max(count, min(NEXT_ONES, len(self.training))))
        copies = None if self.usual is None else no_copies(self._relative(near), self.usual).logical_not()
        return Neighbors(Nearest.among(features, self.of_made, count), near, copies)

    @staticmethod
    def _relative(near: Nearest) -> Float[Tensor, " q"]:
        """As `relative_nearness`, of the ten nearest."""
        return Nearest(near.distances[:, :NEXT_ONES], near.numbers[:, :NEXT_ONES]).relative

    def names(self, split: Split, numbers: Sequence[int]) -> list[tuple[str, str]]:
        """The class of some images, and the file or number of each: in its class of generated images, else in all."""
        classes, per_class = split.labels.index().tolist(), len(self.made) // len(self.model.classes)
        return [
            (
                self.model.classes[classes[one]] if classes[one] >= 0 else "no known class",
                split.names[one] if split.names else str(one % per_class if split is self.made else one),
            )
            for one in numbers
        ]

    def sheet(
        self, images: UInt8[Tensor, "q c h w"], found: Neighbors, captions: Sequence[str], count: int
    ) -> Image.Image:
        """A row per image: itself, then its nearest generated and its nearest training images."""
        made, real = found.made.numbers[:, :count], found.trained_on.numbers[:, :count]
        cells = torch.cat([images[:, None], self.made.images[made], self.training.images[real]], 1)
        columns = ["image", *_numbered("made", made), *_numbered("real", real)]
        copies = [False] * len(images) if found.copies is None else found.copies.tolist()
        rows = [f"{caption}: a copy" if copy else caption for caption, copy in zip(captions, copies, strict=True)]
        return sheet(cells.flatten(0, 1), columns, rows)

    def table(self, found: Neighbors, asked: Sequence[tuple[str, int]], count: int) -> bytes:
        """A line for each neighbor as CSV: of which class and number it is one, what it is, and how far away."""
        copies = ["" for _ in asked] if found.copies is None else [int(one) for one in found.copies.tolist()]
        kinds = (("generated", self.made, found.made), ("training", self.training, found.trained_on))
        rows: list[Sequence[object]] = [
            ["class", "number", "copy", "kind", "rank", "neighbor_class", "neighbor", "distance"]
        ]
        for i, (one, copy) in enumerate(zip(asked, copies, strict=True)):
            for kind, split, near in kinds:
                named = self.names(split, near.numbers[i, :count].tolist())
                distances = (f"{distance:.6g}" for distance in near.distances[i, :count].tolist())
                rows += [
                    [*one, copy, kind, rank, *neighbor, distance]
                    for rank, (neighbor, distance) in enumerate(zip(named, distances, strict=True), 1)
                ]
        return csv_bytes(rows)


def nearby_sheet(
    model: Model, drawn: Drawn, captions: Sequence[str], count: int, distance: int | float, seed: int
) -> Image.Image:
    """A row per image: itself, and so many of latents near its own; see `turned`."""
    latents = turned(drawn.latents, count, distance, seed)
    weights = drawn.weights.repeat_interleave(1 + count, 0)
    images = channels_first(model.make(Drawn(latents.flatten(0, 1), weights)))
    return sheet(images, ["image", *map(str, range(1, 1 + count))], captions)


def _numbered(what: str, neighbors: Tensor) -> list[str]:
    return [f"{what} {rank}" for rank in range(1, neighbors.shape[1] + 1)]
