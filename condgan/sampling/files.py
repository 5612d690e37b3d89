"""Pictures from files, to be translated, and the files that samples and translations are written to.

Axes: n images, c channels, h × w pixels.
"""

import csv
import io
import json
import os
import re
import zipfile
from collections import Counter
from collections.abc import Container, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float, UInt8
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from condgan.data.dataset import Split
from condgan.data.preprocessing import Preprocessing, opened, pixels, reason
from condgan.data.readers.labels import SPLIT_WORDS
from condgan.data.readers.names import is_image
from condgan.data.readers.tree import images_in, open_tree
from condgan.labels import Labels, LabelSpec
from condgan.sampling.changes import Changes
from condgan.sampling.translator import TRANSLATED_AT_ONCE, Translator
from condgan.types import ImageShape
from condgan.utils.errors import UserError, shown
from condgan.utils.figures import channels_last, class_sheets, png, sheet, sheet_names, write_pictures
from condgan.utils.files import TEMPORARY, file_names, require_outside_runs, write

DATASET_JSON = "dataset.json"
LABELS_CSV = "labels.csv"
SELECTION_CSV = "selection.csv"
"""What made each image that was selected."""


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
    notes: Sequence[str] = ()
    """What was left out of the folders."""


def pictures_of(split: Split) -> TranslationInputs:
    """The images of a data set with their labels."""
    return TranslationInputs(split.names, split.images, split.labels[:])


def read_pictures(preprocessing: Preprocessing, paths: Sequence[Path]) -> TranslationInputs:
    """Read what `open_pictures` opens."""
    notes: list[str] = []
    found = list(open_pictures(preprocessing, paths, notes))
    return TranslationInputs(
        [one.name for one in found],
        torch.cat([one.image for one in found]),
        files=frozenset(one.file.resolve() for one in found if one.file is not None),
        sizes=[one.size for one in found],
        notes=notes,
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
    require_own(out, files)
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


@dataclass(frozen=True)
class SampleFiles:
    """Where `write_samples` writes: FOLDER/INDEX.png, and sheets."""

    groups: Sequence[str]
    folders: Sequence[str]
    """Of each group."""
    per_group: int

    @classmethod
    def of(cls, groups: Sequence[str], per_group: int) -> "SampleFiles":
        beside = [*sheet_names(len(groups)), DATASET_JSON, SELECTION_CSV, LABELS_CSV]
        return cls(groups, file_names([*beside, *groups])[len(beside) :], per_group)

    @property
    def labeled(self) -> bool:
        """Whether a folder is not called like its group, or would be read as something else."""
        words = {word for name in self.folders for word in re.split(r"[\W_]+", name.lower())}
        return [*self.folders] != [*self.groups] or not words.isdisjoint(SPLIT_WORDS)

    def __contains__(self, file: object) -> bool:
        folder, _, name = str(file).rpartition("/")
        if not folder:
            return name in sheet_names(len(self.groups)) or (name == DATASET_JSON and self.labeled)
        number = name.removesuffix(".png")
        return folder in self.folders and number.isdecimal() and int(number) < self.per_group

    def __iter__(self) -> Iterator[str]:
        """The images' files in turn."""
        return (f"{folder}/{number}.png" for folder in self.folders for number in range(self.per_group))


def labels_csv(files: Sequence[str], spec: LabelSpec, values: Float[Tensor, "n k"]) -> bytes:
    """A table of images' attributes, 0 or 1 each, or of their numbers, as `condgan.read` reads it."""
    rows = io.StringIO()
    writer = csv.writer(rows, lineterminator="\n")
    writer.writerow(["file", *spec.classes])
    range = spec.range
    for file, row in zip(files, values.tolist(), strict=True):
        writer.writerow([file, *(int(one > 0.5) if range is None else range.text(range.number(one), 6) for one in row)])
    return rows.getvalue().encode()


def write_samples(
    out: Path, images: UInt8[np.ndarray, "n h w *c"], groups: Sequence[str], table: bytes | None = None
) -> list[str]:
    """Write what `Model.sample` returned, as many images of each group, to GROUP/INDEX.png and sheets in a folder.

    Where that would not be read as these groups, dataset.json says of which one each image is; but labels.csv of
    attributes and numbers, whose `table` it is. Return the sheets' names, and the table's.
    """
    files = SampleFiles.of(groups, len(images) // len(groups))
    for file, image in zip(files, images, strict=True):
        write(out / file, png(Image.fromarray(image)))
    if table is not None:
        write(out / LABELS_CSV, table)
    elif files.labeled:
        labels = [(file, groups[i // files.per_group]) for i, file in enumerate(files)]
        write(out / DATASET_JSON, json.dumps({"labels": labels}).encode())
    sheets = class_sheets(images, groups)
    write_pictures(out, sheets)
    return [*sheets, *([LABELS_CSV] if table is not None else [])]


def require_own(out: Path, files: Container[str], option: str = "--out") -> None:
    """Raises UserError where a folder to write these files to is no folder, is a run's, or holds other images."""
    if blocking := next((path for path in (out, *out.parents) if path.exists() and not path.is_dir()), None):
        raise UserError(f"{option} {out} given: '{blocking}' is a file; give a folder")
    require_outside_runs(out, f"{option} {out}")
    for folder, _, names in os.walk(out):
        for name in names:
            file = (Path(folder) / name).relative_to(out).as_posix()
            if (is_image(name) or file == DATASET_JSON) and not name.startswith(TEMPORARY) and file not in files:
                raise UserError(
                    f"{option} {out} given, where other images are that would be taken for new ones, such as "
                    f"'{shown(file)}': give another folder, or remove them"
                )


def open_pictures(preprocessing: Preprocessing, paths: Sequence[Path], notes: list[str]) -> Iterator[Opened]:
    """Pictures in order: single files by their names, and all image files in folders and zips by their paths there.

    What is left out is told in `notes`. Raises UserError for a picture that is none, for two of one name, and for a
    folder without any.
    """
    names: set[str] = set()
    for path in paths:
        if path.is_file() and not zipfile.is_zipfile(path):
            found = {path.name: (path, path.read_bytes)}
        else:
            tree = open_tree(path, "give an image, a folder of images or a zip of one")
            here = path if path.is_dir() else None
            images, left_out = images_in(tree)
            found = {name: (here and here / name, partial(tree.read, name)) for name in images}
            if not found:
                why = f" that can be read ({'; '.join(left_out)})" if left_out else ""
                raise UserError(f"'{path}' holds no image{why}: give an image, a folder of images or a zip of one")
            notes += [f"'{path}': {note}" for note in left_out]
        for name, (file, read) in found.items():
            if name in names:
                raise UserError(f"'{name}' of '{path}' given, and another image of that name: translate them apart")
            names.add(name)
            what = f"'{path}'" if file == path else f"'{name}' of '{path}'"
            try:
                with opened(read()) as picture:
                    image = torch.from_numpy(pixels(picture, preprocessing).copy())[None]
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
