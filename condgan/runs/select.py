"""Select a run's images: those that classifiers of real images, its discriminator and its training images speak for."""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor

from condgan.build import placed
from condgan.data.dataset import Dataset
from condgan.evaluation.classifier import classifier_of
from condgan.evaluation.judges import CrossFitted, discriminator_logits
from condgan.evaluation.selection import acceptance, drawn, log_odds, no_copies, relative_nearness
from condgan.labels import LabelTable
from condgan.runs import checkpoint
from condgan.runs.directory import recipe_of
from condgan.runs.models import find_checkpoint, read_data, require_same_data
from condgan.sampling.model import Drawn, Fakes, Model
from condgan.utils.arguments import whole
from condgan.utils.device import device
from condgan.utils.errors import UserError, shown, unknown
from condgan.utils.figures import channels_first, channels_last

AGREES = 0.1
"""The rank of agreement among real images of the class from which on an image is kept, …"""
CENTRAL = 0.5
"""… and that of nearness to the class's centroid."""
MADE_AT_FIRST, MADE_AT_MOST = 2, 32
"""How many images are made for each that is asked for."""


class Selected(NamedTuple):
    """Images that were selected, class by class, and how."""

    images: UInt8[np.ndarray, "n h w *c"]
    classes: list[str]
    """Of each image."""
    numbers: list[int]
    """Of each image, its number among those that `sample` makes of its class and seed."""
    scores: dict[str, list[float]]
    """Of each image."""
    accepted: dict[str, float]
    """By class, the share of the images made that were accepted."""

    def manifest(self, files: Sequence[str], checkpoint: str, seed: int) -> bytes:
        """A table of what made each file, and its scores."""
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["file", "class", "checkpoint", "seed", "number", *self.scores])
        for i, file in enumerate(files):
            scores = (f"{values[i]:.4g}" for values in self.scores.values())
            rows.writerow([file, self.classes[i], checkpoint, seed, self.numbers[i], *scores])
        return text.getvalue().encode()


class _Judged(NamedTuple):
    """A criterion, ready to judge images of a run."""

    score: Callable[[UInt8[Tensor, "n c h w"], LabelTable], Float[Tensor, " n"]]
    accepts: Callable[[Float[Tensor, " n"], Int[Tensor, " n"]], Bool[Tensor, " n"]]
    """By the scores of all images made and their classes."""


@dataclass(frozen=True)
class _Bench:
    """What criteria are made of, as far as one asks for it."""

    run: Path
    model: Model
    which: str
    seed: int

    @cached_property
    def data(self) -> Dataset:
        data = read_data(recipe_of(self.run), skip_bad_images=True)
        require_same_data(self.run, data)
        return data

    @cached_property
    def cross_fitted(self) -> CrossFitted:
        return CrossFitted.of(self.data.train, self.data.content_hash, device())

    def agreement(self) -> _Judged:
        return _Judged(self.cross_fitted.agreement, lambda ranks, _: ranks >= AGREES)

    def centroid(self) -> _Judged:
        return _Judged(self.cross_fitted.centroid, lambda ranks, _: ranks >= CENTRAL)

    def discriminator(self) -> _Judged:
        """Its logits become log-odds by real images that it has not learned from, and images not asked for."""
        path = find_checkpoint(self.run, self.which, needed=checkpoint.NETWORKS)
        contents = checkpoint.load_networks(path, "choose another one with --checkpoint")
        network = placed(contents.networks["discriminator"]).eval().requires_grad_(False)
        held_out = self.data.held_out
        if not len(held_out):
            raise UserError("criterion 'discriminator' given, and the run has no held-out images to calibrate it by")
        of_real = discriminator_logits(network, held_out.images, held_out.labels)
        others = torch.cat([*Fakes(self.model, held_out.labels, self.seed + 1).chunks()])
        of_fakes = discriminator_logits(network, others, held_out.labels)

        def score(images: Tensor, labels: LabelTable) -> Tensor:
            return log_odds(discriminator_logits(network, images, labels), of_fakes, of_real)

        return _Judged(score, lambda odds, classes: drawn(acceptance(odds, classes), self.seed))

    def copies(self) -> _Judged:
        """By features of the run's classifier, in which a copy that is shifted or brighter lies near, too."""
        model, data = classifier_of(self.data), self.data

        def features(images: Tensor, labels: LabelTable) -> Tensor:
            return model.predict(images, labels[:]).features

        if not len(data.held_out):
            raise UserError("criterion 'copies' given, and the run has no held-out images to tell what is usual")
        known = features(data.train.images, data.train.labels)
        usual = relative_nearness(features(data.held_out.images, data.held_out.labels), known)

        def score(images: Tensor, labels: LabelTable) -> Tensor:
            return relative_nearness(features(images, labels), known)

        return _Judged(score, lambda found, _: no_copies(found, usual))


CRITERIA: dict[str, Callable[[_Bench], _Judged]] = {
    "agreement": _Bench.agreement,
    "centroid": _Bench.centroid,
    "discriminator": _Bench.discriminator,
    "copies": _Bench.copies,
}


def select(
    run: str | Path,
    model: Model,
    criteria: Sequence[str],
    classes: Sequence[str] | None = None,
    per_class: int = 16,
    seed: int = 0,
    which: str = "best",
) -> Selected:
    """The first `per_class` images of each class, of those that `model.sample` makes, that all criteria accept.

    `agreement`: classifiers are surer of the class than of the tenth of its real images of which they are least sure
    (`AGREES`); `centroid`: nearer to the centroid of the class than half of its real images (`CENTRAL`), in features of
    these classifiers, each of which compares with real images that it has not learned from; `discriminator`: rejection
    sampling by the run's; `copies`: no near copy of a training image. Raises UserError where the run's data are not
    there or have changed, and where too few are accepted.
    """
    if wrong := next((one for one in criteria if one not in CRITERIA), None):
        raise unknown("criterion", wrong, CRITERIA)
    if not criteria:
        raise UserError(f"no criterion given: expected some of {', '.join(CRITERIA)}")
    chosen, per_class = list(classes or model.classes), whole("images per class", per_class, 1)
    bench = _Bench(Path(run), model, which, whole("seed", seed))
    if bench.data.spec.fields != model.spec.fields:
        raise UserError(f"the classes of run '{run}' are not those of its data: give back the old data")
    judged = {name: CRITERIA[name](bench) for name in dict.fromkeys(criteria)}
    asked = torch.tensor([model.classes.index(name) for name in chosen])
    parts = list[Tensor]()
    scores = {name: list[Tensor]() for name in judged}
    count, accepted = 0, torch.zeros(len(chosen), 0, dtype=torch.bool)
    while count < MADE_AT_MOST * per_class and (accepted.sum(1) < per_class).any():
        made = 2 * count or MADE_AT_FIRST * per_class
        images = _images(model, chosen, slice(count, made), seed)
        labels = LabelTable.from_index(model.spec, asked.repeat_interleave(made - count))
        parts.append(images.unflatten(0, (len(chosen), -1)))
        accepted = torch.ones(len(chosen), made, dtype=torch.bool)
        for name, one in judged.items():
            scores[name].append(one.score(images, labels).unflatten(0, (len(chosen), -1)))
            all_scores = torch.cat(scores[name], 1).flatten()
            accepted &= one.accepts(all_scores, asked.repeat_interleave(made)).unflatten(0, (len(chosen), -1))
        count = made
    counts = dict(zip(chosen, accepted.sum(1).tolist(), strict=True))
    if scarce := next((name for name, number in counts.items() if number < per_class), None):
        told = f"{counts[scarce]:,} of {count:,} images of class '{shown(scarce)}'"
        raise UserError(f"{', '.join(judged)} accepted {told}: expected {per_class:,}; ask for fewer, or by less")
    numbers = torch.stack([mine.nonzero().squeeze(1)[:per_class] for mine in accepted])
    rows = torch.arange(len(chosen))[:, None]
    return Selected(
        channels_last(torch.cat(parts, 1)[rows, numbers].flatten(0, 1)),
        [name for name in chosen for _ in range(per_class)],
        numbers.flatten().tolist(),
        {name: torch.cat(found, 1)[rows, numbers].flatten().tolist() for name, found in scores.items()},
        {name: number / count for name, number in counts.items()},
    )


def _images(model: Model, classes: Sequence[str], which: slice, seed: int) -> UInt8[Tensor, "n c h w"]:
    """The images of some numbers that `sample` makes of each class, class by class."""
    every = model.draw(classes, which.stop, seed)
    parts = (one.unflatten(0, (len(classes), -1))[:, which].flatten(0, 1) for one in every)
    return channels_first(model.make(Drawn(*parts)))
