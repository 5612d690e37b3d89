"""Images in binary containers: HDF5 as BigGAN-PyTorch writes it, npz, LMDB as LSUN comes, Hugging Face data sets."""

import os
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import torch
from jaxtyping import Int, UInt8
from torch import Tensor

from condgan.data.listing import Listing, RawPicture, digest_of, listed
from condgan.data.readers.tree import refuse_large
from condgan.labels import Field, LabelSpec, LabelTable
from condgan.utils.errors import UserError
from condgan.utils.files import new_file

if TYPE_CHECKING:
    pass


BLOCK = 500
"""Images that are written at once."""

SPAN = 1 << 26
"""Most bytes of neighboring images that are read at once."""


def is_hdf5(path: Path) -> bool:
    """Whether a path is, or is named like, an HDF5 file."""
    return path.is_file() and (path.suffix.lower() in (".hdf5", ".h5") or bool(h5py.is_hdf5(path)))


def list_hdf5(path: Path, share: float | None) -> Listing:
    """The images of a file with `imgs`, uint8 of N×C×H×W, and `labels`: N numbers of classes, or N×K of 0 and 1.

    `classes`, or `attributes`, may name what the labels stand for; `groups` holds a number for each attribute, the same
    for those that exclude each other, or −1; and `train` tells how many images, the first, are to train on. Raises
    UserError for any other file.
    """
    try:
        file = h5py.File(path)
    except OSError:
        raise UserError(f"'{path}' is not a whole HDF5 file: expected one with imgs and labels; make it anew") from None
    with file:
        for name in ("imgs", "labels"):
            if isinstance(file.get(name, getlink=True), h5py.ExternalLink) or getattr(file.get(name), "external", None):
                raise UserError(f"'{path}': {name} are in another file, which is not looked into; make it one")
            if not isinstance(file.get(name), h5py.Dataset):
                raise UserError(
                    f"'{path}' has no dataset '{name}', but {', '.join(file) or 'none'}: expected imgs and labels"
                )
        images: Any = file["imgs"]
        numbers: Any = file["labels"]
        if images.ndim != 4 or images.shape[1] not in (1, 3, 4) or 0 in images.shape[2:]:
            raise UserError(
                f"'{path}': imgs of shape {_shape(images)} given, expected number × 1, 3 or 4 channels × height × width"
            )
        if images.dtype != np.uint8:
            raise UserError(f"'{path}': imgs of {images.dtype} given, expected uint8, 0 … 255")
        if not len(images):
            raise UserError(f"'{path}' holds no images: expected at least 2")
        if numbers.dtype.kind not in "iub":
            raise UserError(f"'{path}': labels of {numbers.dtype} given, expected integers")
        if numbers.ndim not in (1, 2):
            raise UserError(
                f"'{path}': labels of shape {_shape(numbers)} given, expected a number per image, or a row of 0 and 1"
            )
        if len(numbers) != len(images):
            raise UserError(f"'{path}': {len(images):,} imgs and {len(numbers):,} labels given, expected as many")
        train = _train(file, path, len(images))
        labels = (_classes if numbers.ndim == 1 else _attributes)(file, numbers[:].astype(np.int64), path, train)
        size = int(np.prod(images.shape[1:]))
        refuse_large(size)
        rows = images.chunks[0] if images.chunks and images.chunks[0] * size <= SPAN else 256
        pictures = HDF5Pictures(path.absolute(), len(images), max(1, min(rows, SPAN // size)))
    held_out = np.where(np.arange(len(pictures)) < train, 0, 2)
    names = [f"{number:07}.png" for number in range(len(pictures))]
    return listed(str(path), pictures, names, labels, held_out, share)


@dataclass(frozen=True)
class HDF5Pictures:
    """The images of an HDF5 file, of which each process keeps a span in memory, as they are read in order."""

    path: Path
    count: int
    span: int
    _held: dict[int, tuple[Any, int, UInt8[np.ndarray, "n h w c"]]] = field(
        default_factory=dict, init=False, repr=False, compare=False
    )

    def __len__(self) -> int:
        return self.count

    def read(self, number: int) -> RawPicture:
        start, process = number // self.span * self.span, os.getpid()  # a forked one opens the file itself
        images, first, held = self._held.get(process, (None, -1, None))
        if images is None:
            images: Any = h5py.File(self.path)["imgs"]
        if held is None or first != start:
            held = images[start : start + self.span].transpose(0, 2, 3, 1)
            self._held[process] = images, start, held
        image = held[number - start]
        return image[..., 0] if image.shape[-1] == 1 else image

    def digest(self, number: int) -> bytes:
        return digest_of(self.read(number))

    def __reduce__(self) -> tuple[Any, ...]:
        return HDF5Pictures, (self.path, self.count, self.span)


def write_hdf5(path: Path, splits: Sequence[tuple[UInt8[Tensor, "_ c h w"], LabelTable]]) -> None:
    """Write images, to train on and then held out, and their labels, as `list_hdf5` reads them.

    `imgs` is one piece: single images in any order are read 20 times as fast as from BigGAN-PyTorch's chunks of 500.
    Raises UserError for labels of several fields.
    """
    spec = splits[0][1].spec
    if len(spec.fields) != 1:
        raise UserError(
            f"labels of {len(spec.fields)} fields given for '{path}': expected one; write one data set each"
        )
    values = spec.fields[0]
    with new_file(path) as temporary, h5py.File(temporary, "w") as file:
        count = sum(len(images) for images, _ in splits)
        written = file.create_dataset("imgs", (count, *splits[0][0].shape[1:]), np.uint8)
        start = 0
        for images, _ in splits:
            for block in images.split(BLOCK):
                written[start : start + len(block)] = block.numpy()
                start += len(block)
        codes = torch.cat([labels.codes for _, labels in splits]).long().numpy()
        file["labels"] = codes[:, 0] if values.exclusive else codes
        name = "classes" if values.exclusive else "attributes"
        file.create_dataset(name, data=list(values.values), dtype=h5py.string_dtype())
        if values.groups:
            group = {name: number for number, names in enumerate(values.groups) for name in names}
            file["groups"] = np.array([group.get(name, -1) for name in values.values])
        file["train"] = len(splits[0][0])


def _classes(file: h5py.File, numbers: Int[np.ndarray, " n"], path: Path, train: int) -> LabelTable:
    if numbers.min() < 0:
        raise UserError(f"'{path}': label {numbers.min()} given, expected numbers of 0 and more")
    count, given = int(numbers.max()) + 1, _names(file, "classes", path)
    if given is not None and count > len(given):
        raise UserError(f"'{path}': label {count - 1} given with {len(given)} classes, expected 0 … {len(given) - 1}")
    if count > len(numbers):
        raise UserError(f"'{path}': label {count - 1} given with {len(numbers):,} images: number the classes from 0 on")
    names = [str(number) for number in range(count)] if given is None else given
    empty = np.flatnonzero(np.bincount(numbers[:train], minlength=len(names)) == 0)
    if len(empty):
        raise UserError(
            f"'{path}': empty class '{names[empty[0]]}', without any image to train on; leave it out, and number the "
            "classes without gaps"
        )
    return LabelTable.from_index(LabelSpec.of_classes(names), torch.from_numpy(numbers))


def _attributes(file: h5py.File, holds: Int[np.ndarray, "n k"], path: Path, train: int) -> LabelTable:
    given = _names(file, "attributes", path)
    names = [str(number) for number in range(holds.shape[1])] if given is None else given
    if not names or len(names) != holds.shape[1]:
        raise UserError(f"'{path}': {holds.shape[1]} labels per image and {len(names)} attributes given")
    if not np.isin(holds, (0, 1)).all():
        wrong = holds[~np.isin(holds, (0, 1))][0]
        raise UserError(f"'{path}': label {wrong} given in rows of {len(names)} labels, expected 0 and 1")
    given_groups = _extra(file, "groups")
    group = np.full(len(names), -1) if given_groups is None else np.ravel(given_groups)
    if len(group) != len(names) or group.dtype.kind not in "iu":
        raise UserError(
            f"'{path}': {len(group)} groups and {len(names)} attributes given, expected a group of each or −1"
        )
    groups = tuple(tuple(np.array(names)[group == number].tolist()) for number in np.unique(group) if number >= 0)
    if not groups and len(names) > 1 and (holds.sum(1) == 1).all():  # one-hot
        used = torch.from_numpy(holds.argmax(1))
        return LabelTable.from_index(LabelSpec.of_classes(names), used)
    one = Field("attributes", tuple(names), exclusive=False, groups=groups)
    return LabelTable.from_values(LabelSpec((one,)), torch.from_numpy(holds.astype(bool)))


def _names(file: h5py.File, what: str, path: Path) -> list[str] | None:
    """Names that are a dataset, or an attribute of the file; None where there are none."""
    given = _extra(file, what)
    if given is None:
        return None
    names = [name.decode("utf-8", "replace") if isinstance(name, bytes) else name for name in np.ravel(given).tolist()]
    if not all(isinstance(name, str) for name in names):
        raise UserError(f"'{path}': {what} of other than text given, expected names")
    return names


def _train(file: h5py.File, path: Path, count: int) -> int:
    given = _extra(file, "train")
    if given is None:
        return count
    if np.ndim(given) or np.asarray(given).dtype.kind not in "iu" or not 1 <= given <= count:
        raise UserError(f"'{path}': train of {given} given, expected how many of the {count:,} images, the first")
    return int(given)


def _extra(file: h5py.File, name: str) -> Any:
    """A dataset, or else an attribute of the file, if there is one."""
    found: Any = file.get(name)
    return found[()] if isinstance(found, h5py.Dataset) else file.attrs.get(name)


def _shape(data: Any) -> str:
    return " × ".join(f"{length:,}" for length in data.shape or ()) or "no axes"
