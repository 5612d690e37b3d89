"""How far a run's classes are from each other: to its generator, in its images, and in real ones."""

from pathlib import Path

import torch
from jaxtyping import Float
from torch import Tensor

from condgan.data.dataset import Dataset, Split
from condgan.evaluation.class_tree import class_distances
from condgan.evaluation.classifier import classifier_of
from condgan.evaluation.moments import class_centroids
from condgan.labels import LabelTable
from condgan.runs.directory import recipe_of
from condgan.runs.models import load_model, read_data, require_same_data
from condgan.sampling.directions import label_response
from condgan.sampling.model import Model
from condgan.utils.console import note
from condgan.utils.errors import UserError
from condgan.utils.figures import channels_first

LABEL_WEIGHTS, MADE, KEPT_ASIDE, TRAINED_ON = "label weights", "generated images", "held-out images", "training images"


def run_class_distances(
    directory: Path, per_class: int = 100, seed: int = 0, which: str = "best"
) -> tuple[tuple[str, ...], dict[str, Float[Tensor, "k k"]]]:
    """The classes of a run, and their distances from each other, k × k of each kind.

    `label weights`: between what the generator's first layers make of the labels, such as rows of an embedding.
    `generated images` and `held-out images`: between the means of each class's features, by the classifier that
    evaluation uses; of training images where a class has no held-out one. Without the run's data the first alone, with
    a note. Raises UserError for a run of one class.
    """
    model = load_model(directory, which)
    model.spec.require_classes("a tree of classes")
    if len(model.classes) < 2:
        raise UserError(f"run '{directory}' has one class only: expected one of two or more, whose distances differ")
    of_labels = label_distances(model)
    if of_labels is None:
        raise UserError(f"run '{directory}' has a generator that sees no label: there is nothing to compare")
    found = {LABEL_WEIGHTS: of_labels}
    try:
        data = read_data(recipe_of(directory), skip_bad_images=True)
        require_same_data(directory, data)
    except UserError as error:
        note(f"the tree is of the label weights alone, without images: {error}")
        return model.classes, found
    return model.classes, found | _of_images(model, data, per_class, seed)


def label_distances(model: Model) -> Float[Tensor, "k k"] | None:
    """Between what the generator's first layers make of the labels; None where none sees them."""
    response = label_response(model.generator, model.spec)
    return None if response is None else class_distances(response)


def _of_images(model: Model, data: Dataset, per_class: int, seed: int) -> dict[str, Float[Tensor, "k k"]]:
    classifier, count = classifier_of(data), len(model.classes)
    whole = bool((data.held_out.labels.counts() > 0).all())
    kind, real = (KEPT_ASIDE, data.held_out) if whole else (TRAINED_ON, data.train)
    index = torch.arange(count).repeat_interleave(per_class)
    images = channels_first(model.sample(None, per_class, seed))
    made = Split(images, LabelTable.from_index(model.spec, index))
    means = {
        name: class_centroids(classifier.predict(one.images, one.labels[:]).features, one.labels.index().cpu(), count)
        for name, one in ((MADE, made), (kind, real))
    }
    return {name: class_distances(of_kind) for name, of_kind in means.items()}
