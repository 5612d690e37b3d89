"""Readers: any labelled images, read once into uint8, training and held-out images apart."""

import hashlib
import os
import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path, PurePosixPath
from typing import IO

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image, ImageOps, UnidentifiedImageError
from sklearn.datasets import load_digits
from torch import Tensor
from tqdm import tqdm

from condgan.errors import UserError
from condgan.interfaces import ImageShape
from condgan.labels import Labels, LabelSpec

HELD_OUT = {"test", "testing", "val", "valid", "validation"}
TRAIN = {"train", "training"}


@dataclass(frozen=True, slots=True)
class Split:
    """Images of 0 … 255 and their labels."""

    images: UInt8[Tensor, "n c h w"]
    labels: Labels

    def __len__(self) -> int:
        return len(self.images)

    def to(self, device: torch.device | str) -> "Split":
        return Split(self.images.to(device), self.labels.to(device))


@dataclass(frozen=True)
class Dataset:
    """A data set in memory; the held-out images are for evaluation and never trained on."""

    train: Split
    held_out: Split
    skipped: tuple[str, ...] = ()
    """Unreadable files that were left out."""

    @property
    def spec(self) -> LabelSpec:
        return self.train.labels.spec

    @property
    def shape(self) -> ImageShape:
        return ImageShape(*self.train.images.shape[1:])

    @cached_property
    def content_hash(self) -> str:
        """SHA-256 of the images, labels and class names of both splits."""
        digest = hashlib.sha256(repr(self.spec).encode())
        for split in (self.train, self.held_out):
            digest.update(repr(tuple(split.images.shape)).encode())
            digest.update(split.images.numpy().data)
            digest.update(split.labels.values.numpy().data)
        return digest.hexdigest()


def read(source: str, size: int, channels: int, skip_bad_images: bool = False) -> Dataset:
    """Read a data set by name, or from a folder of class folders or a zip of one, at size × size pixels.

    Every image is turned upright, put on white where it is transparent, made gray or RGB, cropped to its central square
    and resized (bicubic, antialiased).
    """
    if source in SOURCES:
        return SOURCES[source](size, channels)
    return _read_classes(Path(source).expanduser(), size, channels, skip_bad_images)


def digits(size: int, channels: int) -> Dataset:
    """scikit-learn's 1,797 handwritten digits, 8 × 8 in 17 grays; a fifth of each class is held out."""
    grays, index = load_digits(return_X_y=True)
    images = [Image.fromarray((gray * (255 / 16)).round().astype(np.uint8).reshape(8, 8)) for gray in grays]
    pixels = np.stack([_pixels(image, size, channels) for image in images])
    return _dataset(_hold_out(pixels, index, fraction=0.2), [str(digit) for digit in range(10)])


SOURCES: dict[str, Callable[[int, int], Dataset]] = {"digits": digits}


@dataclass(frozen=True, slots=True)
class _Tree:
    """The visible files of a folder or zip, how to open each, and all folders."""

    files: Mapping[PurePosixPath, Callable[[], IO]]
    folders: set[PurePosixPath]

    def inside(self, root: PurePosixPath) -> list[PurePosixPath]:
        """The folders right in `root`."""
        return sorted(folder for folder in self.folders if folder.parent == root and folder != root)


def _read_classes(path: Path, size: int, channels: int, skip_bad_images: bool) -> Dataset:
    tree = _tree(path)
    by_split = {split: _files_by_class(tree, roots, path) for split, roots in _split_roots(tree, path).items()}
    classes = sorted(by_split["train"], key=_natural)
    for name in by_split.get("held-out", {}):
        if name not in classes:
            raise UserError(
                f"data '{path}': class '{name}' is in the held-out split only; give both splits the same classes"
            )

    bad: list[str] = []
    splits: dict[str, _Arrays] = {}
    for split, files in by_split.items():
        todo = [(index, file) for index, name in enumerate(classes) for file in files.get(name, [])]
        pixels = np.empty((len(todo), channels, size, size), np.uint8)
        good: list[int] = []
        for index, file in tqdm(todo, desc=f"reading {split} images", leave=False, disable=None):
            try:
                with tree.files[file]() as stream, Image.open(stream) as image:
                    pixels[len(good)] = _pixels(image, size, channels)
                good.append(index)
            except UnidentifiedImageError:
                bad.append(f"'{file}' of class '{classes[index]}' (of no known image format)")
            except Exception as error:  # decoders raise whatever they like
                bad.append(
                    f"'{file}' of class '{classes[index]}' ({' '.join(str(error).split()) or type(error).__name__})"
                )
        splits[split] = pixels[: len(good)], np.array(good, dtype=np.int64)
    if bad and not skip_bad_images:
        more = f" and {len(bad) - 1} more" if len(bad) > 1 else ""
        raise UserError(
            f"unreadable image {bad[0]}{more} in '{path}': mend it, or go on without with --skip-bad-images"
        )

    if "held-out" not in splits:
        _require_images(splits["train"][1], classes, 2, f"data '{path}'")
        splits = _hold_out(*splits["train"], fraction=0.1)
    for split, (_, index) in splits.items():
        _require_images(index, classes, 1, f"the {split} split of '{path}'")
    return _dataset(splits, classes, bad)


def _tree(path: Path) -> _Tree:
    expected = "give a folder of class folders (with or without train/ and test/) or a zip of one"
    if not path.exists():
        raise UserError(f"data '{path}' does not exist: {expected}")
    if path.is_dir():
        names, folders = _walk(path)
        files = {name: partial(open, path / name, "rb") for name in sorted(names)}
    elif zipfile.is_zipfile(path):
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, NotImplementedError) as error:  # the latter: a zip version unknown to Python
            raise UserError(f"zip '{path}' is damaged ({error}): zip the folder anew") from None
        for name in archive.namelist():
            if _OUTSIDE.search(name):
                raise UserError(
                    f"zip '{path}' refused: its member '{name}' points outside the archive; zip the folder anew"
                )
        files = {name: partial(archive.open, name) for name in sorted(archive.namelist()) if not name.endswith("/")}
        folders = [name for name in archive.namelist() if name.endswith("/")]
    else:
        raise UserError(f"data '{path}' is neither a folder nor a complete zip file: {expected}")
    visible = {PurePosixPath(name): opener for name, opener in files.items() if not _HIDDEN.search(name)}
    parents = {ancestor for parent in {name.parent for name in visible} for ancestor in (parent, *parent.parents)}
    tree = _Tree(visible, parents | {PurePosixPath(name) for name in folders if not _HIDDEN.search(name)})
    if not tree.inside(PurePosixPath()):
        raise UserError(f"data '{path}' {'is empty' if not visible else 'holds no class folders'}: {expected}")
    return tree


def _walk(path: Path) -> tuple[list[str], list[str]]:
    """All files and folders below, links followed but not in circles; a link to nothing counts as a file."""
    names: list[str] = []
    folders: list[str] = []

    def fail(error: OSError) -> None:
        raise error

    for folder, inner, files in os.walk(path, followlinks=True, onerror=fail):
        here = Path(folder)
        above = {os.path.realpath(parent) for parent in here.parents if parent.is_relative_to(path)}
        if os.path.realpath(here) in above:
            inner.clear()
            continue
        folders += [(here / name).relative_to(path).as_posix() for name in inner]
        names += [(here / name).relative_to(path).as_posix() for name in files]
    return names, folders


_HIDDEN = re.compile(r"(^|/)(\.|__MACOSX)")
_OUTSIDE = re.compile(r"^[/\\]|^[A-Za-z]:|(^|[/\\])\.\.([/\\]|$)")


def _split_roots(tree: _Tree, path: Path) -> dict[str, PurePosixPath]:
    """The folders that hold the class folders of each split; folders that only wrap them are seen through."""
    images = {file.parent for file in tree.files if file.suffix.lower() in Image.registered_extensions()}
    root = PurePosixPath()
    while len(inside := tree.inside(root)) == 1 and tree.inside(inside[0]) and inside[0] not in images:
        root = inside[0]
    train = [folder for folder in inside if folder.name.lower() in TRAIN]
    held_out = [folder for folder in inside if folder.name.lower() in HELD_OUT]
    if not train:
        return {"train": root}
    if len(train) > 1 or len(held_out) > 1 or len(inside) > len(train) + len(held_out):
        names = ", ".join(folder.name for folder in inside)
        raise UserError(
            f"data '{path}' holds the folders {names}: expected train/ and one of test/ or val/, or class folders"
        )
    return {"train": train[0], "held-out": held_out[0]} if held_out else {"train": train[0]}


def _files_by_class(tree: _Tree, root: PurePosixPath, path: Path) -> dict[str, list[PurePosixPath]]:
    classes: dict[str, list[PurePosixPath]] = {folder.name: [] for folder in tree.inside(root)}
    depth = len(root.parts)
    for file in tree.files:
        if len(file.parts) > depth + 1 and file.parts[:depth] == root.parts:
            classes[file.parts[depth]].append(file)
    if not classes:
        raise UserError(f"data '{path}': '{root}' holds no class folders; expected one folder of images per class")
    for name, files in classes.items():
        if not files:
            raise UserError(f"class folder '{root / name}' of '{path}' has no image: add some or remove the folder")
    return classes


def _natural(name: str) -> tuple:
    return (0, int(name), name) if name.isdecimal() else (1, 0, name)


def _require_images(index: np.ndarray, classes: Sequence[str], least: int, where: str) -> None:
    for number, count in enumerate(np.bincount(index, minlength=len(classes)).tolist()):
        if count < least:
            raise UserError(
                f"class '{classes[number]}' has {count} readable image{'s' * (count != 1)} in {where}: "
                f"at least {least} needed"
            )


def _pixels(image: Image.Image, size: int, channels: int) -> UInt8[np.ndarray, "c h w"]:
    if image.getexif().get(ExifTags.Base.Orientation, 1) != 1:
        image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I"):  # 16 bits of gray
        image = Image.fromarray((np.asarray(image).astype(np.float64) / 257).round().clip(0, 255).astype(np.uint8))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    image = ImageOps.fit(image.convert("L" if channels == 1 else "RGB"), (size, size), Image.Resampling.BICUBIC)
    return np.asarray(image).reshape(size, size, channels).transpose(2, 0, 1)


_Arrays = tuple[np.ndarray, np.ndarray]
"""Pixels and class numbers."""


def _hold_out(pixels: np.ndarray, index: np.ndarray, fraction: float) -> dict[str, _Arrays]:
    """A fixed split into what to train on and what to hold out, at least one of each class on either side."""
    rng = np.random.default_rng(0)
    held_out = []
    for number in np.unique(index):
        where = rng.permutation(np.flatnonzero(index == number))
        held_out.append(where[: min(max(1, round(fraction * len(where))), len(where) - 1)])
    chosen = np.sort(np.concatenate(held_out))
    rest = np.setdiff1d(np.arange(len(index)), chosen)
    return {"train": (pixels[rest], index[rest]), "held-out": (pixels[chosen], index[chosen])}


def _dataset(splits: Mapping[str, _Arrays], classes: Sequence[str], skipped: Sequence[str] = ()) -> Dataset:
    spec = LabelSpec.of_classes(classes)
    train, held_out = (
        Split(torch.from_numpy(pixels), Labels.from_index(spec, torch.from_numpy(index)))
        for pixels, index in (splits["train"], splits["held-out"])
    )
    return Dataset(train, held_out, tuple(skipped))
