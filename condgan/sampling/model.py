"""From a generator to images: the same seed, class and position always give the same image.

Axes: b images, z latent coordinates, k classes, c channels, h × w pixels, p positions, i × j attended positions,
d directions, s steps.
"""

import io
import itertools
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, Int, UInt8
from PIL import Image
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from condgan.labels import Labels, LabelSpec, LabelTable
from condgan.networks.attention import Attention
from condgan.sampling.changes import asked_for, domains, setting_name, settled
from condgan.sampling.directions import MOVED_BY, Directions, latent_directions, steps_along
from condgan.sampling.fuse import MADE_AT_ONCE, Sampler
from condgan.sampling.interpolate import VARY, WAYS, linear, row_ends
from condgan.sampling.latents import (
    Law,
    draw_latents,
    latent_chunks,
    latent_dim,
    latent_law,
    normal,
)
from condgan.types import Generator
from condgan.utils.arguments import plain, positive, several, whole
from condgan.utils.choices import Precision, Vary, Way
from condgan.utils.errors import UserError, enumerated, shown, unknown
from condgan.utils.figures import channels_last, sheet, spread
from condgan.utils.limits import require_memory
from condgan.utils.seeds import derive_seed

STANDING_BATCH = 100
FEW_DIRECTIONS = 8
"""How many are found where no number is given."""

Setting = Mapping[str, bool | int | str | float | Sequence[bool | int | str | float]]
"""Labels by name that are asked for, each with a value or several."""
ClassChoice = str | int | float | Sequence[str | int | float | Setting] | Mapping[str, Any] | Mapping[int, float] | None
"""A class, several, a mixture of some by their weights, or all (None).

Where labels are attributes or a number: what is asked for by name, such as {"age": 37} or {"Hat": True, "Bald": False},
several such, or a value's name or a number alone; None: each attribute, or ten numbers over the range.
"""
NUMBERS = 10
"""Of a range, where none are asked for."""


def generate(generator: Generator, latents: Float[Tensor, "b z"], labels: Labels) -> UInt8[Tensor, "b c h w"]:
    """Images of 0 … 255, on the CPU, from a generator in evaluation mode."""
    return Sampler(generator)(latents, labels)


@torch.no_grad()
def standing_statistics(generator: Generator, law: Law, spec: LabelSpec, batches: int, seed: int) -> None:
    """Make each batch norm's mean and variance the average over so many batches of 100 (Brock et al. 2019, app. D).

    The batches are of the latents' law and of classes drawn uniformly. Raises UserError where there is no batch, or no
    batch norm that keeps statistics, or for a negative seed.
    """
    seed, batches = whole("seed", seed), whole("batches of standing statistics", batches, 1, 1_000_000)
    norms = _tracking_norms(generator, "standing statistics")
    momenta = [norm.momentum for norm in norms]
    device = next(generator.parameters()).device
    for norm in norms:
        norm.train().reset_running_stats()
        norm.momentum = None  # which makes torch's running average the mean of all batches
    for batch in range(batches):
        own = derive_seed(seed, "standing", batch)
        latents = draw_latents(own, 0, STANDING_BATCH, latent_dim(generator), law)
        generator(latents.to(device), some_labels(spec, STANDING_BATCH, own).to(device))
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.eval().momentum = momentum


def some_labels(spec: LabelSpec, count: int, seed: int) -> Labels:
    """Labels at random: of classes all alike, else those of training images."""
    drawing = np.random.default_rng(seed)
    if spec.exclusive:
        return Labels.from_index(spec, torch.from_numpy(drawing.integers(len(spec.classes), size=count)))
    chosen = drawing.integers(len(spec.examples), size=count)
    return LabelTable(spec, torch.tensor([spec.examples[number] for number in chosen], dtype=torch.int32))[:]


def _tracking_norms(generator: Generator, asked: str) -> list[_BatchNorm]:
    norms = [m for m in generator.modules() if isinstance(m, _BatchNorm) and m.track_running_stats]
    if not norms:
        raise UserError(f"{asked} asked for: this generator has no batch norm, leave them out")
    return norms


def progress_classes(spec: LabelSpec) -> list[int]:
    """The classes that sheets of a run's progress show: all, or 40 spread evenly."""
    return spread(len(spec.classes), at_most=40)


def progress_sheet(generator: Generator, spec: LabelSpec, seed: int, rows: int = 10) -> Image.Image:
    """A column per class or attribute, of at most 40, or ten numbers over the range.

    A row shares its latent, and what is not asked for; all sheets of a seed share all latents.
    """
    latents = draw_latents(seed, 0, rows, latent_dim(generator))
    if spec.exclusive:
        shown = progress_classes(spec)
        names = [spec.classes[number] for number in shown]
        labels = Labels.from_index(spec, torch.tensor(shown).repeat(rows))
    else:
        every = _every_setting(spec)
        settings = [every[number] for number in spread(len(every), at_most=40)]
        names = [setting_name(spec, setting).rpartition("=")[2] for setting in settings]
        base = some_labels(spec, rows, seed)
        columns = torch.stack([asked_for(base, setting).values for setting in settings], 1)
        labels = Labels(spec, columns.flatten(0, 1), torch.ones(len(settings) * rows, 1, dtype=torch.bool))
    return sheet(generate(generator, latents.repeat_interleave(len(names), 0), labels), names)


def _every_setting(spec: LabelSpec) -> list[dict[str, bool | float]]:
    """What is shown where nothing is asked for: each attribute, or numbers over the range."""
    if (range := spec.range) is not None:
        return [{spec.fields[0].name: number} for number in np.linspace(range.low, range.high, NUMBERS).tolist()]
    return [{domain.name: True} for domain in domains(spec)]


class Drawn(NamedTuple):
    """What images are made of."""

    latents: Float[Tensor, "n z"]
    weights: Float[Tensor, "n k"]
    """Of each image, how much it is of each class; 1 in all."""


class Attended(NamedTuple):
    """Images and, of each attention by its name, how much each position of an image attends to every other."""

    images: UInt8[np.ndarray, "b h w *c"]
    positions: list[tuple[int, int]]
    """(y, x), in pixels."""
    maps: dict[str, Float[np.ndarray, "b p i j"]]
    """Sums to 1 over i × j, which cover the image, at the attention's own resolution."""


@dataclass(frozen=True)
class Model:
    """A trained generator to sample from."""

    generator: Generator
    spec: LabelSpec
    images: int | None
    """Real images seen in training; None where weights were converted, and nobody here knows."""
    law: Law = normal
    """Of the latents."""
    precision: Precision = "float32"
    """Of the networks that images are made by."""
    compiled: bool = False
    """Whether these are compiled, which takes up to a minute at first."""

    sampler: Sampler = field(init=False, repr=False, compare=False)
    """The generator as it makes images: fused, in its precision, compiled or not."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "sampler", Sampler(self.generator, self.precision, self.compiled))

    @property
    def classes(self) -> tuple[str, ...]:
        return self.spec.classes

    def with_latents(self, truncation: float | None = None, latent_scale: float | None = None) -> "Model":
        """The same generator with latents of the normal law truncated at a value, or times a factor."""
        return replace(self, law=latent_law(truncation, latent_scale))

    def with_standing_statistics(self, batches: int, seed: int = 0) -> "Model":
        """A copy whose batch norms know the statistics of this model's own latents; see `standing_statistics`."""
        generator = deepcopy(self.generator)
        standing_statistics(generator, self.law, self.spec, batches, seed)
        return replace(self, generator=generator)

    def with_batch_statistics(self) -> "Model":
        """A copy whose batch norms know the statistics of each batch alone, as in training.

        Raises UserError where there is no batch norm that keeps statistics.
        """
        generator = deepcopy(self.generator)
        for norm in _tracking_norms(generator, "batch statistics"):
            norm.running_mean = norm.running_var = None
            norm.track_running_stats = False
        return replace(self, generator=generator)

    def sample(self, classes: ClassChoice = None, per_class: int = 16, seed: int = 0) -> UInt8[np.ndarray, "n h w *c"]:
        """`per_class` images of each class, class by class; all classes where none is named.

        A mapping of classes to weights is one mixture, `per_class` images of it. Where labels are attributes or a
        number, a mapping says what is asked for, such as {"age": 37}; the rest is as in some training image, and all
        that is asked for has the same latents. Pixels 0 … 255; no channel axis where images are gray. Raises UserError
        for an unknown class or label, a weight that is not above 0, and a number outside of its range.
        """
        return self.make(self.draw(classes, per_class, seed))

    def draw(self, classes: ClassChoice = None, per_class: int = 16, seed: int = 0) -> Drawn:
        """What `sample` makes its images of."""
        return self._drawn(self._groups(classes, per_class, seed), seed)

    def make(self, drawn: Drawn) -> UInt8[np.ndarray, "n h w *c"]:
        """An image of each latent and its classes, as in `sample`."""
        return channels_last(self._made(drawn))

    def pictures(self, classes: ClassChoice = None, per_class: int = 16, seed: int = 0) -> list[Image.Image]:
        """The same as PIL images."""
        return [Image.fromarray(image) for image in self.sample(classes, per_class, seed)]

    def sheet(self, classes: ClassChoice = None, per_class: int = 8, seed: int = 0) -> Image.Image:
        """The same as one picture: a column per class, or per mixture, whose weights stand above it."""
        images = self._made(self.draw(classes, per_class, seed))
        names = self.group_names(classes)
        return sheet(images.unflatten(0, (len(names), -1)).transpose(0, 1).flatten(0, 1), names)

    def npz(self, classes: ClassChoice = None, per_class: int = 16, seed: int = 0) -> bytes:
        """The same images as an uncompressed npz file.

        It holds x (uint8, n × c × h × w), y (int64, numbers of the model's classes) and classes (their names); of
        attributes y (uint8, n × k of 0 and 1) and attributes, of a number y (float32, n) and its name as number.
        Raises UserError for a mixture.
        """
        if self.spec.exclusive:
            self._numbers(classes)  # refuses a mixture
        drawn = self.draw(classes, per_class, seed)
        labels: dict[str, np.ndarray] = {"y": drawn.weights.argmax(1).numpy(), "classes": np.array(self.classes)}
        if (range := self.spec.range) is not None:
            numbers = [range.number(share) for share in drawn.weights[:, 0].tolist()]
            labels = {"y": np.array(numbers, np.float32), "number": np.array(self.spec.fields[0].name)}
        elif not self.spec.exclusive:
            labels = {"y": (drawn.weights > 0.5).byte().numpy(), "attributes": np.array(self.classes)}
        buffer = io.BytesIO()
        np.savez(buffer, x=self._made(drawn).numpy(), **labels)  # pyright: ignore[reportArgumentType]
        return buffer.getvalue()

    def ends(self, rows: int, classes: ClassChoice = None) -> list[tuple[str, str]]:
        """The classes between which each row of an interpolation lies: two, or the r-th and the one after it.

        Of attributes and a number it is what is asked for, in words; of a number the ends of its range by default.
        """
        names = self.group_names(classes)
        return [(names[first], names[last]) for first, last in self._between(rows, classes, len(names))]

    def _between(self, rows: int, classes: ClassChoice, there: int) -> list[tuple[int, int]]:
        """The numbers of the groups between which each row lies."""
        rows = whole("rows", rows, 1)
        if classes is None and self.spec.range is not None:
            return [(0, there - 1)] * rows
        if classes is None:
            return [(r % there, (r + 1) % there) for r in range(rows)]
        if there != 2:
            what, example = "classes", "3,8"
            if not self.spec.exclusive:
                of_number = self.spec.range
                values = "0,1" if of_number is None else ",".join(map(of_number.text, (of_number.low, of_number.high)))
                what, example = "settings", f"{self.classes[0]}={values}"
            raise UserError(f"{there} {what} to interpolate between given: expected 2, such as {example}")
        return [(0, 1)] * rows

    def interpolate(
        self,
        vary: Vary = "both",
        path: Way = "linear",
        rows: int = 8,
        steps: int = 8,
        classes: ClassChoice = None,
        seed: int = 0,
    ) -> UInt8[np.ndarray, "rows steps h w *c"]:
        """Rows that go from one latent, class or both to another, both ends included; see `ends` for the classes.

        `path` is that of latents; between classes labels are mixed. What does not vary is that of the row's first end.
        """
        for what, one, known in (("vary", vary, VARY), ("path", path, WAYS)):
            if not isinstance(one, str) or one not in known:
                raise unknown(what, one, known)
        rows, steps = whole("rows", rows, 1), whole("steps", steps, 2)
        self._require_memory(rows * steps)
        groups = torch.stack([of_group for _, of_group in self._groups(classes, rows, seed)])
        ends = torch.tensor(self._between(rows, classes, len(groups)))
        latents = draw_latents(seed, 0, 2 * rows, latent_dim(self.generator), self.law).unflatten(0, (rows, 2))
        weights = groups[ends, torch.arange(rows)[:, None]]
        t = torch.linspace(0, 1, steps)[:, None]
        of_latent, of_class = VARY[vary]
        z = WAYS[path](*row_ends(latents, steps), (of_latent * t).expand(rows, -1, -1))
        y = linear(*row_ends(weights, steps), (of_class * t).expand(rows, -1, -1))
        images = channels_last(self.sampler(z.flatten(0, 1), self._labels(y.flatten(0, 1))))
        return images.reshape(rows, steps, *images.shape[1:])

    def directions(self, count: int | None = None, of: ClassChoice = None) -> Directions:
        """The directions in which a latent moves what it first meets farthest; see `latent_directions`.

        `count`: by default eight, if a latent has as many coordinates. `of`: a class, which matters where a label
        multiplies the latent; by default the first, or of other labels those of some training image. Raises UserError
        for an unknown class and for more directions than coordinates.
        """
        count = min(FEW_DIRECTIONS, latent_dim(self.generator)) if count is None else count
        if self.spec.exclusive:
            labels = self._labels(self._one_hot(0 if of is None else self._number(of))[None])
        else:
            labels = some_labels(self.spec, 1, 0) if of is None else self._labels(self.draw(of, 1).weights[:1])
        device = self.sampler.device
        return latent_directions(self.generator, labels.to(device), count)

    def along(
        self,
        directions: Directions,
        classes: ClassChoice = None,
        per_class: int = 1,
        reach: int | float = MOVED_BY,
        steps: int = 7,
        seed: int = 0,
    ) -> UInt8[np.ndarray, "n d s h w *c"]:
        """The images that `sample` gives, with their latents moved along directions from −`reach` to +`reach`.

        Of an odd number of `steps` the middle one is the image itself. Coordinates of latents have variance 1. Raises
        UserError for fewer than two steps, a reach that is not above 0, and directions of another model.
        """
        reach, steps = positive("reach", reach), whole("steps", steps, 2)
        if not isinstance(directions, Directions) or directions.vectors.shape[1] != latent_dim(self.generator):
            raise UserError(f"directions {shown(repr(directions))} given: expected those that this model gives")
        drawn = self.draw(classes, per_class, seed)
        rows = len(drawn.latents) * len(directions.vectors)
        self._require_memory(rows * steps)
        latents = steps_along(drawn.latents, directions.vectors, reach, steps)
        weights = drawn.weights.repeat_interleave(rows // len(drawn.weights) * steps, 0)
        images = self.make(Drawn(latents.flatten(0, 2), weights))
        return images.reshape(*latents.shape[:3], *images.shape[1:])

    def attention(
        self,
        classes: ClassChoice = None,
        per_class: int = 4,
        positions: Sequence[tuple[int, int]] | None = None,
        seed: int = 0,
    ) -> Attended:
        """The images that `sample` gives, and what each attention of the generator attends to at some positions.

        By default these are the center and the centers of the four quarters. Raises UserError for a generator without
        attention and for a position outside the image.
        """
        sampler = self.sampler.apart()
        layers = {name: layer for name, layer in sampler.network.named_modules() if isinstance(layer, Attention)}
        if not layers:
            raise UserError("this run's generator has no attention: train a recipe such as digits-sagan")
        drawn = self.draw(classes, per_class, seed)
        height, width = self._made(Drawn(drawn.latents[:1], drawn.weights[:1])).shape[2:]
        quarters = [(height * y // 4, width * x // 4) for y, x in ((2, 2), (1, 1), (1, 3), (3, 1), (3, 3))]
        chosen = quarters if positions is None else [_position(one, height, width) for one in _places(positions)]
        maps: dict[str, list[Tensor]] = {name: [] for name in layers}

        def keep(name: str, _layer: nn.Module, inputs: tuple[Tensor]) -> None:
            rows, columns = inputs[0].shape[2:]
            index = [y * rows // height * columns + x * columns // width for y, x in chosen]
            # one image after another, because all maps of a batch would be large
            maps[name] += [layers[name].maps(one)[:, index].float().cpu() for one in inputs[0].split(1)]

        for name, layer in layers.items():
            layer.register_forward_pre_hook(partial(keep, name))
        images = self._made(drawn, sampler)
        return Attended(channels_last(images), chosen, {name: torch.cat(parts).numpy() for name, parts in maps.items()})

    def _drawn(self, groups: list[tuple[int, Float[Tensor, "p k"]]], seed: int) -> Drawn:
        dim = latent_dim(self.generator)
        latents = [draw_latents(seed, position, len(of_group), dim, self.law) for position, of_group in groups]
        return Drawn(torch.cat(latents), torch.cat([of_group for _, of_group in groups]))

    def _made(self, drawn: Drawn, sampler: Sampler | None = None) -> UInt8[Tensor, "n c h w"]:
        return (sampler or self.sampler)(drawn.latents, self._labels(drawn.weights))

    def _require_memory(self, images: int) -> None:
        """Refuse more images than this machine holds the latents and labels of."""
        require_memory(images * 4 * (2 * latent_dim(self.generator) + len(self.classes)), f"{images:,} images")

    def group_names(self, classes: ClassChoice = None) -> list[str]:
        """What each group of images is called: its class, the mixture's weights, or what is asked for."""
        if not self.spec.exclusive:
            return [setting_name(self.spec, setting) for setting in self.settings(classes)]
        if isinstance(classes, Mapping):
            return [_mixed(classes)]
        return [self.classes[number] for number in self._numbers(classes)]

    def _groups(self, classes: ClassChoice, per_class: int, seed: int) -> list[tuple[int, Float[Tensor, "p k"]]]:
        """What to sample, by position of the latents and weights: a mixture comes after all classes.

        What is asked for of attributes and a number has the same latents, at position 0.
        """
        per_class = whole("images per class", per_class, 1)
        if not self.spec.exclusive:
            settings = self.settings(classes)
            self._require_memory(len(settings) * per_class)
            base = some_labels(self.spec, per_class, derive_seed(whole("seed", seed), "labels"))
            return [(0, asked_for(base, setting).values) for setting in settings]
        if isinstance(classes, Mapping):
            weights = [(len(self.classes), self._mixture(classes))]
        else:
            weights = [(number, self._one_hot(number)) for number in self._numbers(classes)]
        self._require_memory(len(weights) * per_class)
        return [(position, of_group.expand(per_class, -1)) for position, of_group in weights]

    def settings(self, asked: ClassChoice = None) -> list[dict[str, bool | float]]:
        """What is asked for of attributes or a number, one after the other; by default what `sample` shows.

        Of classes there is none.
        """
        if self.spec.exclusive:
            return []
        if asked is None:
            return [*_every_setting(self.spec)]
        if isinstance(asked, Mapping):
            several_of = {str(name): several(str(name), value) for name, value in asked.items()}
            if empty := next((name for name, values in several_of.items() if not values), None):
                raise UserError(f"{shown(empty)} given without a value: expected one or more")
            every = itertools.product(*several_of.values())
            return [settled(self.spec, dict(zip(several_of, values, strict=True))) for values in every]
        settings = []
        for one in several("labels", asked):
            number = self.spec.range is not None and not isinstance(one, Mapping)
            setting = {self.spec.fields[0].name: one} if number else {one: True} if isinstance(one, str) else one
            settings += self.settings(setting) if isinstance(setting, Mapping) else [settled(self.spec, setting)]
        if not settings:
            raise UserError(f"no label given: expected some of {enumerated(self.classes)}")
        return settings

    def _numbers(self, classes: Any) -> list[int]:
        """The numbers of a class, of several, or of all (None)."""
        chosen = list(self.classes) if classes is None else several("classes", classes)
        if not chosen:
            raise UserError(f"no class given: expected some of {enumerated(self.classes)}")
        return [self._number(name) for name in chosen]

    def _one_hot(self, number: int) -> Float[Tensor, " k"]:
        return F.one_hot(torch.tensor(number), len(self.classes)).float()

    def _mixture(self, weights: Mapping[str, float] | Mapping[int, float]) -> Float[Tensor, " k"]:
        mixed = torch.zeros(len(self.classes))
        for name, weight in weights.items():
            mixed[self._number(name)] += positive(f"weight of class '{shown(name)}'", weight)
        if not weights:
            raise UserError("a mixture of no classes given: expected weights by class, such as 3=0.5,8=0.5")
        return mixed / mixed.sum()

    def _labels(self, weights: Float[Tensor, "b k"]) -> Labels:
        return Labels(self.spec, weights, torch.ones(len(weights), 1, dtype=torch.bool))

    def _number(self, name: Any) -> int:
        self.spec.require_classes(f"class '{shown(name)}'")
        name = plain(name)
        if isinstance(name, bool) or not isinstance(name, str | int) or str(name) not in self.classes:
            raise unknown("class", name, self.classes)
        return self.classes.index(str(name))


def _mixed(weights: Mapping[str, float] | Mapping[int, float]) -> str:
    """A mixture as the command line writes it."""
    return ", ".join(f"{name}={weight:g}" for name, weight in weights.items())


def _places(positions: Any) -> list[Any]:
    if isinstance(positions, str | bytes | Mapping) or not isinstance(positions, Iterable) or not [*positions]:
        raise UserError(f"positions {shown(repr(positions))} given: expected some pixels (y, x), such as [(8, 8)]")
    return [*positions]


def _position(given: Any, height: int, width: int) -> tuple[int, int]:
    """A pixel of an image. Raises UserError for anything else."""
    pair = plain(given)
    if not isinstance(pair, tuple | list) or len(pair) != 2:
        raise UserError(f"position {shown(repr(given))} given: expected a pixel (y, x), such as (8, 8)")
    y, x = (whole("position", one) if not isinstance(one, int) else one for one in map(plain, pair))
    if not (0 <= y < height and 0 <= x < width):
        raise UserError(f"position {y},{x} given: expected Y,X from 0,0 to {height - 1},{width - 1}")
    return y, x


@dataclass(frozen=True)
class Fakes:
    """A model's images for some labels, from a seed's latents: image i from the i-th latent of position 0."""

    model: Model
    asked: LabelTable
    seed: int
    batch: int | None = None
    """Images that are normalized together, the last ones with some that are not used; None: each for itself."""
    labels: LabelTable | None = None
    """The same in the vocabulary of what they are held against, if it has all these classes."""

    source = "the run's fakes"
    names = ()

    @property
    def strata(self) -> Int[Tensor, " n"] | None:
        classes = self.asked.by_class()
        return None if classes is None else classes.index()

    def __len__(self) -> int:
        return len(self.asked)

    @property
    def chunk_size(self) -> int:
        return self.batch or MADE_AT_ONCE

    def chunks(self, part: slice = slice(None)) -> Iterator[UInt8[Tensor, "b c h w"]]:
        for place, latents in self._latents():
            if place.start in range(len(self))[part]:
                yield self._made(place, latents)

    def at(self, numbers: Int[Tensor, " b"]) -> UInt8[Tensor, "b c h w"]:
        found = {}
        for place, latents in self._latents():
            own = numbers[(numbers >= place.start) & (numbers < place.stop)]
            if len(own):
                images = self._made(place, latents)
                found |= {number: images[number - place.start] for number in own.tolist()}
        return torch.stack([found[number] for number in numbers.tolist()])

    def _latents(self) -> Iterator[tuple[slice, Tensor]]:
        """Of each batch: which images it makes, and its latents."""
        size, dim, start = self.chunk_size, latent_dim(self.model.generator), 0
        drawn = len(self) if self.batch is None else math.ceil(len(self) / size) * size
        for latents in latent_chunks(self.seed, drawn, dim, self.model.law, size):
            yield slice(start, min(start + len(latents), len(self))), latents
            start += len(latents)

    def _made(self, place: slice, latents: Float[Tensor, "b z"]) -> UInt8[Tensor, "n c h w"]:
        numbers = torch.arange(place.start, place.start + len(latents)) % len(self)
        return self.model.sampler(latents, self.asked[numbers], self.batch)[: place.stop - place.start]
