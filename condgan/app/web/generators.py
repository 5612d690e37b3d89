"""What the page does with a generator, without the page: what is asked for in, images out.

Images are drawn as `condgan sample` draws them, to the bit. Beside them the page keeps what they are made of, which is
small: normal numbers, before they are truncated, and how much an image is of each class.

Axes: n images, z latent coordinates, k classes, h × w pixels, c channels.
"""

import io
import json
import shlex
import zipfile
from collections.abc import Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image
from torch import Tensor

from condgan import __version__
from condgan.app.web.served import discriminator_of, generator_of, preprocessing_of, search_of, shape_of
from condgan.data.preprocessing import opened, pixels, reason
from condgan.labels import Labels
from condgan.sampling.directions import Directions, latent_directions, steps_along
from condgan.sampling.files import SampleFiles
from condgan.sampling.interpolate import linear, spherical, turned
from condgan.sampling.invert import invert
from condgan.sampling.latents import latent_dim, latent_law
from condgan.sampling.model import Drawn
from condgan.sampling.options import Sampling
from condgan.utils.arguments import positive, whole
from condgan.utils.errors import UserError, repeated, shown, unknown
from condgan.utils.figures import channels_first, channels_last, png
from condgan.utils.files import read_bytes
from condgan.utils.limits import ENCODED

MOST_IMAGES = 64
"""Of one request."""
MOST_PIXELS = MOST_IMAGES * 256 * 256
"""Of one request."""
MOST_STANDING = 64
"""Batches of standing statistics."""
NEARBY, BETWEEN = 12, 10
"""Images like another one, and on the way between two, with these."""
ALONG, MOST_DIRECTIONS = 9, 12
"""Images along a direction, and directions to choose from at most."""
TRIED_CLASSES, DESCENT_STEPS = 6, 150
"""Classes in which an image nearest to a picture is sought, and steps of that."""
NEIGHBORS_OF_EACH = 6
"""Images of each kind that are like one."""
KEPT = 8
"""Grids whose images are kept, so that a click on one does not make all anew."""
MADE_OF = "made-of.json"


class Grid(NamedTuple):
    """Images of a run that can be made at any time, and what is told of them."""

    run: Path
    sampling: Sampling
    """Of a checkpoint by its number."""
    drawn: Drawn
    """Whose latents are normal, not truncated yet."""
    captions: list[str]
    files: list[str]
    """What the images are called in a zip."""
    about: dict[str, Any]
    """What makes the same images."""

    def __len__(self) -> int:
        return len(self.captions)


class Picked(NamedTuple):
    """One image of a grid."""

    sampling: Sampling
    drawn: Drawn
    caption: str
    file: str


def most_images(run: Path) -> int:
    """How many images of a run one request may have."""
    shape = shape_of(run)
    return max(1, min(MOST_IMAGES, MOST_PIXELS // (shape.height * shape.width)))


def sample_grid(run: Path, sampling: Sampling, classes: Sequence[str], per_class: int) -> Grid:
    """The images of `condgan sample --classes`: so many of each class, class by class.

    Raises UserError for no class or an unknown one, and for more images than a request may have.
    """
    groups = [*dict.fromkeys(classes)]
    return _sampled(run, sampling, groups, groups, per_class, {"classes": groups}, ["--classes", ",".join(groups)])


def asked_grid(run: Path, sampling: Sampling, asked: Any, per_class: int) -> Grid:
    """The images of `condgan sample --set`: so many of each of what is asked for of attributes or a number.

    Raises UserError for what cannot be asked for, and for more images than a request may have.
    """
    model = generator_of(run, sampling)
    groups = model.group_names(asked)
    wanted = asked if isinstance(asked, Mapping) else {model.spec.fields[0].name: asked}
    texts = {name: value if isinstance(value, list | tuple) else [value] for name, value in wanted.items()}
    chosen = [
        part
        for name, values in texts.items()
        for part in ("--set", f"{name}={','.join(str(int(one) if isinstance(one, bool) else one) for one in values)}")
    ]
    return _sampled(run, sampling, asked, groups, per_class, {"asked": groups}, chosen if asked else [])


def asked_from(run: Path, sampling: Sampling, given: Sequence[str] | str) -> Any:
    """What is asked for: of a number some of them in a text, with commas between; of attributes names, or no and names.

    Raises UserError for others.
    """
    spec = generator_of(run, sampling).spec
    if isinstance(given, str):
        return [one.strip() for one in given.split(",") if one.strip()] or None
    names = {choice: (name, on) for name in spec.classes for choice, on in ((name, True), (f"no {name}", False))}
    if other := next((one for one in given if one not in names), None):
        raise unknown("label", other, names)
    chosen = [names[one] for one in given]
    if twice := repeated([name for name, _ in chosen]):
        raise UserError(f"'{twice}' and 'no {twice}' given: choose one of them")
    return dict(chosen) or None


def attribute_choices(run: Path, sampling: Sampling) -> list[str]:
    """All that can be asked for of attributes: each, and those of no group also not to hold."""
    spec = generator_of(run, sampling).spec
    alone = {unit[0] for unit in spec.fields[0].units() if len(unit) == 1}
    every = enumerate(spec.classes)
    return [choice for number, name in every for choice in ([name, f"no {name}"] if number in alone else [name])]


def mixture_grid(run: Path, sampling: Sampling, shares: dict[str, int | float], per_class: int) -> Grid:
    """The images of `condgan sample --mixture`: each is part one class and part another, by shares above 0.

    Of a single class these are its images. Raises UserError as `sample_grid` does.
    """
    parts = {name: float(f"{share:g}") for name, share in shares.items() if share > 0}  # as the command has them
    if len(parts) < 2:
        if not parts:
            raise UserError("a mixture without a share above 0 given: raise one of the shares")
        return sample_grid(run, sampling, [*parts], per_class)
    group = ",".join(f"{name}={share:g}" for name, share in parts.items())
    return _sampled(run, sampling, parts, [group], per_class, {"mixture": parts}, ["--mixture", group])


def _sampled(
    run: Path,
    sampling: Sampling,
    classes: Any,
    groups: list[str],
    per_class: int,
    about: dict[str, Any],
    chosen: list[str],
) -> Grid:
    require_servable(len(groups) * whole("images of each class", per_class, 1), most_images(run))
    drawn = generator_of(run, sampling).draw(classes, per_class, sampling.seed)
    numbers = range(per_class)
    captions = [f"{shown(group)}, no. {number}" for group in groups for number in numbers]
    command = ["condgan", "sample", str(run), "--checkpoint", sampling.which, *chosen, "--per-class", str(per_class)]
    command += ["--seed", str(sampling.seed), *_norms_and_latents(sampling), "--out", "images"]
    about = about | {"per_class": per_class, "command": shlex.join(command)}
    return Grid(run, sampling, drawn, captions, [*SampleFiles.of(groups, per_class)], _told(run, sampling) | about)


def _norms_and_latents(sampling: Sampling) -> list[str]:
    truncation = [] if sampling.truncation is None else ["--truncation", repr(sampling.truncation)]
    return [*truncation, *([] if sampling.standing is None else ["--standing", str(sampling.standing)])]


def _told(run: Path, sampling: Sampling) -> dict[str, Any]:
    return {
        "condgan": __version__,
        "run": str(run),
        "checkpoint": sampling.which,
        "seed": sampling.seed,
        "truncation": sampling.truncation,
        "standing": sampling.standing,
    }


def require_servable(images: int, most: int) -> None:
    """Raises UserError for more images than a request may have."""
    if images > most:
        raise UserError(
            f"{images} images asked for: expected at most {most}; choose fewer classes or fewer images of each"
        )


def pick(grid: Grid, number: int) -> Picked:
    """The image of this number. Raises UserError where there is none, as of a grid of before."""
    number = whole("image", number, 0, len(grid) - 1)
    return Picked(
        grid.sampling, Drawn(*(part[[number]] for part in grid.drawn)), grid.captions[number], grid.files[number]
    )


def nearby_grid(run: Path, picked: Picked, distance: int | float) -> Grid:
    """An image and others like it: their latents are turned away from its own, toward random ones.

    By `distance` · 90°, so that they are as likely as any: at 0 they are its own, at 1 they have nothing of it.
    Raises UserError for a distance beyond.
    """
    count = min(NEARBY, most_images(run))
    latents = turned(picked.drawn.latents, count - 1, distance, picked.sampling.seed)[0]
    captions = [picked.caption, *(f"like {picked.caption} ({number})" for number in range(1, count))]
    about = {"like": picked.caption, "distance": distance}
    return _of_latents(run, picked.sampling, latents, picked.drawn.weights.expand(count, -1), captions, "like", about)


def between_grid(run: Path, first: Picked, last: Picked) -> Grid:
    """The way from one image to another, both included: latents along a great circle, classes mixed.

    Truncation and batch norms are the last one's.
    """
    count = min(BETWEEN, most_images(run))
    t = torch.linspace(0, 1, count)[:, None]
    latents, weights = (
        way(start.expand(count, -1), end.expand(count, -1), t)
        for way, start, end in zip((spherical, linear), first.drawn, last.drawn, strict=True)
    )
    latents[0], latents[-1] = first.drawn.latents[0], last.drawn.latents[0]
    parts = [f"{share:.0%} of the way" for share in t.flatten().tolist()]
    captions = [first.caption, *parts[1:-1], last.caption]
    about = {"from": first.caption, "to": last.caption}
    return _of_latents(run, last.sampling, latents, weights, captions, "between", about)


class Alike(NamedTuple):
    """What is like an image."""

    images: UInt8[np.ndarray, "n h w *c"]
    captions: list[str]
    said: str
    """Whether it is a copy."""


def most_directions(run: Path, sampling: Sampling) -> int:
    """How many directions of a run's latents can be chosen."""
    return min(MOST_DIRECTIONS, latent_dim(generator_of(run, sampling).generator))


def along_grid(run: Path, picked: Picked, number: int, reach: int | float) -> Grid:
    """An image moved along the direction of this number, from 1 on, from −`reach` to +`reach`; itself in the middle.

    Latents are moved before they are truncated. Raises UserError for a direction that there is not, and for a reach
    that is not above 0.
    """
    number, reach = whole("direction", number, 1, most_directions(run, picked.sampling)), positive("reach", reach)
    count = min(ALONG, (most_images(run) - 1) // 2 * 2 + 1)
    own, weights = picked.drawn
    found = _directions(run, picked.sampling, weights.numpy().tobytes())
    latents = steps_along(own, found.vectors[[number - 1]], reach, count).flatten(0, 2)
    offsets = torch.linspace(-reach, reach, count).tolist()
    captions = [f"{offset:+.1f} from {picked.caption}" for offset in offsets]
    captions[count // 2], latents[count // 2] = picked.caption, own[0]
    about = {"along": picked.caption, "direction": number, "reach": reach}
    return _of_latents(run, picked.sampling, latents, weights.expand(count, -1), captions, "along", about)


@lru_cache(KEPT)
def _directions(run: Path, sampling: Sampling, weights: bytes) -> Directions:
    model = generator_of(run, sampling)
    shares = torch.frombuffer(bytearray(weights), dtype=torch.float32)[None].to(model.sampler.device)
    labels = Labels(model.spec, shares, torch.ones(1, 1, dtype=torch.bool, device=shares.device))
    return latent_directions(model.generator, labels, most_directions(run, sampling))


def inverted_grid(run: Path, which: str, path: Path) -> tuple[Grid, UInt8[np.ndarray, "h w *c"]]:
    """The nearest image to a picture from a file in each of a few classes, and the picture as the run would see it.

    Raises UserError for what is no picture.
    """
    sampling = Sampling(which)
    try:
        with opened(read_bytes(path, ENCODED)) as given:
            image = torch.from_numpy(pixels(given, preprocessing_of(run)).copy())[None]
    except Exception as error:  # decoders raise whatever they like
        raise UserError(f"'{shown(path.name)}' is unreadable ({reason(error)}): give a picture, PNG or JPEG") from None
    model = generator_of(run, sampling)
    found = invert(model, image, discriminator_of(run, which), classes=TRIED_CLASSES, steps=DESCENT_STEPS)
    weights = torch.eye(len(model.classes))[found.classes[0]]
    told = zip(found.classes[0].tolist(), found.errors[0].tolist(), strict=True)
    captions = [f"{model.classes[number]}: {error:.1f}" for number, error in told]
    about = {"inverted": shown(path.name)}
    return _of_latents(run, sampling, found.latents[0], weights, captions, "found", about), channels_last(image)[0]


def alike(run: Path, picked: Picked) -> Alike:
    """Generated and training images that are most like one. Raises UserError where the run's data are not here."""
    search = search_of(run, picked.sampling.which)
    grid = Grid(run, picked.sampling, picked.drawn, [picked.caption], [picked.file], {})
    found = search.among(channels_first(grid_images(grid).copy()), NEIGHBORS_OF_EACH)
    parts, captions = [], []
    for what, split, near in (("made", search.made, found.made), ("real", search.training, found.trained_on)):
        numbers = near.numbers[0, :NEIGHBORS_OF_EACH]
        parts.append(channels_last(split.images[numbers]))
        captions += [f"{what}: {name}, {shown(one, 40)}" for name, one in search.names(split, numbers.tolist())]
    said = "Images that the run makes which are most like it, and real ones that it was trained on."
    if found.copies is not None:
        said += " It is nearly a copy of one." if bool(found.copies[0]) else " It is no copy of one."
    return Alike(np.concatenate(parts), captions, said)


def _of_latents(
    run: Path,
    sampling: Sampling,
    latents: Float[Tensor, "n z"],
    weights: Float[Tensor, "n k"],
    captions: list[str],
    folder: str,
    about: dict[str, Any],
) -> Grid:
    files = [f"{folder}/{number}.png" for number in range(len(captions))]
    return Grid(run, sampling, Drawn(latents, weights), captions, files, _told(run, sampling) | about)


def drawn_latents(grid: Grid) -> Float[Tensor, "n z"]:
    """The latents as the generator is given them."""
    law = latent_law(grid.sampling.truncation)
    return torch.from_numpy(law(grid.drawn.latents.numpy()).astype(np.float32, copy=False))


def grid_images(grid: Grid) -> UInt8[np.ndarray, "n h w *c"]:
    """A grid's images, the same each time, of which the last few grids' are kept; they cannot be written to."""
    return _made(
        grid.run, grid.sampling, *(part.numpy().tobytes() for part in (drawn_latents(grid), grid.drawn.weights))
    )


@lru_cache(KEPT)
def _made(run: Path, sampling: Sampling, latents: bytes, weights: bytes) -> UInt8[np.ndarray, "n h w *c"]:
    model = generator_of(run, sampling)
    shares = torch.frombuffer(bytearray(weights), dtype=torch.float32).view(-1, len(model.classes))
    images = model.make(Drawn(torch.frombuffer(bytearray(latents), dtype=torch.float32).view(len(shares), -1), shares))
    images.flags.writeable = False
    return images


def grid_zip(grid: Grid) -> bytes:
    """A zip of a grid's images, and a JSON of what they are made of."""
    classes = generator_of(grid.run, grid.sampling).classes
    latents = drawn_latents(grid)
    told = [
        {
            "file": file,
            "about": caption,
            "weights": {name: share for name, share in zip(classes, of_one.tolist(), strict=True) if share},
            "latent": latent.tolist(),
        }
        for file, caption, of_one, latent in zip(grid.files, grid.captions, grid.drawn.weights, latents, strict=True)
    ]
    return zipped(dict(zip(grid.files, grid_images(grid), strict=True)), grid.about | {"images": told})


def zipped(images: dict[str, UInt8[np.ndarray, "h w *c"]], about: dict[str, Any]) -> bytes:
    """A zip of images by their files' names, and a JSON about them."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # PNGs are compressed already
        for name, image in images.items():
            archive.writestr(name, png(Image.fromarray(image)))
        archive.writestr(MADE_OF, json.dumps(about, indent=1, ensure_ascii=False))
    return buffer.getvalue()
