"""What is judged, and what it is held against."""

import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from condgan.data.dataset import Dataset
from condgan.data.open import list_source, read
from condgan.data.readers.npz import is_npz, npz_keys
from condgan.data.survey import Survey, quick_look
from condgan.evaluation.images import ImageSubset, stored
from condgan.evaluation.moments import read_normal
from condgan.evaluation.scoring import EVALUATION_SEED, like, permuted
from condgan.evaluation.statistics import Images
from condgan.labels import LabelTable
from condgan.recipes.load import load
from condgan.recipes.schema import Recipe
from condgan.runs.models import read_data, require_same_data
from condgan.sampling.model import Fakes, Model
from condgan.sampling.translator import Translations, Translator
from condgan.utils import distributed
from condgan.utils.choices import absolute
from condgan.utils.errors import UserError

PUBLISHED = 50_000
"""Images that published FIDs are of."""
LOOKED_AT = 5_000
"""Pictures whose sizes are compared."""


class Sampling(NamedTuple):
    """How a run's fakes are drawn."""

    which: str = "best"
    """The checkpoint."""
    seed: int = EVALUATION_SEED
    truncation: float | None = None
    latent_scale: float | None = None
    standing: int | None = None
    """Batch norms know the standing statistics of so many batches."""
    batch: int | None = None
    """Batch norms know the statistics of each batch, of so many images, alone."""


class Real(NamedTuple):
    """What images are held against: a data set, or statistics of one."""

    source: str
    split: str
    data: Dataset | None = None
    training: ImageSubset | None = None
    """What a run has trained on, where it is not held against just that."""
    statistics: Path | None = None

    @property
    def images(self) -> ImageSubset | None:
        return None if self.data is None else stored(self.data, self.source, self.split)

    def others(self, fakes: Images) -> ImageSubset | None:
        """Images of the other split: as many as there are fakes and of the same classes, as far as there are enough."""
        if self.data is None or self.split == "all":
            return None
        others = self.data.train if self.split == "held-out" else self.data.held_out
        whole = ImageSubset.of(self.source, others)
        if fakes.labels is None:
            return whole.some(min(len(fakes), len(whole)))
        return ImageSubset(self.source, (others,), like(fakes.labels, others))


def real_of_run(directory: Path, recipe: Recipe, data: Dataset | str | Path | None, split: str) -> Real:
    if isinstance(data, str | Path):
        if is_statistics(data):
            return Real(str(data), "stated", statistics=Path(data))
        other = load(directory / "recipe.yaml", [f"data.source={json.dumps(absolute(data))}", "data.held_out=null"])
        with distributed.main_first():
            return Real(str(data), split, read_data(other, skip_bad_images=True))
    if data is None:
        with distributed.main_first():
            data = read_data(recipe, skip_bad_images=True)
    require_same_data(directory, data)
    source = " + ".join(recipe.data.sources)
    return Real(source, split, data, stored(data, source, "train") if split == "held-out" else None)


def with_sampling(model: Model, sampling: Sampling) -> Model:
    """The model with the latents and batch norms that are asked for."""
    if sampling.truncation is not None or sampling.latent_scale is not None:
        model = model.with_latents(sampling.truncation, sampling.latent_scale)
    if sampling.standing is not None and sampling.batch is not None:
        raise UserError("standing statistics and those of each batch given: expected one of them")
    if sampling.standing is not None:
        return model.with_standing_statistics(sampling.standing, sampling.seed)
    if sampling.batch is None:
        return model
    if sampling.batch < 2:
        raise UserError(f"batch norms' statistics of batches of {sampling.batch} asked for: expected 2 or more")
    return model.with_batch_statistics()


def told(sampling: Sampling) -> dict[str, Any]:
    """What a number says of how fakes were drawn."""
    norms = "running statistics"
    if sampling.standing is not None:
        norms = f"standing statistics of {sampling.standing} batches"
    elif sampling.batch is not None:
        norms = f"statistics of each batch of {sampling.batch}"
    scale = {} if sampling.latent_scale is None else {"latent_scale": sampling.latent_scale}
    return {"batch_norm": norms, "truncation": sampling.truncation, **scale}


def fakes_of(model: Model, real: Real, n: int | None, sampling: Sampling) -> Fakes:
    """As many fakes as there are real images, or `n`, with their labels; of other classes all classes in turn.

    Batches that are normalized for themselves hold classes at random.
    """
    images, count = real.images, n
    if count is None and real.statistics is not None:
        count = read_normal(real.statistics)[1].get("real") or PUBLISHED
    elif count is None:
        assert images is not None
        count = len(images)
    number = torch.arange(count)
    labels = None if images is None or images.labels is None else images.labels
    if labels is None or not labels.spec.exclusive or not set(labels.spec.classes) <= set(model.classes):
        labels, asked = None, LabelTable.from_index(model.spec, number % model.spec.width)
    else:
        labels = labels.at(number * len(labels) // count)
        own = torch.tensor([model.classes.index(name) for name in labels.spec.classes])
        asked = LabelTable.from_index(model.spec, own[labels.index()])
    if sampling.batch is not None:
        order = torch.from_numpy(np.random.default_rng(sampling.seed).permutation(count))
        labels, asked = None if labels is None else labels.at(order), asked.at(order)
    return Fakes(model, asked, sampling.seed, sampling.batch, labels)


def translations_of(model: Translator, data: Dataset, seed: int, n: int | None) -> Translations:
    split = data.held_out
    if n is not None:
        split = split.at(torch.arange(enough(n, len(split), "the run's held-out images")) * len(split) // n)
    return Translations(model, split, permuted(split.labels, seed))


def both(
    subject: str,
    data: str | Path | Dataset,
    split: str,
    size: int | str | None,
    gray: bool,
    skip_bad_images: bool,
) -> tuple[ImageSubset, Real, list[str]]:
    """Images and what they are held against, all of one size, and what is odd about them.

    `gray`: whether images of which none has colors are read as such. Labels are shared where the real images have all
    classes of the others. Raises UserError where sizes differ and none is given.
    """
    looks = {subject: quick_look(list_source(subject), LOOKED_AT)}
    if not isinstance(data, Dataset) and not is_statistics(data):
        looks[str(data)] = quick_look(list_source(str(data)), LOOKED_AT)
    size = size or one_size(looks)
    channels = 1 if gray and all(look.gray for look in looks.values()) else 3
    with distributed.main_first():
        images = stored(read(subject, size, channels, skip_bad_images=skip_bad_images), subject, "all")
    colored = {name for name, one in looks.items() if not one.gray}
    said = [f"'{colored.pop()}' has colors, the other images are gray"] if len(colored) == 1 < len(looks) else []
    if isinstance(data, Dataset):
        return images.labeled_as(data.spec), Real("data", split, data), said
    if is_statistics(data):
        return images, Real(str(data), "stated", statistics=Path(data)), said
    with distributed.main_first():
        others = read(str(data), size, channels, skip_bad_images=skip_bad_images)
    training = stored(others, str(data), "train") if split == "held-out" else None
    fakes = images.labeled_as(others.spec)
    if fakes.labels is None and len(images.classes) > 1:
        said.append(
            f"classes of '{subject}' ({', '.join(images.classes[:3])}, …) are not those of '{data}' "
            f"({', '.join(others.spec.classes[:3])}, …): what needs labels is left out"
        )
    return fakes, Real(str(data), split, others, training), said


def enough(asked: int, there: int, what: str) -> int:
    """A number of images that there are. Raises UserError for more."""
    if asked > there:
        raise UserError(f"--n {asked} given, but there are {there} {what}: expected at most so many")
    return asked


def one_size(looks: dict[str, Survey]) -> str:
    """The size that all pictures have. Raises UserError where they differ."""
    sizes = {name: sorted({(one.width, one.height) for one in look.readable}) for name, look in looks.items()}
    for name, found in sizes.items():
        if not found:
            unread = "; ".join(looks[name].unreadable[:3])
            raise UserError(f"none of the images of '{name}' can be read: {unread}; mend them, or give others")
        if len(found) != 1:
            (w, h), (x, y) = found[0], found[-1]
            raise UserError(
                f"images of '{name}' have different sizes, from {w}×{h} to {x}×{y}: give the one to bring all to, such "
                "as --size 64"
            )
    first, *others = sizes.items()
    for name, found in others:
        if found != first[1]:
            (w, h), (x, y) = first[1][0], found[0]
            raise UserError(
                f"images of '{first[0]}' are {w}×{h} and those of '{name}' {x}×{y}: give the size to bring both to, "
                f"such as --size {w}x{h}"
            )
    width, height = first[1][0]
    return f"{width}x{height}"


def size_said(images: ImageSubset | Tensor) -> str:
    """Their width × height, in words."""
    return "×".join(map(str, images.shape[:-3:-1]))


def is_statistics(path: str | Path) -> bool:
    file = Path(path).expanduser()
    return is_npz(file) and "mu" in npz_keys(file)
