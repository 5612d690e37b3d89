"""Pictures from files, to be translated, and the files that samples and translations are written to.

Axes: n images, c channels, h × w pixels.
"""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from condgan.data.dataset import Split
from condgan.data.preprocessing import opened, pixels, reason
from condgan.data.readers.tree import is_image, open_tree
from condgan.labels import Labels
from condgan.sampling.translator import TRANSLATED_AT_ONCE, Changes, Translator
from condgan.types import ImageShape
from condgan.utils.errors import UserError
from condgan.utils.figures import channels_last, class_sheets, png, sheet, write_pictures
from condgan.utils.files import file_names, write


class Opened(NamedTuple):
    """A picture from a file, ready to translate."""

    name: str
    file: Path | None
    """None in a zip."""
    size: tuple[int, int]
    """Width and height of the picture."""
    image: UInt8[Tensor, "1 c h w"]


@dataclass(frozen=True)
class TranslationInputs:
    """Images to translate."""

    names: Sequence[str]
    images: UInt8[Tensor, "n c h w"]
    labels: Labels | None = None
    """Known labels; None where the discriminator reads them."""
    files: frozenset[Path] = frozenset()
    """Where they were read from, which nothing is written to."""
    sizes: Sequence[tuple[int, int]] = ()
    """Widths and heights before they were resized."""


def pictures_of(split: Split) -> TranslationInputs:
    """The images of a data set with their labels."""
    return TranslationInputs(split.names, split.images, split.labels[:])


def read_pictures(model: Translator, paths: Sequence[Path]) -> TranslationInputs:
    """Read what `open_pictures` opens."""
    found = list(open_pictures(model, paths))
    return TranslationInputs(
        [one.name for one in found],
        torch.cat([one.image for one in found]),
        files=frozenset(one.file.resolve() for one in found if one.file is not None),
        sizes=[one.size for one in found],
    )


def write_translations(
    model: Translator, pictures: TranslationInputs, changes: Changes | None, out: Path
) -> Iterator[tuple[str, dict[str, bool]]]:
    """Write a translation of each picture under its name in a folder, and tell its name and what was changed.

    Without changes, write a strip of it: itself, then in every domain. Raises UserError where two would be written to
    the same file, or one over a picture that was read.
    """
    files = output_names(pictures.names)
    if over := next((out / file for file in files if (out / file).resolve() in pictures.files), None):
        raise UserError(f"--out {out} given: '{over}' is one of the images; give another folder")
    for start in range(0, len(files), TRANSLATED_AT_ONCE):
        part = slice(start, start + TRANSLATED_AT_ONCE)
        images, labels = pictures.images[part], None if pictures.labels is None else pictures.labels[part]
        if changes is None:
            cells = torch.cat([images[:, None], model.to_every_domain(images, labels)], 1)
            written = [sheet(of_one, ["input", *model.domains]) for of_one in cells]
            changed: list[dict[str, bool]] = [{} for _ in written]
        else:
            translated = model.apply(images, changes, labels)
            written = [Image.fromarray(image) for image in channels_last(translated.images)]
            changed = translated.changes
        write_pictures(out, dict(zip(files[part], written, strict=True)))
        yield from zip(pictures.names[part], changed, strict=True)


def write_samples(out: Path, images: UInt8[np.ndarray, "n h w *c"], groups: Sequence[str]) -> list[str]:
    """Write what `Model.sample` returned, as many images of each group, to GROUP/INDEX.png and sheets in a folder.

    Return the sheets' names.
    """
    per_group = len(images) // len(groups)
    folders = file_names(groups)
    for position, image in enumerate(images):
        file = out / folders[position // per_group] / f"{position % per_group}.png"
        write(file, png(Image.fromarray(image)))
    sheets = class_sheets(images, groups)
    write_pictures(out, sheets)
    return [*sheets]


def open_pictures(model: Translator, paths: Sequence[Path]) -> Iterator[Opened]:
    """Pictures in order: single files by their names, and all image files in folders and zips by their paths there.

    Raises UserError for a picture that is none, for two of one name, and for a folder without any.
    """
    names: set[str] = set()
    for path in paths:
        if path.is_file() and not zipfile.is_zipfile(path):
            found = {path.name: (path, path.read_bytes)}
        else:
            tree = open_tree(path, "give an image, a folder of images or a zip of one")
            here = path if path.is_dir() else None
            found = {name: (here and here / name, partial(tree.read, name)) for name in tree.files if is_image(name)}
            if not found:
                raise UserError(f"'{path}' holds no image: give an image, a folder of images or a zip of one")
        for name, (file, read) in found.items():
            if name in names:
                raise UserError(f"'{name}' of '{path}' given, and another image of that name: translate them apart")
            names.add(name)
            what = f"'{path}'" if file == path else f"'{name}' of '{path}'"
            try:
                with opened(read()) as picture:
                    image = torch.from_numpy(pixels(picture, model.preprocessing).copy())[None]
                    yield Opened(name, file, picture.size, image)
            except UnidentifiedImageError:
                raise UserError(f"{what} is no image of a known format: give one such as PNG or JPEG") from None
            except Exception as error:  # decoders raise whatever they like
                raise UserError(f"{what} is unreadable ({reason(error)}): mend it or leave it out") from None


def output_names(names: Sequence[str]) -> list[str]:
    """The PNG file that each image is written to: its own name, with .png after it where two would be the same.

    Raises UserError where they still are.
    """
    stems = [str(PurePosixPath(name).with_suffix(".png")) for name in names]
    twice = Counter(stems)
    pairs = list(zip(names, stems, strict=True))
    files = [stem if twice[stem] == 1 or name == stem else f"{name}.png" for name, stem in pairs]
    folders = {str(parent) for file in files for parent in PurePosixPath(file).parents}
    if clash := next((file for file, count in Counter(files).items() if count > 1 or file in folders), None):
        raise UserError(f"two of the images would be written to '{clash}': translate them apart")
    return files


def fitting(sizes: Sequence[tuple[int, int]], shape: ImageShape) -> list[str]:
    """Tell how pictures of these widths and heights are resized before they are translated."""
    own = (shape.width, shape.height)
    others = Counter(size for size in sizes if size != own).most_common()
    said = []
    for (width, height), count in others[:3]:
        plural = count > 1
        square = "" if width == height else f", {'their' if plural else 'its'} central square,"
        said.append(
            f"resized {count} image{'s' * plural} of {width}×{height}{square} to {own[0]}×{own[1]}, the size that the "
            "run was trained at"
        )
    more = len(others) - 3
    return [*said, *([f"and images of {more} more size{'s' * (more > 1)}"] if more > 0 else [])]
