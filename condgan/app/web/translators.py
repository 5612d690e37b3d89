"""What the page does with a translator, without the page: a picture and labels in, images out.

Axes: d domains, k label values over all fields, h × w pixels, c channels.
"""

from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from torch import Tensor

from condgan import __version__
from condgan.app.web.generators import KEPT, most_images, zipped
from condgan.app.web.served import held_out_of, translator_of
from condgan.data.preprocessing import opened, pixels, reason
from condgan.labels import Labels, LabelSpec
from condgan.sampling.files import fitting
from condgan.utils.arguments import whole
from condgan.utils.errors import UserError, shown
from condgan.utils.figures import channels_last
from condgan.utils.files import file_names, read_bytes
from condgan.utils.limits import ENCODED

NONE = "none of these"


class ChosenPicture(NamedTuple):
    """A picture to translate, and by which checkpoint."""

    which: str
    """By its number, so that all that is shown of a picture is of one."""
    name: str
    image: UInt8[Tensor, "1 c h w"]
    known: Labels | None
    """As the data have them; None for a picture from outside."""
    labels: Labels
    """All of its fields: as known, or as the checkpoint's discriminator reads them."""
    note: str
    """How it was resized, where it was."""


class Question(NamedTuple):
    """What of a picture can be chosen together."""

    label: str
    field: str
    names: tuple[str, ...]
    one: bool
    """Whether one of them holds, or any number."""
    optional: bool
    """Whether none of them may hold."""

    @property
    def choices(self) -> list[str]:
        return [*self.names, *([NONE] if self.one and self.optional else [])]


Answer = str | Sequence[str] | None
"""What holds: a name, or several."""


def questions(spec: LabelSpec) -> list[Question]:
    """What can be chosen of a vocabulary: a class of each field, one of each group, any of all other attributes."""
    found = []
    for field in spec.fields:
        units = [tuple(field.values[value] for value in unit) for unit in field.units()]
        if field.exclusive:
            found.append(Question(field.name, field.name, units[0], one=True, optional=False))
            continue
        groups = [unit for unit in units if len(unit) > 1]
        alone = tuple(name for unit in units if len(unit) == 1 for name in unit)
        found += [Question(f"{field.name}: one of", field.name, unit, one=True, optional=True) for unit in groups]
        found += [Question(field.name, field.name, alone, one=False, optional=True)] if alone else []
    return found


def answers(labels: Labels) -> list[Answer]:
    """What holds of one picture, question by question."""
    held = {
        (field.name, name)
        for _, field, where in labels.spec.slices()
        for name, value in zip(field.values, labels.values[0, where].tolist(), strict=True)
        if value > 0.5
    }
    of_each = [(one, [name for name in one.names if (one.field, name) in held]) for one in questions(labels.spec)]
    return [(names[0] if names else NONE) if one.one else names for one, names in of_each]


def changes_to(labels: Labels, wanted: Sequence[Answer]) -> dict[str, bool]:
    """What changes a picture's labels to the wanted ones. Raises UserError where nothing does."""
    changes: dict[str, bool] = {}
    for question, is_now, shall in zip(questions(labels.spec), answers(labels), wanted, strict=True):
        before, after = ({one} if isinstance(one, str) else {*(one or ())} for one in (is_now, shall))
        lost = set() if question.one and NONE not in after else before - after - {NONE}
        gained = after - before - {NONE}
        changes |= {f"{question.field}.{name}": name in gained for name in question.names if name in gained | lost}
    if not changes:
        raise UserError("labels given that the picture has already: choose others")
    return changes


def uploaded(run: Path, which: str, path: Path) -> ChosenPicture:
    """A picture from a file, decoded and resized as in training. Raises UserError for what is none."""
    model = translator_of(run, which)
    try:
        with opened(read_bytes(path, ENCODED)) as picture:
            size = picture.size
            image = torch.from_numpy(pixels(picture, model.preprocessing).copy())[None]
    except Exception as error:  # decoders raise whatever they like
        raise UserError(f"'{shown(path.name)}' is unreadable ({reason(error)}): give a picture, PNG or JPEG") from None
    note = "; ".join(fitting([size], model.shape))
    return ChosenPicture(which, path.name, image, None, model.complete(image), note)


def held_out_source(run: Path, which: str, number: object) -> ChosenPicture:
    """A held-out image with its known labels. Raises UserError for a number that there is not, or data not here."""
    split = held_out_of(run)
    number = whole("held-out image", number, 0, len(split) - 1)
    image, labels = split.images[[number]], split.labels[torch.tensor([number])]
    name = split.names[number] if split.names else f"{number}.png"
    return ChosenPicture(which, name, image, labels, translator_of(run, which).complete(image, labels), "")


def by_checkpoint(run: Path, source: ChosenPicture, which: str) -> ChosenPicture:
    """The same picture, read and translated by another checkpoint."""
    labels = translator_of(run, which).complete(source.image, source.known)
    return source._replace(which=which, labels=labels)


def in_every_domain(run: Path, source: ChosenPicture) -> dict[str, UInt8[np.ndarray, "h w *c"]]:
    """A picture in as many domains as a request may have images, by their names; those of the last few are kept."""
    model, labels = translator_of(run, source.which), source.labels
    parts = (part.numpy().tobytes() for part in (source.image, labels.values, labels.known))
    return dict(zip(model.domains, _translations(run, source.which, *parts), strict=False))


@lru_cache(KEPT)
def _translations(run: Path, which: str, image: bytes, values: bytes, known: bytes) -> UInt8[np.ndarray, "d h w *c"]:
    model = translator_of(run, which)
    of = ((image, torch.uint8), (values, torch.float32), (known, torch.bool))
    picture, held, mask = (torch.frombuffer(bytearray(data), dtype=kind)[None] for data, kind in of)
    labels = Labels(model.spec, held, mask)
    made = channels_last(model.to_every_domain(picture.view(1, *model.shape), labels, most_images(run))[0])
    made.flags.writeable = False
    return made


def translated(run: Path, source: ChosenPicture, wanted: Sequence[Answer]) -> UInt8[np.ndarray, "h w *c"]:
    """A picture with the wanted labels. Raises UserError where it has them already."""
    changes = changes_to(source.labels, wanted)
    return channels_last(translator_of(run, source.which).apply(source.image, changes, source.labels).images)[0]


def picture_of(source: ChosenPicture) -> UInt8[np.ndarray, "h w *c"]:
    """The picture itself, as it is translated."""
    return channels_last(source.image)[0]


def translations_zip(run: Path, source: ChosenPicture) -> bytes:
    """A zip of a picture and its translations to every domain, and a JSON of what they are made of."""
    images = {"input": picture_of(source), **in_every_domain(run, source)}
    files = dict(zip((f"{name}.png" for name in file_names([*images])), images.values(), strict=True))
    about = {"condgan": __version__, "run": str(run), "checkpoint": source.which, "picture": source.name}
    return zipped(files, about | {"images": [*files]})


def held_out_few(run: Path, count: int) -> UInt8[np.ndarray, "n h w *c"]:
    """The first held-out images of a run."""
    return channels_last(held_out_of(run).images[:count])
