"""Select images: those that classifiers of real images, a discriminator and the training images speak for.

Axes: n images, m real images, k classes, c channels, h × w pixels.
"""

import csv
import io
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, UInt8
from torch import Tensor, nn

from condgan.build import placed
from condgan.data.dataset import Split, labeled
from condgan.evaluation.classifier import SmallClassifier, trained_classifier
from condgan.evaluation.judges import CrossFitted, discriminator_logits
from condgan.evaluation.selection import TooFew, acceptance, drawn, log_odds, no_copies, relative_nearness
from condgan.labels import LabelSpec, LabelTable
from condgan.runs import checkpoint
from condgan.runs.directory import recipe_of
from condgan.runs.models import find_checkpoint, read_data, require_same_data
from condgan.sampling.model import Drawn, Model
from condgan.utils.arguments import whole
from condgan.utils.device import device
from condgan.utils.errors import UserError, shown, unknown
from condgan.utils.figures import channels_first, channels_last
from condgan.utils.seeds import derive_seed

AGREES = 0.1
"""The rank of agreement among real images of the class from which on an image is kept, …"""
CENTRAL = 0.5
"""… and that of nearness to the class's centroid."""
MADE_AT_FIRST, MADE_AT_MOST = 2, 32
"""How many images are made for each that is asked for."""


@runtime_checkable
class Maker(Protocol):
    """Whatever makes images of classes, or has some."""

    @property
    def spec(self) -> LabelSpec: ...

    def make(self, number: int, which: range, seed: int) -> UInt8[Tensor, "n c h w"]:
        """The images of some numbers of a class; fewer where there are no more."""
        ...


@dataclass(frozen=True)
class Generated:
    """The images that `Model.sample` makes of each class."""

    model: Model

    @property
    def spec(self) -> LabelSpec:
        return self.model.spec

    def make(self, number: int, which: range, seed: int) -> UInt8[Tensor, "n c h w"]:
        every = self.model.draw([self.spec.classes[number]], which.stop, seed)
        return channels_first(self.model.make(Drawn(*(one[which.start :] for one in every))))


class Selected(NamedTuple):
    """Images that were selected, class by class, and how."""

    images: UInt8[np.ndarray, "n h w *c"]
    classes: list[str]
    """Of each image."""
    numbers: list[int]
    """Of each image, its number among those that are made of its class and seed."""
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


class Judged(NamedTuple):
    """A criterion, ready to judge images."""

    score: Callable[[UInt8[Tensor, "n c h w"], LabelTable], Float[Tensor, " n"]]
    accepts: Callable[[Float[Tensor, " n"], Int[Tensor, " n"]], Bool[Tensor, " n"]]
    """By the scores of all images made of a class, and their classes."""


@dataclass(frozen=True)
class Judges:
    """What criteria are made of, as far as one asks for it."""

    training: Split
    others: Split
    """Real images that neither the generator nor the classifiers have learned from."""
    content_hash: str
    """Of the data set of the training images."""
    open_discriminator: Callable[[], nn.Module] | None = None

    def prepare(self) -> None:
        """Train the classifiers, or load them from the cache."""
        _ = self.cross_fitted, self.classifier

    @cached_property
    def cross_fitted(self) -> CrossFitted:
        return CrossFitted.of(self.training, self.content_hash, device())

    @cached_property
    def classifier(self) -> SmallClassifier:
        return trained_classifier(self.training.images, self.training.labels, self.content_hash, device())

    def agreement(self, maker: Maker, seed: int) -> Judged:
        return Judged(self.cross_fitted.agreement, lambda ranks, _: ranks >= AGREES)

    def centroid(self, maker: Maker, seed: int) -> Judged:
        return Judged(self.cross_fitted.centroid, lambda ranks, _: ranks >= CENTRAL)

    def discriminator(self, maker: Maker, seed: int) -> Judged:
        """Its logits become log-odds by real images that it has not learned from, and images not asked for."""
        if self.open_discriminator is None:
            raise UserError("criterion 'discriminator' given, and these images have none: expected those of a run")
        self._require_others("discriminator", "to calibrate it by")
        network, classes = self.open_discriminator(), self.others.labels.index().cpu()
        order = classes.argsort(stable=True)
        labels, counts = self.others.labels.at(order), classes.bincount().tolist()
        of_real = discriminator_logits(network, self.others.images[order], labels)
        made = [maker.make(number, range(count), seed + 1) for number, count in enumerate(counts) if count]
        of_fakes = discriminator_logits(network, torch.cat(made), labels)

        def score(images: Tensor, labels: LabelTable) -> Tensor:
            return log_odds(discriminator_logits(network, images, labels), of_fakes, of_real)

        def accepts(odds: Tensor, classes: Tensor) -> Tensor:
            return drawn(acceptance(odds, classes), derive_seed(seed, "class", int(classes[0])))

        return Judged(score, accepts)

    def copies(self, maker: Maker, seed: int) -> Judged:
        """By features of the data's classifier, in which a copy that is shifted or brighter lies near, too."""
        self._require_others("copies", "to tell what is usual")
        known, usual = self._nearness_of_others

        def score(images: Tensor, labels: LabelTable) -> Tensor:
            return relative_nearness(self._features(images, labels), known)

        return Judged(score, lambda found, _: no_copies(found, usual))

    @cached_property
    def _nearness_of_others(self) -> tuple[Tensor, Tensor]:
        """Features of the training images, and how near to them the others are."""
        known = self._features(self.training.images, self.training.labels)
        return known, relative_nearness(self._features(self.others.images, self.others.labels), known)

    def _features(self, images: UInt8[Tensor, "n c h w"], labels: LabelTable) -> Float[Tensor, "n d"]:
        return self.classifier.predict(images, labels[:]).features

    def _require_others(self, criterion: str, purpose: str) -> None:
        if not len(self.others):
            raise UserError(f"criterion '{criterion}' given, and there are no held-out images {purpose}")


CRITERIA: dict[str, Callable[[Judges, Maker, int], Judged]] = {
    "agreement": Judges.agreement,
    "centroid": Judges.centroid,
    "discriminator": Judges.discriminator,
    "copies": Judges.copies,
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
    if (wrong := next((one for one in criteria if one not in CRITERIA), None)) is not None:
        raise unknown("criterion", wrong, CRITERIA)
    if not criteria:
        raise UserError(f"no criterion given: expected some of {', '.join(CRITERIA)}")
    chosen, per_class = list(classes or model.classes), whole("images per class", per_class, 1)
    run, seed = Path(run), whole("seed", seed)
    data = read_data(recipe_of(run), skip_bad_images=True)
    require_same_data(run, data)
    if data.spec.fields != model.spec.fields:
        raise UserError(f"the classes of run '{run}' are not those of its data: give back the old data")
    data = labeled(data)
    judges = Judges(data.train, data.held_out, data.content_hash, lambda: open_discriminator(run, which))
    counts = {model.classes.index(name): per_class for name in chosen}
    return selected(Generated(model), judges, list(dict.fromkeys(criteria)), counts, seed)


def open_discriminator(run: Path, which: str) -> nn.Module:
    """The discriminator of a run's checkpoint, in evaluation mode. Raises UserError where there is none."""
    path = find_checkpoint(run, which, needed=checkpoint.NETWORKS)
    contents = checkpoint.load_networks(path, "choose another one with --checkpoint")
    return placed(contents.networks["discriminator"]).eval().requires_grad_(False)


def selected(maker: Maker, judges: Judges, criteria: Sequence[str], counts: dict[int, int], seed: int) -> Selected:
    """The first images of each class, so many by its number, that all criteria accept; of none, the first ones.

    Raises TooFew where there are not enough.
    """
    judged = {name: CRITERIA[name](judges, maker, seed) for name in criteria}
    names = maker.spec.classes
    found = {number: _of_class(maker, judged, number, asked, seed) for number, asked in counts.items()}
    every = found.values()
    return Selected(
        channels_last(torch.cat([one.images for one in every])),
        [names[number] for number, one in found.items() for _ in one.numbers],
        [number for one in every for number in one.numbers.tolist()],
        {name: [score for one in every for score in one.scores[name].tolist()] for name in judged},
        {names[number]: one.share for number, one in found.items()},
    )


class _OfClass(NamedTuple):
    images: UInt8[Tensor, "n c h w"]
    numbers: Int[Tensor, " n"]
    scores: dict[str, Float[Tensor, " n"]]
    share: float


def _of_class(maker: Maker, judged: dict[str, Judged], number: int, asked: int, seed: int) -> _OfClass:
    """More images are made until enough are accepted, at most so many for each, or as many as there are."""
    parts, scores = list[Tensor](), {name: list[Tensor]() for name in judged}
    count, accepted = 0, torch.zeros(0, dtype=torch.bool)
    while count < MADE_AT_MOST * asked and int(accepted.sum()) < asked:
        images = maker.make(number, range(count, 2 * count or (MADE_AT_FIRST if judged else 1) * asked), seed)
        if not len(images):
            break
        count += len(images)
        parts.append(images)
        accepted = torch.ones(count, dtype=torch.bool)
        classes = torch.full((count,), number)
        labels = LabelTable.from_index(maker.spec, classes[: len(images)])
        for name, one in judged.items():
            scores[name].append(one.score(images, labels))
            accepted &= one.accepts(torch.cat(scores[name]), classes)
    if (there := int(accepted.sum())) < asked:
        accepts = f"{', '.join(judged)} accepted {there:,} of" if judged else "there are"
        told = f"{accepts} {count:,} images of class '{shown(maker.spec.classes[number])}'"
        raise TooFew(f"{told}: expected {asked:,}; ask for fewer{', or by less' if judged else ''}")
    numbers = accepted.nonzero().squeeze(1)[:asked]
    of_kept = {name: torch.cat(found)[numbers] for name, found in scores.items()}
    return _OfClass(torch.cat(parts)[numbers], numbers, of_kept, there / count)
