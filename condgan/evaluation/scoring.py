"""Score checkpoints during training, cheaply, and draw what a model does."""

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from condgan.data.dataset import Dataset, Split, data_sets
from condgan.evaluation.catalog import Kind, score_names, select_metrics
from condgan.evaluation.classifier import SmallClassifier, classifier, classifier_of
from condgan.evaluation.images import evenly_spaced, matching_images, spaced_numbers, translations_of
from condgan.evaluation.statistics import FeatureStatistics, collect_statistics
from condgan.labels import LabelTable
from condgan.recipes.schema import Recipe
from condgan.sampling.changes import domains
from condgan.sampling.latents import draw_latents, latent_dim
from condgan.sampling.model import Model, generate, progress_sheet
from condgan.sampling.options import EVALUATION_SEED
from condgan.sampling.translator import Translator
from condgan.utils.figures import sheet, spread

SCORED_IMAGES = 1_000
"""At most so many fakes score a checkpoint during training."""
STRIPS = 10
"""Rows of a translator's sheets."""


@runtime_checkable
class CheckpointScorer(Protocol):
    """The data set of a run and its classifier, which is trained for the first score, for models of one kind."""

    def score(self, model: Any) -> dict[str, float]:
        """Compare a model cheaply with training images, by numbers of which one decides the best checkpoint."""
        ...

    def sheet(self, model: Any, seed: int) -> Image.Image:
        """Draw what the model does."""
        ...


@dataclass(frozen=True)
class GeneratorScorer:
    """Compare as many fakes of the same classes with some training images."""

    data: Dataset

    def score(self, model: Model) -> dict[str, float]:
        reader, labels, real = self._real
        latents = draw_latents(EVALUATION_SEED, 0, len(labels), latent_dim(model.generator), model.law)
        fakes = generate(model.generator, latents, labels[:])
        return scores("generator", _statistics(reader, fakes, labels), real)

    def sheet(self, model: Model, seed: int) -> Image.Image:
        return progress_sheet(model.generator, model.spec, seed)

    @cached_property
    def _real(self) -> tuple[SmallClassifier, LabelTable, FeatureStatistics]:
        """The classifier, the labels of fakes, and what real images of these are."""
        reader, train = classifier_of(self.data), self.data.train
        labels = train.labels.at(spaced_numbers(train, SCORED_IMAGES))
        part = train.at(matching_images(labels, train))
        return reader, part.labels.drawn(0, train.labels), _statistics(reader, part.images, part.labels)


@dataclass(frozen=True)
class TranslatorScorer:
    """Compare translations of some training images, to other images' labels, with these images."""

    data: Dataset

    def score(self, model: Translator) -> dict[str, float]:
        reader, images, real = self._real
        translated = translations_of(model, images, EVALUATION_SEED)
        needs = select_metrics("classifier", score_names("translator"), {}, "translator").needs
        extractor = classifier(reader)
        return scores("translator", collect_statistics(translated, extractor, needs, extractor), real)

    def sheet(self, model: Translator, seed: int) -> Image.Image:
        return held_out_strips(model, self.data)

    @cached_property
    def _real(self) -> tuple[SmallClassifier, Split, FeatureStatistics]:
        """The classifier, the images to translate, and what these are."""
        reader, part = classifier_of(self.data), evenly_spaced(self.data.train, SCORED_IMAGES)
        return reader, part, _statistics(reader, part.images, part.labels)


def scores(kind: Kind, fake: FeatureStatistics, real: FeatureStatistics) -> dict[str, float]:
    """The numbers that score checkpoints of a kind of model."""
    row = select_metrics("classifier", score_names(kind), {}, kind).row(fake, real, None)
    return {name: row[name] for name in score_names(kind) if row[name] is not None}


def _statistics(reader: SmallClassifier, images: UInt8[Tensor, "n c h w"], labels: LabelTable) -> FeatureStatistics:
    return FeatureStatistics.of_predictions(reader.predict(images, labels[:]), labels)


def build_scorer(recipe: Recipe, data: Dataset) -> CheckpointScorer:
    """Build what scores the checkpoints of a recipe."""
    return TranslatorScorer(data) if recipe.translates else GeneratorScorer(data)


def real_sheet(data: Dataset, rows: int = STRIPS) -> Image.Image:
    """Draw training images by what they show: the columns of progress sheets."""
    of_value = {}
    labels = data.train.labels.by_class() or data.train.labels
    for domain in domains(labels.spec):
        index = labels.having(domain.field, domain.value)
        if len(index):
            of_value[domain.name] = index[torch.arange(rows) % len(index)]
    shown = [[*of_value][number] for number in spread(len(of_value), at_most=40)]
    chosen = torch.stack([of_value[name] for name in shown], 1).flatten()
    return sheet(data.train.images[chosen], shown)


def held_out_strips(model: Translator, data: Dataset) -> Image.Image:
    """Draw held-out images of each data set, and each of them in every domain."""
    sets = data_sets(data.held_out.labels)
    rows = [index[spread(len(index), at_most=math.ceil(STRIPS / len(sets)))] for index in sets]
    shown = data.held_out.at(torch.cat(rows))
    return model.strips(shown.images, shown.labels[:])
