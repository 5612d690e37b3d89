"""Pictures from files, to be translated, and the files that translations are written to."""

import zipfile
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path, PurePosixPath
from typing import NamedTuple

from jaxtyping import UInt8
from PIL import UnidentifiedImageError
from torch import Tensor

from condgan.data.preprocessing import opened, reason
from condgan.data.readers.tree import is_image, open_tree
from condgan.sampling.translator import Translator
from condgan.types import ImageShape
from condgan.utils.errors import UserError


class Opened(NamedTuple):
    """A picture from a file, ready to translate."""

    name: str
    file: Path | None
    """None in a zip."""
    size: tuple[int, int]
    """Width and height of the picture."""
    image: UInt8[Tensor, "1 c h w"]


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
                    yield Opened(name, file, picture.size, model.pixels([picture]))
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
    """What becomes of pictures of these widths and heights before they are translated, in words."""
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
