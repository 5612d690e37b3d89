"""Tell whether a run's fakes, its translations, or any images are of use to a classifier of real ones.

Axes: n images, c channels, h × w pixels.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor

from condgan.data.dataset import Dataset, Split, labeled
from condgan.data.mirror import tell_mirrored
from condgan.data.open import read
from condgan.evaluation.advice import FEW_TO_LEARN
from condgan.evaluation.downstream import LEARNED_AT_ONCE, SMALL_RESNET, Downstream, find_classifier, training_batches
from condgan.evaluation.images import is_statistics, read_fakes_and_real, size_text
from condgan.evaluation.selection import folds_of
from condgan.evaluation.usefulness import FRESH, Pool, counted_as, like, usefulness
from condgan.labels import LabelSpec, LabelTable
from condgan.recipes.schema import Data
from condgan.runs.checkpoint import NETWORKS, damage
from condgan.runs.directory import is_run, recipe_of, results_of, run_and_checkpoint, run_directory
from condgan.runs.evaluate import real_of_run, require_data, require_plain, require_subject
from condgan.runs.models import find_checkpoint, load_either, read_data, require_same_data
from condgan.runs.schemas import environment_of
from condgan.runs.select import Generated, Judges, Maker, Selected, open_discriminator, selected
from condgan.sampling.changes import domains, toward
from condgan.sampling.files import SELECTION_CSV, require_own
from condgan.sampling.options import EVALUATION_SEED, Sampling, sampling_record, with_sampling
from condgan.sampling.translator import TRANSLATED_AT_ONCE, Translator
from condgan.utils.arguments import positive, whole
from condgan.utils.errors import UserError, enumerated, shown
from condgan.utils.figures import channels_first, png
from condgan.utils.files import file_names, path_of, require_outside, write
from condgan.utils.seeds import derive_seed

SELECTIONS: dict[str, tuple[str, ...]] = {
    "none": (),
    "agreement": ("agreement", "copies"),
    "centroid": ("centroid", "copies"),
    "discriminator": ("discriminator", "copies"),
}
"""Ways to select fakes, and their criteria."""
CUTS = (None, 0.7)
BY_CHANCE = 0.01
"""The share of held-out images that may be copies of others: blank ones, and such."""


class Subject(NamedTuple):
    """Real images, and the fakes that may join them."""

    data: Dataset
    validation: Split
    test: Split
    source: str
    fakes: "JudgedFakes"
    about: dict[str, Any]
    warnings: list[str]
    flips: bool


@dataclass(frozen=True)
class JudgedFakes:
    """Fakes of a maker for each truncation, selected by judges."""

    makers: dict[float | None, Maker]
    judges: Judges
    selections: tuple[str, ...]
    there: Sequence[int] | None = None

    @property
    def truncations(self) -> Sequence[float | None]:
        return [*self.makers]

    def prepare(self) -> None:
        self.judges.prepare()

    def draw(self, selection: str, truncation: float | None, counts: dict[int, int], seed: int) -> Pool:
        chosen, spec = self.select(selection, truncation, counts, seed), self.judges.training.labels.spec
        numbers = {name: number for number, name in enumerate(spec.classes)}
        index = torch.tensor([numbers[name] for name in chosen.classes])
        return Pool(channels_first(chosen.images), LabelTable.from_index(spec, index))

    def select(self, selection: str, truncation: float | None, counts: dict[int, int], seed: int) -> Selected:
        """The same, with what made each. Classes are counted as the real images'."""
        maker = self.makers.get(truncation, next(iter(self.makers.values())))
        return selected(maker, self.judges, SELECTIONS[selection], counts, seed)


@dataclass(frozen=True)
class ByName:
    """A maker whose classes are counted as those of other images, by their names."""

    maker: Maker
    spec: LabelSpec

    def make(self, number: int, which: range, seed: int) -> UInt8[Tensor, "n c h w"]:
        return self.maker.make(self.maker.spec.classes.index(self.spec.classes[number]), which, seed)


@dataclass(frozen=True)
class GivenImages:
    """Images that are there, of each class in an order that is drawn."""

    images: UInt8[Tensor, "n c h w"]
    labels: LabelTable

    @property
    def spec(self) -> LabelSpec:
        return self.labels.spec

    def make(self, number: int, which: range, seed: int) -> UInt8[Tensor, "n c h w"]:
        return self.images[_drawn((self.labels.index() == number), which, seed)]


@dataclass(frozen=True)
class TranslatedImages:
    """Translations of training images to a class that they are not of."""

    model: Translator
    training: Pool
    """With labels of the model's vocabulary."""

    @property
    def spec(self) -> LabelSpec:
        return self.model.spec

    def make(self, number: int, which: range, seed: int) -> UInt8[Tensor, "n c h w"]:
        rows = _drawn(self.training.labels.index() != number, which, seed)
        images, labels, domain = self.training.images[rows], self.training.labels[rows], domains(self.spec)[number]
        parts = [slice(start, start + TRANSLATED_AT_ONCE) for start in range(0, len(rows), TRANSLATED_AT_ONCE)]
        made = [self.model.generate(images[part], toward(labels[part], domain)) for part in parts]
        return torch.cat(made) if made else images


def utility(
    subject: str | Path,
    data: Dataset | str | Path | None = None,
    seeds: int = 5,
    minutes: float = 10.0,
    classifier: str = SMALL_RESNET,
    out: str | Path | None = None,
    size: int | str | None = None,
    sampling: Sampling = Sampling(),
    skip_bad_images: bool = False,
) -> dict[str, Any]:
    """Tell whether a run's fakes or translations, or images, help a classifier of real images: see `usefulness`.

    `data` as in `evaluate`. Classifiers learn on its training split; of the held-out one, half of each class chooses
    how fakes are mixed in, and the other half is for the verdict alone. `classifier`: see `find_classifier`. `out`: a
    folder for the fakes that were chosen, as class folders with a table. Of a run on its own data, utility.json is
    written. Raises UserError for bad input, and where the generator has seen the test images.
    """
    seeds, minutes = whole("seeds", seeds), positive("minutes", minutes)
    require_data(data)
    if is_statistics(data):
        raise UserError(f"statistics '{data}' given: expected real images to train a classifier on")
    path = run_directory(subject, "images or a run")
    out, of_run = None if out is None else path_of(out, "out"), is_run(path)
    if not of_run:
        require_subject(subject)
    if out is not None:
        given = [*(recipe_of(path).data.sources if of_run else [str(subject)]), *([data] if _is_name(data) else [])]
        for source in given:
            require_outside(out, source, f"--write {out}")
        require_own(out, (), "--write")
    if of_run:
        if size is not None:
            raise UserError(f"--size {size} given with run '{path}', whose images have a size: leave it out")
        found = _of_run(path, data, sampling)
    else:
        if sampling != Sampling():
            raise UserError(
                f"options of a run's sampling given with images '{subject}', which are what they are: leave them out"
            )
        found = _of_images(str(subject), data, size, skip_bad_images)
    train, validation, test = found.data.train, found.validation, found.test
    _, height, width = found.data.shape
    make = find_classifier(classifier, found.data.spec.width, min(height, width))
    learner = Downstream(make, classifier, training_batches(len(train)), found.flips)
    real, choosing, judging = (Pool(one.images, one.labels) for one in (train, validation, test))
    result = usefulness(real, found.fakes, choosing, judging, learner, seeds, minutes)
    result["about"] = {
        "source": Path(subject).name,
        "reference": found.source,
        "sha256": found.data.content_hash,
        "size": size_text(train.images),
        "classifier": classifier,
        "training_images": learner.steps * LEARNED_AT_ONCE,
        "flips": found.flips,
        **found.about,
        "warnings": [*found.warnings, *_untested(test), *_few(result["real_counts"])],
    }
    if of_run and not _is_name(data):
        with results_of(path):
            write(path / "utility.json", json.dumps(result, indent=1).encode())
    if out is not None:
        chosen, names = result["chosen"], found.data.spec.classes
        counts = {names.index(name): count for name, count in chosen["counts"].items()}
        kept = found.fakes.select(chosen["selection"], chosen["truncation"], counts, FRESH)
        _write_chosen(out, kept, found.about.get("checkpoint", ""), FRESH)
    return result


def _is_name(data: Dataset | str | Path | None) -> bool:
    return isinstance(data, str | Path)


def _halves(held_out: Split) -> tuple[Split, Split]:
    """A validation half and a test half of each class."""
    if not held_out.labels.spec.exclusive:
        raise UserError(
            "held-out images with attributes or several fields given: expected one class each; give class folders"
        )
    folds = folds_of(held_out.labels.index().cpu().long(), 2)
    test, validation = (held_out.at((folds == half).nonzero().squeeze(1)) for half in (0, 1))
    return validation, test


def _untested(test: Split) -> list[str]:
    counts = test.labels.index().bincount(minlength=test.labels.spec.width).tolist()
    none = [name for name, count in zip(test.labels.spec.classes, counts, strict=True) if not count]
    return [f"no test image is of class {enumerated(none)}: hold more out"] if none else []


def _few(counts: dict[str, int]) -> list[str]:
    few = [f"{name} ({count})" for name, count in counts.items() if count < FEW_TO_LEARN]
    if not few:
        return []
    told = enumerated(few)
    return [f"fewer than {FEW_TO_LEARN} training images of class {told}: generators that saw so few have mostly harmed"]


def _of_run(path: Path, data: Dataset | str | Path | None, sampling: Sampling) -> Subject:
    """A run's real images and its fakes. Raises UserError where it has seen the held-out images."""
    if sampling.batch is not None or sampling.seed != EVALUATION_SEED:
        raise UserError("a seed or statistics of each batch given: fakes are drawn anew for each classifier")
    checkpoint = find_checkpoint(path, sampling.which)
    model, recipe = load_either(path, checkpoint.name, "float32"), recipe_of(path)
    real = real_of_run(path, recipe, data, "train").data
    assert real is not None
    whole, real = real, labeled(real)
    _require_classes(model.spec, real.spec, f"run '{path}'")
    held_out, warnings = _unseen_by(path, real.held_out, None if _is_name(data) else whole)
    validation, test = _halves(held_out)
    # the discriminator of a run was told classes in its own order, and that of an export is not there
    judged = model.spec.fields == real.spec.fields and damage(checkpoint, NETWORKS) is None
    judged &= not isinstance(model, Translator)
    judges = Judges(real.train, validation, real.content_hash, lambda: open_discriminator(path, checkpoint.name))
    about: dict[str, Any] = {"checkpoint": checkpoint.name}
    if isinstance(model, Translator):
        require_plain(path, sampling)
        made: dict[float | None, Maker] = {
            None: TranslatedImages(model, Pool(real.train.images, counted_as(model.spec, real.train.labels)))
        }
    else:
        about |= sampling_record(sampling)
        fixed = sampling.truncation is not None or sampling.latent_scale is not None
        cuts = (sampling.truncation,) if fixed else CUTS
        made = {cut: Generated(with_sampling(model, sampling._replace(truncation=cut))) for cut in cuts}
    makers: dict[float | None, Maker] = {cut: ByName(one, real.spec) for cut, one in made.items()}
    selections = tuple(name for name in SELECTIONS if judged or name != "discriminator")
    source = str(data) if _is_name(data) else " + ".join(recipe.data.sources)
    flips = recipe.data.flip or _flips(real.train)
    return Subject(real, validation, test, source, JudgedFakes(makers, judges, selections), about, warnings, flips)


def _of_images(
    subject: str, data: Dataset | str | Path | None, size: int | str | None, skip_bad_images: bool
) -> Subject:
    """Images that are there, and the real ones. Raises UserError where the held-out images are among them."""
    if data is None:
        raise UserError(f"images '{subject}' given without --data: expected real images to train a classifier on")
    images, real, warnings = read_fakes_and_real(subject, data, "train", size, True, skip_bad_images, False)
    assert real.data is not None
    real = real._replace(data=labeled(real.data))
    assert real.data is not None
    _require_classes(images.splits[0].labels.spec, real.data.spec, f"'{subject}'")
    assert images.labels is not None
    train = real.data.train
    fakes = like(Pool(torch.cat([*images.chunks()]), images.labels), Pool(train.images, train.labels), "fakes")
    held_out, shared = _without(real.data.held_out, fakes.images, f"'{subject}'")
    validation, test = _halves(held_out)
    known = "nobody can tell whether what made these images has seen the test images: make sure that it has not"
    judges = Judges(train, validation, real.data.content_hash)
    selections = tuple(name for name in SELECTIONS if name != "discriminator")
    there = fakes.labels.index().bincount(minlength=real.data.spec.width).tolist()
    judged = JudgedFakes({None: GivenImages(fakes.images, fakes.labels)}, judges, selections, there)
    return Subject(real.data, validation, test, real.source, judged, {}, [*warnings, *shared, known], _flips(train))


def _require_classes(own: LabelSpec, of_data: LabelSpec, subject: str) -> None:
    """Raises UserError unless a run, or images, and real images have the same classes, in any order."""
    if not (own.exclusive and of_data.exclusive):
        raise UserError(
            f"{subject} or its real images have attributes or several fields: expected one class each; give class "
            "folders"
        )
    if other := sorted({*own.classes} ^ {*of_data.classes}):
        whose = subject if other[0] in own.classes else "the real images"
        raise UserError(
            f"class '{shown(other[0])}' is one of {whose} only: expected the same classes; give images under the same "
            "names"
        )


def _unseen_by(path: Path, held_out: Split, own: Dataset | None) -> tuple[Split, list[str]]:
    """Held-out images that neither a run nor one that it began from was trained on, and what is unknown.

    `own`: the run's data, where the held-out images are of these, which are known to be as they were. Raises UserError
    where some of them were.
    """
    warnings, seen, child = list[str](), {path.resolve()}, recipe_of(path).data
    known = None if own is None else own.content_hash
    while True:
        environment = environment_of(path)
        if environment is None:
            said = f"'{path}' does not say what it was trained on: make sure that it has not seen the test images"
            return held_out, [*warnings, said]
        if environment.data.sha256 != known:
            try:
                trained = _training_images(path, child)
            except UserError as error:
                said = f"nobody can tell whether '{path}' has seen the test images: {error}"
                return held_out, [*warnings, said]
            held_out, shared = _without(held_out, trained, f"the images that '{path}' was trained on")
            warnings += shared
        began = (environment.model_extra or {}).get("transfer")
        if not isinstance(began, dict) or not isinstance(began.get("run"), str):
            return held_out, warnings
        path, _ = run_and_checkpoint(began["run"])
        if path.resolve() in seen or not is_run(path):
            said = f"'{path}', from which it began, is not there: make sure that it has not seen the test images"
            return held_out, [*warnings, said]
        seen.add(path.resolve())


def _training_images(path: Path, like_these: Data) -> UInt8[Tensor, "n c h w"]:
    """The images that a run was trained on, prepared as others are. Raises UserError where they are not there."""
    recipe = recipe_of(path)
    require_same_data(path, read_data(recipe, skip_bad_images=True))
    own = recipe.data
    assert own.source is not None
    return read(
        own.source, like_these.size, like_these.channels, attributes=own.attributes, exclusive=own.exclusive,
        paired=own.paired, background=like_these.background, crop=like_these.crop, held_out=own.held_out,
        root=own.root, skip_bad_images=True, stream=own.stream,
    ).train.images  # fmt: skip


def _without(held_out: Split, others: UInt8[Tensor, "n c h w"], whose: str) -> tuple[Split, list[str]]:
    """Held-out images without those that are among others to the pixel, if they are few: copies that came by chance."""
    known = {sha256(one.numpy().data).digest() for one in others.contiguous()}
    new = [sha256(one.numpy().data).digest() not in known for one in held_out.images.contiguous()]
    if all(new):
        return held_out, []
    same = new.count(False)
    if same > BY_CHANCE * len(new):
        raise UserError(f"{same:,} of {len(new):,} held-out images are among {whose}: give others to judge by")
    said = f"{same:,} held-out images are among {whose}, and left out"
    return held_out.at(torch.tensor(new).nonzero().squeeze(1)), [said]


def _flips(training: Split) -> bool:
    mirrored = tell_mirrored(training.images, training.labels)
    return mirrored is not None and mirrored.alike


def _drawn(wanted: Tensor, which: range, seed: int) -> Tensor:
    """Some of the places that are wanted, by their numbers in an order that is drawn."""
    places = wanted.nonzero().squeeze(1).cpu()
    order = np.random.default_rng(derive_seed(seed, "images", 0)).permutation(len(places))
    return places[torch.from_numpy(order[which.start : which.stop])]


def _write_chosen(out: Path, chosen: Selected, checkpoint: str, seed: int) -> None:
    """Write CLASS/fake-SEED-NUMBER.png, whose names are not those of real images, and a table."""
    names = list(dict.fromkeys(chosen.classes))
    folders = dict(zip(names, file_names(names), strict=True))
    files = [
        f"{folders[name]}/fake-{seed}-{number}.png" for name, number in zip(chosen.classes, chosen.numbers, strict=True)
    ]
    for file, image in zip(files, chosen.images, strict=True):
        write(out / file, png(Image.fromarray(image)))
    write(out / SELECTION_CSV, chosen.manifest(files, checkpoint, seed))
