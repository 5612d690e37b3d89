"""What a model is judged on: real images, and what the judge has seen of them."""

import math
from dataclasses import dataclass
from functools import cached_property
from statistics import fmean
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Int, UInt8
from PIL import Image
from torch import Tensor

from condgan.data.dataset import Dataset, Split, data_sets
from condgan.evaluation.classifier import Judged, SmallClassifier, trained_judge
from condgan.evaluation.metrics import conditional, translation
from condgan.evaluation.metrics.distances import frechet
from condgan.labels import Labels, LabelTable
from condgan.recipes.schema import Recipe
from condgan.sampling.latents import draw_latents, latent_dim
from condgan.sampling.model import Model, generate, progress_sheet
from condgan.sampling.translator import Domain, Translator, domains, toward
from condgan.utils.device import device
from condgan.utils.figures import sheet, spread
from condgan.utils.seeds import derive_seed

EVALUATION_SEED = 0
SCORED_IMAGES = 1_000
"""At most so many fakes score a checkpoint during training."""
STRIPS = 10
"""Rows of a translator's sheets."""


@runtime_checkable
class CheckpointScorer(Protocol):
    """The data set of a run and its judge, for models of one kind."""

    def score(self, model: Any) -> dict[str, float]:
        """A cheap judgement against training images, which decides the best checkpoint."""
        ...

    def sheet(self, model: Any, seed: int) -> Image.Image:
        """A picture of what the model does."""
        ...


def like(labels: LabelTable, split: Split) -> Int[Tensor, " m"]:
    """The numbers of images of a split with the class counts of some labels, as far as there are enough.

    They are always the same. Where labels are attributes, any images, as many of each data set.
    """
    order = torch.randperm(len(split), generator=torch.Generator().manual_seed(0))
    if labels.spec.exclusive:
        wanted, have = labels.index(), split.labels.index()[order]
    else:
        wanted, have = (one.known.int().argmax(1) for one in (labels, split.labels.at(order)))
    chosen = [order[have == number][:count] for number, count in enumerate(wanted.bincount().tolist())]
    return torch.cat(chosen)


def some(split: Split) -> Split:
    """Images evenly spread over a split, as many as score a checkpoint."""
    return split.at(torch.arange(len(split))[:: math.ceil(len(split) / SCORED_IMAGES)])


def judge_of(data: Dataset) -> SmallClassifier:
    """The judge of a data set, from the cache where it has one."""
    return trained_judge(data.train.images, data.train.labels, data.content_hash, device())


def real_sheet(data: Dataset, rows: int = STRIPS) -> Image.Image:
    """Training images by what they show: the columns of progress sheets."""
    of_value = {}
    for domain in domains(data.spec):
        index = data.train.labels.having(domain.field, domain.value)
        if len(index):
            of_value[domain.name] = index[torch.arange(rows) % len(index)]
    shown = [[*of_value][number] for number in spread(len(of_value), at_most=40)]
    chosen = torch.stack([of_value[name] for name in shown], 1).flatten()
    return sheet(data.train.images[chosen], shown)


@dataclass(frozen=True)
class GeneratorScorer:
    """What fakes are scored against during training: some training images, and as many fakes of the same classes."""

    judge: SmallClassifier
    reference: Judged

    @classmethod
    def of(cls, data: Dataset) -> "GeneratorScorer":
        judge, part = judge_of(data), data.train.at(like(some(data.train).labels, data.train))
        return cls(judge, judge.judge(part.images, part.labels[:]))

    def score(self, model: Model) -> dict[str, float]:
        labels = self.reference.labels
        latents = draw_latents(EVALUATION_SEED, 0, len(labels), latent_dim(model.generator), model.law)
        fakes = generate(model.generator, latents, labels)
        return conditional.score_generator(self.judge.judge(fakes, labels), self.reference)

    def sheet(self, model: Model, seed: int) -> Image.Image:
        return progress_sheet(model.generator, model.spec, seed)


@dataclass(frozen=True)
class TranslatorScorer:
    """What translations are judged against: held-out images, what is known of them, and training images."""

    data: Dataset
    judge: SmallClassifier
    held_out: Judged
    training: Judged
    some: Split
    reference: Judged

    @classmethod
    def of(cls, data: Dataset) -> "TranslatorScorer":
        judge, part = judge_of(data), some(data.train)
        splits = data.held_out, data.train.at(like(data.held_out.labels, data.train)), part
        held_out, training, reference = (judge.judge(split.images, split.labels[:]) for split in splits)
        return cls(data, judge, held_out, training, part, reference)

    @cached_property
    def content_judge(self) -> SmallClassifier | None:
        """Of what a translation shall leave as it is, where the data knows any."""
        images, content = self.data.train.images, self.data.train.content
        if content is None:
            return None
        known = content.known.any(1)
        if not known.all():
            images, content = images[known], content.at(known)
        return trained_judge(images, content, f"{self.data.content_hash} content", device())

    def score(self, model: Translator) -> dict[str, float]:
        targets = permuted(self.some.labels, EVALUATION_SEED)[:]
        translated = model.generate(self.some.images, targets)
        judged = self.judge.judge(translated, targets)
        return translation.score_translator(judged, self.reference) | _consistency(model, self.some, translated)

    def compare(self, model: Translator, seed: int) -> dict[str, Any]:
        """Every held-out image translated to every domain that it is not of, per attribute and on average.

        attribute_accuracy: the share of translations in which the judge sees what was asked for; kept_accuracy: the
        share of an image's other attributes that it still sees; content_accuracy: the share of what else is known of
        an image, and is still seen; each beside the same of real images. In shares of the pixels' range, target_mae:
        the distance to the true translation; of all held-out images, reconstruction_l1: to other labels and back;
        identity_l1: to their own. fd_classifier: from images with other images' labels to real ones. Where there are
        several data sets, accuracy across: of images of the others.
        """
        held_out, spec = self.data.held_out, self.data.spec
        complete = model.complete(held_out.images, held_out.labels[:])
        rows = {domain.name: self._row(model, complete, domain) for domain in domains(spec)}
        targets = permuted(held_out.labels, seed)[:]
        translated = model.generate(held_out.images, targets)
        of_each = {"per_attribute": {name: _flat(row) for name, row in rows.items()}}
        metrics: dict[str, Any] = _mean_row(list(rows.values())) | {
            "fd_classifier": _pair(self._far(self.judge.judge(translated, targets)), self._far(self.training)),
            **_consistency(model, held_out, translated),
        }
        if len(spec.fields) > 1:
            parts = {
                field.name: _mean_row([rows[one.name] for one in domains(spec) if one.field == position])
                for position, field in enumerate(spec.fields)
            }
            return _flat(metrics) | {"per_field": {name: _flat(row) for name, row in parts.items()}, **of_each}
        return _flat(metrics) | of_each

    def sheet(self, model: Translator, seed: int) -> Image.Image:
        """Held-out images of each data set, and each of them in every domain."""
        sets = data_sets(self.data.held_out.labels)
        rows = [index[spread(len(index), at_most=math.ceil(STRIPS / len(sets)))] for index in sets]
        shown = self.data.held_out.at(torch.cat(rows))
        return strips(model, shown.images, shown.labels[:])

    @property
    def about(self) -> dict[str, Any]:
        return {
            "real": len(self.data.held_out),
            "reference": "held-out images; ceilings: their own, of fd_classifier that of as many training images",
            "extractor": "classifier trained on the training images",
            "extractor_accuracy": conditional.agreement(self.held_out),
        }

    def _row(self, model: Translator, complete: Labels, domain: Domain) -> dict[str, Any]:
        """The metrics of translations to one domain."""
        real, where = self.data.held_out, self.data.spec.where(domain.field)
        own, asked = real.labels.known[:, domain.field], toward(complete, domain)
        has = real.labels.values[:, where][:, domain.value] > 0.5
        index = torch.nonzero(own & (asked.values[:, where] != complete.values[:, where]).any(1)).flatten()
        images, seen = self._translated(model, index, asked)
        before, showing = self.held_out.at(index), self.held_out.at(torch.nonzero(own & (has | domain.flips)).flatten())
        row: dict[str, Any] = {
            "attribute_accuracy": _pair(*(translation.shown(one, *domain[:2]) for one in (seen, showing))),
            "kept_accuracy": _pair(*(translation.kept(one, *domain[:2]) for one in (seen, before))),
            "content_accuracy": _pair(*(self._content(one, index) for one in (images, real.images[index]))),
        }
        row = {name: pair for name, pair in row.items() if pair["fake"] is not None or pair["real"] is not None}
        others = torch.nonzero(~own).flatten()
        if len(others):
            across = self._translated(model, others, asked)[1]
            row["attribute_accuracy"] |= {"across": translation.shown(across, *domain[:2])}
        exact = self.data.exact.get(self.data.spec.fields[domain.field].name)
        if exact is not None and len(index):
            true, found = exact(index, asked[index])
            if found.any():
                row["target_mae"] = translation.l1(images[found], true[found])
        return row

    def _far(self, judged: Judged) -> float | None:
        """The Fréchet distance from held-out images, where there are enough to have a spread."""
        if min(len(judged.labels), len(self.held_out.labels)) < 2:
            return None
        return frechet(judged.features, self.held_out.features)

    def _translated(self, model: Translator, index: Tensor, asked: Labels) -> tuple[Tensor, Judged]:
        if not len(index):
            return self.data.held_out.images[index], self.held_out.at(index)
        images = model.generate(self.data.held_out.images[index], asked[index])
        return images, self.judge.judge(images, asked[index])

    def _content(self, images: Tensor, index: Tensor) -> float | None:
        labels = self.data.held_out.content
        if self.content_judge is None or labels is None:
            return None
        known = labels.known[index].any(1)
        if not known.any():
            return None
        return conditional.agreement(self.content_judge.judge(images[known], labels[index[known]]))


def build_scorer(recipe: Recipe, data: Dataset) -> CheckpointScorer:
    """The bench of what a recipe trains."""
    return TranslatorScorer.of(data) if recipe.translates else GeneratorScorer.of(data)


def permuted(labels: LabelTable, seed: int) -> LabelTable:
    """The labels of other images of the same data set, as in training."""
    drawing = torch.Generator().manual_seed(derive_seed(seed, "targets"))
    order = torch.arange(len(labels))
    for index in data_sets(labels):
        order[index] = index[torch.randperm(len(index), generator=drawing)]
    return labels.at(order)


def strips(model: Translator, images: UInt8[Tensor, "n c h w"], labels: Labels | None = None) -> Image.Image:
    """A row per image: itself, then its translation to each domain."""
    cells = torch.cat([images[:, None], model.to_every_domain(images, labels)], 1)
    return sheet(cells.flatten(0, 1), ["input", *model.domains])


def _consistency(model: Translator, split: Split, translated: UInt8[Tensor, "n c h w"]) -> dict[str, float]:
    """How far images are from themselves after a translation and back, and after one to their own labels."""
    back, same = (model.generate(images, split.labels[:]) for images in (translated, split.images))
    return {
        "reconstruction_l1": translation.l1(back, split.images),
        "identity_l1": translation.l1(same, split.images),
    }


def _mean_row(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The mean of each metric over the rows that have it."""
    mean: dict[str, Any] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        values = [row[name] for row in rows if name in row]
        if isinstance(values[0], dict):
            mean[name] = _mean_row([{k: v for k, v in pair.items() if v is not None} for pair in values])
        else:
            mean[name] = fmean(values)
    return mean


def _flat(row: dict[str, Any]) -> dict[str, Any]:
    """A row's values of translations and, under "real" and "across", those of other images."""
    flat = {name: value["fake"] if isinstance(value, dict) else value for name, value in row.items()}
    for kind in ("real", "across"):
        others = {name: value[kind] for name, value in row.items() if isinstance(value, dict) and kind in value}
        if others:
            flat[kind] = others
    return {name: value for name, value in flat.items() if value is not None}


def _pair(fake: float | None, real: float | None) -> dict[str, float | None]:
    return {"fake": fake, "real": real}
